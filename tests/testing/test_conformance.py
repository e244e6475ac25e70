"""The conformance suite passes for a right backend and fails for a wrong one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from edgecc.backend import Availability, Backend, Compiled, TensorMatch
from edgecc.errors import Unsupported
from edgecc.model import Model, is_standard
from edgecc.passes.base import Pass
from edgecc.target import Target
from edgecc.testing import BackendConformance
from edgecc.testing.models import MODELS, unknown_operators

SESSION = '''"""Runs text with ONNX Runtime."""
import numpy as np
import onnxruntime as ort


class Session:
    def __init__(self, path, options):
        self._session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.inputs = [self._describe(info) for info in self._session.get_inputs()]
        self.outputs = [self._describe(info) for info in self._session.get_outputs()]

    def _describe(self, info):
        kind = info.type.removeprefix("tensor(").removesuffix(")").replace("float", "float32")
        shape = [dim if isinstance(dim, int) else -1 for dim in info.shape]
        return {"name": info.name, "shape": shape, "dtype": kind}

    def set_inputs(self, feeds):
        self._feeds = feeds

    def run(self):
        self._results = self._session.run(None, self._feeds)

    def get_outputs(self):
        return {info["name"]: value for info, value in zip(self.outputs, self._results)}

    def info(self):
        return {"tool": "plain", "version": "1", "device": "cpu", "threads": 1, "accelerated_fraction": None}
'''


class PlainTarget(Target):
    """ONNX as it is."""

    name = "plain"
    suffixes = (".plain",)
    level: int = 0


class Plain(Backend):
    """A right backend; tests make one thing of it wrong."""

    target = PlainTarget
    session = Path()

    def find_unsupported(self, model: Model, target: Target) -> list[Unsupported]:
        return [Unsupported(n.name, n.op, "not standard") for n in model.all_nodes() if not is_standard(n)]

    def compile(self, model: Model, target: Target) -> Compiled:
        contents = model.to_proto().SerializeToString(deterministic=True)
        names = [spec.name for spec in (*model.signature.inputs, *model.signature.outputs)]
        return Compiled({".plain": contents}, [TensorMatch(name, name) for name in names])

    def versions(self) -> dict[str, str]:
        return {"plain": "1"}

    def session_file(self) -> Path:
        return self.session


class TestPlain(BackendConformance):
    """The whole suite, on a backend that is right."""

    backend = Plain()
    tolerance = 1e-6


@pytest.fixture(autouse=True, scope="module")
def _session_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    Plain.session = tmp_path_factory.mktemp("plain") / "session.py"
    Plain.session.write_text(SESSION, encoding="utf-8")


def suite(backend: Backend, refused: dict[str, str] | None = None) -> BackendConformance:
    cls = type("Suite", (BackendConformance,), {"backend": backend, "tolerance": 1e-6, "refused": refused or {}})
    made: BackendConformance = cls()
    return made


def fails(check: Callable[[], object], text: str) -> None:
    with pytest.raises(AssertionError, match=text):
        check()


def test_compile_that_changes_the_model() -> None:
    class Change(Plain):
        def compile(self, model: Model, target: Target) -> Compiled:
            model.inputs[0].name = "renamed"
            return super().compile(model, target)

    check = suite(Change()).test_compiling_leaves_the_model_alone_and_gives_the_same_bytes_twice
    fails(lambda: check("elementwise"), "compile changed the model")


def test_find_unsupported_that_changes_the_model() -> None:
    class Change(Plain):
        def find_unsupported(self, model: Model, target: Target) -> list[Unsupported]:
            model.nodes()[0].attrs["seen"] = 1
            return []

    fails(lambda: suite(Change()).test_support("elementwise"), "find_unsupported changed the model")


def test_other_bytes_in_a_second_run() -> None:
    counter = itertools.count()

    class Count(Plain):
        def compile(self, model: Model, target: Target) -> Compiled:
            return Compiled({".plain": str(next(counter)).encode()})

    check = suite(Count()).test_compiling_leaves_the_model_alone_and_gives_the_same_bytes_twice
    fails(lambda: check("elementwise"), "two runs gave different bytes")


def test_unknown_operator_that_is_not_listed() -> None:
    class First(Plain):
        def find_unsupported(self, model: Model, target: Target) -> list[Unsupported]:
            return super().find_unsupported(model, target)[:1]

    fails(suite(First()).test_every_unknown_operator_is_listed, "every node that cannot be compiled must be listed")


def test_session_that_imports_edgecc(tmp_path: Path) -> None:
    class Imports(Plain):
        session = tmp_path / "session.py"

    Imports.session.write_text("from edgecc.model import Model\nclass Session: pass\n")
    fails(suite(Imports()).test_session_file_needs_no_edgecc, r"imports \['edgecc.model'\]")


def test_unavailable_without_a_hint() -> None:
    class Absent(Plain):
        def can_run(self) -> Availability:
            return Availability("no device")

    fails(lambda: suite(Absent()).test_unavailability_has_a_reason_and_a_hint("can_run"), "how to get it")


def test_passes_in_a_wrong_order() -> None:
    from edgecc.errors import PassOrderError
    from edgecc.passes.convert_float16 import ConvertFloat16
    from edgecc.passes.fold_batchnorm import FoldBatchNorm

    class Wrong(Plain):
        def passes(self, target: Target) -> Sequence[Pass]:
            return [ConvertFloat16(), FoldBatchNorm()]

    with pytest.raises(PassOrderError, match="must run before"):
        suite(Wrong()).test_its_passes_are_in_an_order_that_works()


def test_wrong_values_and_wrong_names(tmp_path: Path) -> None:
    class Wrong(Plain):
        session = tmp_path / "session.py"

    check = suite(Wrong()).test_artifact_keeps_the_signature_and_the_values
    Wrong.session.write_text(SESSION.replace(": value for info", ": value + 1 for info"))
    fails(lambda: check("elementwise", tmp_path), "differs by up to")
    Wrong.session.write_text(SESSION.replace('"name": info.name', '"name": info.name + "_0"'))
    fails(lambda: check("elementwise", tmp_path), "x_0")


def test_refused_models_need_the_expected_reason() -> None:
    class Refuse(Plain):
        def find_unsupported(self, model: Model, target: Target) -> list[Unsupported]:
            return [Unsupported(n.name, n.op, "no tables") for n in model.nodes("Gather")]

    suite(Refuse(), {"embedding": "no tables"}).test_support("embedding")
    fails(lambda: suite(Refuse()).test_support("embedding"), "no tables")
    fails(lambda: suite(Refuse(), {"embedding": "too big"}).test_support("embedding"), "no tables")
    fails(lambda: suite(Refuse(), {"elementwise": "no"}).test_support("elementwise"), r"\[\]")


@pytest.mark.parametrize("name", sorted(MODELS))
def test_models_are_whole_and_the_same_every_time(name: str) -> None:
    model = MODELS[name]()
    model.verify()
    assert model.digest() == MODELS[name]().digest()
    assert MODELS[name].__doc__


def test_unknown_operators_are_unknown() -> None:
    assert [node.domain for node in unknown_operators().nodes() if not is_standard(node)] == ["nobody.knows"] * 2
