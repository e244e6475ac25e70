"""`edgecc convert`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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
