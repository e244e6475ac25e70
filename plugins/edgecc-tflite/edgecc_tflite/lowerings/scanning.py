"""A recurrence over time steps as TFLite operators: unrolled, or as WHILE loops over chunks of the sequence.

LiteRT packs the weights of every operator by itself, so that unrolled steps read their weights from memory again and
again: an LSTM of 128 units and 50 steps takes 0.71 ms in two directions, its loop 0.27 ms. A loop, in turn, copies all
that it carries in every iteration, so that one loop over a long sequence is slow too: 400 steps take 2.8 ms where loops
over chunks take 1.3 ms (ONNX Runtime: 1.1 ms). All loops share one body, and with it the packed weights. Where
all unrolled weights fit into the cache they are faster: 49 steps of a GRU of 48 units take 36 us, as a loop 50 us, for
an iteration costs 0.6 us beyond its operators. Measured with LiteRT 2.3, XNNPACK, one thread, x86.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgecc_tflite.ir import Graph, Operator, Tensor
from edgecc_tflite.lowerings.context import GraphBuilder, Lowering

#: Unrolled steps together may have this many bytes of weights, and there may be this many of them.
UNROLLED_BYTES = 3 << 19
UNROLLED_STEPS = 96
#: Steps in the body of a loop together may have this many bytes of weights.
_BODY_BYTES = 1 << 18
_MOST_STEPS_IN_BODY = 4
#: A chunk of the sequence, which a loop copies twice per iteration.
_CHUNK_BYTES = 1 << 16

_INT = np.dtype(np.int32)


@dataclass(frozen=True)
class Step:
    """What a cell works with.

    Attributes:
        c: emits into the graph that the step is part of.
        inputs: the slices of the sequences at this step.
        states: as the step before left them.
        local: what stands in that graph for a tensor around it: for constants and for the recurrence's `shared`.
    """

    c: Lowering
    inputs: list[Tensor]
    states: list[Tensor]
    local: Callable[[Tensor], Tensor]


#: Returns the step's output and the new states.
Cell = Callable[[Step], tuple[Tensor, list[Tensor]]]


@dataclass(frozen=True)
class Recurrence:
    """A cell applied to every step of a sequence.

    Attributes:
        cell: one step.
        sequences: tensors of shape (steps, ...), sliced along the first axis.
        states: before the first step.
        shared: computed tensors that every step reads.
        weight_bytes: bytes of constants that one step reads.
        stacked: whether the outputs of all steps are wanted, or the last states alone.
    """

    cell: Cell
    sequences: list[Tensor]
    states: list[Tensor]
    shared: list[Tensor]
    weight_bytes: int
    stacked: bool

    @property
    def steps(self) -> int:
        return self.sequences[0].shape[0]

    def emit(self, c: Lowering) -> tuple[Tensor | None, list[Tensor]]:
        """The outputs of all steps, (steps, ...), and the last states."""
        if self.steps <= max(2, min(UNROLLED_STEPS, UNROLLED_BYTES // max(1, self.weight_bytes))):
            return self._unrolled(c)
        per_body = self._steps_in_body()
        head = self.steps % per_body
        parts: list[Tensor] = []
        states = self.states
        if head:
            part, states = self._unrolled(c, head)
            parts += [part] if part is not None else []
        looped, states = self._looped(c, head, per_body, states)
        parts += looped
        return _concatenated(c, parts) if self.stacked else None, states

    def _steps_in_body(self) -> int:
        """A power of two, for which few steps are left over."""
        steps = _MOST_STEPS_IN_BODY
        while steps > 1 and steps * self.weight_bytes > _BODY_BYTES:
            steps //= 2
        return steps

    def _unrolled(self, c: Lowering, count: int | None = None) -> tuple[Tensor | None, list[Tensor]]:
        """The first steps one after another."""
        count = self.steps if count is None else count
        columns = [unstack(c, rows(c, sequence, 0, count)) for sequence in self.sequences]
        outputs, states = [], self.states
        for inputs in zip(*columns, strict=True):
            output, states = self.cell(Step(c, list(inputs), states, lambda tensor: tensor))
            outputs.append(output)
        return stack(c, outputs) if self.stacked else None, states

    # -------------------------------------------------------------------------------------------------------- loops

    def _looped(
        self, c: Lowering, start: int, per_body: int, states: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The steps from `start` on as loops that share their subgraphs; all chunks have the same size."""
        chunk = self._chunk(self.steps - start, per_body)
        blank = self._blank(c, chunk)
        graphs: list[Graph] = []
        parts: list[Tensor] = []
        while start < self.steps:
            # The last chunk reaches back to have the full size; its loop begins further behind.
            first = min(start, self.steps - chunk)
            skipped = start - first
            chunks = [rows(c, sequence, first, chunk) for sequence in self.sequences]
            fixed = [*chunks, *self.shared]
            buffers = [] if blank is None else [blank]
            carried = [c.ints([skipped], "first"), *states, *buffers, *fixed]
            if not graphs:
                graphs = [_condition(c, carried, chunk), self._body(c, carried, len(states), len(chunks), per_body)]
            results = _while(c, carried, graphs)
            states = results[1 : 1 + len(states)]
            if blank is not None:
                parts.append(rows(c, results[1 + len(states)], skipped, chunk - skipped))
            start = first + chunk
        return parts, states

    def _chunk(self, steps: int, per_body: int) -> int:
        """Steps per loop: about `_CHUNK_BYTES`, a multiple of what the body does."""
        step_bytes = max(1, sum(t.nbytes // t.shape[0] for t in self.sequences))
        wanted = max(per_body, min(steps, _CHUNK_BYTES // step_bytes))
        loops = -(-steps // wanted)
        return -(-steps // (loops * per_body)) * per_body

    def _blank(self, c: Lowering, chunk: int) -> Tensor | None:
        """What the outputs of a loop are written into; its values do not matter."""
        if not self.stacked:
            return None
        shape = (chunk, *self.states[0].shape)
        if min(shape) >= 0:
            return c.constant(np.zeros(shape, self.states[0].dtype), "blank")
        # A part of the input has the right sizes where they are open.
        return _first_columns(c, rows(c, self.sequences[0], 0, chunk), shape[-1])

    def _body(self, c: Lowering, carried: list[Tensor], state_count: int, chunk_count: int, per_body: int) -> Graph:
        inner, inputs = _inside(c, "body", carried)
        first, states = inputs[0], inputs[1 : 1 + state_count]
        buffers = inputs[1 + state_count : 2 + state_count] if self.stacked else []
        fixed = inputs[1 + state_count + len(buffers) :]
        chunks = fixed[:chunk_count]
        here = dict(zip(self.shared, fixed[chunk_count:], strict=True))
        columns = [unstack(inner, _gathered(inner, sequence, first, per_body)) for sequence in chunks]
        outputs = []
        for slices in zip(*columns, strict=True):
            output, states = self.cell(Step(inner, list(slices), states, lambda tensor: here.get(tensor, tensor)))
            outputs.append(output)
        if buffers:
            update = stack(inner, outputs)
            pads = inner.ints(np.array([[0, update.rank - 1]]), "pads")
            start = inner.emit("PAD", [first, pads], shape=(update.rank,), dtype=_INT)
            buffers = [inner.emit("DYNAMIC_UPDATE_SLICE", [buffers[0], update, start])]
        advanced = inner.binary("ADD", first, inner.ints([per_body], "steps"))
        inner.builder.graph.outputs = [advanced, *states, *buffers, *fixed]
        return inner.builder.graph


def _condition(c: Lowering, carried: list[Tensor], limit: int) -> Graph:
    inner, inputs = _inside(c, "condition", carried)
    inner.builder.graph.outputs = [inner.binary("LESS", inputs[0], inner.ints([limit], "limit"), dtype=bool)]
    return inner.builder.graph


def _inside(c: Lowering, name: str, carried: Sequence[Tensor]) -> tuple[Lowering, list[Tensor]]:
    """Emits into a graph of its own, whose inputs are like the given tensors."""
    builder = GraphBuilder(f"{c.node.node.name or c.node.op}/{name}")
    builder.graph.inputs = [Tensor(f"carried_{n}", t.shape, t.dtype) for n, t in enumerate(carried)]
    return Lowering(builder, c.node, c.origins, c.readers), builder.graph.inputs


def _while(c: Lowering, carried: list[Tensor], graphs: list[Graph]) -> list[Tensor]:
    results = [c.temporary(t.shape, t.dtype, f"carried_{n}") for n, t in enumerate(carried)]
    c.builder.append(Operator("WHILE", list(carried), results, origins=c.origins, subgraphs=graphs))
    return results


# ------------------------------------------------------------------------------------------------- along the first axis


def rows(c: Lowering, x: Tensor, start: int, count: int) -> Tensor:
    """Some of the slices along the first axis."""
    if (start, count) == (0, x.shape[0]):
        return x
    if x.data is not None:
        return c.constant(x.data[start : start + count], "rows")
    begin = [start] + [0] * (x.rank - 1)
    size = [count, *x.shape[1:]]
    return c.emit("SLICE", [x, c.ints(begin, "begin"), c.ints(size, "size")], shape=(count, *x.shape[1:]))


def unstack(c: Lowering, x: Tensor) -> list[Tensor]:
    """Every slice along the first axis, without that axis."""
    count, rest = x.shape[0], x.shape[1:]
    if count == 1:
        return [c.reshape(x, rest)]
    outs = [c.temporary(rest, x.dtype, "step") for _ in range(count)]
    c.emit_many("UNPACK", [x], outs, num=count, axis=0)
    return outs


def stack(c: Lowering, tensors: list[Tensor]) -> Tensor:
    """The tensors along a new first axis."""
    if len(tensors) == 1:
        return c.reshape(tensors[0], (1, *tensors[0].shape))
    shape = (len(tensors), *tensors[0].shape)
    return c.emit("PACK", tensors, shape=shape, valuesCount=len(tensors), axis=0)


def _concatenated(c: Lowering, tensors: list[Tensor]) -> Tensor:
    if len(tensors) == 1:
        return tensors[0]
    shape = (sum(t.shape[0] for t in tensors), *tensors[0].shape[1:])
    return c.emit("CONCATENATION", tensors, shape=shape, axis=0)


def _gathered(c: Lowering, x: Tensor, first: Tensor, count: int) -> Tensor:
    """`count` slices from a position that is computed."""
    indices = first if count == 1 else c.binary("ADD", first, c.ints(range(count), "steps"))
    return c.emit("GATHER", [x, indices], shape=(count, *x.shape[1:]), axis=0)


def _first_columns(c: Lowering, x: Tensor, count: int) -> Tensor:
    size = [*x.shape[:-1], count]
    return c.emit("SLICE", [x, c.ints([0] * x.rank, "begin"), c.ints(size, "size")], shape=tuple(size))
