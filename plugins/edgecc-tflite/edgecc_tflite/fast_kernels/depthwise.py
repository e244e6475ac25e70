"""Depthwise convolutions with more taps than the kernels hold at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgecc_tflite.enums import Activation, Padding
from edgecc_tflite.ir import Operator, Tensor

#: XNNPACK computes up to 25 taps in one go; with one more it is ten to eighteen times slower.
MOST_TAPS = 25


def split_taps(op: Operator) -> list[Operator]:
    """Several convolutions with some rows of the taps each, and their sum; nothing where the taps are few.

    The rows of each lie evenly around the middle, such as 0, 3, 6 and 1, 5 and 2, 4 of seven: a dilated convolution
    that pads by itself as the whole one does.
    """
    data, weights, bias = op.inputs
    assert data is not None
    assert weights is not None
    assert bias is not None
    if weights.data is None or weights.dtype != np.float32 or data.dtype != np.float32:
        return []
    height, width = weights.shape[1:3]
    if height * width <= MOST_TAPS or op.options["padding"] != Padding.SAME:
        return []
    along, lines, across = (1, height, width) if height >= width else (2, width, height)
    groups = _symmetric_groups(lines, MOST_TAPS // across) if across <= MOST_TAPS else []
    if not groups or not _pads_follow(op, data, along, lines, groups):
        return []
    parts = [_part(op, number, group, along) for number, group in enumerate(groups)]
    return [*parts, *_sum(op, [part.outputs[0] for part in parts])]


def _symmetric_groups(lines: int, most: int) -> list[range]:
    """The lines 0 .. lines - 1 in few groups, each evenly spaced and as far from the first line as from the last."""
    left = set(range(lines))
    groups: list[range] = []
    for first in range((lines + 1) // 2):
        if first not in left:
            continue
        span = lines - 1 - 2 * first
        steps = (step for step in range(1, span + 1) if span % step == 0)
        candidates = (range(first, lines - first, step) for step in steps) if span else iter([range(first, first + 1)])
        group = next((g for g in candidates if len(g) <= most and left.issuperset(g)), None)
        if group is None:
            return []
        left -= set(group)
        groups.append(group)
    return groups


def _pads_follow(op: Operator, data: Tensor, along: int, lines: int, groups: list[range]) -> bool:
    """Whether SAME pads each part by as much less as its first line lies behind the whole one's."""
    letter = "H" if along == 1 else "W"
    stride, dilation = op.options[f"stride{letter}"], op.options.get(f"dilation{letter}Factor", 1)
    if stride == 1:
        return True
    size, out = data.shape[along], op.outputs[0].shape[along]
    total = (out - 1) * stride + (lines - 1) * dilation + 1 - size
    return size > 0 and total >= 2 * dilation * max(group[0] for group in groups)


def _part(op: Operator, number: int, group: range, along: int) -> Operator:
    data, weights, bias = op.inputs
    assert weights is not None
    assert weights.data is not None
    assert bias is not None
    assert bias.data is not None
    taps = np.ascontiguousarray(np.take(weights.data, list(group), axis=along))
    name = f"{weights.name}/{number}"
    if number:
        zeros = np.zeros_like(bias.data)
        bias = Tensor(f"{bias.name}/zeros", bias.shape, bias.dtype, zeros)
    factor = f"dilation{'H' if along == 1 else 'W'}Factor"
    options = {**op.options, factor: op.options.get(factor, 1) * group.step if len(group) > 1 else 1}
    options["fusedActivationFunction"] = Activation.NONE
    out = replace(op.outputs[0], name=f"{op.outputs[0].name}/{number}", source="")
    return replace(op, inputs=[data, Tensor(name, taps.shape, taps.dtype, taps), bias], outputs=[out], options=options)


def _sum(op: Operator, parts: list[Tensor]) -> list[Operator]:
    operators: list[Operator] = []
    total = parts[0]
    for number, part in enumerate(parts[1:]):
        is_last = number == len(parts) - 2
        out = op.outputs[0] if is_last else replace(part, name=f"{part.name}/sum")
        activation = op.options.get("fusedActivationFunction", Activation.NONE) if is_last else Activation.NONE
        operators.append(Operator("ADD", [total, part], [out], {"fusedActivationFunction": activation}, op.origins))
        total = out
    return operators
