"""`edgecc convert` from every format that installed plugins read to every one that they write: values and names."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import edgecc
from edgecc.cli.main import run as run_command_line
from edgecc.model import Model
from edgecc.passes.verification import compare, run

#: What is installed decides what is tested: a suffix, and what it takes.
WRITTEN = {
    ".onnx": "edgecc_onnxruntime",
    ".ort": "edgecc_onnxruntime",
    ".tflite": "edgecc_tflite",
    ".pt2": "torch",
    ".engine": "tensorrt_rtx",
}
READ = {
    ".onnx": "edgecc_onnxruntime",
    ".tflite": "edgecc_tflite",
    ".pt2": "torch",
    ".keras": "tensorflow",
    ".h5": "tensorflow",
    "": "tensorflow",  # a SavedModel folder
}
FROM_KERAS = (".keras", ".h5", "")
#: Sums in another order, relative to the largest value of an output; TensorRT's engines are not run without a GPU.
TOLERANCE = 1e-5
#: Names that are no identifiers anywhere.
GRAPH = """agraph (float[1,3,8,8] "image/raw:0", float[1,4] "2nd input")
  => (float[1,4] "scores.out", float[1,4,4,4] "a b") {
    c = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>("image/raw:0", w, b)
    "a b" = Relu(c)
    m = ReduceMean<keepdims = 0>("a b", axes)
    p = Mul(m, "2nd input")
    "scores.out" = Softmax(p)
}"""


@dataclass(frozen=True)
class Source:
    """A model in some format, and what it computes.

    Attributes:
        path: file or folder.
        feeds: by name, in the model's order.
        expected: likewise.
        flags: that fix its open dimensions.
    """

    path: Path
    feeds: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]
    flags: tuple[str, ...] = ()


def is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


PAIRS = [
    (source, out)
    for source, reader in READ.items()
    for out, writer in WRITTEN.items()
    if is_installed(reader) and is_installed(writer)
]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Source]:
    """One of each format that can be made here."""
    folder = tmp_path_factory.mktemp("sources")
    found = _of_graph(folder)
    if is_installed("tensorflow"):
        found |= _of_keras(folder / "keras")
    return found


def _of_graph(folder: Path) -> dict[str, Source]:
    generator = np.random.default_rng(0)
    weights = {
        "w": generator.normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32),
        "b": generator.normal(0, 0.3, 4).astype(np.float32),
        "axes": np.array([2, 3]),
    }
    model = Model.from_text(GRAPH, weights)
    feeds = {spec.name: generator.normal(0, 1, spec.shape).astype(np.float32) for spec in model.signature.inputs}
    expected = run(model, feeds)
    found = {}
    for suffix in {suffix for suffix, module in READ.items() if is_installed(module)} & WRITTEN.keys():
        path = folder / f"model{suffix}"
        edgecc.compile(model, output=path)
        found[suffix] = Source(path, feeds, expected)
    return found


def _of_keras(folder: Path) -> dict[str, Source]:
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-P", "-m", "edgecc_keras.testing.make_models", str(folder)]
    subprocess.run(command, env=environment, capture_output=True, check=True)
    with np.load(folder / "small2.npz") as stored:
        feeds = {name: stored[name][:1] for name in ("image", "gain")}
        expected = {name: stored[name][:1] for name in ("scores", "features")}
    flags = tuple(f"--shape={name}={','.join(map(str, values.shape))}" for name, values in feeds.items())
    found = {suffix: Source(folder / f"small2{suffix}", feeds, expected, flags) for suffix in (".keras", ".h5")}
    saved = {"x": np.ones((1, 3), np.float32)}
    found[""] = Source(folder / "one", saved, {"y": np.array([[6, 9]], np.float32)}, ("--shape=x=1,3",))
    return found


@pytest.mark.parametrize(("suffix", "out"), PAIRS)
def test_convert(suffix: str, out: str, sources: dict[str, Source], tmp_path: Path) -> None:
    source, path = sources[suffix], tmp_path / f"out{out}"
    assert run_command_line(["convert", str(source.path), str(path), *source.flags]) == 0
    signature = edgecc.Artifact.open(path).report["signature"]
    assert [entry["name"] for entry in signature["inputs"]] == list(source.feeds)
    assert [entry["name"] for entry in signature["outputs"]] == list(source.expected)
    if out == ".engine":
        assert path.stat().st_size > 1000
        return
    with edgecc.runner(path) as runner:
        assert [spec.name for spec in runner.inputs] == list(source.feeds)
        assert [spec.shape for spec in runner.inputs] == [values.shape for values in source.feeds.values()]
        assert [spec.name for spec in runner.outputs] == list(source.expected)
        found = runner.infer(source.feeds)
    for name, values in source.expected.items():
        assert compare(values, found[name], TOLERANCE) == ""


def test_there_and_back_through_every_format(sources: dict[str, Source], tmp_path: Path) -> None:
    """A chain over all that is both read and written keeps values, names and order."""
    source = sources[".onnx"]
    path = source.path
    for number, suffix in enumerate([*(WRITTEN.keys() & READ.keys() - {".onnx"}), ".onnx"]):
        if not is_installed(WRITTEN[suffix]):
            continue
        after = tmp_path / f"{number}{suffix}"
        assert run_command_line(["convert", str(path), str(after)]) == 0
        path = after
    found = run(edgecc.load(path), source.feeds)
    assert list(found) == list(source.expected)
    for name, values in source.expected.items():
        assert compare(values, found[name], TOLERANCE) == ""
