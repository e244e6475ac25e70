"""Weights in files beside the model. A model file is untrusted: it may read nothing outside of its own folder."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath

import numpy as np
import onnx

from edgecc.deserialization import numpy_type
from edgecc.errors import InvalidModelError

_WHOLE = "copy the model together with all files that belong to it"


@dataclass(frozen=True)
class Folder:
    """The folder that external data of one model may lie in.

    Attributes:
        path: the folder; None if the model has none.
        model: the model's file, if it has one.
        files: what was read from it.
    """

    path: Path | None
    model: Path | None = None
    files: set[Path] = field(default_factory=set, compare=False)
    _known: dict[str, Path] = field(default_factory=dict, repr=False, compare=False)

    def read(self, tensor: onnx.TensorProto) -> np.ndarray:
        """The values of a tensor whose data is in a file.

        Raises:
            InvalidModelError: the file is missing, lies outside of the folder, or is too short.
        """
        entries = {entry.key: entry.value for entry in tensor.external_data}
        where = f"tensor {tensor.name!r}"
        file = self._file(entries.get("location", ""), where)
        offset, length = (_number(entries.get(key), key, where) for key in ("offset", "length"))
        available = file.stat().st_size - (offset or 0)
        if tensor.data_type in (onnx.TensorProto.STRING, onnx.TensorProto.UNDEFINED) or min(tensor.dims, default=1) < 0:
            raise InvalidModelError("a tensor of this type or shape cannot be external data", where=where)
        wanted = nbytes_of(tensor)
        if length is None:
            length = wanted
        if length != wanted:
            raise InvalidModelError(
                f"{file} should hold {length} bytes for a tensor of {wanted} bytes", where=where, hint=_WHOLE
            )
        if length > available:
            raise InvalidModelError(
                f"{file} is too short",
                where=where,
                why=f"it ends {length - available} bytes before the tensor does",
                hint=_WHOLE,
            )
        self.files.add(file)
        return _read(file, offset or 0, length, tensor)

    def _file(self, location: str, where: str) -> Path:
        if location not in self._known:
            self._known[location] = self._find(location, where)
        return self._known[location]

    def _find(self, location: str, where: str) -> Path:
        if self.path is None:
            raise InvalidModelError(
                f"the weights are in file {location!r}, and it is not known where that is",
                where=where,
                hint="load the model by its path, or give base_dir",
            )
        if not location:
            raise InvalidModelError("external data without a location", where=where)
        if PureWindowsPath(location).anchor or ".." in PureWindowsPath(location).parts or "\0" in location:
            raise _outside(location, where)
        file = self.path / location
        if not _real(file).is_relative_to(_real(self.path)) and not self._is_linked_like_the_model(file):
            raise _outside(location, where)
        try:
            is_there = file.is_file()
        except OSError as error:  # such as a name that is too long
            raise InvalidModelError(
                f"the model's weights file {file} cannot be read", where=where, why=error.strerror or "", hint=_WHOLE
            ) from error
        if not is_there:
            raise InvalidModelError(f"the model's weights file {file} is missing", where=where, hint=_WHOLE)
        return file

    def _is_linked_like_the_model(self, file: Path) -> bool:
        """Whether both are links into one folder, as in the cache of Hugging Face: no model can make links."""
        if self.model is None or not self.model.is_symlink() or not file.is_symlink():
            return False
        return _real(file).parent == _real(self.model).parent


def _real(path: Path) -> Path:
    """Behind all links; `Path.resolve` raises where they lead in a circle."""
    return Path(os.path.realpath(path))


def _outside(location: str, where: str) -> InvalidModelError:
    return InvalidModelError(
        f"external data {location!r} lies outside of the model's folder",
        where=where,
        why="a model may read nothing outside of its own folder",
        hint="move the file beside the model and save it with a relative location",
    )


def _number(text: str | None, key: str, where: str) -> int | None:
    if text is None:
        return None
    if not text.isdecimal():
        raise InvalidModelError(f"external data has {key} {text!r}, which is no count of bytes", where=where)
    return int(text)


def nbytes_of(tensor: onnx.TensorProto) -> int:
    """Bytes that the tensor's type and shape ask for."""
    return int(math.prod(tensor.dims) * bits_of(tensor.data_type) + 7) // 8


#: Types of which several elements share a byte.
_PACKED = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2, "FLOAT6E2M3": 6, "FLOAT6E3M2": 6}


def bits_of(data_type: int) -> int:
    """Bits of one stored element: packed types have fewer than eight.

    Raises:
        InvalidModelError: there is no such type.
    """
    for name, bits in _PACKED.items():
        if data_type == getattr(onnx.TensorProto, name, None):
            return bits
    return 8 * numpy_type(data_type).itemsize


def _read(file: Path, offset: int, length: int, tensor: onnx.TensorProto) -> np.ndarray:
    try:
        stored = np.fromfile(file, np.uint8, length, offset=offset)
    except OSError as error:
        raise InvalidModelError(f"cannot read {file}", why=error.strerror or str(error)) from error
    if bits_of(tensor.data_type) < 8:
        packed = onnx.TensorProto(data_type=tensor.data_type, dims=tensor.dims, raw_data=stored.tobytes())
        return onnx.numpy_helper.to_array(packed)
    dtype = numpy_type(tensor.data_type)
    values = stored.view(dtype.newbyteorder("<")).astype(dtype, copy=False)
    # The same bytes, of a type that numpy calls its own: that of `newbyteorder` is equal to it, but folded by nobody.
    return values.view(dtype).reshape(tuple(tensor.dims))
