"""BackendConformance: the tests that every backend must pass."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest

from edgecc.backend import Availability, Backend, Compiled
from edgecc.compiler import arrange
from edgecc.options import build, parse_spec
from edgecc.passes.base import PassContext
from edgecc.passes.pipeline import PassPipeline
from edgecc.testing.models import MODELS, unknown_operators

if TYPE_CHECKING:
    from edgecc.model import Model
    from edgecc.target import Target

_every_model = pytest.mark.parametrize("name", sorted(MODELS))


class BackendConformance:
    """Subclass it in a backend's own tests, and pytest holds the backend to its contract.

        class TestConformance(BackendConformance):
            backend = MyBackend()
            tolerance = 1e-5

    What needs the backend's SDK or its device is skipped where that is missing, with its reason.

    Attributes:
        backend: under test.
        tolerance: largest difference to ONNX Runtime, relative to the largest value of an output.
        refused: models of `edgecc.testing.models` that the backend cannot take, with a part of the reason it gives.
    """

    backend: ClassVar[Backend]
    tolerance: ClassVar[float]
    refused: ClassVar[Mapping[str, str]] = {}

    @property
    def target(self) -> Target:
        """What to compile for; a subclass may give it options."""
        return self.backend.target()

    # ------------------------------------------------------------------------------------------ what it says of itself

    def test_target_is_named_and_has_suffixes(self) -> None:
        target = self.backend.target
        assert self.backend.name == target.name
        assert target.name == target.name.lower().strip()
        assert target.suffixes
        assert all(suffix.startswith(".") for suffix in target.suffixes)

    def test_options_survive_text_and_json(self) -> None:
        target = self.target
        name, options = parse_spec(target.spec())
        assert build(self.backend.target, "target", name, options) == target
        assert type(target).model_validate_json(target.model_dump_json()) == target

    @pytest.mark.parametrize("question", ["can_compile", "can_run"])
    def test_unavailability_has_a_reason_and_a_hint(self, question: str) -> None:
        answer = getattr(self.backend, question)()
        assert isinstance(answer, Availability)
        assert bool(answer) or (answer.reason and answer.hint), f"{question}: say what is missing and how to get it"

    def test_versions_are_text(self) -> None:
        versions = self._compiling().versions()
        assert versions, "the artifact depends on nothing?"
        assert all(isinstance(key, str) and isinstance(value, str) for key, value in versions.items())

    def test_its_passes_are_in_an_order_that_works(self) -> None:
        PassPipeline(self.backend.passes(self.target))
        PassPipeline(arrange((), self.backend, self.target))

    def test_session_file_needs_no_edgecc(self) -> None:
        path = self.backend.session_file()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
        imported += [node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        ours = [name for name in imported if name.split(".")[0].startswith("edgecc") or name == "."]
        assert not ours, f"{path.name} runs on devices where edgecc is not installed, and imports {ours}"
        classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
        assert "Session" in classes

    # --------------------------------------------------------------------------------------------------- what it takes

    @_every_model
    def test_support(self, name: str) -> None:
        model = self._prepared(name)
        digest = model.digest()
        found = self._compiling().find_unsupported(model, self.target)
        assert model.digest() == digest, "find_unsupported changed the model"
        if name not in self.refused:
            assert found == []
            return
        assert any(self.refused[name] in node.reason for node in found), found

    def test_every_unknown_operator_is_listed(self) -> None:
        model = unknown_operators()
        found = {node.node: node for node in self._compiling().find_unsupported(model, self.target)}
        assert {"first", "second"} <= set(found), "every node that cannot be compiled must be listed, at once"
        assert found["first"].op.endswith("Twist")
        assert found["second"].op.endswith("Turn")
        assert all(node.reason for node in found.values())
        assert "known" not in found

    # --------------------------------------------------------------------------------------------------- what it makes

    @_every_model
    def test_compiling_leaves_the_model_alone_and_gives_the_same_bytes_twice(self, name: str) -> None:
        model = self._taken(name)
        digest = model.digest()
        first = self.backend.compile(model, self.target)
        assert model.digest() == digest, "compile changed the model"
        suffix, contents = next(iter(first.files.items()))
        assert suffix in self.backend.target.suffixes
        assert memoryview(contents).nbytes > 0
        second = self.backend.compile(self._taken(name), self.target)
        assert _bytes(first) == _bytes(second), "two runs gave different bytes"

    @_every_model
    def test_correspondence_knows_inputs_and_outputs(self, name: str) -> None:
        model = self._taken(name)
        compiled = self.backend.compile(model, self.target)
        wanted = {spec.name for spec in (*model.signature.inputs, *model.signature.outputs)}
        assert wanted <= {match.source for match in compiled.correspondence}

    # ----------------------------------------------------------------------------------------------------- how it runs

    @_every_model
    def test_artifact_keeps_the_signature_and_the_values(self, name: str, tmp_path: Path) -> None:
        from edgecc.data.feeds import random_feeds
        from edgecc.passes.verification import compare, run
        from edgecc.running.runner import Runner

        can_run = self.backend.can_run()
        if not can_run:
            pytest.skip(can_run.reason)
        model = self._taken(name)
        path = _write(self.backend.compile(model, self.target), tmp_path)
        source = MODELS[name]()
        feeds = random_feeds(source.signature, seed=0)
        with Runner(path, self.backend) as runner:
            assert [spec.name for spec in runner.inputs] == [spec.name for spec in source.signature.inputs]
            assert [spec.name for spec in runner.outputs] == [spec.name for spec in source.signature.outputs]
            for ours, theirs in zip(runner.inputs, source.signature.inputs, strict=True):
                assert ours.dtype == theirs.dtype
                assert [d for d in ours.shape if isinstance(d, int)] == [d for d in theirs.shape if isinstance(d, int)]
            outputs = runner.infer(feeds)
            again = runner.infer(feeds)
        for output, expected in run(source, feeds).items():
            assert compare(expected, np.asarray(outputs[output]), self.tolerance) == ""
            assert compare(outputs[output], again[output], None) == "", "a second run gave other values"

    # --------------------------------------------------------------------------------------------------------- helpers

    def _compiling(self) -> Backend:
        can_compile = self.backend.can_compile()
        if not can_compile:
            pytest.skip(can_compile.reason)
        return self.backend

    def _prepared(self, name: str) -> Model:
        """The model as the backend gets it: after its own passes."""
        model = MODELS[name]()
        PassPipeline(arrange((), self.backend, self.target)).run(
            model, PassContext(self.target, np.random.default_rng(0))
        )
        return model

    def _taken(self, name: str) -> Model:
        if name in self.refused:
            pytest.skip(f"{self.backend.name} refuses it: {self.refused[name]}")
        self._compiling()
        return self._prepared(name)


def _bytes(compiled: Compiled) -> dict[str, bytes]:
    return {suffix: bytes(memoryview(contents).cast("B")) for suffix, contents in compiled.files.items()}


def _write(compiled: Compiled, folder: Path) -> Path:
    """The artifact's files under the names that `compile()` gives them; returns the first."""
    main, *others = compiled.files.items()
    path = folder / f"model{main[0]}"
    path.write_bytes(main[1])
    for suffix, contents in others:
        path.with_name(path.name + suffix).write_bytes(contents)
    return path
