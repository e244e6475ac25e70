"""Rewrites an .ort file so that equal models give equal bytes.

ONNX Runtime writes weights, types and attributes in the order of its hash tables, which differs from run to run. The
file is a flatbuffer with identifier ORTM; everything whose order means nothing is sorted by name here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np

#: Fields of each table, by slot: a size in bytes for a number, `str`, the name of a table, or a list of one of them.
#: Slots that are missing are deprecated. `None` is a union, whose kind is in the slot before.
Kind = int | str | list[int] | list[str] | None
_TABLES: dict[str, dict[int, Kind]] = {
    "InferenceSession": {0: "str", 1: "Model", 3: "KernelTypeStrResolver"},
    "Model": {
        0: 8,
        1: ["OperatorSetId"],
        2: "str",
        3: "str",
        4: "str",
        5: 8,
        6: "str",
        7: "Graph",
        8: "str",
        9: ["StringStringEntry"],
    },
    "Graph": {
        0: ["Tensor"],
        1: ["ValueInfo"],
        2: ["Node"],
        3: 4,
        4: ["NodeEdge"],
        5: ["str"],
        6: ["str"],
        7: ["SparseTensor"],
        8: "RuntimeOptimizations",
    },
    "Node": {
        0: "str",
        1: "str",
        2: "str",
        3: 4,
        4: 4,
        5: "str",
        6: 4,
        7: "str",
        8: ["str"],
        9: ["str"],
        10: ["Attribute"],
        11: [4],
        12: ["str"],
    },
    "Attribute": {
        0: "str",
        1: "str",
        2: 4,
        3: 4,
        4: 8,
        5: "str",
        6: "Tensor",
        7: "Graph",
        8: [4],
        9: [8],
        10: ["str"],
        11: ["Tensor"],
        12: ["Graph"],
    },
    "Tensor": {0: "str", 1: "str", 2: [8], 3: 4, 4: [1], 5: ["str"], 6: 8},
    "SparseTensor": {0: "Tensor", 1: "Tensor", 2: [8]},
    "NodeEdge": {0: 4, 1: [12], 2: [12]},
    "ValueInfo": {0: "str", 1: "str", 2: "TypeInfo"},
    "TypeInfo": {0: "str", 1: 1, 2: None},
    "TensorTypeAndShape": {0: 4, 1: "Shape"},
    "SequenceType": {0: "TypeInfo"},
    "MapType": {0: 4, 1: "TypeInfo"},
    "Shape": {0: ["Dimension"]},
    "Dimension": {0: "DimensionValue", 1: "str"},
    "DimensionValue": {0: 1, 1: 8, 2: "str"},
    "OperatorSetId": {0: "str", 1: 8},
    "StringStringEntry": {0: "str", 1: "str"},
    "KernelTypeStrResolver": {0: ["OpIdKernelTypeStrArgsEntry"]},
    "OpIdKernelTypeStrArgsEntry": {0: "str", 1: ["KernelTypeStrArgsEntry"]},
    "KernelTypeStrArgsEntry": {0: "str", 1: ["ArgTypeAndIndex"]},
    "ArgTypeAndIndex": {0: 1, 1: 4},
    "RuntimeOptimizations": {0: ["RuntimeOptimizationRecordContainerEntry"]},
    "RuntimeOptimizationRecordContainerEntry": {0: "str", 1: ["RuntimeOptimizationRecord"]},
    "RuntimeOptimizationRecord": {0: "str", 1: "NodesToOptimizeIndices", 3: ["str"]},
    "NodesToOptimizeIndices": {0: [4], 1: 4, 2: 4, 3: 1, 4: 1, 5: 4, 6: 4},
}
_UNION = {1: "TensorTypeAndShape", 2: "SequenceType", 3: "MapType"}
#: Tables of which a list has no order, named by their first field.
_UNORDERED = frozenset(
    {
        "Attribute",
        "KernelTypeStrArgsEntry",
        "OpIdKernelTypeStrArgsEntry",
        "OperatorSetId",
        "RuntimeOptimizationRecordContainerEntry",
        "StringStringEntry",
        "Tensor",
        "ValueInfo",
    }
)
#: Where Tensor lists do have an order: attributes.
_ORDERED_LISTS = frozenset({("Attribute", 11)})
_IDENTIFIER = b"ORTM"
_ALIGNMENT = 16


class UnknownLayoutError(ValueError):
    """The file has fields that this module does not know: a newer ONNX Runtime wrote it."""


def canonical(contents: bytes) -> bytes:
    """The same model with everything unordered sorted by name.

    Raises:
        UnknownLayoutError: the file has fields that are not known here.
    """
    if contents[4:8] != _IDENTIFIER:
        raise UnknownLayoutError("not an .ort file")
    copier = _Copier(contents)
    root = copier.table("InferenceSession", copier.reader.target(0))
    copier.builder.Finish(root, _IDENTIFIER)
    return bytes(copier.builder.Output())


@dataclass(frozen=True)
class _Reader:
    """Numbers, strings and tables at positions of a flatbuffer."""

    buffer: memoryview

    def number(self, code: str, position: int) -> int:
        return int(struct.unpack_from("<" + code, self.buffer, position)[0])

    def target(self, position: int) -> int:
        """Where the offset at `position` points."""
        return position + self.number("I", position)

    def fields(self, table: int) -> dict[int, int]:
        """Slot to position, of the fields that are there."""
        entries = table - self.number("i", table)
        count = (self.number("H", entries) - 4) // 2
        offsets = {slot: self.number("H", entries + 4 + 2 * slot) for slot in range(count)}
        return {slot: table + offset for slot, offset in offsets.items() if offset}

    def items(self, vector: int) -> list[int]:
        """Positions of the offsets in a list."""
        return [vector + 4 + 4 * index for index in range(self.number("I", vector))]

    def raw(self, vector: int, size: int) -> memoryview:
        return self.buffer[vector + 4 : vector + 4 + size * self.number("I", vector)]

    def text(self, position: int) -> str:
        return bytes(self.raw(position, 1)).decode("utf-8", "surrogateescape")


class _Copier:
    def __init__(self, contents: bytes) -> None:
        self.reader = _Reader(memoryview(contents))
        # Large enough not to grow: growing copies everything.
        self.builder = flatbuffers.Builder(len(contents) + (len(contents) >> 3) + 4096)

    def table(self, name: str, position: int) -> int:
        """Copy a table and all that it holds; returns its place in the new file."""
        known, present = _TABLES[name], self.reader.fields(position)
        unknown = set(present) - set(known)
        if unknown:
            raise UnknownLayoutError(f"{name} has unknown fields {sorted(unknown)}")
        children = {slot: self._child(name, slot, at, present) for slot, at in sorted(present.items())}
        builder: Any = self.builder
        builder.StartObject(max(known) + 1)
        for slot, at in sorted(present.items()):
            size = known[slot]
            if not isinstance(size, int):
                builder.PrependUOffsetTRelativeSlot(slot, children[slot], 0)
            elif size == 1:
                builder.PrependUint8Slot(slot, self.reader.number("B", at), None)
            elif size == 4:
                builder.PrependUint32Slot(slot, self.reader.number("I", at), None)
            else:
                builder.PrependUint64Slot(slot, self.reader.number("Q", at), None)
        return int(builder.EndObject())

    def _child(self, name: str, slot: int, at: int, present: dict[int, int]) -> int:
        kind = _TABLES[name][slot]
        if isinstance(kind, int):
            return 0
        position = self.reader.target(at)
        if kind is None:
            return self.table(_UNION[self.reader.number("B", present[slot - 1])], position)
        if isinstance(kind, list):
            item = kind[0]
            return self._numbers(position, item) if isinstance(item, int) else self._list(name, slot, item, position)
        return self._text(position) if kind == "str" else self.table(kind, position)

    def _text(self, position: int) -> int:
        return int(self.builder.CreateSharedString(self.reader.text(position)))

    def _list(self, name: str, slot: int, item: str, position: int) -> int:
        targets = [self.reader.target(at) for at in self.reader.items(position)]
        if item in _UNORDERED and (name, slot) not in _ORDERED_LISTS:
            targets.sort(key=self._name)
        places = [self._text(t) if item == "str" else self.table(item, t) for t in targets]
        builder: Any = self.builder
        builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            builder.PrependUOffsetTRelative(place)
        return int(builder.EndVector())

    def _name(self, table: int) -> str:
        fields = self.reader.fields(table)
        return self.reader.text(self.reader.target(fields[0])) if 0 in fields else ""

    def _numbers(self, position: int, size: int) -> int:
        data = np.frombuffer(self.reader.raw(position, size), np.uint8)
        builder: Any = self.builder
        # Weights may be read in place: they start where any type may.
        builder.StartVector(size, len(data) // size, _ALIGNMENT if size == 1 else min(size, 8) if size != 12 else 4)
        builder.head -= len(data)
        builder.Bytes[builder.head : builder.head + len(data)] = data.tobytes()
        return int(builder.EndVector())
