"""The ONNX importer: a file or a ModelProto of any opset becomes a Model in the internal one.

Weights are taken out of the proto first (`detach`): everything that goes through onnx's C++ side - inlining of local
functions, checker, shape inference - sees a proto of a few kilobytes, whatever the weights' size.
"""

from __future__ import annotations

import difflib
import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from edgecc.errors import InvalidModelError, VerificationError
from edgecc.importers import (
    consistency,
    detaching,
    external_data,
    opset_conversion,
    proto_graphs,
    static_shapes,
    validation,
)
from edgecc.importers.base import Importer
from edgecc.importers.embedded_data import without_weights
from edgecc.importers.file_kinds import is_onnx, kind_of, missing_bytes
from edgecc.importers.saving import save_proto

if TYPE_CHECKING:
    from edgecc.model import Model

__all__ = ["OnnxImporter", "save_proto"]

#: protobuf parses no message over this size; such a model has its weights in files beside it.
_MAX_PROTO_BYTES = (1 << 31) - 1


class OnnxImporter(Importer):
    """Reads ONNX files of opset 7 and up, external data and local functions included."""

    name: ClassVar[str] = "onnx"
    suffixes: ClassVar[tuple[str, ...]] = (".onnx",)

    def sniff(self, path: Path, head: bytes) -> bool:
        if kind_of(head):
            return False
        return path.suffix.lower() in self.suffixes or is_onnx(head)

    def load(self, path: Path, shapes: Mapping[str, Sequence[int]]) -> Model:
        model = self._import(read_proto(path, with_weights=False), external_data.Folder(path.parent, path), shapes)
        model.source = str(path)
        model.source_files = tuple(dict.fromkeys((path, *model.source_files)))
        return model

    def from_proto(
        self,
        proto: onnx.ModelProto,
        base_dir: Path | None = None,
        shapes: Mapping[str, Sequence[int]] | None = None,
    ) -> Model:
        """A Model made of a proto, which stays as it is.

        Args:
            proto: in any opset from 7 on.
            base_dir: folder of its external data; None refuses external data.
            shapes: static shapes for named inputs.

        Raises:
            InvalidModelError: the proto is not a valid model.
            UnknownNameError, OptionError: `shapes` does not fit the model's inputs.
        """
        return self._import(proto, external_data.Folder(base_dir), shapes or {})

    def _import(
        self, proto: onnx.ModelProto, folder: external_data.Folder, shapes: Mapping[str, Sequence[int]]
    ) -> Model:
        from edgecc.model import Model

        _check_versions(proto)
        try:
            light, weights = detaching.detach(proto, folder)
        except UnicodeDecodeError as error:
            raise InvalidModelError("the model is damaged: a text in it is not UTF-8", why=str(error)) from error
        del proto  # load() holds no other reference: the file's copy of the weights is freed here
        proto_graphs.refuse_damaged_names(light.graph)
        proto_graphs.name_nodes(light)
        light = opset_conversion.convert(light)
        proto_graphs.name_nodes(light)
        proto_graphs.sort_nodes(light.graph)
        validation.check(light)
        declared = static_shapes.apply(light.graph, shapes, weights)
        model = Model.from_proto(light, weights)
        model.cleanup()
        consistency.check(model)
        static_shapes.restore(model, declared)
        _verify(model)
        model.source_files = tuple(sorted(folder.files))
        return model


def read_proto(path: Path, *, with_weights: bool = True) -> onnx.ModelProto:
    """Parse an ONNX file without its external data.

    Args:
        path: of the file.
        with_weights: whether large initializers are read; otherwise they are external data that lies in this file.

    Raises:
        InvalidModelError: no such file, or it is not a whole ONNX model; the message says which.
    """
    head = _head(path)
    if kind := kind_of(head):
        raise InvalidModelError(f"{path} is not an ONNX model: it is {kind.what}", hint=kind.hint)
    size = path.stat().st_size
    if size > _MAX_PROTO_BYTES:
        raise InvalidModelError(
            f"{path} is larger than 2 GB, which protobuf cannot read",
            hint="save it with external data: onnx.save(model, path, save_as_external_data=True)",
        )
    proto = onnx.ModelProto()
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as contents:
            missing = missing_bytes(contents)
            light = None if with_weights or missing else without_weights(contents, path.name)
            with memoryview(contents if light is None else light) as view:
                proto.ParseFromString(view)
    except OSError as error:
        raise InvalidModelError(f"cannot read {path}", why=error.strerror or str(error)) from error
    except DecodeError as error:
        raise _not_whole(path, missing) from error
    if not proto.HasField("graph") or not proto.ir_version:
        raise InvalidModelError(f"{path} is not an ONNX model", why="it holds no graph", hint="name an .onnx file")
    return proto


def _head(path: Path) -> bytes:
    if not path.exists():
        near = difflib.get_close_matches(path.name, _siblings(path), n=1)
        hint = f"did you mean {path.with_name(near[0])}?" if near else "check the path"
        raise InvalidModelError(f"there is no file {path}", hint=hint)
    if path.is_dir():
        raise InvalidModelError(f"{path} is a folder, not an ONNX file", hint="name the .onnx file in it")
    try:
        with path.open("rb") as stream:
            head = stream.read(64)
    except OSError as error:
        raise InvalidModelError(f"cannot read {path}", why=error.strerror or str(error)) from error
    if not head:
        raise InvalidModelError(f"{path} is empty", hint="export or download the model again")
    return head


def _siblings(path: Path) -> list[str]:
    return [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []


def _not_whole(path: Path, missing: int) -> InvalidModelError:
    if missing > 0:
        return InvalidModelError(
            f"{path} is truncated", why=f"at least {missing} bytes are missing", hint="export or download it again"
        )
    if missing == 0:
        return InvalidModelError(
            f"{path} is damaged", why="it starts like an ONNX model", hint="export or download it again"
        )
    return InvalidModelError(
        f"{path} is not an ONNX model", why="its contents are no protobuf message", hint="name an .onnx file"
    )


def _check_versions(proto: onnx.ModelProto) -> None:
    if not proto.opset_import:
        raise InvalidModelError("the model does not say which opset it is in", why="opset_import is empty or cut off")
    if proto.ir_version < 3:
        raise InvalidModelError(f"IR version {proto.ir_version} is too old", hint="export it with opset 7 or newer")


def _verify(model: Model) -> None:
    """What the checker lets through and no graph may have."""
    try:
        model.verify()
    except VerificationError as error:
        raise InvalidModelError("the model is not valid ONNX", where=error.where, why=error.what) from error
