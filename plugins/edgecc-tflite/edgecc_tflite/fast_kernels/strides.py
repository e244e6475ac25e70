"""Slices with steps: XNNPACK has no kernel for them, the built-in one goes value by value (20 times slower)."""

from __future__ import annotations

from math import prod

import numpy as np

from edgecc_tflite.ir import Operator, Shape, Tensor


def slice_of_blocks(op: Operator) -> list[Operator]:
    """Every n-th row of an axis as a SLICE: blocks of n rows as the rows of a matrix, a range of its columns.

    Nothing where the axis is no multiple of the step, or more is cut off.
    """
    data, *bounds = op.inputs
    assert data is not None
    axis_and_first = _only_step(op, data, bounds)
    if axis_and_first is None:
        return []
    axis, first, step = axis_and_first
    out = op.outputs[0]
    rows = -1 if -1 in data.shape[:axis] else prod(data.shape[:axis])
    inner = prod(data.shape[axis + 1 :])
    blocks: Shape = (rows, data.shape[axis] // step, step * inner)
    begin = _ints(f"{out.name}/begin", [0, 0, first * inner])
    size = _ints(f"{out.name}/size", [*blocks[:2], inner])
    viewed = Tensor(f"{data.name}/blocks", blocks, data.dtype)
    chosen = Tensor(f"{out.name}/rows", (*blocks[:2], inner), data.dtype)
    return [
        Operator("RESHAPE", [data, _ints(f"{data.name}/shape", blocks)], [viewed], {}, op.origins),
        Operator("SLICE", [viewed, begin, size], [chosen], {}, op.origins),
        Operator("RESHAPE", [chosen, _ints(f"{out.name}/shape", out.shape)], [out], {}, op.origins),
    ]


def _only_step(op: Operator, data: Tensor, bounds: list[Tensor | None]) -> tuple[int, int, int] | None:
    """Axis, first row and step, where that is all that the operator does."""
    if data.dtype != np.float32 or any(bound is None or bound.data is None for bound in bounds):
        return None
    if any(op.options.get(mask, 0) for mask in ("ellipsisMask", "newAxisMask", "shrinkAxisMask", "offset")):
        return None
    begin, end, strides = (bound.data for bound in bounds if bound is not None)
    assert begin is not None
    assert end is not None
    assert strides is not None
    found: tuple[int, int, int] | None = None
    for axis, (dim, out, step) in enumerate(zip(data.shape, op.outputs[0].shape, strides.tolist(), strict=True)):
        if step == 1 and dim == out and (dim > 0 or _takes_all(op, axis)):
            continue
        first = 0 if op.options.get("beginMask", 0) >> axis & 1 else int(begin[axis])
        if found is not None or step < 2 or dim < 1 or out * step != dim or not 0 <= first < step:
            return None
        found = axis, first, step
    is_open = data.shape.count(-1)
    if found is None or is_open > 1 or (is_open and -1 not in data.shape[: found[0]]):
        return None
    return found


def _takes_all(op: Operator, axis: int) -> bool:
    return bool(op.options.get("beginMask", 0) >> axis & 1 and op.options.get("endMask", 0) >> axis & 1)


def _ints(name: str, values: list[int] | Shape) -> Tensor:
    data = np.array(values, np.int32)
    return Tensor(name, data.shape, data.dtype, data)
