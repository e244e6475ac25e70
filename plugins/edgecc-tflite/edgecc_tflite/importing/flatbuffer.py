"""Reading flatbuffers that nobody vouches for: every offset is compared with the file's size before it is used.

Many fields may refer to the same bytes, so that a small file could stand for any number of them: what is copied is
counted, and too much is an error.

The generated accessors follow whatever the file says. Here a `Table` is checked when it is entered, a vector or a text
when it is taken. Offsets to tables point forward, so that tables cannot form a cycle; what refers by number (subgraphs)
is checked by who follows it.

Where a field is, and what type it has, comes from the generated schema module: its functions that write a field are
called with a recorder in the builder's place.
"""

from __future__ import annotations

import bisect
import functools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecc.errors import InvalidModelError
from edgecc_tflite import file_metadata, schema

#: `Prepend...Slot` of the builder, to the format of the value; "" for an offset.
_FORMATS = {
    "Bool": "?",
    "Int8": "b",
    "Uint8": "B",
    "Int16": "h",
    "Uint16": "H",
    "Int32": "i",
    "Uint32": "I",
    "Int64": "q",
    "Uint64": "Q",
    "Float32": "f",
    "Float64": "d",
    "UOffsetTRelative": "",
}


#: Bytes of a text; converters join the names of all that they fused.
_LONGEST_TEXT = 1 << 16
#: Bytes that are copied of a file: so many times its size, and so many more.
_COPIES, _MORE = 64, 1 << 24


@dataclass(frozen=True)
class Field:
    """Where a table keeps a field, the format of its value ("" for an offset), and what it is if it is not there."""

    slot: int
    format: str
    default: Any


@functools.cache
def fields(table: str) -> dict[str, Field]:
    """The fields of a table of the TFLite schema by the object API's names, such as "strideH"."""
    if table in file_metadata.TABLES:
        return {name: Field(*parts) for name, parts in file_metadata.TABLES[table].items()}
    names, prefix = _function_names(), f"{table}Add"
    found: dict[str, Field] = {}
    for name in names[bisect.bisect_left(names, prefix) :]:
        if not name.startswith(prefix):
            break
        recorder = _Recorder()
        getattr(schema.generated(), name)(recorder, 0)
        if recorder.field is not None:
            word = name.removeprefix(prefix)
            found[word[0].lower() + word[1:]] = recorder.field
    return found


@functools.cache
def _function_names() -> list[str]:
    return sorted(name for name in vars(schema.generated()) if "Add" in name)


class _Recorder:
    """Stands in for a builder and notes the one field that is written."""

    def __init__(self) -> None:
        self.field: Field | None = None

    def __getattr__(self, name: str) -> Any:
        kind = name.removeprefix("Prepend").removesuffix("Slot")
        if kind not in _FORMATS:
            raise AttributeError(name)

        def record(slot: int, _value: Any, default: Any) -> None:
            self.field = Field(slot, _FORMATS[kind], default)

        return record


class Table:
    """A table of the file.

    Args:
        data: the whole file.
        position: where the table begins.
        kind: its name in the schema.
        where: for errors, such as "subgraph 0, tensor 3".
        left: one number, the bytes that may still be copied; all tables of a file share it.

    Raises:
        InvalidModelError: it does not lie within the file. So do all methods for what they read.
    """

    __slots__ = ("_data", "_left", "_position", "_size", "_slots", "kind", "where")

    def __init__(self, data: memoryview, position: int, kind: str, where: str, left: list[int]) -> None:
        self._data, self._position, self.kind, self.where, self._left = data, position, kind, where, left
        backwards = self._number("i", position)
        slots_at = position - backwards
        if not 0 <= slots_at <= len(data) - 4:
            raise self.damaged("its list of fields lies outside of the file")
        length, size = struct.unpack_from("<HH", data, slots_at)
        if length < 4 or length % 2 or slots_at + length > len(data):
            raise self.damaged("its list of fields is cut off")
        if size < 4 or position + size > len(data):
            raise self.damaged("it reaches beyond the end of the file")
        self._size: int = size
        self._slots = struct.unpack_from(f"<{(length - 4) // 2}H", data, slots_at + 4)

    @classmethod
    def root(cls, data: memoryview, kind: str) -> Table:
        """The table that the file begins with."""
        if len(data) < 8:
            raise InvalidModelError("the file is truncated", why="it ends before its first table", hint=AGAIN)
        place = int(struct.unpack_from("<I", data, 0)[0])
        return cls(data, place, kind, "the model", [_COPIES * len(data) + _MORE])

    def count(self, nbytes: int) -> None:
        """Say that so many bytes of the file are copied.

        Raises:
            InvalidModelError: all that was copied is many times the file.
        """
        self._left[0] -= nbytes
        if self._left[0] < 0:
            raise self.damaged("its parts refer to the same bytes again and again, and come to many times its size")

    def damaged(self, why: str) -> InvalidModelError:
        """The error of a table that the file contradicts."""
        return InvalidModelError("the TFLite file is damaged", where=f"{self.where} ({self.kind})", why=why, hint=AGAIN)

    def value(self, name: str) -> Any:
        """A number or a truth value."""
        field = fields(self.kind).get(name)
        if field is None:  # a newer schema has it, the installed one does not
            return 0
        place = self._place(field)
        if place is None:
            return bool(field.default) if field.format == "?" else field.default
        if place - self._position + struct.calcsize(field.format) > self._size:
            raise self.damaged(f"field {name!r} reaches beyond the table")
        return struct.unpack_from(f"<{field.format}", self._data, place)[0]

    def values(self) -> dict[str, Any]:
        """Every number and truth value by its name."""
        return {name: self.value(name) for name, field in fields(self.kind).items() if field.format}

    def has(self, name: str) -> bool:
        """Whether a field that refers to something is there."""
        return self._reference(name) is not None

    def table(self, name: str, kind: str) -> Table | None:
        """The table that a field refers to."""
        place = self._reference(name)
        return None if place is None else self._inner(place, kind, f"{self.where}, {name}")

    def tables(self, name: str, kind: str, what: str) -> Iterator[Table]:
        """The tables of a vector; `what` names one of them in errors."""
        begin = self._vector(name, 4)
        prefix = "" if self.kind == "Model" else f"{self.where}, "
        self.count(4 * begin[1] if begin else 0)
        for number in range(begin[1] if begin else 0):
            place = begin[0] + 4 * number if begin else 0
            yield self._inner(place + self._number("I", place), kind, f"{prefix}{what} {number}")

    def numbers(self, name: str, dtype: str) -> np.ndarray | None:
        """A vector of numbers, where it lies in the file; None if it is not there."""
        found = self._vector(name, np.dtype(dtype).itemsize)
        return None if found is None else np.frombuffer(self._data, dtype, found[1], found[0])

    def text(self, name: str) -> str:
        """A text; "" if it is not there. Bytes that are no UTF-8 become question marks."""
        found = self._vector(name, 1)
        if found is None:
            return ""
        end = found[0] + found[1]
        if found[1] > _LONGEST_TEXT or end >= len(self._data) or self._data[end] != 0:
            raise self.damaged(f"text {name!r} of {found[1]:,} bytes has no end, or is longer than {_LONGEST_TEXT:,}")
        self.count(found[1])
        return bytes(self._data[found[0] : end]).decode(errors="replace")

    def copied(self, name: str, dtype: str) -> np.ndarray | None:
        """Like `numbers`, for what becomes lists or bytes of Python's."""
        found = self.numbers(name, dtype)
        self.count(0 if found is None else found.nbytes)
        return found

    def _inner(self, place: int, kind: str, where: str) -> Table:
        return Table(self._data, place, kind, where, self._left)

    def _place(self, field: Field) -> int | None:
        offset = self._slots[field.slot] if field.slot < len(self._slots) else 0
        return self._position + offset if offset else None

    def _reference(self, name: str) -> int | None:
        field = fields(self.kind).get(name)
        place = None if field is None else self._place(field)
        if place is None:
            return None
        if place - self._position + 4 > self._size:
            raise self.damaged(f"field {name!r} reaches beyond the table")
        return place + self._number("I", place)

    def _vector(self, name: str, item: int) -> tuple[int, int] | None:
        """Where a vector's items begin, and how many there are."""
        place = self._reference(name)
        if place is None:
            return None
        count = self._number("I", place)
        if place + 4 + count * item > len(self._data):
            raise self.damaged(f"{name!r} says it has {count:,} items, which reach beyond the end of the file")
        return place + 4, count

    def _number(self, kind: str, place: int) -> int:
        if not 0 <= place <= len(self._data) - 4:
            raise self.damaged(f"an offset leads to byte {place:,}, beyond the end of the file")
        return int(struct.unpack_from(f"<{kind}", self._data, place)[0])


#: What to do about a file that is not whole.
AGAIN = "export or download the model again"
