"""What a model says beside its graph, as TFLite's metadata."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecc import model_metadata as keys
from edgecc_tflite import file_metadata as tflite

if TYPE_CHECKING:
    from edgecc.model import Model

_OF_TENSORS = (keys.DOC, keys.TITLE, keys.LABELS, keys.VALUE_LABELS, keys.NORMALIZATION)
_OF_MODELS = (keys.VERSION, keys.AUTHOR, keys.LICENSE)


def file_metadata(model: Model) -> tuple[dict[str, bytes], bytes]:
    """Entries of the file's metadata, and the archive that goes behind the flatbuffer; empty if nothing is said."""
    names = {tensor.name for tensor in (*model.inputs, *model.outputs)}
    entries: dict[str, bytes] = {}
    told = bool(model.graph.doc_string)
    for key, text in model.metadata.items():
        prefix = next((p for p in _OF_TENSORS if key.startswith(p) and key.removeprefix(p) in names), None)
        has_place = prefix is not None or key in _OF_MODELS or key.startswith(keys.FILE)
        if has_place and (prefix != keys.NORMALIZATION or normalization(text) is not None):
            told = True
        else:
            entries[key] = text.encode()
    if not told:
        return entries, b""
    writer = _Writer(model)
    entries[tflite.NAME] = writer.model()
    return entries, tflite.files_archive(writer.files) if writer.files else b""


class _Writer:
    """Builds the flatbuffer, innermost tables first.

    Attributes:
        files: of the archive, filled by `model`.
    """

    def __init__(self, model: Model) -> None:
        import flatbuffers

        self._model = model
        self._metadata: Mapping[str, str] = model.metadata
        self._builder = flatbuffers.Builder(1024)
        self.files: dict[str, bytes] = {}

    def model(self) -> bytes:
        """The buffer."""
        inputs = self._vector([self._tensor(tensor.name) for tensor in self._model.inputs])
        outputs = self._vector([self._tensor(tensor.name) for tensor in self._model.outputs])
        graph = self._table("SubGraphMetadata", inputs=inputs, outputs=outputs)
        plain = [
            self._file(key.removeprefix(keys.FILE), text, tflite.PLAIN_FILE)
            for key, text in self._metadata.items()
            if key.startswith(keys.FILE)
        ]
        root = self._table(
            "ModelMetadata",
            name=self._text(self._model.graph.name),
            description=self._text(self._model.graph.doc_string),
            version=self._text(self._metadata.get(keys.VERSION)),
            subgraphs=self._vector([graph]),
            author=self._text(self._metadata.get(keys.AUTHOR)),
            license=self._text(self._metadata.get(keys.LICENSE)),
            files=self._vector(plain),
            parserVersion=self._text(tflite.PARSER_VERSION),
        )
        self._builder.Finish(root, file_identifier=tflite.IDENTIFIER)
        return bytes(self._builder.Output())

    def _tensor(self, name: str) -> int:
        labels = [
            self._file(f"{_file_name(name)}_{words}.txt", self._metadata[prefix + name] + "\n", kind)
            for prefix, words, kind in (
                (keys.LABELS, "labels", tflite.AXIS_LABELS),
                (keys.VALUE_LABELS, "values", tflite.VALUE_LABELS),
            )
            if prefix + name in self._metadata
        ]
        return self._table(
            "TensorMetadata",
            name=self._text(self._metadata.get(keys.TITLE + name, name)),
            description=self._text(self._metadata.get(keys.DOC + name)),
            units=self._vector(self._units(name)),
            files=self._vector(labels),
        )

    def _units(self, name: str) -> list[int]:
        values = normalization(self._metadata.get(keys.NORMALIZATION + name, ""))
        if values is None:
            return []
        parts = {key: self._builder.CreateNumpyVector(np.array(v, np.float32)) for key, v in values.items()}
        options = self._table("NormalizationOptions", **parts)
        return [self._table("ProcessUnit", kind=tflite.NORMALIZATION, options=options)]

    def _file(self, name: str, text: str, kind: int) -> int:
        name = _fresh(name, self.files)
        self.files[name] = text.encode()
        return self._table("AssociatedFile", name=self._text(name), type=kind)

    def _text(self, text: str | None) -> int | None:
        return self._builder.CreateString(text) if text else None

    def _vector(self, offsets: list[int]) -> int | None:
        if not offsets:
            return None
        self._builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self._builder.PrependUOffsetTRelative(offset)
        return self._builder.EndVector()  # type: ignore[no-any-return]

    def _table(self, kind: str, /, **values: int | None) -> int:
        slots = tflite.TABLES[kind]
        self._builder.StartObject(len(slots))
        writers: dict[str, Callable[[int, Any, Any], None]] = {
            "": self._builder.PrependUOffsetTRelativeSlot,
            "b": self._builder.PrependInt8Slot,
            "B": self._builder.PrependUint8Slot,
        }
        for name, value in values.items():
            if value is not None:
                slot, form, default = slots[name]
                writers[form](slot, value, default or 0)
        return self._builder.EndObject()  # type: ignore[no-any-return]


def normalization(text: str) -> dict[str, list[float]] | None:
    """Means and deviations of a model's metadata; None if it is none, or says more."""
    try:
        found = json.loads(text)
        values = {key: [float(value) for value in found[key]] for key in ("mean", "std")}
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return values if found.keys() == values.keys() else None


def _file_name(name: str) -> str:
    """A tensor's name as that of a file in an archive."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name).lstrip(".") or "output"


def _fresh(name: str, taken: Mapping[str, bytes]) -> str:
    stem, dot, suffix = name.rpartition(".")
    number, wanted = 1, name
    while wanted in taken:
        number += 1
        wanted = f"{stem}_{number}{dot}{suffix}" if dot else f"{name}_{number}"
    return wanted
