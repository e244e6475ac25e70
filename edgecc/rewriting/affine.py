"""Affine nodes: y = x * scale + shift per channel, whether written as BatchNormalization or as arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgecc.rewriting.reading import constant, is_op

if TYPE_CHECKING:
    from edgecc.model import Node

#: Arithmetic that is affine where one of its operands is constant.
ARITHMETIC = ("Mul", "Div", "Add", "Sub")
#: Every operator that `affine_of` reads.
AFFINE = ("BatchNormalization", *ARITHMETIC)
#: BatchNormalization's own default, as the float32 that attributes are stored in.
_EPSILON = float(np.float32(1e-5))


class Affine(NamedTuple):
    """y = x * scale + shift, in float64, one value per channel."""

    scale: np.ndarray
    shift: np.ndarray


def is_affine(node: Node) -> bool:
    """Whether it is a BatchNormalization, or arithmetic with one constant operand that is no dividend."""
    if not is_op(node, *AFFINE):
        return False
    if node.op == "BatchNormalization":
        return True
    constants = [constant(node, index) is not None for index in (0, 1)]
    return constants.count(True) == 1 and not (node.op == "Div" and constants[0])


def data_index(node: Node) -> int:
    """Which input of an affine node is x: the one that is not constant."""
    return 1 if node.op in ARITHMETIC and constant(node, 0) is not None else 0


def affine_of(node: Node, rank: int, axis: int, channels: int) -> Affine | str:
    """Scale and shift of an affine node, or the reason why it has no such form.

    Args:
        node: one that `is_affine`.
        rank: number of axes of x.
        axis: of the channels.
        channels: how many there are.
    """
    if node.op == "BatchNormalization":
        if axis != 1:
            return f"it normalizes axis 1 of a tensor with {rank} axes, and the channels are axis {axis}"
        return _of_batchnorm(node, channels)
    index = data_index(node)
    values = constant(node, 1 - index)
    spread = None if values is None else per_channel(values, rank, axis, channels)
    if spread is None:
        return f"its constant {node.inputs[1 - index].name!r} is not one value per channel"
    found = spread.astype(np.float64)
    ones, zeros = np.ones(channels), np.zeros(channels)
    if node.op == "Mul":
        return Affine(found, zeros)
    if node.op == "Div":
        with np.errstate(over="ignore"):
            return Affine(1 / found, zeros) if found.all() else "it divides by zero"
    if node.op == "Add":
        return Affine(ones, found)
    return Affine(ones, -found) if index == 0 else Affine(-ones, found)


def per_channel(values: np.ndarray, rank: int, axis: int, channels: int) -> np.ndarray | None:
    """One value per channel (not a copy), if that is how the constant broadcasts over a tensor of that rank."""
    shape = (1,) * (rank - values.ndim) + values.shape
    if len(shape) != rank or any(dim != 1 for index, dim in enumerate(shape) if index != axis):
        return None
    if shape[axis] not in (1, channels):
        return None
    return np.broadcast_to(values.reshape(-1), (channels,))


def _of_batchnorm(node: Node, channels: int) -> Affine | str:
    if node.attrs.get("training_mode", 0):
        return "it is in training mode"
    values = [constant(node, index) for index in range(1, 5)]
    if any(v is None or v.shape != (channels,) for v in values):
        return "its scale, bias, mean and variance are not constants with one value per channel"
    scale, bias, mean, variance = (np.asarray(v, np.float64) for v in values)
    variance = variance + node.attrs.get("epsilon", _EPSILON)
    if not (variance > 0).all():
        return "variance plus epsilon is not positive in every channel"
    factor = scale / np.sqrt(variance)
    return Affine(factor, bias - mean * factor)
