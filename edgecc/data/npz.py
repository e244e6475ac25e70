"""Reading `.npz` and `.npy` files without holding them in memory, and writing them; without pickle."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from mmap import mmap
from pathlib import Path
from typing import IO, Any

import numpy as np


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file; those stored without compression (`np.savez`) are mapped into memory, not read.

    Raises:
        zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError: it is not a whole `.npz` file of plain numbers.
        RuntimeError: it is encrypted, or compressed in a way that Python does not know.
    """
    with zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        return {info.filename.removesuffix(".npy"): _read_member(path, archive, info) for info in members}


def read_npy(path: Path) -> np.ndarray:
    """The array of an `.npy` file, mapped into memory.

    Raises:
        OSError, ValueError, EOFError: it is not a whole `.npy` file of plain numbers, or there are none in it.
    """
    found: np.ndarray = np.lib.format.open_memmap(path, mode="r")
    return found


def read_rows(array: np.ndarray, start: int, stop: int) -> np.ndarray:
    """A part of an array along its first axis, in memory.

    What is mapped is read from the file instead: pages that a mapping has touched count as the process's memory for
    as long as it lives.
    """
    if not isinstance(array, np.memmap) or not array.flags.c_contiguous or array.filename is None:
        return np.asarray(array[start:stop])
    begin: Any = array.base
    if not isinstance(begin, mmap):  # a part of a mapping says where the whole begins
        return np.asarray(array[start:stop])
    stop = min(stop, len(array))
    row = array.nbytes // len(array)
    with Path(array.filename).open("rb") as stream:
        stream.seek(array.offset + start * row)
        content = bytearray((stop - start) * row)
        stream.readinto(content)
    return np.frombuffer(content, array.dtype).reshape(stop - start, *array.shape[1:])


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays under any names: `np.savez` takes names as keywords, and `file` and `allow_pickle` are its own.

    Raises:
        ValueError: an array holds Python objects.
    """
    with zipfile.ZipFile(path, "w") as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asanyarray(values), allow_pickle=False)


def _read_member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(info) as stream:
        shape, fortran, dtype = _read_header(stream)
        offset = _data_offset(path, info) + stream.tell()
    if dtype.hasobject:
        raise ValueError(
            f"array {info.filename} holds Python objects, which edgecc never unpickles: save plain numbers"
        )
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    # memmap refuses empty arrays.
    if info.compress_type != zipfile.ZIP_STORED or size == 0:
        with archive.open(info) as stream:
            values: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
            return values
    if offset + size > path.stat().st_size:
        raise EOFError(f"array {info.filename} is cut off")
    return np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C")


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    return np.lib.format.read_array_header_2_0(stream)


def _data_offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Where the bytes of a stored member begin; its local header may be longer than the one in the directory."""
    with path.open("rb") as stream:
        stream.seek(info.header_offset)
        header = stream.read(30)
    return info.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
