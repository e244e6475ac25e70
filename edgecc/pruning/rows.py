"""Rows that layers read, gathered from one run over the data."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgecc.data.split import SpreadSamples
from edgecc.errors import DataError
from edgecc.inspection import total_macs
from edgecc.model import value_of
from edgecc.rewriting.reading import is_op
from edgecc.statistics.observation import Observation
from edgecc.statistics.patches import rows_of

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model, Node, Tensor
    from edgecc.passes.base import WorkProgress
    from edgecc.pruning.features import Linear

RowTable = npt.NDArray[np.float32]
#: Sums of products of rows.
ProductTable = npt.NDArray[np.float32]

#: Rows for each feature: what least squares then loses by chance is a small part of what it cannot fit anyway.
_PER_FEATURE = 128
_FEWEST = 49152
#: The rows of one layer, and what is computed from them, take at most so many bytes each.
_MEMORY = 128 << 20
#: Float32 holds the sum of the squares of as many such values as there may be.
_LARGEST = 1e15
#: Operators that look at a shape and not at values.
_ASIDE = ("Shape", "Size")
#: Operators that look at each sample alone where samples are all along the first dimension of what they read and give,
#: unless their attribute `axis` says otherwise.
_APART = (
    *(
        "Abs",
        "Add",
        "And",
        "ArgMax",
        "ArgMin",
        "Attention",
        "AveragePool",
        "BatchNormalization",
        "Cast",
        "Ceil",
        "Celu",
    ),
    *("Clip", "Concat", "Conv", "ConvTranspose", "Cos", "DepthToSpace", "Div", "Dropout", "Elu", "Equal", "Erf", "Exp"),
    *("Expand", "Flatten", "Floor", "Gather", "Gelu", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "Greater"),
    *("GreaterOrEqual", "GroupNormalization", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "IsNaN"),
    *("LRN", "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax", "MatMul", "Max", "MaxPool"),
    *("Min", "Mish", "Mul", "Neg", "Not", "Or", "PRelu", "Pad", "Pow", "RMSNormalization", "Reciprocal", "ReduceL2"),
    *("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Relu", "Reshape", "Resize", "Round", "Selu", "Sigmoid"),
    *("Sign", "Sin", "Softmax", "Softplus", "Softsign", "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Sum"),
    *("Tanh", "Transpose", "Unsqueeze", "Where"),
)
#: Size of a batch by which it is found again.
_UNLIKELY = 977
#: Samples run at once where the model takes any number.
_AT_ONCE = 16
#: Most multiply-accumulates of a layer for all of its rows, as long as there are so many rows for each feature.
_WORK = 13_000_000_000
_LEAST_PER_FEATURE = 4
#: Rows that are collected before they are multiplied.
_MULTIPLIED = 1024
#: Samples that are looked at however large the model is.
_FEWEST_SAMPLES = 64


def rows_wanted(linear: Linear) -> int:
    """How many rows a layer is fitted to."""
    outputs, features = map(int, linear.weights.shape)
    most = _MEMORY // (4 * max(features, outputs))
    affordable = max(_WORK // (features * outputs), _LEAST_PER_FEATURE * features)
    return int(min(max(_FEWEST, _PER_FEATURE * features), most, affordable))


def bytes_of(linear: Linear) -> int:
    """What they take."""
    return 4 * int(linear.weights.shape[1]) * rows_wanted(linear)


def bytes_of_products(linear: Linear) -> int:
    """What the products of a layer's rows take."""
    return 4 * int(linear.weights.shape[1]) ** 2


def affordable(model: Model, data: CalibrationData, work: float) -> CalibrationData:
    """As many of the samples, evenly spread, as one run of the model over them takes that work for.

    Args:
        model: that will run.
        data: all samples.
        work: most multiply-accumulates.
    """
    calls = int(work / max(1, total_macs(model.nodes())))
    return SpreadSamples(data, max(-(-_FEWEST_SAMPLES // data.per_call), calls))


@dataclass(frozen=True)
class Seen:
    """Tensors of some samples that were run at once.

    Attributes:
        tensors: by name.
        where: what to call the samples.
        count: how many they are.
        total: how many there are in all.
    """

    tensors: Mapping[str, np.ndarray]
    where: str
    count: int
    total: int

    def share(self, linear: Linear) -> int:
        """How many of a layer's rows these samples give."""
        return -(-rows_wanted(linear) * self.count // max(1, self.total))

    def rows(self, linear: Linear, limit: int) -> npt.NDArray[np.float64]:
        """At most so many rows [n, features + 1] of a layer.

        Raises:
            DataError: some are not finite, or so large that sums of their squares would not be.
        """
        request = linear.request
        rows: npt.NDArray[np.float64] = rows_of(self.tensors[request.tensor], request.layout, limit)[0]
        largest = max(float(rows.max()), -float(rows.min())) if rows.size else 0.0
        if not largest <= _LARGEST:  # NaN is not either
            found = f"values as large as {largest:.0e}" if np.isfinite(largest) else "NaN or infinities"
            raise DataError(
                f"the model computes {found} in {request.tensor!r}",
                where=self.where,
                why=f"{linear.node.name} is to be fitted to what it reads there",
                hint="leave the sample out, or the layer: ignore=[...]",
            )
        return rows


def observed(
    model: Model,
    tensors: Collection[str],
    data: CalibrationData,
    what: str,
    progress: WorkProgress,
    at_once: int = _AT_ONCE,
) -> Iterator[Seen]:
    """Run the model over the data once and yield the tensors.

    Args:
        model: not changed.
        tensors: their names.
        data: read once; once more where it does not know how many samples it has, on which depends how many rows of
            each are kept.
        what: is said to be done.
        progress: called after each run.
        at_once: samples of one run, where the model takes any number.
    """
    total = data.total or sum(1 for _ in data.samples())
    observation, done = Observation(model, sorted(tensors)), 0
    for feeds, where, count in batches(data, is_batched(model), at_once):
        yield Seen(observation.run(feeds, where)[0], where, count, total)
        done += count
        progress(what, done, total)


def batches(
    data: CalibrationData, several: bool, at_once: int = _AT_ONCE
) -> Iterator[tuple[dict[str, np.ndarray], str, int]]:
    """Feeds of several samples at once, where a model takes them (see `is_batched`), what to call them, and how many.

    Whoever reads the same places of each batch in two models sees the same samples in both.
    """
    waiting: list[Mapping[str, np.ndarray]] = []
    for number, feeds in enumerate(data.samples()):
        if waiting and not (several and _fit(waiting[0], feeds) and len(waiting) < at_once):
            yield _joined(waiting), f"{data.source}, sample {number - len(waiting)} on", len(waiting)
            waiting = []
        waiting.append(feeds)
    if waiting:
        yield _joined(waiting), f"{data.source}, the last {len(waiting)} samples", len(waiting)


def is_batched(model: Model) -> bool:
    """Whether the first dimension of all inputs is open and counts samples that have nothing to do with one another.

    A size that is nowhere else in the model is followed through it, since the names of open dimensions begin anew
    behind a Reshape: all that the inputs reach begins with it or, where samples are taken apart into rows, a multiple
    of it; it is nowhere else than in front (attention over it has it twice), and only operators read it that are known
    not to look along it.
    """
    symbols = {_first(tensor) for tensor in model.inputs}
    if len(symbols) != 1 or not isinstance(next(iter(symbols)), str) or len(model.all_nodes()) > len(model.nodes()):
        return False
    present = {dim for tensor in model.tensors() for dim in tensor.shape or ()}
    size = next(n for n in itertools.count(_UNLIKELY) if not any(_is_multiple(dim, n) for dim in present))
    sized = model.clone()
    for node in sized.nodes():
        for tensor in node.outputs:
            tensor.shape = None
    for tensor in sized.inputs:
        tensor.shape = [size, *tensor.shape[1:]]
    sized.infer_shapes()
    if any(_first(tensor) != size for tensor in sized.outputs):
        return False
    if any(_is_multiple(other, size) for tensor in sized.tensors() for other in tuple(tensor.shape or ())[1:]):
        return False
    reading = (node for node in sized.nodes() if any(_is_multiple(_first(tensor), size) for tensor in node.inputs))
    return all(node.op in _ASIDE or _keeps_apart(node, size) for node in reading)


def _keeps_apart(node: Node, size: int) -> bool:
    """Whether an operator that reads samples gives something for each of them that depends on no other one."""
    if not is_op(node, *_APART) or not all(_is_multiple(_first(tensor), size) for tensor in node.outputs):
        return False
    if node.op == "Gather":
        return value_of(node.inputs[0]) is not None or int(node.attrs.get("axis", 0)) > 0
    return node.attrs.get("axis") not in (0, *(-len(tensor.shape) for tensor in node.outputs if tensor.shape))


def _is_multiple(dim: int | str | None, size: int) -> bool:
    return isinstance(dim, int) and dim > 0 and dim % size == 0


def _first(tensor: Tensor) -> int | str | None:
    """The first dimension, 1 of a scalar; None if it is not known."""
    if tensor.shape is None:
        return None
    return tensor.shape[0] if len(tensor.shape) else 1


def _fit(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> bool:
    return all(first[name].shape[1:] == second[name].shape[1:] for name in first)


def _joined(feeds: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    if len(feeds) == 1:
        return dict(feeds[0])
    return {name: np.concatenate([one[name] for one in feeds]) for name in feeds[0]}


def products_of(
    model: Model, linears: Sequence[Linear], data: CalibrationData, what: str, progress: WorkProgress
) -> list[ProductTable]:
    """For each layer, sums of products of rows [features + 1, features + 1], each row with a one appended.

    Args:
        model: not changed.
        linears: layers of it.
        data: read once.
        what: is said to be done.
        progress: called after each run.
    """
    sums = [_Sums(linear.weights.shape[1]) for linear in linears]
    for tables in _tables(model, linears, data, what, progress):
        for found, rows in zip(sums, tables, strict=True):
            found.add(rows)
    return [found.value() for found in sums]


class _Sums:
    """Sums of products of rows.

    Args:
        size: of a row.
    """

    def __init__(self, size: int) -> None:
        self._sums = np.zeros((size, size), np.float32)
        self._waiting: list[RowTable] = []
        self._count = 0

    def add(self, rows: RowTable) -> None:
        """Count rows in, which are multiplied many at a time: each time all sums are written."""
        self._waiting.append(rows)
        self._count += len(rows)
        if self._count >= _MULTIPLIED:
            self._multiply()

    def value(self) -> ProductTable:
        self._multiply()
        return self._sums

    def _multiply(self) -> None:
        if self._count:
            rows = np.concatenate(self._waiting)
            self._sums += rows.T @ rows
            self._waiting, self._count = [], 0


def gather(
    model: Model, linears: Sequence[Linear], data: CalibrationData, what: str, progress: WorkProgress
) -> list[RowTable]:
    """For each layer, rows [n, features + 1], each with a one appended.

    Args:
        model: not changed.
        linears: layers of it.
        data: read once.
        what: is said to be done.
        progress: called after each run.
    """
    runs = list(_tables(model, linears, data, what, progress))
    return [np.concatenate(parts) for parts in zip(*runs, strict=True)]


def _tables(
    model: Model, linears: Sequence[Linear], data: CalibrationData, what: str, progress: WorkProgress
) -> Iterator[list[RowTable]]:
    """Of each run of the model over samples, rows for each layer; no run without layers."""
    names = {linear.request.tensor for linear in linears}
    for seen in observed(model, names, data, what, progress) if names else ():
        yield [seen.rows(linear, seen.share(linear)).astype(np.float32) for linear in linears]
