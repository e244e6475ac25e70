"""Arithmetic that is done now where its operands are constants, and by emitted operators where they are not.

A formula over sizes or scales is written once and serves both models that fix them and models that compute them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecc_tflite.ir import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgecc_tflite.lowerings.context import Lowering

_NOW: dict[str, Callable[..., np.ndarray]] = {
    "ADD": np.add,
    "SUB": np.subtract,
    "MUL": np.multiply,
    "DIV": np.divide,
    "MINIMUM": np.minimum,
    "MAXIMUM": np.maximum,
    "FLOOR_MOD": np.mod,
    "FLOOR": np.floor,
    "CEIL": np.ceil,
    "ABS": np.abs,
}


@dataclass(frozen=True)
class Late:
    """A float array: known now (float64), or a float32 tensor at run time."""

    c: Lowering
    value: np.ndarray | Tensor

    @property
    def is_known(self) -> bool:
        return isinstance(self.value, np.ndarray)

    @property
    def known(self) -> np.ndarray:
        assert isinstance(self.value, np.ndarray)
        return self.value

    @property
    def tensor(self) -> Tensor:
        """The value as a float32 tensor, a constant if it is known."""
        if isinstance(self.value, Tensor):
            return self.value
        return self.c.constant(self.value.astype(np.float32), "values")

    def _two(self, builtin: str, other: Late | float, *, swapped: bool = False) -> Late:
        right = other if isinstance(other, Late) else Late(self.c, np.asarray(other, np.float64))
        a, b = (right, self) if swapped else (self, right)
        if a.is_known and b.is_known:
            return now(self.c, _NOW[builtin](a.known, b.known))
        return Late(self.c, self.c.binary(builtin, a.tensor, b.tensor))

    def _one(self, builtin: str) -> Late:
        if self.is_known:
            return now(self.c, _NOW[builtin](self.known))
        return Late(self.c, self.c.unary(builtin, self.tensor))

    def __add__(self, other: Late | float) -> Late:
        return self._two("ADD", other)

    def __sub__(self, other: Late | float) -> Late:
        return self._two("SUB", other)

    def __rsub__(self, other: Late | float) -> Late:
        return self._two("SUB", other, swapped=True)

    def __mul__(self, other: Late | float) -> Late:
        return self._two("MUL", other)

    def __rmul__(self, other: Late | float) -> Late:
        return self._two("MUL", other)

    def __truediv__(self, other: Late | float) -> Late:
        return self._two("DIV", other)

    def __rtruediv__(self, other: Late | float) -> Late:
        return self._two("DIV", other, swapped=True)

    def clip(self, low: Late | float, high: Late | float) -> Late:
        return self._two("MAXIMUM", low)._two("MINIMUM", high)

    def minimum(self, other: Late | float) -> Late:
        return self._two("MINIMUM", other)

    def maximum(self, other: Late | float) -> Late:
        return self._two("MAXIMUM", other)

    def modulo(self, other: Late | float) -> Late:
        return self._two("FLOOR_MOD", other)

    def floor(self) -> Late:
        return self._one("FLOOR")

    def ceil(self) -> Late:
        return self._one("CEIL")

    def __abs__(self) -> Late:
        return self._one("ABS")

    def reshape(self, *shape: int) -> Late:
        if self.is_known:
            return Late(self.c, self.known.reshape(shape))
        return Late(self.c, self.c.reshape(self.tensor, shape))

    def sum_rows(self) -> Late:
        """Sums over the last axis of a matrix, as a column."""
        if self.is_known:
            return Late(self.c, self.known.sum(axis=-1, keepdims=True))
        shape = (self.tensor.shape[0], 1)
        return Late(self.c, self.c.emit("SUM", [self.tensor, self.c.ints([1])], shape=shape, keepDims=True))

    def times(self, matrix: np.ndarray) -> Late:
        """Matrix product with a constant on the right."""
        if self.is_known:
            return Late(self.c, self.known @ matrix)
        weights = self.c.constant(np.ascontiguousarray(matrix.T, np.float32), "weights")
        shape = (self.tensor.shape[0], matrix.shape[1])
        inputs = [self.tensor, weights, None]
        return Late(self.c, self.c.emit("FULLY_CONNECTED", inputs, shape=shape, keepNumDims=False))


def now(c: Lowering, value: float | np.ndarray) -> Late:
    """A value that is known, also where numpy has made a scalar of an array of rank 0."""
    return Late(c, np.asarray(value, np.float64))


def late(c: Lowering, tensor: Tensor) -> Late:
    """An integer or float tensor; a constant one is known."""
    if tensor.data is not None:
        return Late(c, tensor.data.astype(np.float64))
    return Late(c, c.cast(tensor, np.float32))


def element(c: Lowering, vector: Late, position: int) -> Late:
    """One element of a vector, of rank 0."""
    if vector.is_known:
        return now(c, vector.known[position])
    index = c.ints(position, "position")
    return Late(c, c.emit("GATHER", [vector.tensor, index], shape=(), axis=0))


def count_up(c: Lowering, count: Late) -> Late:
    """0, 1, ... count - 1."""
    if count.is_known:
        return now(c, np.arange(int(count.known)))
    zero, one = c.constant(np.array(0, np.float32), "zero"), c.constant(np.array(1, np.float32), "one")
    return Late(c, c.emit("RANGE", [zero, count.tensor, one], shape=(-1,)))


def size_along(c: Lowering, x: Tensor, axis: int) -> Late:
    """A dimension, which may be open, of rank 0."""
    if x.shape[axis] >= 0:
        return now(c, x.shape[axis])
    i32 = np.dtype(np.int32)
    sizes = c.emit("SHAPE", [x], shape=(x.rank,), dtype=i32, outType=2)
    return late(c, c.emit("GATHER", [sizes, c.ints(axis, "axis")], shape=(), axis=0))
