"""Files of strangers from the command line: whatever they are called, an error that says what is wrong, no crash."""

from __future__ import annotations

import io
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

Run = Callable[..., "Outcome"]  # noqa: F821 - of conftest.py

SUFFIXES = (".onnx", ".tflite", ".pt2", ".pt", ".safetensors", ".keras", ".h5", ".pb", ".xyz", "")
MODEL = onnx.parser.parse_model(
    '<ir_version: 10, opset_import: ["" : 23]> g (float[1,4] x) => (float[1,4] y) { c = Neg(x) y = Relu(c) }'
).SerializeToString()


def archive(**records: bytes) -> bytes:
    contents = io.BytesIO()
    with zipfile.ZipFile(contents, "w", zipfile.ZIP_DEFLATED) as written:
        for name, data in records.items():
            written.writestr(name, data)
    return contents.getvalue()


class Touch:
    """What a pickle could do: it leaves a file."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("run"),)  # type: ignore[return-value]


FILES = {
    "empty": b"",
    "text": b"no model at all\n",
    "truncated": MODEL[: len(MODEL) // 2],
    "damaged": MODEL[:20] + b"\xff\xff\xff" + MODEL[23:],
    "only an identifier": b"\x10\0\0\0TFL3",
    "an offset beyond the end": b"\xff\xff\xff\x7fTFL3" + bytes(64),
    "a pickle": pickle.dumps(Touch()),
    "an archive with a pickle": archive(**{"m/data.pkl": pickle.dumps(Touch()), "m/version": b"3"}),
    "a bomb": archive(**{"metadata.json": b"{}", "config.json": bytes(1 << 27), "model.weights.h5": bytes(1 << 20)}),
    "a way out": archive(**{"../../out": b"", "config.json": b"{}", "metadata.json": b"{}", "model.weights.h5": b""}),
    "an unknown version": archive(**{"m/archive_format": b"pt2", "m/archive_version": b"99", "m/models/m.json": b"{}"}),
    "no hdf5": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "no weights": (1 << 60).to_bytes(8, "little") + b'{"a"',
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", FILES)
def test_an_error_with_a_reason(edgecc: Run, kind: str, suffix: str) -> None:
    path = Path(f"model{suffix}")
    path.write_bytes(FILES[kind])
    done = edgecc("convert", path, "out.onnx")
    assert done.code in (2, 3), done.err
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.err
    assert not Path("out.onnx").exists()
    assert not Path("run").exists()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_model_under_any_name(edgecc: Run, suffix: str) -> None:
    Path(f"model{suffix}").write_bytes(MODEL)
    assert edgecc("convert", f"model{suffix}", "out.tflite").code == 0


POSIX = pytest.mark.skipif(sys.platform == "win32", reason="links and pipes of POSIX")


@POSIX
@pytest.mark.parametrize("command", [("convert",), ("compile", "-t", "tflite", "-o"), ("inspect",)], ids=lambda c: c[0])
@pytest.mark.parametrize("kind", ["a circle of links", "a pipe", "a long name"])
def test_sources_that_are_no_files(edgecc: Run, kind: str, command: tuple[str, ...]) -> None:
    name, why = "m.onnx", "Too many levels of symbolic links"
    if kind == "a circle of links":
        Path("m.onnx").symlink_to("other")
        Path("other").symlink_to("m.onnx")
    elif kind == "a pipe":
        os.mkfifo("m.onnx")
        why = "it is a pipe, a device or a socket, not a regular file"
    else:
        name, why = f"{'m' * 300}.onnx", "File name too long"
    done = edgecc("inspect", name) if command == ("inspect",) else edgecc(command[0], name, *command[1:], "out.tflite")
    assert done.code == 2
    assert done.err.startswith(f"error: {name} cannot be read\n  why: {why}\n  try: ")


@POSIX
@pytest.mark.parametrize("length", [300, 230])  # 230: too long for the names of the report and of temporary files
def test_output_with_a_long_name(edgecc: Run, length: int) -> None:
    Path("model.onnx").write_bytes(MODEL)
    out = f"{'m' * length}.onnx"
    done = edgecc("convert", "model.onnx", out)
    assert done.code == 2
    assert done.err == f"error: cannot write {out}\n  why: File name too long\n  try: choose another -o OUT\n"
    assert [path.name for path in Path().iterdir()] == ["model.onnx"]


@POSIX
def test_weights_in_a_circle_of_links_or_under_a_long_name(edgecc: Run) -> None:
    model = onnx.load_model_from_string(MODEL)
    weights = model.graph.initializer.add(name="w", data_type=onnx.TensorProto.FLOAT, dims=[4])
    weights.data_location = onnx.TensorProto.EXTERNAL
    place = weights.external_data.add(key="location", value="loop")
    Path("loop").symlink_to("loop")
    for location, text in (("loop", "weights file loop is missing"), ("w" * 300, "cannot be read")):
        place.value = location
        onnx.save(model, "m.onnx")
        done = edgecc("convert", "m.onnx", "out.tflite")
        assert (done.code, text in done.err) == (2, True), done.err


@POSIX
@pytest.mark.parametrize("kind", ["artifact", "data"])
def test_artifacts_and_data_that_are_no_files(edgecc: Run, kind: str) -> None:
    Path("model.onnx").write_bytes(MODEL)
    suffix = "onnx" if kind == "artifact" else "npz"
    words = {
        "artifact": ("compare", "--source", "model.onnx"),
        "data": ("compile", "model.onnx", "-o", "out.onnx", "--quantize", "int8", "--calibration"),
    }[kind]
    os.mkfifo(f"pipe.{suffix}")
    for name, why in (
        (f"pipe.{suffix}", "it is a pipe, a device or a socket, not a regular file"),
        (f"{'m' * 300}.{suffix}", "File name too long"),
    ):
        for command in (words, ("benchmark",)) if kind == "artifact" else (words,):
            done = edgecc(*command, name)
            assert done.code == 2, done.err
            assert done.err.startswith(f"error: {name} cannot be read\n  why: {why}\n  try: ")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_empty_files_are_called_empty(edgecc: Run, suffix: str) -> None:
    Path(f"model{suffix}").touch()
    done = edgecc("inspect", f"model{suffix}")
    assert done.code == 2
    assert done.err == f"error: model{suffix} is empty\n  try: export or download the model again\n"
