"""HDF5 files, checked before Keras reads them: links, other files and sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgecc_keras.child.report import ModelError

_AGAIN = "save or download it again"
#: Values are numbers; names are texts in attributes.
_NUMBERS = "fiubV"
#: Bytes that all values may have beyond those of the file, which compresses them.
_MAX_RATIO, _MAX_SMALL_BYTES = 200, 1 << 26
_MAX_DEPTH = 100


def check_hdf5(path: Path) -> dict[str, str]:
    """The texts of a file's own attributes, once nothing in it leads elsewhere.

    Raises:
        ModelError: it is truncated or damaged, links to other places or files, or unpacks to much more.
    """
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            limit = max(_MAX_SMALL_BYTES, _MAX_RATIO * path.stat().st_size)
            _check_groups(file, limit)
            return {name: _text(value) for name, value in file.attrs.items() if isinstance(value, str | bytes)}
    except ModelError:
        raise
    except Exception as error:  # the library raises nearly everything at what it does not expect
        why = f"{type(error).__name__}: {error}"[:500]
        raise ModelError("{path} is truncated or damaged", why=why, hint=_AGAIN) from error


def _check_groups(root: Any, limit: int) -> None:
    import h5py

    seen: set[int] = set()
    nbytes = 0
    pending = [(root, 0)]
    while pending:
        group, depth = pending.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen or depth > _MAX_DEPTH:
            raise _refused(group.name, "a group is within itself")
        seen.add(address)
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise _refused(f"{group.name}/{name}", "it is a link to another place or file")
            item = group[name]
            if isinstance(item, h5py.Group):
                pending.append((item, depth + 1))
            elif isinstance(item, h5py.Dataset):
                nbytes += _checked_size(item)
                if nbytes > limit:
                    raise _refused(item.name, f"the values up to here have {nbytes} bytes, many times the file's")
            else:
                raise _refused(f"{group.name}/{name}", f"it is a {type(item).__name__}")


def _checked_size(dataset: Any) -> int:
    if dataset.external or dataset.is_virtual:
        raise _refused(dataset.name, "its values are in another file")
    if dataset.dtype.kind not in _NUMBERS and dataset.size:
        raise _refused(dataset.name, f"its values are of type {dataset.dtype}, and weights are numbers")
    return int(dataset.size or 0) * int(dataset.dtype.itemsize)


def _text(value: str | bytes) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else value


def _refused(where: str, why: str) -> ModelError:
    return ModelError("{path} is not a file of weights that edgecc reads", where=where, why=why, hint=_AGAIN)
