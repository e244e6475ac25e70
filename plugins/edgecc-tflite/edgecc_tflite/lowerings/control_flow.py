"""If, Loop and Scan: IF and WHILE with subgraphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgecc_tflite.ir import Graph, Operator, Tensor
from edgecc_tflite.lowerings.base import LoweringRule
from edgecc_tflite.lowerings.context import GraphBuilder, Lowering
from edgecc_tflite.lowerings.node_view import NodeView, shape_of
from edgecc_tflite.lowerings.subgraphs import inner_builder

if TYPE_CHECKING:
    from edgecc.model import Tensor as SourceTensor

_BOOL, _COUNT = np.dtype(np.bool_), np.dtype(np.int32)


def _constant(c: Lowering) -> None:
    """What is left of them is an output: cleanup makes the others constant tensors."""
    name, value = next(iter(c.node.node.attrs.items()))
    values = value.values if name == "value" else np.array(value, np.float32 if "float" in name else np.int64)
    c.define(0, values)


def _plain_value(node: NodeView) -> str | None:
    name = next(iter(node.node.attrs))
    return f"{name} is no plain tensor" if "sparse" in name or "string" in name else None


# ------------------------------------------------------------------------------------------------------------------- If


def _if(c: Lowering) -> None:
    """Both branches take what either of them reads."""
    branches = [inner_builder(c, name)[0] for name in ("then_branch", "else_branch")]
    for branch in branches:
        branch.lower()
    read = list(dict.fromkeys(t for branch in branches for t in branch.captured))
    for branch in branches:
        branch.graph.inputs = [branch.take(t) for t in read]
    outs = [c.out(n) for n in range(len(c.node.outputs))]
    graphs = [branch.graph for branch in branches]
    c.builder.append(Operator("IF", [c.reshape(c.x(), ()), *read], outs, origins=c.origins, subgraphs=graphs))


# -------------------------------------------------------------------------------------------------------- Loop and Scan


class _Loop:
    """A WHILE in the making. It carries: a counter, a condition, the states, what the iterations write, and the rest.

    Attributes:
        body: the body's graph.
        step: the counter inside of the body.
    """

    def __init__(self, c: Lowering, attribute: str = "body") -> None:
        self.c = c
        self.builder, self.source = inner_builder(c, attribute)
        self.inside = Lowering(self.builder, c.node, c.origins, c.readers)
        self.carried: list[Tensor] = [
            c.constant(np.zeros((1,), _COUNT), "first"),
            c.constant(np.ones((1,), _BOOL), "go"),
        ]
        self.step = self._carry(self.carried[0])
        self.go = self._carry(self.carried[1])
        self.outputs: list[Tensor] = []

    def _carry(self, start: Tensor) -> Tensor:
        inside = Tensor(f"carried_{len(self.builder.graph.inputs)}", start.shape, start.dtype)
        self.builder.graph.inputs.append(inside)
        return inside

    def start_condition(self, condition: Tensor) -> None:
        self.carried[1] = self.c.reshape(condition, (1,))

    def state(self, source: SourceTensor, start: Tensor) -> None:
        """A state: an input of the body that the iteration before writes."""
        self.carried.append(start)
        self.builder.declare(source, start)

    def define(self, source: SourceTensor, tensor: Tensor) -> None:
        """An input of the body that something in it computes."""
        self.builder.alias(source, tensor)

    def buffer(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Tensor:
        """What all iterations write a slice of."""
        blank = self.c.constant(np.zeros(shape, dtype), "blank")
        self.carried.append(blank)
        return self._carry(blank)

    def write(self, buffer: Tensor, value: Tensor, position: Tensor) -> Tensor:
        c = self.inside
        pads = c.ints(np.array([[0, buffer.rank - 1]]), "pads")
        start = c.emit("PAD", [position, pads], shape=(buffer.rank,), dtype=_COUNT)
        return c.emit("DYNAMIC_UPDATE_SLICE", [buffer, c.reshape(value, (1, *value.shape)), start])

    def emit(self, limit: Tensor | None, go: Tensor, results: list[Tensor]) -> list[Tensor]:
        """The WHILE.

        Args:
            limit: iterations at most, shape (1,).
            go: in the body, whether there is a next iteration.
            results: in the body, states and buffers for the next iteration.

        Returns:
            The states and buffers behind the loop.
        """
        c, inside = self.c, self.inside
        if limit is not None and not limit.is_constant:
            self.builder.take(limit)
        # What the body reads from around it is carried unchanged.
        carried = [*self.carried, *self.builder.captured]
        advanced = inside.binary("ADD", self.step, inside.ints([1], "one"))
        unchanged = list(self.builder.captured.values())
        self.builder.graph.outputs = [advanced, go, *results, *unchanged]
        limit_at = carried.index(limit) if limit is not None and not limit.is_constant else None
        condition = self._condition(carried, limit, limit_at)
        outs = [c.temporary(t.shape, t.dtype, f"carried_{n}") for n, t in enumerate(carried)]
        graphs = [condition, self.builder.graph]
        c.builder.append(Operator("WHILE", carried, outs, origins=c.origins, subgraphs=graphs))  # type: ignore[arg-type]
        return outs[2 : 2 + len(results)]

    def _condition(self, carried: list[Tensor], limit: Tensor | None, limit_at: int | None) -> Graph:
        builder = GraphBuilder(f"{self.builder.graph.name}/condition")
        inputs = builder.graph.inputs = [Tensor(f"carried_{n}", t.shape, t.dtype) for n, t in enumerate(carried)]
        c = Lowering(builder, self.c.node, self.c.origins, self.c.readers)
        result = inputs[1]
        if limit is not None:
            bound = limit if limit_at is None else inputs[limit_at]
            result = c.binary("LOGICAL_AND", c.binary("LESS", inputs[0], bound, dtype=bool), result)
        else:
            result = c.binary("LOGICAL_AND", result, result)
        builder.graph.outputs = [result]
        return builder.graph


def _loop(c: Lowering) -> None:
    loop = _Loop(c)
    limit = c.cast(c.reshape(c.x(0), (1,)), _COUNT) if c.node.has(0) else None
    if c.node.has(1):
        loop.start_condition(c.x(1))
    number, condition, *variables = loop.source.inputs
    loop.define(number, loop.inside.cast(loop.inside.reshape(loop.step, shape_of(number) or ()), np.int64))
    loop.define(condition, loop.inside.reshape(loop.go, shape_of(condition) or ()))
    for index, variable in enumerate(variables):
        loop.state(variable, c.x(2 + index))
    count = len(variables)
    buffers = [
        loop.buffer(_static_shape(out), np.dtype(out.dtype)) for out in c.node.outputs[count:] if out is not None
    ]
    loop.builder.lower()
    go, *results = loop.builder.graph.outputs
    written = [loop.write(buffer, value, loop.step) for buffer, value in zip(buffers, results[count:], strict=True)]
    found = loop.emit(limit, loop.inside.reshape(go, (1,)), [*results[:count], *written])
    for index, tensor in enumerate(found):
        _give(c, index, tensor)


def _scan(c: Lowering) -> None:
    """Each iteration gathers its slices; the results of a backward scan are written backwards."""
    node, loop = c.node, _Loop(c)
    slices = node.integer("num_scan_inputs", 1)
    count = len(node.inputs) - slices
    for index, variable in enumerate(loop.source.inputs[:count]):
        loop.state(variable, c.x(index))
    axes = node.ints("scan_input_axes", [0] * slices)
    directions = node.ints("scan_input_directions", [0] * slices)
    sequences = [_first(c, c.x(count + n), axis) for n, axis in enumerate(axes)]
    steps = sequences[0].shape[0]
    out_count = len(node.outputs) - count
    out_axes = node.ints("scan_output_axes", [0] * out_count)
    out_directions = node.ints("scan_output_directions", [0] * out_count)
    outs = [out for out in node.outputs[count:] if out is not None]
    shapes = [_moved_first(_static_shape(out), axis) for out, axis in zip(outs, out_axes, strict=True)]
    buffers = [loop.buffer(shape, np.dtype(out.dtype)) for shape, out in zip(shapes, outs, strict=True)]
    inside = loop.inside
    backwards = inside.binary("SUB", inside.ints([steps - 1], "last"), loop.step)
    position = [loop.step, backwards]
    for source, sequence, direction in zip(loop.source.inputs[count:], sequences, directions, strict=True):
        data = sequence if sequence.is_constant else loop.builder.take(sequence)
        one = inside.emit("GATHER", [data, position[direction]], shape=(1, *data.shape[1:]), axis=0)
        loop.define(source, inside.reshape(one, data.shape[1:]))
    loop.builder.lower()
    results = loop.builder.graph.outputs
    written = [
        loop.write(buffer, value, position[direction])
        for buffer, value, direction in zip(buffers, results[count:], out_directions, strict=True)
    ]
    found = loop.emit(c.ints([steps], "steps"), loop.go, [*results[:count], *written])
    for index, tensor in enumerate(found):
        axis = 0 if index < count else out_axes[index - count] % tensor.rank
        order = [*range(1, axis + 1), 0, *range(axis + 1, tensor.rank)] if axis else list(range(tensor.rank))
        _give(c, index, tensor if axis == 0 else c.transpose(tensor, order))


def _give(c: Lowering, index: int, tensor: Tensor) -> None:
    if c.node.outputs[index] is not None:
        c.copy(tensor, c.out(index))


def _first(c: Lowering, x: Tensor, axis: int) -> Tensor:
    axis %= x.rank
    return c.transpose(x, [axis, *(a for a in range(x.rank) if a != axis)])


def _moved_first(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    axis %= len(shape)
    return (shape[axis], *shape[:axis], *shape[axis + 1 :])


def _static_shape(tensor: SourceTensor) -> tuple[int, ...]:
    shape = shape_of(tensor)
    assert shape is not None
    return shape


# ---------------------------------------------------------------------------------------------------------- constraints


def _lasting_shapes(first: int, skipped: int, returned: int) -> Any:
    """States that keep shape and type from iteration to iteration."""

    def constraint(node: NodeView) -> str | None:
        body = node.attribute("body")
        inputs, outputs = body.inputs[skipped:], body.outputs[returned:]
        count = len(node.inputs) - first
        if node.op == "Scan":
            count -= node.integer("num_scan_inputs", 1)
        for index in range(count):
            start, before, after = node.input(first + index), inputs[index], outputs[index]
            shapes = [shape_of(t) for t in (start, after)]
            if None in shapes or shapes[0] != shapes[1]:
                known = "changes its shape, or that is not known"
                return f"state {before.name!r} {known}; only one that keeps it can be lowered"
            if start.dtype != after.dtype:
                return f"state {before.name!r} changes its type"
        return None

    return constraint


def _static_results(node: NodeView) -> str | None:
    """The number of slices that the iterations write is known."""
    body = node.attribute("body")
    states = len(body.inputs) - (2 if node.op == "Loop" else node.integer("num_scan_inputs", 1))
    for out in node.outputs[states:]:
        shape = None if out is None else shape_of(out)
        if out is not None and (shape is None or min(shape, default=0) < 0):
            return f"how much {out.name!r} holds depends on what is computed; only a fixed size can be lowered"
    return None


def _static_steps(node: NodeView) -> str | None:
    slices = node.integer("num_scan_inputs", 1)
    for index in range(len(node.inputs) - slices, len(node.inputs)):
        shape = node.shape(index)
        if shape is None or min(shape) < 0:
            return f"input {node.input(index).name!r} has an open dimension where a size is needed"
    return None


RULES = (
    LoweringRule("Constant", _constant, (), (_plain_value,)),
    LoweringRule("If", _if, ("IF",), since=11, note="Inlined where the condition is constant."),
    LoweringRule(
        "Loop",
        _loop,
        ("WHILE", "DYNAMIC_UPDATE_SLICE", "PAD", "LESS", "LOGICAL_AND", "ADD", "CAST"),
        (_lasting_shapes(2, 2, 1), _static_results),
        since=11,
    ),
    LoweringRule(
        "Scan",
        _scan,
        ("WHILE", "DYNAMIC_UPDATE_SLICE", "PAD", "LESS", "LOGICAL_AND", "ADD", "GATHER", "SUB", "TRANSPOSE"),
        (_static_steps, _lasting_shapes(0, 0, 0), _static_results),
        since=9,
    ),
)
