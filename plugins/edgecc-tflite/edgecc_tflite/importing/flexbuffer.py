"""The options of custom operators: a flexbuffer map from names to numbers, read with every offset checked."""

from __future__ import annotations

import struct

from edgecc_tflite.importing.base import Refusal

_INT, _UINT, _FLOAT, _MAP, _BOOL = 1, 2, 3, 9, 26
_FORMATS = {
    **{(_INT, width): f"<{letter}" for width, letter in zip((1, 2, 4, 8), "bhiq", strict=True)},
    **{(_UINT, width): f"<{letter}" for width, letter in zip((1, 2, 4, 8), "BHIQ", strict=True)},
    **{(_FLOAT, 4): "<f", (_FLOAT, 8): "<d"},
    **{(_BOOL, width): f"<{letter}" for width, letter in zip((1, 2, 4, 8), "BHIQ", strict=True)},
}
#: Entries of a map; the operators that are known have a dozen.
_MOST_ENTRIES = 1000


def read_numbers(data: bytes) -> dict[str, float]:
    """The numbers of a map by name; other values are left out.

    Raises:
        Refusal: it is no flexbuffer map.
    """
    try:
        return _read(data)
    except (struct.error, IndexError, ValueError, KeyError) as error:
        raise Refusal("its options cannot be read", "convert the model again") from error


def _read(data: bytes) -> dict[str, float]:
    width, kind = data[-1], data[-2]
    if kind >> 2 != _MAP or width not in (1, 2, 4, 8):
        raise ValueError("no map")
    place = len(data) - 2 - width
    values = _behind(data, place, width)
    width = 1 << (kind & 3)
    count = _unsigned(data, values - width, width)
    keys = _behind(data, values - 3 * width, width)
    key_width = _unsigned(data, values - 2 * width, width)
    if count > _MOST_ENTRIES:
        raise ValueError("too many entries")
    found: dict[str, float] = {}
    for number in range(count):
        name = _behind(data, keys + number * key_width, key_width)
        text = data[name : data.index(0, name)].decode()
        kind = data[values + count * width + number]
        value = _number(data, values + number * width, width, kind)
        if value is not None:
            found[text] = value
    return found


def _number(data: bytes, place: int, width: int, kind: int) -> float | None:
    """A value that stands in the map itself, or behind an offset."""
    packed, own = kind >> 2, 1 << (kind & 3)
    if packed in (6, 7, 8):  # the same as 1, 2 and 3, behind an offset
        packed, place, width = packed - 5, _behind(data, place, width), own
    layout = _FORMATS.get((packed, width))
    if layout is None or place < 0:
        return None
    return float(struct.unpack_from(layout, data, place)[0])


def _unsigned(data: bytes, place: int, width: int) -> int:
    if place < 0:
        raise ValueError("an offset before the beginning")
    return int(struct.unpack_from(_FORMATS[_UINT, width], data, place)[0])


def _behind(data: bytes, place: int, width: int) -> int:
    """Where an offset, which counts backwards, leads."""
    target = place - _unsigned(data, place, width)
    if target < 0:
        raise ValueError("an offset before the beginning")
    return target
