"""The order of the channels within their axis: channel shuffles without moving each channel by itself.

A shuffle (RESHAPE, TRANSPOSE, RESHAPE, or a GATHER of constant positions along the last axis) only says which channel
is meant by which number. Convolutions with constant weights can be told so by permuting the weights. So the walk below
keeps *views*: "channel j of this tensor is channel c_j of source s_j". Shuffles, splits and concatenations of views are
bookkeeping. What reads a view falls into three kinds:

- convolutions and fully connected layers take the channels of each group in any order, their weights are permuted;
- depthwise convolutions, pools and elementwise operators pass the order on: their result is a view again;
- everything else wants the channels in order: where one convolution made them for this reader alone, it writes them in
  that order (PixelShuffle), otherwise they are collected from slices.

Channels are sorted by source and number where the reader allows it. In ShuffleNet V2 what is left of shuffle and split
is then a few SLICEs and a CONCATENATION of half the channels: 2.50 ms instead of 2.62 ms with a TRANSPOSE per shuffle
(whole network, XNNPACK, one thread). V1 convolves in groups on both sides, so that groups x groups pieces change
places: 3.18 ms instead of 2.92 ms. A GATHER per shuffle would take five times as long as its TRANSPOSE. A shuffle whose
reader wants the channels in their order stays as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from edgecc_tflite.ir import Graph, Operator, Quantization, Tensor

#: A view of more pieces than this is not worth it: for a reader whose weights are permuted, and for one that wants the
#: channels in order (where neighbours are rarely together).
MOST_PIECES = 64
MOST_PIECES_IN_ORDER = 8
#: XNNPACK concatenates up to five tensors, more would leave the delegate; four at a time is what measures best.
MOST_JOINED = 4

_UNARY = frozenset(
    {
        "ABS",
        "DEQUANTIZE",
        "QUANTIZE",
        "ELU",
        "EXP",
        "GELU",
        "HARD_SWISH",
        "LEAKY_RELU",
        "LOGISTIC",
        "NEG",
        "RELU",
        "RELU6",
        "RELU_N1_TO_1",
    }
    | {"RSQRT", "SQRT", "SQUARE", "TANH", "AVERAGE_POOL_2D", "MAX_POOL_2D"}
)
_BINARY = frozenset({"ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "PRELU"})
_REDUCTIONS = frozenset({"MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"})
#: Operators whose constant inputs are indices, not values per channel.
_INDEXED = _REDUCTIONS | {"PAD", "RESHAPE"}


def solve_channels(graph: Graph) -> None:
    """Replace shuffles by views wherever every reader takes them."""
    shuffles = _find_shuffles(graph)
    while shuffles:
        try:
            graph.operators = _Walk(graph, shuffles).run()
        except _OrderNeededError as error:
            for op in error.shuffles:
                del shuffles[op]
            continue
        return


class _OrderNeededError(Exception):
    """A reader wants the channels in order, and they lie too scattered for slices."""

    def __init__(self, shuffles: frozenset[Operator]) -> None:
        super().__init__()
        self.shuffles = shuffles


@dataclass(frozen=True)
class _View:
    """Which channel of which source each channel is.

    Attributes:
        sources: real tensors that differ at most in the number of channels.
        source: for each channel the index of its source.
        channel: for each channel its number there.
        shuffles: the shuffles that made this view necessary.
    """

    sources: tuple[Tensor, ...]
    source: np.ndarray
    channel: np.ndarray
    shuffles: frozenset[Operator] = frozenset()

    @classmethod
    def of(cls, tensor: Tensor) -> _View:
        count = tensor.shape[-1]
        return cls((tensor,), np.zeros(count, np.int64), np.arange(count))

    def take(self, positions: np.ndarray, *shuffles: Operator) -> _View:
        found = self.shuffles | set(shuffles)
        return replace(self, source=self.source[positions], channel=self.channel[positions], shuffles=found)

    @staticmethod
    def join(views: list[_View]) -> _View:
        sources: dict[Tensor, int] = {}
        for view in views:
            for tensor in view.sources:
                sources.setdefault(tensor, len(sources))
        renumbered = [np.array([sources[t] for t in v.sources])[v.source] for v in views]
        shuffles = frozenset().union(*(view.shuffles for view in views))
        channels = np.concatenate([v.channel for v in views])
        return _View(tuple(sources), np.concatenate(renumbered), channels, shuffles)

    def sorted_within(self, groups: int) -> np.ndarray:
        """Positions that sort the channels of each group by source and number."""
        size = len(self.channel) // groups
        positions = np.lexsort((self.channel, self.source))
        group = positions // size
        return positions[np.argsort(group, kind="stable")]

    @cached_property
    def pieces(self) -> list[tuple[Tensor, int, int]]:
        """Runs of neighbouring channels: source, first, one behind the last."""
        breaks = np.flatnonzero((np.diff(self.source) != 0) | (np.diff(self.channel) != 1)) + 1
        starts, ends = [0, *breaks.tolist()], [*breaks.tolist(), len(self.channel)]
        return [
            (self.sources[self.source[a]], int(self.channel[a]), int(self.channel[b - 1]) + 1)
            for a, b in zip(starts, ends, strict=True)
        ]


class _Shuffle(NamedTuple):
    """What is shuffled, which channel comes at each place, and the operators in front that only serve this."""

    data: Tensor
    order: np.ndarray
    helpers: tuple[Operator, ...] = ()


def _find_shuffles(graph: Graph) -> dict[Operator, _Shuffle]:
    """Operators that write shuffled channels."""
    producers, readers = graph.producers(), graph.consumers()
    outputs = set(graph.outputs)
    found: dict[Operator, _Shuffle] = {}
    for op in graph.operators:
        if op.builtin == "GATHER" and (gathered := _permutation_by_gather(op)) is not None:
            found[op] = gathered
        if op.builtin != "RESHAPE":
            continue
        chain = [op]
        while len(chain) < 3 and (before := producers.get(_data(chain[-1]))) is not None:
            middle = before.outputs[0]
            if len(readers.get(middle, ())) != 1 or middle in outputs:
                break
            chain.append(before)
        if [o.builtin for o in chain] == ["RESHAPE", "TRANSPOSE", "RESHAPE"]:
            order = _permutation_by_transpose(*chain)
            if order is not None:
                found[op] = _Shuffle(_data(chain[2]), order, (chain[1], chain[2]))
    return found


def _permutation_by_gather(op: Operator) -> _Shuffle | None:
    data, indices = _data(op), op.inputs[1]
    last = op.options.get("axis", 0) == data.rank - 1
    if indices is None or indices.data is None or indices.rank != 1 or not last or data.is_constant or data.rank < 2:
        return None
    return _Shuffle(data, indices.data.astype(np.int64))


def _permutation_by_transpose(merge: Operator, transpose: Operator, split: Operator) -> np.ndarray | None:
    """The order of channels that splitting, transposing and merging the last axis makes."""
    data, out, middle, perm = _data(split), merge.outputs[0], split.outputs[0], transpose.inputs[1]
    if perm is None or perm.data is None or data.shape != out.shape or data.rank < 2:
        return None
    kept = data.rank - 1
    parts, order = middle.shape[kept:], perm.data.tolist()
    if middle.shape[:kept] != data.shape[:kept] or order[:kept] != list(range(kept)):
        return None
    if min(parts, default=-1) < 0 or math.prod(parts) != data.shape[-1]:
        return None
    return np.arange(data.shape[-1]).reshape(parts).transpose([axis - kept for axis in order[kept:]]).reshape(-1)


def _data(op: Operator) -> Tensor:
    tensor = op.inputs[0]
    assert tensor is not None
    return tensor


class _Walk:
    """One walk over the operators that writes a new list of them; fails as a whole or not at all."""

    def __init__(self, graph: Graph, shuffles: dict[Operator, _Shuffle]) -> None:
        self._graph = graph
        self._readers = graph.consumers()
        self._shuffles = shuffles
        self._shuffled = {shuffle.data for shuffle in shuffles.values()}
        self._helpers = {op for shuffle in shuffles.values() for op in shuffle.helpers}
        self._views: dict[Tensor, _View] = {}
        self._made: dict[tuple[object, ...], Tensor] = {}
        self._operators: list[Operator] = []
        #: Where in `_operators` the one is that writes a tensor.
        self._places: dict[Tensor, int] = {}

    def _append(self, op: Operator) -> None:
        self._places.update((tensor, len(self._operators)) for tensor in op.outputs)
        self._operators.append(op)

    def run(self) -> list[Operator]:
        for op in self._graph.operators:
            if op in self._shuffles:
                shuffle = self._shuffles[op]
                self._views[op.outputs[0]] = self._view(shuffle.data).take(shuffle.order, op)
            elif op in self._helpers or self._is_bookkeeping(op):
                continue
            elif any(t in self._views for t in op.inputs if t is not None):
                self._read_view(op)
            else:
                self._append(op)
        for tensor in self._graph.outputs:
            if tensor in self._views:
                # Its name is the model's; a RESHAPE to the same shape gives it to what is there.
                end = Operator("RESHAPE", [], [tensor])
                end.inputs = [self._in_order(tensor, end), _indices(tensor, "shape", list(tensor.shape))]
                self._append(end)
        return self._operators

    def _view(self, tensor: Tensor) -> _View:
        return self._views.get(tensor) or _View.of(tensor)

    # ------------------------------------------------------------------------------------------------- bookkeeping

    def _is_bookkeeping(self, op: Operator) -> bool:
        """Joining and cutting views along the channels; real tensors are cut by the operators that are there."""
        if op.builtin == "CONCATENATION":
            return self._join(op)
        if op.builtin not in ("SPLIT", "SPLIT_V", "SLICE"):
            return False
        data = _data(op) if op.builtin != "SPLIT" else op.inputs[1]
        if data is None or data not in self._views:
            return False
        ranges = _cut(op, data)
        if ranges is None:
            return False
        for out, (start, stop) in zip(op.outputs, ranges, strict=True):
            self._views[out] = self._views[data].take(np.arange(start, stop))
        return True

    def _join(self, op: Operator) -> bool:
        """A concatenation is a view if a shuffle follows or a view comes in; others are left alone."""
        tensors = [t for t in op.inputs if t is not None]
        shuffled = any(t in self._views for t in tensors) or op.outputs[0] in self._shuffled
        along_channels = op.options.get("axis", 0) == op.outputs[0].rank - 1
        if not shuffled or not along_channels or any(t.is_constant for t in tensors):
            return False
        self._views[op.outputs[0]] = _View.join([self._view(t) for t in tensors])
        return True

    # ----------------------------------------------------------------------------------------------------- readers

    def _read_view(self, op: Operator) -> None:
        groups = _groups(op)
        data = op.inputs[0]
        if groups and data in self._views:
            self._absorb(op, self._views[data], groups)
        elif data in self._views and _passes_order_on(op, data):
            self._pass_on(op, self._views[data])
        else:
            inputs = [self._in_order(t, op) if t is not None and t in self._views else t for t in op.inputs]
            self._append(replace(op, inputs=inputs))

    def _absorb(self, op: Operator, view: _View, groups: int) -> None:
        """Permute the weights' input channels instead of the input."""
        positions = view.sorted_within(groups)
        weights = op.inputs[1]
        assert weights is not None
        assert weights.data is not None
        size = len(positions) // groups
        parts = weights.data.reshape(groups, -1, *weights.data.shape[1:])
        within = positions.reshape(groups, size) - np.arange(groups)[:, None] * size
        permuted = np.concatenate([part[..., order] for part, order in zip(parts, within, strict=True)])
        inputs = [self._real(view.take(positions), op), _like(weights, permuted), *op.inputs[2:]]
        self._append(replace(op, inputs=inputs))

    def _pass_on(self, op: Operator, view: _View) -> None:
        """Work on the channels as they lie; the result is a view of what comes out."""
        positions = view.sorted_within(1)
        inputs: list[Tensor | None] = [self._real(view.take(positions), op)]
        indices = op.builtin in _INDEXED
        for tensor in op.inputs[1:]:
            if indices or tensor is None or tensor.data is None or tensor.shape[-1:] != (len(positions),):
                inputs.append(tensor)
            else:
                inputs.append(_like(tensor, tensor.data[..., positions], positions, axis=tensor.rank - 1))
        declared = op.outputs[0]
        out = replace(declared, name=f"{declared.name}/sorted", source="", layout=None)
        self._append(replace(op, inputs=inputs, outputs=[out]))
        back = np.argsort(positions)
        self._views[declared] = replace(_View.of(out).take(back), shuffles=view.shuffles)

    # -------------------------------------------------------------------------------------------------- real tensors

    def _real(self, view: _View, reader: Operator) -> Tensor:
        """A tensor with the view's channels: slices of the sources, concatenated."""
        if len(view.pieces) > MOST_PIECES:
            raise _OrderNeededError(view.shuffles)
        parts = [self._slice(piece, reader) for piece in view.pieces]
        while len(parts) > MOST_JOINED:
            parts = [self._joined(parts[n : n + MOST_JOINED], reader) for n in range(0, len(parts), MOST_JOINED)]
        return self._joined(parts, reader)

    def _joined(self, parts: list[Tensor], reader: Operator) -> Tensor:
        if len(parts) == 1:
            return parts[0]
        key = ("join", *parts)
        if key not in self._made:
            first = parts[0]
            shape = (*first.shape[:-1], sum(part.shape[-1] for part in parts))
            joined = Tensor(f"{first.name}/joined", shape, first.dtype, quantization=first.quantization)
            self._made[key] = joined
            options = {"axis": joined.rank - 1, "fusedActivationFunction": 0}
            self._append(Operator("CONCATENATION", list(parts), [joined], options, reader.origins))
        return self._made[key]

    def _slice(self, piece: tuple[Tensor, int, int], reader: Operator) -> Tensor:
        source, start, stop = piece
        if (start, stop) == (0, source.shape[-1]):
            return source
        if piece not in self._made:
            kept = source.rank - 1
            shape = (*source.shape[:-1], stop - start)
            part = Tensor(f"{source.name}/{start}", shape, source.dtype, quantization=source.quantization)
            begin = _indices(part, "begin", [0] * kept + [start])
            size = _indices(part, "size", [-1 if d < 0 else d for d in shape])
            self._append(Operator("SLICE", [source, begin, size], [part], {}, reader.origins))
            self._made[piece] = part
        return self._made[piece]

    def _in_order(self, tensor: Tensor, reader: Operator) -> Tensor:
        """The view as a real tensor with its channels in order."""
        view = self._views[tensor]
        real = self._written_in_order(view)
        if real is None and len(view.pieces) > MOST_PIECES_IN_ORDER:
            raise _OrderNeededError(view.shuffles)
        if real is None:
            real = self._real(view, reader)
        self._views[tensor] = replace(_View.of(real), shuffles=view.shuffles)
        return real

    def _written_in_order(self, view: _View) -> Tensor | None:
        """Let the convolution that makes the only source write the view's order, if nothing else reads it."""
        source = view.sources[0]
        alone = len(view.sources) == 1 and len(self._readers.get(source, ())) == 1 and source not in self._graph.outputs
        if not alone or not np.array_equal(np.sort(view.channel), np.arange(source.shape[-1])):
            return None
        place = self._places.get(source)
        if place is None or _groups(self._operators[place]) != 1:
            return None
        if any(source in later.inputs for later in self._operators[place + 1 :]):
            # Another reader of the view has taken the channels as they lie.
            return None
        op = self._operators[place]
        weights, bias = op.inputs[1], op.inputs[2]
        assert weights is not None
        assert weights.data is not None
        if bias is not None and bias.data is None:
            return None
        channels = view.channel
        new_bias = None if bias is None or bias.data is None else _like(bias, bias.data[channels], channels)
        inputs = [op.inputs[0], _like(weights, weights.data[channels], channels), new_bias]
        self._operators[place] = replace(op, inputs=inputs)
        return source


def _cut(op: Operator, data: Tensor) -> list[tuple[int, int]] | None:
    """The channels that each output of a SPLIT or SLICE takes; None if it cuts another axis too."""
    if op.builtin == "SLICE":
        begin, size = op.inputs[1], op.inputs[2]
        if begin is None or size is None or begin.data is None or size.data is None:
            return None
        out = op.outputs[0]
        if out.shape[:-1] != data.shape[:-1] or begin.data[:-1].any():
            return None
        return [(int(begin.data[-1]), int(begin.data[-1]) + out.shape[-1])]
    axis = op.inputs[0] if op.builtin == "SPLIT" else op.inputs[2]
    if axis is None or axis.data is None or int(axis.data.reshape(-1)[0]) % data.rank != data.rank - 1:
        return None
    ends = np.cumsum([out.shape[-1] for out in op.outputs]).tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))


def _groups(op: Operator) -> int:
    """Number of groups whose channels the operator takes in any order; 0 if it does not."""
    if op.builtin not in ("CONV_2D", "FULLY_CONNECTED"):
        return 0
    data, weights = _data(op), op.inputs[1]
    if weights is None or weights.data is None:
        return 0
    if op.builtin == "FULLY_CONNECTED":
        return 1 if weights.shape[1] == data.shape[-1] else 0
    return data.shape[-1] // weights.shape[3]


def _passes_order_on(op: Operator, data: Tensor) -> bool:
    """Whether each channel of the result comes from the same channel of the first input alone."""
    others = op.inputs[1:]
    if any(t is None or t.data is None for t in others) or data.rank < 2:
        return False
    if op.builtin == "DEPTHWISE_CONV_2D":
        return int(op.options.get("depthMultiplier", 1)) == 1
    if op.builtin in _REDUCTIONS:
        axes = others[0]
        assert axes is not None
        assert axes.data is not None
        return data.rank - 1 not in (np.ravel(axes.data) % data.rank) and op.outputs[0].rank > 1
    if op.builtin == "PAD":
        return bool(others[0] is not None and others[0].data is not None and not others[0].data[-1].any())
    if op.builtin == "RESHAPE":
        return op.outputs[0].shape[-1:] == data.shape[-1:]
    if op.builtin in _BINARY:
        return op.outputs[0].shape[-1] == data.shape[-1] and op.outputs[0].rank == data.rank
    return op.builtin in _UNARY


def _like(tensor: Tensor, data: np.ndarray, positions: np.ndarray | None = None, axis: int = 0) -> Tensor:
    """The tensor with other data: its channels along `axis`, which may have scales of their own, at new positions."""
    known = tensor.quantization
    if known is not None and positions is not None and known.scale.size > 1 and known.axis == axis:
        known = Quantization(known.scale[positions], known.zero_point[positions], axis)
    return Tensor(tensor.name, data.shape, data.dtype, data, known)


def _indices(tensor: Tensor, what: str, values: list[int]) -> Tensor:
    data = np.array(values, np.int32)
    return Tensor(f"{tensor.name}/{what}", data.shape, data.dtype, data=data)
