"""The constants of a model as the tail of its file: each once, aligned, copied once."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np

from edgecc_tflite.schema import PACKED_BITS, type_name

#: The schema asks for 16 bytes (`force_align`): kernels load constants with aligned vector instructions.
ALIGNMENT = 16

_LENGTH_BYTES = 4
#: Fields of the schema's `Buffer` table.
_DATA, _OFFSET, _SIZE = range(3)
#: Any values that the builder does not take for a default and leave out; filled in by `write_tail`.
_FILLED_IN_LATER = 1


class Constants:
    """The buffers of a model, in the order in which they were added; buffer 0 is the schema's empty one.

    Attributes:
        buffers: one object per buffer with the `Pack` that the object API expects of a `BufferT`.
    """

    def __init__(self) -> None:
        self.buffers: list[_Buffer] = [_Buffer(None)]
        self._by_object: dict[int, int] = {}
        self._by_content: dict[tuple[Any, ...], list[int]] = {}

    def add(self, data: np.ndarray) -> int:
        """The buffer that holds these bytes, an earlier one if there is one with the same."""
        known = self._by_object.get(id(data))
        if known is not None:
            return known
        if data.size == 0:
            return 0
        candidates = self._by_content.setdefault(_likeness(data), [])
        number = next((n for n in candidates if _same_bytes(self.buffers[n].data, data)), 0)
        if number == 0:
            number = len(self.buffers)
            self.buffers.append(_Buffer(data))
            candidates.append(number)
        # Only an array that is kept alive here keeps its id to itself.
        if self.buffers[number].data is data:
            self._by_object[id(data)] = number
        return number

    def use_offsets(self) -> None:
        """Refer to the constants by position in the file instead of as parts of the flatbuffer."""
        for buffer in self.buffers:
            buffer.by_offset = True

    def starts(self, head_bytes: int) -> list[int]:
        """Where in the file each buffer's bytes begin, behind a head of that size; 0 for the empty one."""
        starts, end = [0], head_bytes
        for buffer in self.buffers[1:]:
            start = -(-(end + _LENGTH_BYTES) // ALIGNMENT) * ALIGNMENT
            starts.append(start)
            end = start + buffer.nbytes
        return starts

    def end_of_tail(self, head_bytes: int) -> int:
        """Bytes of the whole file."""
        return self.starts(head_bytes)[-1] + self.buffers[-1].nbytes if len(self.buffers) > 1 else head_bytes


class _Buffer:
    """Stands in for the object API's `BufferT`, whose data has no alignment and goes through the builder."""

    def __init__(self, data: np.ndarray | None) -> None:
        self.data = data
        self.nbytes = 0 if data is None else _stored_bytes(data)
        self.by_offset = False
        #: Where `_DATA`, or `_OFFSET` and `_SIZE`, stand, counted from the head's end.
        self.fields: dict[int, int] = {}

    def Pack(self, builder: Any) -> int:
        """Write the table with its references still open. The object API calls it by this name."""
        self.fields = {}
        builder.StartObject(3)
        if self.data is not None and self.by_offset:
            for slot in (_OFFSET, _SIZE):
                builder.PrependUint64Slot(slot, _FILLED_IN_LATER, 0)
                self.fields[slot] = builder.Offset()
        elif self.data is not None:
            builder.Prep(4, 0)
            builder.PlaceUOffsetT(_FILLED_IN_LATER)
            builder.Slot(_DATA)
            self.fields[_DATA] = builder.Offset()
        return builder.EndObject()  # type: ignore[no-any-return]

    def refer_to(self, start: int, file: bytearray, head_bytes: int) -> None:
        """Fill in the open references, now that the bytes begin at `start`."""
        for field, from_end in self.fields.items():
            position = head_bytes - from_end
            if field == _DATA:
                struct.pack_into("<I", file, position, start - _LENGTH_BYTES - position)
                struct.pack_into("<I", file, start - _LENGTH_BYTES, self.nbytes)
            else:
                struct.pack_into("<Q", file, position, start if field == _OFFSET else self.nbytes)


def write_tail(head: bytearray, constants: Constants) -> bytearray:
    """The whole file: the packed head, then the constants that it refers to."""
    file = bytearray(constants.end_of_tail(len(head)))
    file[: len(head)] = head
    for buffer, start in zip(constants.buffers, constants.starts(len(head)), strict=True):
        if buffer.data is None:
            continue
        buffer.refer_to(start, file, len(head))
        _copy_into(np.frombuffer(file, np.uint8, buffer.nbytes, start), buffer.data)
    return file


def _copy_into(target: np.ndarray, data: np.ndarray) -> None:
    """Store an array little-endian and in row-major order, without a copy in between."""
    bits = PACKED_BITS.get(type_name(data.dtype))
    if bits is not None:
        target[:] = _packed(data, bits)
        return
    np.copyto(target.view(data.dtype.newbyteorder("<")).reshape(data.shape), data)


def _packed(data: np.ndarray, bits: int) -> np.ndarray:
    """Values of less than a byte, several to a byte, the first one lowest."""
    per_byte = 8 // bits
    values = data.astype(np.int8).reshape(-1).view(np.uint8) & (2**bits - 1)
    padded = np.zeros(-(-values.size // per_byte) * per_byte, np.uint8)
    padded[: values.size] = values
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    packed: np.ndarray = np.bitwise_or.reduce(padded.reshape(-1, per_byte) << shifts, axis=1)
    return packed


def _stored_bytes(data: np.ndarray) -> int:
    bits = PACKED_BITS.get(type_name(data.dtype))
    return data.nbytes if bits is None else -(-data.size * bits // 8)


def _likeness(data: np.ndarray) -> tuple[Any, ...]:
    """Equal for equal constants and cheap; constants that only look alike are compared in full."""
    sample = data.flat[:1024].tobytes() + data.flat[-256:].tobytes()
    return type_name(data.dtype), data.shape, zlib.crc32(sample)


def _same_bytes(left: np.ndarray | None, right: np.ndarray) -> bool:
    """Whether two arrays of one type and shape are the same bit for bit: 0.0 is not -0.0, and NaN is NaN."""
    assert left is not None
    if right.dtype.itemsize > 8:
        return left.tobytes() == right.tobytes()
    bits = f"u{right.dtype.itemsize}"
    return bool(np.array_equal(left.view(bits), right.view(bits)))
