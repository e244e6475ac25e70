"""Whole models through importer, passes and every backend: same numbers, no transposes left over, same bytes twice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import edgecc
from edgecc.compiler import resolve_pass
from edgecc.passes.pipeline import PassRecord
from edgecc.passes.verification import Verifier
from edgecc.presets import DEFAULT
from edgecc.registry import default_registry

from .architectures import input_in_channels_last, mobilenet_v3_small
from .sources import Load, all_sources

TARGETS = {"onnxruntime": ".onnx", "tflite": ".tflite", "tensorrt": ".engine"}
TOLERANCE = 1e-4
"""Of the largest value of an output: what reordered float32 sums may differ by in 150 layers."""


@dataclass(frozen=True)
class Source:
    """A model file, an input for it, and what ONNX Runtime makes of that."""

    path: Path
    shapes: dict[str, tuple[int, ...]]
    feeds: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]
    _compiled: dict[str, edgecc.Artifact] = field(default_factory=dict)

    def compiled(self, target: str) -> edgecc.Artifact:
        """Compiled once, in a folder of its own."""
        need(target)
        if target not in self._compiled:
            self._compiled[target] = self.compile(target)
        return self._compiled[target]

    def compile(self, target: str) -> edgecc.Artifact:
        output = self.path.parent / target / f"model{TARGETS[target]}"
        output.parent.mkdir(exist_ok=True)
        return edgecc.compile(self.path, target=target, output=output, shapes=self.shapes).artifact


@pytest.fixture(scope="module", params=all_sources())
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    load: Load = request.param
    path = tmp_path_factory.mktemp("zoo") / "source.onnx"
    onnx.save(load(), path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = {i.name: tuple(d if isinstance(d, int) else 1 for d in i.shape) for i in session.get_inputs()}
    shapes = {i.name: inputs[i.name] for i in session.get_inputs() if list(i.shape) != list(inputs[i.name])}
    random = np.random.default_rng(0)
    feeds = {name: random.standard_normal(shape).astype(np.float32) for name, shape in inputs.items()}
    names = [output.name for output in session.get_outputs()]
    yield Source(path, shapes, feeds, dict(zip(names, session.run(names, feeds), strict=True)))
    shutil.rmtree(path.parent)  # pytest keeps folders of three runs, and the large ones are gigabytes


def need(target: str) -> None:
    backend = default_registry().backends.get(target)
    if backend is None:
        pytest.skip(f"edgecc-{target} is not installed")
    if not backend.can_compile():
        pytest.skip(backend.can_compile().reason)


@pytest.mark.parametrize("target", ["onnxruntime", "tflite"])
def test_outputs_are_those_of_the_source(source: Source, target: str) -> None:
    with edgecc.runner(source.compiled(target).path) as runner:
        outputs = runner.infer(source.feeds)
    assert list(outputs) == list(source.expected)
    for name, expected in source.expected.items():
        assert outputs[name].shape == expected.shape
        assert np.abs(outputs[name] - expected).max() <= TOLERANCE * np.abs(expected).max(), name


def test_tensorrt_builds_an_engine(source: Source) -> None:
    artifact = source.compiled("tensorrt")
    assert artifact.nbytes > 0
    assert [output["name"] for output in artifact.report["signature"]["outputs"]] == list(source.expected)


def test_tflite_transposes_only_at_its_ends(source: Source) -> None:
    """One for each image that comes in or goes out, and the source's own shuffles of channels."""
    path = source.compiled("tflite").path
    ends = [array for array in (*source.feeds.values(), *source.expected.values()) if array.ndim > 2]
    shuffles = [node for node in onnx.load(source.path).graph.node if is_shuffle(node)]
    assert tflite_operators(path).count("TRANSPOSE") <= len(ends) + len(shuffles)


def test_tflite_of_a_model_in_channels_last_has_no_transpose(tmp_path: Path) -> None:
    need("tflite")
    path = tmp_path / "model.tflite"
    edgecc.compile(input_in_channels_last(), target="tflite", output=path)
    assert set(tflite_operators(path)) == {"PAD", "CONV_2D", "ADD", "LOGISTIC"}


def optimize(model: edgecc.Model, verifier: Verifier | None = None) -> list[PassRecord]:
    """Run -O1, for no target in particular: every fusion there is."""
    registry = default_registry()
    passes = tuple(resolve_pass(spec, registry) for spec in registry.preset(DEFAULT).passes)
    context = edgecc.PassContext(None, np.random.default_rng(0))
    return edgecc.PassPipeline([edgecc.Rounds(passes)], verifier=verifier).run(model, context).records


def test_every_pass_of_o1_keeps_values(source: Source, tmp_path: Path) -> None:
    """As --verify has it: each pass is executed before and after; and a second run finds nothing more."""
    model = edgecc.load(source.path, source.shapes)
    optimize(model, Verifier(seed=0, save_to=tmp_path))
    assert not any(record.changed for record in optimize(model))


@pytest.mark.parametrize("target", ["onnxruntime", "tflite"])
def test_o1_makes_no_artifact_larger(source: Source, target: str, tmp_path: Path) -> None:
    need(target)
    plain = tmp_path / f"plain{TARGETS[target]}"
    edgecc.compile(source.path, target=target, output=plain, shapes=source.shapes, optimize="0")
    assert len(operators(source.compiled(target).path)) <= len(operators(plain))


@pytest.mark.parametrize("target", TARGETS)
def test_second_compilation_writes_the_same_bytes(source: Source, target: str) -> None:
    artifact = source.compiled(target)
    folder = artifact.path.parent
    files = {path: path.read_bytes() for path in sorted(folder.iterdir())}
    assert {artifact.path, artifact.report_path} <= files.keys()
    source.compile(target)
    assert [path for path in sorted(folder.iterdir()) if files[path] != path.read_bytes()] == []


@pytest.mark.parametrize("target", TARGETS)
def test_another_process_writes_the_same_bytes(target: str, tmp_path: Path) -> None:
    """Sets of strings are in another order there."""
    need(target)
    onnx.save(mobilenet_v3_small(), tmp_path / "source.onnx")
    output = tmp_path / f"model{TARGETS[target]}"
    written = []
    for seed in ("1", "2"):
        code = f"import edgecc; edgecc.compile('source.onnx', target={target!r}, output={output.name!r})"
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
        written.append(output.read_bytes())
    assert written[0] == written[1]


def is_shuffle(node: onnx.NodeProto) -> bool:
    perm = next((list(a.ints) for a in node.attribute if a.name == "perm"), [])
    return node.op_type == "Transpose" and len(perm) == 5


def operators(path: Path) -> list[str]:
    """Operators of a `.tflite` or `.onnx` file, in order."""
    return tflite_operators(path) if path.suffix == ".tflite" else [node.op_type for node in onnx.load(path).graph.node]


def tflite_operators(path: Path) -> list[str]:
    """Names of the operators of a file, in order."""
    from ai_edge_litert import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    (graph,) = model.subgraphs
    return [names[model.operatorCodes[operator.opcodeIndex].builtinCode] for operator in graph.operators]
