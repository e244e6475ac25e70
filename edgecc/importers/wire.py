"""Protobuf's wire format, as far as it takes to find fields without parsing a message.

Source: "Encoding", protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

VARINT = 0
LENGTH_DELIMITED = 2


class Bytes(Protocol):
    """What bytes, memoryview and mmap have in common."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> int: ...


class Field(NamedTuple):
    """A field of a message.

    Attributes:
        number, wire: of the field, and its wire type.
        begin: where it begins, with its tag.
        start, end: of its contents; those of a varint are empty. A message that was cut off may end before them.
    """

    number: int
    wire: int
    begin: int
    start: int
    end: int


def fields(contents: Bytes, begin: int, end: int) -> Iterator[Field]:
    """The fields of the message between two places, up to the first that is neither a varint nor length-delimited.

    Such a field is the last one given, and ends where its value would begin.
    """
    position = begin
    while position < end:
        first = position
        tag, position = _varint(contents, position, end)
        value, position = _varint(contents, position, end)
        start, wire = position, tag & 7
        if wire == LENGTH_DELIMITED:
            position += value
        yield Field(tag >> 3, wire, first, start, position)
        if wire not in (VARINT, LENGTH_DELIMITED):
            return


def length_delimited(number: int, contents: bytes) -> bytes:
    """A field with its tag and length."""
    return head_of(number, len(contents)) + contents


def head_of(number: int, size: int) -> bytes:
    """Tag and length of a length-delimited field of so many bytes."""
    return _packed(number << 3 | LENGTH_DELIMITED) + _packed(size)


def _packed(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varint(contents: Bytes, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while position < end and shift < 64:
        byte = contents[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    return value, position
