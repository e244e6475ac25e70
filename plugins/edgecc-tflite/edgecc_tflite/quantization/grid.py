"""The real numbers that stored integers can stand for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edgecc_tflite.ir import Quantization, Tensor

#: What kernels compute with, by what a tensor is stored in: unsigned values are shifted by 128.
_SIGNED = {"int8": "int8", "uint8": "int8", "int16": "int16"}
#: How far, in steps, a float32 product of scale and integer may lie from an integer number of steps.
_STEP_ERROR = 0.01


@dataclass(frozen=True)
class Grid:
    """real = scale * (stored - zero_point), stored in a signed type.

    Two tensors with equal grids hold the same numbers by the same integers.
    """

    dtype: str
    scale: float
    zero_point: int

    @classmethod
    def of(cls, tensor: Tensor) -> Grid | None:
        """The grid of a tensor with one scale; that of its signed twin for an unsigned one."""
        quantization, dtype = tensor.quantization, _SIGNED.get(tensor.dtype.name)
        if quantization is None or dtype is None or np.size(quantization.scale) != 1:
            return None
        shift = 128 if tensor.dtype == np.uint8 else 0
        zero_point = int(np.ravel(quantization.zero_point)[0]) - shift
        return cls(dtype, float(np.ravel(quantization.scale)[0]), zero_point)

    @cached_property
    def quantization(self) -> Quantization:
        return Quantization(np.array([self.scale], np.float32), np.array([self.zero_point], np.int64))

    @property
    def lowest(self) -> float:
        return float((np.iinfo(self.dtype).min - self.zero_point) * self.scale)

    @property
    def highest(self) -> float:
        return float((np.iinfo(self.dtype).max - self.zero_point) * self.scale)

    def store(self, values: np.ndarray) -> np.ndarray:
        """The nearest stored values, the outermost ones for what lies beyond."""
        limits = np.iinfo(self.dtype)
        steps = np.rint(np.asarray(values, np.float64) / self.scale) + self.zero_point
        stored: np.ndarray = np.clip(steps, limits.min, limits.max).astype(self.dtype)
        return stored

    def holds(self, values: np.ndarray) -> bool:
        """Whether the values are on the grid, up to float32's precision; infinities are as good as its ends."""
        finite = np.asarray(values, np.float64)[np.isfinite(values)]
        if finite.size == 0:
            return True
        if finite.min() < self.lowest - self.scale / 2 or finite.max() > self.highest + self.scale / 2:
            return False
        steps = finite / self.scale
        return bool(np.max(np.abs(steps - np.rint(steps))) < _STEP_ERROR)

    def constant(self, tensor: Tensor) -> Tensor:
        """A float constant on this grid."""
        assert tensor.data is not None
        data = self.store(tensor.data)
        return Tensor(tensor.name, tensor.shape, data.dtype, data, self.quantization)

    def like(self, tensor: Tensor, name: str = "") -> Tensor:
        """A computed tensor of the same shape on this grid."""
        return Tensor(name or tensor.name, tensor.shape, np.dtype(self.dtype), quantization=self.quantization)


def grid_for_scalar(value: float, dtype: str) -> Grid:
    """A grid that has the value as a point, as exactly as a float32 scale can say it."""
    scale = abs(value) / np.iinfo(dtype).max if value else 1.0
    return Grid(dtype, float(np.float32(scale)), 0)


def unsigned_like(signed: Tensor, name: str) -> Tensor:
    """A tensor for the same numbers in uint8."""
    assert signed.quantization is not None
    quantization = Quantization(signed.quantization.scale, signed.quantization.zero_point + 128)
    return Tensor(name, signed.shape, np.dtype(np.uint8), quantization=quantization)
