"""The two tables of which a model has thousands, packed faster than the object API does it.

The object API takes 50 us for an operator and its tensors, most of it for fields that are not there. Here a table is
one `struct.pack`: these classes stand in for `OperatorT` and `TensorT` in the object API's lists. Equal shapes, options
and quantizations are written once and referred to, which flatbuffers allow.
"""

from __future__ import annotations

import struct
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

#: Position of a field in its table of the schema.
_TENSOR_SHAPE, _TENSOR_TYPE, _TENSOR_BUFFER, _TENSOR_NAME, _TENSOR_QUANTIZATION = range(5)
_TENSOR_SPARSITY, _TENSOR_SIGNATURE, _TENSOR_HAS_RANK = 6, 7, 8
_OPERATOR_CODE, _OPERATOR_INPUTS, _OPERATOR_OUTPUTS, _OPERATOR_OPTIONS_TYPE, _OPERATOR_OPTIONS = range(5)
_OPERATOR_OPTIONS2_TYPE, _OPERATOR_OPTIONS2 = 11, 12


@dataclass
class Written:
    """What is already written to one builder, by content: offsets from the end of its buffer."""

    builder: Any = None
    offsets: dict[Hashable, int] = field(default_factory=dict)

    def to(self, builder: Any) -> dict[Hashable, int]:
        """The offsets in this builder; a new builder has none."""
        if self.builder is not builder:
            self.builder, self.offsets = builder, {}
        return self.offsets


@dataclass(eq=False)
class TensorTable:
    """A `Tensor` of the schema; shape has 1 where signature, if there is one, has -1."""

    written: Written
    name: str
    type: int
    shape: tuple[int, ...]
    signature: tuple[int, ...] | None
    buffer: int
    quantization: Any
    sparsity: Any = None

    def Pack(self, builder: Any) -> int:
        """Write the table; the object API calls it by this name."""
        written = self.written.to(builder)
        references = [
            (_TENSOR_SHAPE, _vector(builder, self.shape, written)),
            (_TENSOR_NAME, _text(builder, self.name)),
        ]
        if self.signature is not None:
            references.append((_TENSOR_SIGNATURE, _vector(builder, self.signature, written)))
        if self.quantization is not None:
            references.append((_TENSOR_QUANTIZATION, _once(builder, self.quantization, written)))
        if self.sparsity is not None:
            references.append((_TENSOR_SPARSITY, _once(builder, self.sparsity, written)))
        words, bytes_ = ((_TENSOR_BUFFER, self.buffer),), ((_TENSOR_TYPE, self.type), (_TENSOR_HAS_RANK, 1))
        return _table(builder, references, words, bytes_, written)


@dataclass(eq=False)
class OperatorTable:
    """An `Operator` of the schema; its options belong to one of two unions."""

    written: Written
    code: int
    inputs: Sequence[int]
    outputs: Sequence[int]
    options_type: int
    options: Any
    second_union: bool

    def Pack(self, builder: Any) -> int:
        """Write the table; the object API calls it by this name."""
        written = self.written.to(builder)
        references = [
            (_OPERATOR_INPUTS, _vector(builder, self.inputs)),
            (_OPERATOR_OUTPUTS, _vector(builder, self.outputs)),
        ]
        bytes_: tuple[tuple[int, int], ...] = ()
        if self.options is not None:
            slot = _OPERATOR_OPTIONS2 if self.second_union else _OPERATOR_OPTIONS
            references.append((slot, _once(builder, self.options, written)))
            bytes_ = ((_OPERATOR_OPTIONS2_TYPE if self.second_union else _OPERATOR_OPTIONS_TYPE, self.options_type),)
        return _table(builder, references, ((_OPERATOR_CODE, self.code),), bytes_, written)


def _table(
    builder: Any,
    references: Sequence[tuple[int, int]],
    words: Sequence[tuple[int, int]],
    bytes_: Sequence[tuple[int, int]],
    written: dict[Hashable, int],
) -> int:
    """Write a table of offsets, 4-byte and 1-byte values, each with its slot; the offset of the table."""
    slots = (*(slot for slot, _ in references), *(slot for slot, _ in words))
    size = 4 + 4 * len(slots) + len(bytes_)
    padded = -(-size // 4) * 4
    layout = (slots, tuple(slot for slot, _ in bytes_))
    vtable = written.get(layout)
    if vtable is None:
        vtable = written[layout] = _put(builder, _vtable(*layout, size=size))
    table = -(-builder.Offset() // 4) * 4 + padded
    values = [table - 4 - 4 * place - target for place, (_, target) in enumerate(references)]
    values += [value for _, value in words]
    body = struct.pack(f"<i{len(values)}I", vtable - table, *values) + bytes(value for _, value in bytes_)
    return _put(builder, body.ljust(padded, b"\0"))


def _vtable(slots: tuple[int, ...], byte_slots: tuple[int, ...], *, size: int) -> bytes:
    """Where in the table each field is; 0 for one that is absent."""
    places = [0] * (max((*slots, *byte_slots)) + 1)
    for place, slot in enumerate(slots):
        places[slot] = 4 + 4 * place
    for place, slot in enumerate(byte_slots):
        places[slot] = 4 + 4 * len(slots) + place
    # Padded to whole words behind the last field, which counts as one more field that is absent.
    places += [0] * (len(places) % 2)
    return struct.pack(f"<{2 + len(places)}H", 4 + 2 * len(places), size, *places)


def _vector(builder: Any, values: Sequence[int], written: dict[Hashable, int] | None = None) -> int:
    if written is None:
        return _put(builder, struct.pack(f"<I{len(values)}i", len(values), *values))
    key = tuple(values)
    if key not in written:
        written[key] = _vector(builder, values)
    return written[key]


def _text(builder: Any, text: str) -> int:
    data = text.encode()
    padded = (len(data) + 4) // 4 * 4
    return _put(builder, struct.pack("<I", len(data)) + data.ljust(padded, b"\0"))


def _once(builder: Any, table: Any, written: dict[Hashable, int]) -> int:
    """Write one of the object API's tables unless this very object is written already."""
    if table not in written:
        written[table] = table.Pack(builder)
    return written[table]


def _put(builder: Any, block: bytes) -> int:
    """Write whole words in front of what there is; their offset from the end."""
    builder.Prep(4, len(block) - 4)
    builder.head -= len(block)
    builder.Bytes[builder.head : builder.head + len(block)] = block
    return int(builder.Offset())
