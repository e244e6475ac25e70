"""Small rewrites in front of and behind the layout problem, each one linear walk."""

from __future__ import annotations

import numpy as np

from edgecc_tflite.ir import Graph, Operator, Tensor
from edgecc_tflite.quantization.grid import Grid


def drop_unused(graph: Graph) -> None:
    """Remove operators whose results nobody reads."""
    needed = set(graph.outputs)
    kept: list[Operator] = []
    for op in reversed(graph.operators):
        if any(tensor in needed for tensor in op.outputs):
            kept.append(op)
            needed.update(tensor for tensor in op.inputs if tensor is not None)
    graph.operators = kept[::-1]


def unflatten(graph: Graph) -> None:
    """Let a FULLY_CONNECTED with constant weights read the tensor that a RESHAPE flattened for it.

    Its weights can then follow whatever order that tensor lies in; `apply` flattens again.
    """
    producers = graph.producers()
    for op in graph.operators:
        if op.builtin != "FULLY_CONNECTED" or op.options.get("keepNumDims", False):
            continue
        flat, weights = op.inputs[0], op.inputs[1]
        assert flat is not None
        assert weights is not None
        reshape = producers.get(flat)
        if reshape is None or reshape.builtin != "RESHAPE" or weights.data is None:
            continue
        data = reshape.inputs[0]
        assert data is not None
        features = data.shape[1:]
        if (
            data.rank > 2
            and data.shape[0] == flat.shape[0]
            and min(features) > 0
            and np.prod(features) == flat.shape[1]
        ):
            op.inputs[0] = data
    drop_unused(graph)


def merge_reshapes(graph: Graph) -> None:
    """Let a RESHAPE read what the RESHAPE in front of it reads, and drop those that change nothing."""
    producers = graph.producers()
    same: dict[Tensor, Tensor] = {}
    outputs = set(graph.outputs)
    for op in graph.operators:
        op.inputs = [same.get(t, t) if t is not None else None for t in op.inputs]
        if op.builtin != "RESHAPE":
            continue
        before = producers.get(_data(op))
        while before is not None and before.builtin == "RESHAPE":
            op.inputs[0] = _data(before)
            before = producers.get(_data(op))
        data, out = _data(op), op.outputs[0]
        if data.shape == out.shape and data.shape.count(-1) <= 1 and out not in outputs:
            same[out] = data
    drop_unused(graph)


def cancel_quantizes(graph: Graph) -> None:
    """Let readers of a QUANTIZE that undoes the one in front of it read what was there before, without losing a bit."""
    producers = graph.producers()
    same: dict[Tensor, Tensor] = {}
    for op in graph.operators:
        op.inputs = [same.get(t, t) if t is not None else None for t in op.inputs]
        before = producers.get(_data(op)) if op.builtin == "QUANTIZE" else None
        if before is None or before.builtin != "QUANTIZE" or op.outputs[0] in graph.outputs:
            continue
        origin, grid = _data(before), Grid.of(_data(op))
        if origin.dtype == op.outputs[0].dtype and grid == Grid.of(origin) == Grid.of(op.outputs[0]) is not None:
            same[op.outputs[0]] = origin
    drop_unused(graph)


def _data(op: Operator) -> Tensor:
    tensor = op.inputs[0]
    assert tensor is not None
    return tensor
