"""A session that shows inner tensors of a model, or only their smallest and largest values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import onnx

from edgecc.errors import DataError
from edgecc.model import value_of
from edgecc.reference_session import reference_session

if TYPE_CHECKING:
    from edgecc.model import Model
    from edgecc.statistics.answers import Array

#: Models whose weights are larger are fed them: protobuf takes 2 GB in all.
_LARGEST_PROTO = 1_500_000_000


@dataclass(frozen=True)
class Reduction:
    """What is computed inside the graph instead of fetching a tensor.

    Attributes:
        tensor: its name.
        rank: number of its axes.
        axis: the one that stays; None for the whole tensor.
    """

    tensor: str
    rank: int
    axis: int | None


@dataclass(frozen=True)
class Reduced:
    """A reduced tensor of one sample.

    Attributes:
        low: [] or [channels].
        high: the same.
        total: of all values; not finite if one of them is not (ReduceMin and ReduceMax may pass over NaN).
    """

    low: Array
    high: Array
    total: Array


#: Watched tensors by name, and reductions.
Observed: TypeAlias = "tuple[dict[str, Array], list[Reduced]]"


@dataclass
class Observation:
    """Runs a model up to the tensors that are watched.

    Args:
        model: not changed.
        tensors: names of those fetched whole.
        reductions: those of which numbers suffice.
    """

    model: Model
    tensors: Sequence[str]
    reductions: Sequence[Reduction] = ()
    _fed: dict[str, Array] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        inputs = {tensor.name for tensor in self.model.inputs}
        self._from_feeds = [name for name in self.tensors if name in inputs]
        self._fetched = [name for name in self.tensors if name not in inputs]
        large = sum(tensor.values.nbytes for tensor in self.model.constants()) > _LARGEST_PROTO
        proto = self.model.to_proto(detach=large)
        del proto.graph.output[:]
        self._outputs = [*self._fetched, *(name for item in self.reductions for name in _reduce(proto.graph, item))]
        proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in self._outputs)
        keep_needed(proto.graph, self._outputs)
        names = {info.name for info in proto.graph.input}
        if large:
            weights = ((tensor.name, value_of(tensor)) for tensor in self.model.constants() if tensor.name in names)
            self._fed = {name: values for name, values in weights if values is not None}
        self._inputs = names & inputs
        self._session = reference_session(proto) if self._outputs else None

    def run(self, feeds: Mapping[str, Array], sample: str) -> Observed:
        """The watched tensors by name, and the reductions in their order; nothing of the feeds' memory.

        Raises:
            DataError: ONNX Runtime cannot run the model on this sample.
        """
        found = {name: np.array(feeds[name]) for name in self._from_feeds}
        if self._session is None:
            return found, []
        given = {name: values for name, values in feeds.items() if name in self._inputs}
        try:
            values = self._session.run(self._outputs, {**given, **self._fed})
        except Exception as error:  # ONNX Runtime's errors share no base class beside Exception
            raise DataError("the model cannot be run on this sample", where=sample, why=_first_line(error)) from error
        found |= dict(zip(self._fetched, values, strict=False))
        numbers = iter(values[len(self._fetched) :])
        return found, [Reduced(*three) for three in zip(numbers, numbers, numbers, strict=True)]


def _reduce(graph: onnx.GraphProto, item: Reduction) -> list[str]:
    """Append the operators; returns the names of what they compute, in the order of `Reduced`."""
    inputs = [item.tensor]
    if item.axis is not None:
        axes = [axis for axis in range(item.rank) if axis != item.axis % item.rank]
        inputs.append(f"{item.tensor}/edgecc_axes/{item.axis}")
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(axes, np.int64), inputs[-1]))
    names = []
    for op, given in (("ReduceMin", inputs), ("ReduceMax", inputs), ("ReduceSum", inputs[:1])):
        names.append(f"{item.tensor}/edgecc_{op}/{item.axis}")
        # A tensor of channels alone has no axes left: each value is its own range.
        unchanged = int(len(given) > 1 and item.rank == 1)
        graph.node.append(onnx.helper.make_node(op, given, names[-1:], keepdims=0, noop_with_empty_axes=unchanged))
    return names


def keep_needed(graph: onnx.GraphProto, outputs: Iterable[str]) -> None:
    """Drop the nodes, initializers and inputs that the outputs do not depend on."""
    needed = set(outputs)
    nodes = []
    for node in reversed(graph.node):
        if needed.isdisjoint(node.output):
            continue
        needed |= _read_by(node)
        nodes.append(node)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(nodes)]
    if len(kept) < len(graph.node):
        del graph.node[:]
        graph.node.extend(kept)
    for index in range(len(graph.initializer) - 1, -1, -1):
        if graph.initializer[index].name not in needed:
            del graph.initializer[index]
    for index in range(len(graph.input) - 1, -1, -1):
        if graph.input[index].name not in needed:
            del graph.input[index]


def _read_by(node: onnx.NodeProto) -> set[str]:
    found = set(node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            found |= {info.name for info in graph.output}
            for inner in graph.node:
                found |= _read_by(inner)
    return found


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
