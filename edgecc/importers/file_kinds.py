"""Telling what a file is by its first bytes, for messages that name it."""

from __future__ import annotations

from typing import NamedTuple

from edgecc.importers.wire import Bytes, fields


class Kind(NamedTuple):
    """A kind of file that is taken for an ONNX model now and then.

    Attributes:
        what: it is, with its article.
        hint: what to do instead.
    """

    what: str
    hint: str


_EXPORT = "export it to ONNX first"
_KERAS = "pip install edgecc-keras, which reads Keras models and SavedModel folders"
_PLUGINS = "pip install edgecc-torch or edgecc-keras, which read them, or unzip it"
#: Offset and bytes that identify the kind.
_MAGIC: tuple[tuple[int, bytes, Kind], ...] = (
    (4, b"TFL3", Kind("a TFLite model", "pip install edgecc-tflite, which reads it")),
    (4, b"ORTM", Kind("a model in ONNX Runtime's own format", "use the .onnx file it was made from")),
    (0, b"\x89HDF\r\n\x1a\n", Kind("an HDF5 file, such as a Keras .h5 model", _KERAS)),
    (0, b"PK\x03\x04", Kind("a zip archive, such as a PyTorch .pt or Keras .keras file", _PLUGINS)),
    # As ONNX it would be of IR version 1, which no importer reads.
    (0, b"\x08\x01\x12", Kind("the graph of a TensorFlow SavedModel", _KERAS)),
    (0, b"\x80\x02", Kind("a pickle, such as an old PyTorch checkpoint", _EXPORT)),
    (0, b"\x1f\x8b", Kind("a gzip archive", "unpack it first")),
    (0, b"GGUF", Kind("a GGUF file", _EXPORT)),
    (0, b"\x93NUMPY", Kind("a numpy array", "name an .onnx file")),
    (0, b"version https://git-lfs", Kind("a Git LFS pointer, not the model itself", "run: git lfs pull")),
    (0, b"<!DOCTYPE", Kind("an HTML page", "the download went wrong: fetch the file itself")),
    (0, b"<html", Kind("an HTML page", "the download went wrong: fetch the file itself")),
    (0, b"ftrt", Kind("a TensorRT engine", "use the ONNX model it was built from")),
)


def kind_of(head: bytes) -> Kind | None:
    """What else than ONNX the file is; None if nothing is recognised."""
    return next((kind for offset, magic, kind in _MAGIC if head[offset : offset + len(magic)] == magic), None)


#: Fields of ModelProto: number to wire type (0 varint, 2 length-delimited).
_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}


def is_onnx(head: bytes) -> bool:
    """Whether the first bytes can be those of a ModelProto: known fields with the right wire types."""
    found = list(fields(head, 0, len(head)))
    return bool(found) and found[0].number == 1 and all(_FIELDS.get(field.number) == field.wire for field in found)


def missing_bytes(contents: Bytes) -> int:
    """How many bytes a cut-off ModelProto lacks at least: 0 if none, -1 if the contents are no ModelProto."""
    size = len(contents)
    found = list(fields(contents, 0, size))
    if not found or any(_FIELDS.get(field.number) != field.wire for field in found):
        return -1
    return max(0, found[-1].end - size)
