"""LSTM, GRU and RNN: the input's share of all steps in one matrix product, the steps as `scanning` finds best.

LiteRT's own UNIDIRECTIONAL_SEQUENCE_LSTM is not used: it keeps its states between two runs of the model, so that the
second one starts where the first one ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgecc_tflite.enums import Activation
from edgecc_tflite.ir import Tensor
from edgecc_tflite.lowerings.base import LoweringRule
from edgecc_tflite.lowerings.constraints import FLOAT, ranked, static, typed
from edgecc_tflite.lowerings.context import Lowering
from edgecc_tflite.lowerings.node_view import NodeView
from edgecc_tflite.lowerings.recurrent_activations import Function, functions, unknown_activation
from edgecc_tflite.lowerings.scanning import Recurrence, Step

#: ONNX's inputs.
_X, _W, _R, _B, _LENGTHS, _H0, _C0, _P = range(8)


@dataclass(frozen=True)
class _Direction:
    """The weights of one direction.

    Attributes:
        w: of the input, (gates * hidden, input).
        r: of the state before, (gates * hidden, hidden).
        bias: added to the input's product, (gates * hidden,).
        recurrent_bias: added to the state's product where that is not the same, (gates * hidden,).
        peepholes: weights of the cell in the gates i, o, f, each (1, 1, hidden).
        functions: activations.
    """

    w: Tensor
    r: Tensor
    bias: Tensor | None
    recurrent_bias: Tensor | None
    peepholes: tuple[Tensor, ...]
    functions: tuple[Function, ...]


@dataclass(frozen=True)
class _Run:
    """One or two directions computed together; all tensors have an axis for them: (directions, batch, ...).

    Attributes:
        r: weights of the state, as `product` wants them, for each matrix product of the cell.
        r_bias: of each of these products.
    """

    hidden: int
    functions: tuple[Function, ...]
    r: tuple[Tensor, ...]
    r_bias: tuple[Tensor | None, ...]
    peepholes: tuple[Tensor, ...]
    clip: float
    input_forget: bool

    def product(self, step: Step, state: Tensor, number: int = 0) -> Tensor:
        """The state times the transposed weights, plus the bias."""
        c, weights, bias = step.c, step.local(self.r[number]), self.r_bias[number]
        bias = None if bias is None else step.local(bias)
        if weights.rank == 2:
            return _fully_connected(c, state, weights, bias)
        shape = (*state.shape[:-1], weights.shape[-1])
        product = c.emit("BATCH_MATMUL", [state, weights], shape=shape, adjX=False, adjY=False)
        return product if bias is None else c.binary("ADD", product, bias)

    def gate(self, step: Step, number: int, x: Tensor) -> Tensor:
        """An activation function, behind the clip."""
        if self.clip:
            bound = step.c.scalar(self.clip, x.dtype), step.c.scalar(-self.clip, x.dtype)
            x = step.c.binary("MAXIMUM", step.c.binary("MINIMUM", x, bound[0]), bound[1])
        return self.functions[number](step.c, x)


def _fully_connected(c: Lowering, x: Tensor, weights: Tensor, bias: Tensor | None) -> Tensor:
    shape = (*x.shape[:-1], weights.shape[0])
    options: dict[str, Any] = {"keepNumDims": True, "fusedActivationFunction": Activation.NONE}
    return c.emit("FULLY_CONNECTED", [x, weights, bias], shape=shape, **options)


# ------------------------------------------------------------------------------------------------------------ the cells


def _lstm_step(run: _Run, step: Step) -> tuple[Tensor, list[Tensor]]:
    c, (hidden, cell) = step.c, step.states
    i, o, f, g = split(c, c.binary("ADD", run.product(step, hidden), step.inputs[0]), 4)
    if run.peepholes:
        p_i, _, p_f = map(step.local, run.peepholes)
        i = c.binary("ADD", i, c.binary("MUL", p_i, cell))
        f = c.binary("ADD", f, c.binary("MUL", p_f, cell))
    i = run.gate(step, 0, i)
    f = c.binary("SUB", c.scalar(1.0, i.dtype), i) if run.input_forget else run.gate(step, 0, f)
    cell = c.binary("ADD", c.binary("MUL", f, cell), c.binary("MUL", i, run.gate(step, 1, g)))
    if run.peepholes:
        o = c.binary("ADD", o, c.binary("MUL", step.local(run.peepholes[1]), cell))
    hidden = c.binary("MUL", run.gate(step, 0, o), run.functions[2](c, cell))
    return hidden, [hidden, cell]


def _gru_step(run: _Run, step: Step) -> tuple[Tensor, list[Tensor]]:
    c, (hidden,) = step.c, step.states
    x_z, x_r, x_h = split(c, step.inputs[0], 3)
    if len(run.r) == 1:
        r_z, r_r, r_h = split(c, run.product(step, hidden), 3)
        reset = run.gate(step, 0, c.binary("ADD", x_r, r_r))
        r_h = c.binary("MUL", reset, r_h)
    else:
        r_z, r_r = split(c, run.product(step, hidden), 2)
        reset = run.gate(step, 0, c.binary("ADD", x_r, r_r))
        r_h = run.product(step, c.binary("MUL", reset, hidden), 1)
    update = run.gate(step, 0, c.binary("ADD", x_z, r_z))
    new = run.gate(step, 1, c.binary("ADD", x_h, r_h))
    hidden = c.binary("ADD", new, c.binary("MUL", update, c.binary("SUB", hidden, new)))
    return hidden, [hidden]


def _rnn_step(run: _Run, step: Step) -> tuple[Tensor, list[Tensor]]:
    hidden = run.gate(step, 0, step.c.binary("ADD", run.product(step, step.states[0]), step.inputs[0]))
    return hidden, [hidden]


def split(c: Lowering, x: Tensor, count: int) -> list[Tensor]:
    """Equal parts of the last axis."""
    shape = (*x.shape[:-1], x.shape[-1] // count)
    outs = [c.temporary(shape, x.dtype, "gate") for _ in range(count)]
    c.emit_many("SPLIT", [c.ints(x.rank - 1, "axis"), x], outs, numSplits=count)
    return outs


# ------------------------------------------------------------------------------------------------------------- lowering


def _lstm(c: Lowering) -> None:
    _lower(c, _lstm_step, gates=4)


def _gru(c: Lowering) -> None:
    _lower(c, _gru_step, gates=3)


def _rnn(c: Lowering) -> None:
    _lower(c, _rnn_step, gates=1)


_Cell = Callable[[_Run, Step], tuple[Tensor, list[Tensor]]]


def _lower(c: Lowering, cell: _Cell, gates: int) -> None:
    """Every direction, both at once where they differ in constants only; then the outputs in ONNX's order of axes."""
    names = _direction_names(c.node)
    directions = [_direction(c, number, gates) for number in range(len(names))]
    runs = [list(range(len(names)))]
    if len(names) == 2 and not _alike(*directions):
        runs = [[0], [1]]
    results = [_run(c, cell, [directions[n] for n in run], run, names) for run in runs]
    steps_axis = int(c.node.integer("layout", 0))
    for number in range(len(c.node.outputs)):
        if not c.node.has_output(number):
            continue
        parts = [result[number] for result in results]
        axis = 1 if number == 0 else 0
        # Y is (steps, directions, batch, hidden) and (batch, steps, directions, hidden), states swap the first two.
        perm = [2, 0, 1, 3] if number == 0 else [1, 0, 2]
        whole = _joined(c, [part for part in parts if part is not None], axis)
        if steps_axis:
            c.transpose(whole, perm, c.out(number))
        else:
            c.copy(whole, c.out(number))


def _run(
    c: Lowering, cell: _Cell, directions: list[_Direction], numbers: list[int], names: list[str]
) -> list[Tensor | None]:
    """Y, Y_h and, for an LSTM, Y_c of some directions; Y is None if nobody needs it."""
    x = c.transpose(c.x(_X), (1, 0, 2)) if c.node.integer("layout", 0) else c.x(_X)
    lengths = _lengths(c)
    backwards = [names[number] == "reverse" for number in numbers]
    projected = []
    for direction, back in zip(directions, backwards, strict=True):
        product = _fully_connected(c, _reversed(c, x, lengths) if back else x, direction.w, direction.bias)
        projected.append(c.reshape(product, (x.shape[0], 1, *product.shape[1:])))
    sequences = [_joined(c, projected, 1)]
    states = [_initial(c, index, numbers, sequences[0]) for index in ((_H0, _C0) if c.node.op == "LSTM" else (_H0,))]
    run = _combined(c, directions)
    if lengths is not None:
        sequences.append(_valid(c, x, lengths))
    recurrence = Recurrence(
        cell=lambda step: cell(run, step) if lengths is None else _masked(cell, run, step),
        sequences=sequences,
        states=states,
        shared=[t for t in (*run.r, *run.r_bias, *run.peepholes) if t is not None and not t.is_constant],
        weight_bytes=sum(weights.nbytes for weights in run.r),
        stacked=c.node.has_output(0),
    )
    y, states = recurrence.emit(c)
    return [None if y is None else _forwards(c, y, backwards, lengths), *states]


def _masked(cell: _Cell, run: _Run, step: Step) -> tuple[Tensor, list[Tensor]]:
    """Behind a sequence's end the output is 0 and the states stay."""
    c, valid = step.c, step.inputs[1]
    y, states = cell(run, replace(step, inputs=step.inputs[:1]))
    kept = [
        c.emit("SELECT_V2", [valid, new, old], shape=new.shape, dtype=new.dtype)
        for new, old in zip(states, step.states, strict=True)
    ]
    return c.emit("SELECT_V2", [valid, y, c.scalar(0.0, y.dtype)], shape=y.shape, dtype=y.dtype), kept


def _forwards(c: Lowering, y: Tensor, backwards: list[bool], lengths: Tensor | None) -> Tensor:
    """Y of every direction in the order of time."""
    if not any(backwards):
        return y
    shape = (y.shape[0], y.shape[2], y.shape[3])
    parts = []
    for number, back in enumerate(backwards):
        size = [y.shape[0], 1, *y.shape[2:]]
        begin = c.ints([0, number, 0, 0], "begin")
        part = y if len(backwards) == 1 else c.emit("SLICE", [y, begin, c.ints(size, "size")], shape=tuple(size))
        part = c.reshape(_reversed(c, c.reshape(part, shape), lengths), tuple(size)) if back else part
        parts.append(part)
    return _joined(c, parts, 1)


def _reversed(c: Lowering, x: Tensor, lengths: Tensor | None) -> Tensor:
    """(steps, batch, ...) backwards in time."""
    if lengths is None:
        return c.emit("REVERSE_V2", [x, c.ints([0], "axis")])
    return c.emit("REVERSE_SEQUENCE", [x, lengths], seqDim=0, batchDim=1)


def _joined(c: Lowering, parts: list[Tensor], axis: int) -> Tensor:
    if len(parts) == 1:
        return parts[0]
    first = parts[0].shape
    shape = (*first[:axis], sum(part.shape[axis] for part in parts), *first[axis + 1 :])
    return c.emit("CONCATENATION", parts, shape=shape, axis=axis)


# --------------------------------------------------------------------------------------------------------------- inputs


def _direction_names(node: NodeView) -> list[str]:
    direction = node.text("direction", "forward")
    return ["forward", "reverse"] if direction == "bidirectional" else [direction]


def _direction(c: Lowering, number: int, gates: int) -> _Direction:
    hidden = c.x(_R).shape[-1]
    rows = gates * hidden
    w, r = (c.reshape(_part(c, c.x(index), number), c.x(index).shape[1:]) for index in (_W, _R))
    bias = recurrent_bias = None
    if c.node.has(_B):
        both = c.reshape(_part(c, c.x(_B), number), (2 * rows,))
        bias, recurrent_bias = _vector(c, both, 0, rows), _vector(c, both, rows, rows)
        # Before the reset gate multiplies it, the state's product has its own bias.
        if c.node.op != "GRU" or not c.node.integer("linear_before_reset", 0):
            bias, recurrent_bias = _sum(c, bias, recurrent_bias), None
    peepholes: tuple[Tensor, ...] = ()
    if c.node.op == "LSTM" and c.node.has(_P):
        flat = c.reshape(_part(c, c.x(_P), number), (3 * hidden,))
        peepholes = tuple(c.reshape(_vector(c, flat, n * hidden, hidden), (1, 1, hidden)) for n in range(3))
    return _Direction(w, r, bias, recurrent_bias, peepholes, functions(c.node, number))


def _part(c: Lowering, x: Tensor, number: int) -> Tensor:
    """The weights of one direction."""
    if x.shape[0] == 1:
        return x
    if x.data is not None:
        return c.constant(x.data[number : number + 1], "direction")
    begin, size = [number] + [0] * (x.rank - 1), [1, *x.shape[1:]]
    return c.emit("SLICE", [x, c.ints(begin, "begin"), c.ints(size, "size")], shape=tuple(size))


def _vector(c: Lowering, x: Tensor, start: int, count: int) -> Tensor:
    if x.data is not None:
        return c.constant(x.data[start : start + count], "part")
    return c.emit("SLICE", [x, c.ints([start], "begin"), c.ints([count], "size")], shape=(count,))


def _sum(c: Lowering, a: Tensor, b: Tensor) -> Tensor:
    if a.data is not None and b.data is not None:
        return c.constant(a.data + b.data, "bias")
    return c.binary("ADD", a, b)


def _alike(first: _Direction, second: _Direction) -> bool:
    """Whether two directions can be computed together: their weights go into one constant."""
    tensors = [t for d in (first, second) for t in (d.r, d.recurrent_bias, *d.peepholes) if t is not None]
    return all(t.is_constant for t in tensors) and first.functions == second.functions


def _combined(c: Lowering, directions: list[_Direction]) -> _Run:
    """The weights of the steps, for one matrix product or two."""
    node, hidden = c.node, directions[0].r.shape[1]
    parts = [(0, directions[0].r.shape[0])]
    if node.op == "GRU" and not node.integer("linear_before_reset", 0):
        parts = [(0, 2 * hidden), (2 * hidden, hidden)]
    return _Run(
        hidden=hidden,
        functions=directions[0].functions,
        r=tuple(_recurrent(c, directions, start, count) for start, count in parts),
        r_bias=tuple(_recurrent_bias(c, directions) for _ in parts),
        peepholes=tuple(_along(c, list(pair), 0) for pair in zip(*(d.peepholes for d in directions), strict=True)),
        clip=float(node.number("clip", 0.0)),
        input_forget=bool(node.integer("input_forget", 0)),
    )


def _recurrent(c: Lowering, directions: list[_Direction], start: int, count: int) -> Tensor:
    """(rows, hidden) for one direction, (directions, hidden, rows) for two."""
    if len(directions) == 1:
        r = directions[0].r
        if count == r.shape[0]:
            return r
        if r.data is not None:
            return c.constant(r.data[start : start + count], "weights")
        size = [count, r.shape[1]]
        return c.emit("SLICE", [r, c.ints([start, 0], "begin"), c.ints(size, "size")], shape=tuple(size))
    arrays = [d.r.data[start : start + count].T for d in directions if d.r.data is not None]
    return c.constant(np.stack(arrays), "weights")


def _recurrent_bias(c: Lowering, directions: list[_Direction]) -> Tensor | None:
    biases = [d.recurrent_bias for d in directions if d.recurrent_bias is not None]
    if len(biases) < 2:
        return biases[0] if biases else None
    return _along(c, [c.reshape(bias, (1, 1, bias.shape[0])) for bias in biases], 0)


def _along(c: Lowering, tensors: list[Tensor], axis: int) -> Tensor:
    """Constants of several directions as one."""
    if len(tensors) == 1:
        return tensors[0]
    return c.constant(np.concatenate([t.data for t in tensors if t.data is not None], axis), "directions")


def _initial(c: Lowering, index: int, numbers: list[int], projected: Tensor) -> Tensor:
    """A state before the first step, (directions, batch, hidden)."""
    hidden = c.x(_R).shape[-1]
    shape = (len(numbers), projected.shape[2], hidden)
    if c.node.has(index):
        state = c.transpose(c.x(index), (1, 0, 2)) if c.node.integer("layout", 0) else c.x(index)
        return state if len(numbers) == state.shape[0] else _part(c, state, numbers[0])
    if min(shape) >= 0:
        return c.constant(np.zeros(shape, projected.dtype), "zeros")
    size = [1, shape[0], -1, hidden]
    first = c.emit("SLICE", [projected, c.ints([0] * 4, "begin"), c.ints(size, "size")], shape=tuple(size))
    return c.emit("ZEROS_LIKE", [c.reshape(first, shape)])


def _lengths(c: Lowering) -> Tensor | None:
    """How many steps each sequence has, (batch,); None if all have as many as the input."""
    if not c.node.has(_LENGTHS):
        return None
    steps = c.x(_X).shape[1 if c.node.integer("layout", 0) else 0]
    values = c.node.value(_LENGTHS)
    return None if values is not None and (values == steps).all() else c.cast(c.x(_LENGTHS), np.int32)


def _valid(c: Lowering, x: Tensor, lengths: Tensor) -> Tensor:
    """Whether a step is within the sequence, (steps, 1, batch, 1)."""
    steps = c.constant(np.arange(x.shape[0], dtype=np.int32).reshape(-1, 1, 1, 1), "steps")
    return c.binary("LESS", steps, c.reshape(lengths, (1, 1, x.shape[1], 1)), dtype=bool)


def _fixed_steps(node: NodeView) -> str | None:
    return static(_X, (1, 2) if node.integer("layout", 0) else (0, 2))(node)


_EMITS = (
    *("FULLY_CONNECTED", "BATCH_MATMUL", "WHILE", "SPLIT", "ADD", "MUL", "SUB", "LOGISTIC", "TANH", "GATHER", "LESS"),
    *("DYNAMIC_UPDATE_SLICE", "PAD", "PACK", "UNPACK", "SLICE", "CONCATENATION", "REVERSE_V2", "REVERSE_SEQUENCE"),
    *("SELECT_V2", "ZEROS_LIKE", "RESHAPE", "TRANSPOSE"),
)
_CONSTRAINTS = (
    typed(FLOAT),
    ranked(3, 3),
    _fixed_steps,
    static(_W),
    static(_R),
    unknown_activation,
)
_NOTE = "Unrolled where short, otherwise loops over chunks of the sequence."

RULES = tuple(
    LoweringRule(op, lower, _EMITS, _CONSTRAINTS, since=7, note=_NOTE)
    for op, lower in (("LSTM", _lstm), ("GRU", _gru), ("RNN", _rnn))
)
