"""Dilated convolutions whose taps often meet padding: XNNPACK multiplies by it like by anything else."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from edgecc_tflite.enums import Activation, Padding
from edgecc_tflite.ir import Operator, Shape, Tensor

#: Multiplications in the time of moving one value, mostly within the cache.
_MOVING = 4
#: What is left of the work must be worth the operators around it.
_WORTHWHILE = 0.9


class _Tap(NamedTuple):
    """One tap along one axis: which output places it has an input for, and where that lies.

    Attributes:
        tap: its number.
        out: the first such place.
        places: how many such places.
        first: the input that the first one reads.
    """

    tap: int
    out: int
    places: int
    first: int


def split_by_tap(op: Operator) -> list[Operator]:
    """A convolution of one tap for each tap, over the places that it has an input for, and their sum.

    Three by three taps of dilation 12 over 16 by 16 places meet the input in a fourth of all cases. Nothing where most
    do, so that the sums would take longer, and for undilated taps: few of those meet padding.
    """
    data, weights, _ = op.inputs
    assert data is not None
    assert weights is not None
    if op.options["padding"] != Padding.SAME or min(*data.shape[1:3]) < 1 or weights.data is None:
        return []
    if (op.options["strideH"], op.options["strideW"]) != (1, 1) or data.dtype != np.float32:
        return []
    if max(op.options.get("dilationHFactor", 1), op.options.get("dilationWFactor", 1)) == 1:
        return []
    if weights.dtype != np.float32 or data.shape[3] != weights.shape[3]:
        return []
    taps = list(itertools.product(_taps(op, 1), _taps(op, 2)))
    places, (outs, _, _, ins) = data.shape[1] * data.shape[2], weights.shape
    moved = (2 * ins + 5 * outs) * _MOVING / (ins * outs) * places * (len(taps) - 1)
    if len(taps) < 2 or sum(row.places * column.places for row, column in taps) + moved > _WORTHWHILE * places * len(
        taps
    ):
        return []
    # The tap in the middle, which has an input everywhere, carries the bias.
    middle = next((pair for pair in taps if pair[0].places * pair[1].places == places), None)
    if middle is None:
        return []
    return _summed(op, [middle, *(pair for pair in taps if pair is not middle)])


def _taps(op: Operator, axis: int) -> list[_Tap]:
    data, weights, _ = op.inputs
    assert data is not None
    assert weights is not None
    size, count = data.shape[axis], weights.shape[axis]
    dilation = op.options.get("dilationHFactor" if axis == 1 else "dilationWFactor", 1)
    taps = []
    for tap in range(count):
        shift = tap * dilation - (count - 1) * dilation // 2
        taps.append(_Tap(tap, max(-shift, 0), max(size - abs(shift), 0), max(shift, 0)))
    return [tap for tap in taps if tap.places]


def _summed(op: Operator, taps: list[tuple[_Tap, _Tap]]) -> list[Operator]:
    out = op.outputs[0]
    operators: list[Operator] = []
    total: Tensor | None = None
    for number, (row, column) in enumerate(taps):
        part = _part(op, row, column, number)
        operators += part
        result = part[-1].outputs[0]
        if total is None:
            total = result
            continue
        is_last = number == len(taps) - 1
        activation = op.options.get("fusedActivationFunction", Activation.NONE) if is_last else Activation.NONE
        added = out if is_last else Tensor(f"{out.name}/sum_{number}", out.shape, out.dtype)
        operators.append(Operator("ADD", [total, result], [added], {"fusedActivationFunction": activation}, op.origins))
        total = added
    return operators


def _part(op: Operator, row: _Tap, column: _Tap, number: int) -> list[Operator]:
    """What one tap adds to the output: zeros where it has no input."""
    data, weights, bias = op.inputs
    out, name = op.outputs[0], f"{op.outputs[0].name}/tap_{number}"
    assert data is not None
    assert weights is not None
    assert weights.data is not None
    operators: list[Operator] = []
    read = data
    if (row.places, column.places) != data.shape[1:3]:
        begin = _ints(f"{name}/begin", (0, row.first, column.first, 0))
        size = _ints(f"{name}/size", (-1, row.places, column.places, -1))
        read = Tensor(f"{name}/read", (data.shape[0], row.places, column.places, data.shape[3]), data.dtype)
        operators.append(Operator("SLICE", [data, begin, size], [read], {}, op.origins))
    taps = np.ascontiguousarray(weights.data[:, row.tap : row.tap + 1, column.tap : column.tap + 1])
    kernel = Tensor(f"{weights.name}/{number}", taps.shape, taps.dtype, taps)
    if number:
        zeros = np.zeros(weights.shape[0], np.float32)
        bias = Tensor(f"{name}/zeros", zeros.shape, zeros.dtype, zeros)
    result = Tensor(name, (out.shape[0], row.places, column.places, out.shape[3]), out.dtype)
    ones = dict.fromkeys(("strideH", "strideW", "dilationHFactor", "dilationWFactor"), 1)
    options = {**ones, "padding": Padding.VALID, "fusedActivationFunction": Activation.NONE}
    operators.append(Operator("CONV_2D", [read, kernel, bias], [result], options, op.origins))
    if read is data:
        return operators
    around = [
        (0, 0),
        *((tap.out, out.shape[axis] - tap.out - tap.places) for axis, tap in ((1, row), (2, column))),
        (0, 0),
    ]
    table = np.array(around, np.int32)
    padded = Tensor(f"{name}/padded", out.shape, out.dtype)
    paddings = Tensor(f"{name}/paddings", table.shape, table.dtype, table)
    return [*operators, Operator("PAD", [result, paddings], [padded], {}, op.origins)]


def _ints(name: str, values: Shape) -> Tensor:
    data = np.array(values, np.int32)
    return Tensor(name, data.shape, data.dtype, data)
