"""What is looked at together, so that one run holds no more than a given number of bytes."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model, Tensor

Key = TypeVar("Key", bound=Hashable)

#: Bytes of tensors that are fetched from one run; what is beyond is fetched by a further sweep.
MEMORY = 64_000_000


def sizes_of(tensors: Sequence[Tensor], model: Model, data: CalibrationData) -> dict[str, int]:
    """Bytes of each tensor of a sample; of open dimensions, those that the first sample gives."""
    sizes = {tensor.name: _nbytes(tensor, {}) for tensor in tensors}
    if all(size is not None for size in sizes.values()):
        return {name: size or 0 for name, size in sizes.items()}
    feeds = next(iter(data.samples()), {})
    dims: dict[str, int] = {}
    for tensor in model.inputs:
        for dim, size in zip(tensor.shape or (), np.shape(feeds.get(tensor.name, ())), strict=False):
            dims[str(dim)] = size
    # What is still not known (a size computed from values) counts as much as the largest that is.
    found = {tensor.name: _nbytes(tensor, dims) for tensor in tensors}
    largest = max((size for size in found.values() if size is not None), default=MEMORY)
    return {name: largest if size is None else size for name, size in found.items()}


def _nbytes(tensor: Tensor, dims: Mapping[str, int]) -> int | None:
    if tensor.shape is None:
        return None
    sizes = [dim if isinstance(dim, int) else dims.get(str(dim)) for dim in tensor.shape]
    known = [size for size in sizes if size is not None]
    return math.prod(known) * np.dtype(tensor.dtype).itemsize if len(known) == len(sizes) else None


def grouped(sizes: Mapping[Key, int], memory: int, most: int | None = None) -> list[list[Key]]:
    """Things in order, as many to a group as fit, one at least; at least one group, which may be empty.

    Args:
        sizes: of each, in bytes.
        memory: most bytes of a group of several.
        most: things to a group; any number if None.
    """
    groups: list[list[Key]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if groups[-1] and (filled + size > memory or len(groups[-1]) == most):
            groups.append([])
            filled = 0
        groups[-1].append(name)
        filled += size
    return groups
