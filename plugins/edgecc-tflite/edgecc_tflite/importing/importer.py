"""The importer that the plugin registers."""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgecc.errors import InvalidModelError
from edgecc.importers.base import Importer
from edgecc.importers.file_kinds import kind_of

if TYPE_CHECKING:
    from edgecc.model import Model

_IDENTIFIER = b"TFL3"


class TFLiteImporter(Importer):
    """Reads `.tflite` files, float and quantized, into ONNX.

    Inputs and outputs keep the file's names (those of its signature if it has one), order, layout and types.
    """

    name: ClassVar[str] = "tflite"
    suffixes: ClassVar[tuple[str, ...]] = (".tflite", ".lite")

    def sniff(self, path: Path, head: bytes) -> bool:
        return head[4:8] == _IDENTIFIER

    def load(self, path: Path, shapes: Mapping[str, Sequence[int]]) -> Model:
        from edgecc_tflite.importing.to_onnx import import_file

        try:
            with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as contents:
                data = contents.read()
        except (OSError, ValueError) as error:  # ValueError: mmap of an empty file
            raise InvalidModelError(f"cannot read {path}", why=str(error)) from error
        kind = kind_of(data[:64])
        if data[4:8] != _IDENTIFIER and kind is not None:
            raise InvalidModelError(f"{path} is not a TFLite model: it is {kind.what}", hint=kind.hint)
        try:
            model = import_file(memoryview(data), str(path), shapes)
        except InvalidModelError as error:
            where = f"{path}: {error.where}" if error.where else str(path)
            raise InvalidModelError(error.what, where=where, why=error.why, hint=error.hint) from error
        model.source = str(path)
        model.source_files = (path,)
        return model
