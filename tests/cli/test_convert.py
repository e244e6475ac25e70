"""`edgecc convert`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx

Run = Callable[..., "Outcome"]  # noqa: F821 - of conftest.py


def test_target_is_read_from_the_suffix(edgecc: Run, small: Path) -> None:
    done = edgecc("convert", small, "m.tflite")
    assert (done.code, done.err) == (0, "")
    assert done.out.rstrip().endswith("(tflite)")


def test_gives_the_same_bytes_as_compile(edgecc: Run, small: Path) -> None:
    edgecc("convert", small, "a.tflite")
    edgecc("compile", small, "-o", "b.tflite")
    assert Path("a.tflite").read_bytes() == Path("b.tflite").read_bytes()


def test_target_with_options(edgecc: Run, digits: Path) -> None:
    done = edgecc("convert", digits, "m.tflite", "--target", "tflite:io_layout=nhwc")
    assert "(tflite:io_layout=nhwc)" in done.out


def test_unknown_suffix(edgecc: Run, small: Path) -> None:
    done = edgecc("convert", small, "m.tflit")
    assert done.code == 2
    assert "unknown file suffix '.tflit'\n  try: did you mean '.tflite'?" in done.err


def test_missing_argument(edgecc: Run) -> None:
    done = edgecc("convert", "m.onnx")
    assert done.code == 2
    assert "Missing argument 'OUT'" in done.err


def test_level_and_verification(edgecc: Run, save: Callable[[str], Path]) -> None:
    source = save("g (float[1,4] x) => (float[1,4] y) { t = Identity(x) y = Relu(t) }")
    assert edgecc("convert", source, "out.onnx", "-O0").code == 0
    assert [node.op_type for node in onnx.load("out.onnx").graph.node] == ["Identity", "Relu"]
    assert edgecc("convert", source, "out.onnx", "--verify").code == 0
    assert [node.op_type for node in onnx.load("out.onnx").graph.node] == ["Relu"]


def test_empty_level(edgecc: Run, small: Path) -> None:
    for command in (("convert", small, "m.tflite", "-O", ""), ("compile", small, "-o", "m.tflite", "-O", "")):
        done = edgecc(*command)
        assert done.code == 2
        assert "unknown preset ''" in done.err


def test_terminal_and_report_list_what_is_not_carried(edgecc: Run, small: Path) -> None:
    proto = onnx.load(small)
    for number in range(7):
        proto.metadata_props.add(key=f"key {number}", value="text")
    onnx.save(proto, small)
    done = edgecc("convert", small, "m.engine")
    assert done.code == 0
    assert "not carried: metadata 'key 0': an engine holds none\n" in done.err
    assert "... and 2 more in m.engine.report.json" in done.err
    assert len(json.loads(Path("m.engine.report.json").read_text())["not_carried"]) == 7
    assert "not carried" not in edgecc("convert", small, "m.tflite").err
