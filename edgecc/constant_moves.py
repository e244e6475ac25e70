"""Constants rearranged by numpy: what needs no arithmetic needs no ONNX Runtime, whose import takes longer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs


def moved(node: gs.Node) -> np.ndarray | None:
    """The result of a node that reads constants alone; None for one that computes, or that is not valid."""
    move = _MOVES.get(node.op)
    operands = [None if t.is_empty() else t.values for t in node.inputs]
    if move is None or not operands or operands[0] is None or len(node.outputs) != 1:
        return None
    try:
        values = move(node, operands)
    except (ValueError, IndexError, TypeError):  # the runtime says what is wrong with it
        return None
    return None if values is None else np.ascontiguousarray(values).reshape(values.shape)


def _identity(node: gs.Node, operands: list[np.ndarray | None]) -> np.ndarray | None:
    return operands[0]


def _transpose(node: gs.Node, operands: list[np.ndarray | None]) -> np.ndarray | None:
    return None if operands[0] is None else operands[0].transpose(node.attrs.get("perm"))


def _expand(node: gs.Node, operands: list[np.ndarray | None]) -> np.ndarray | None:
    data, shape = operands
    if data is None or shape is None:
        return None
    return np.broadcast_to(data, np.broadcast_shapes(data.shape, tuple(shape.tolist())))


def _gather(node: gs.Node, operands: list[np.ndarray | None]) -> np.ndarray | None:
    data, indices = operands
    return None if data is None or indices is None else np.take(data, indices, axis=int(node.attrs.get("axis", 0)))


def _unsqueeze(node: gs.Node, operands: list[np.ndarray | None]) -> np.ndarray | None:
    data, axes = operands
    return None if data is None or axes is None else np.expand_dims(data, tuple(axes.tolist()))


def _squeeze(node: gs.Node, operands: list[np.ndarray | None]) -> np.ndarray | None:
    data, axes = [*operands, None][:2]
    return None if data is None else np.squeeze(data, None if axes is None else tuple(axes.tolist()))


def _slice(node: gs.Node, operands: list[np.ndarray | None]) -> np.ndarray | None:
    data, starts, ends, axes, steps = [*operands, None, None][:5]
    if data is None or starts is None or ends is None:
        return None
    count = starts.size
    named = range(count) if axes is None else axes.tolist()
    strides = [1] * count if steps is None else steps.tolist()
    chosen = [slice(None)] * data.ndim
    for axis, *bounds in zip(named, starts.tolist(), ends.tolist(), strides, strict=True):
        chosen[axis] = slice(*bounds)
    return data[tuple(chosen)]


def _concat(node: gs.Node, operands: list[np.ndarray | None]) -> np.ndarray | None:
    parts = [part for part in operands if part is not None]
    return np.concatenate(parts, axis=int(node.attrs["axis"])) if len(parts) == len(operands) else None


_MOVES: dict[str, Callable[[gs.Node, list[np.ndarray | None]], np.ndarray | None]] = {
    "Concat": _concat,
    "Expand": _expand,
    "Gather": _gather,
    "Identity": _identity,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
