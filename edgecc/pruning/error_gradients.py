"""The errors inside a model against another one, and their gradients with respect to its weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx

from edgecc.pruning.gradients import Tape, add_gradients
from edgecc.pruning.rows import RowTable
from edgecc.pruning.spread import Spread
from edgecc.reference_session import reference_session
from edgecc.rewriting.linear import linear_of
from edgecc.statistics.observation import keep_needed

if TYPE_CHECKING:
    from edgecc.model import Model, Tensor
    from edgecc.pruning.repair import Site

_LAYERS = ("Conv", "Gemm", "MatMul")
#: Smallest variance that errors can be relative to.
_LEAST = 1e-20
#: What the errors of a tensor count that each sample has one row of, beside others with many: a fit to fewer rows
#: gains by chance.
_SINGLE = 0.3


@dataclass(frozen=True)
class Aim:
    """A tensor that should be as it was.

    Attributes:
        tensor: its name, in both models.
        kept: mask of the original's channels that are left.
        axis: of the channels.
        rectified: whether a Relu follows, so that one number below 0 is as good as another.
    """

    tensor: str
    kept: np.ndarray
    axis: int
    rectified: bool

    def wanted(self, values: np.ndarray) -> RowTable:
        """What it should be, from the original's."""
        found: RowTable = np.compress(self.kept, values, axis=self.axis).astype(np.float32)
        return np.maximum(found, 0) if self.rectified else found

    def scale(self, spread: Spread) -> float:
        """What a squared error is multiplied by, to be the mean of one sample relative to the variance.

        Args:
            spread: of what the tensor should be.
        """
        variance = spread.variance()
        if not variance > _LEAST:
            return 0.0
        is_single = spread.values <= spread.samples * int(self.kept.sum())
        return (_SINGLE if is_single else 1.0) * spread.samples / spread.values / variance


def aims_of(sites: Sequence[Site], model: Model) -> list[Aim]:
    """What layers compute in float32, with what is added to it; each tensor once.

    Args:
        sites: layers.
        model: that they are in.
    """
    found = {}
    nodes = {node.name: node for node in model.nodes()}
    for site in sites:
        node = nodes[site.after.node.name]
        tensor = node.outputs[0]
        if site.other:
            adder = model.single_consumer(tensor)
            assert adder is not None, "its result is added"
            tensor = adder.outputs[0]
        elif node.op == "MatMul":
            linear = linear_of(node, model)
            # Its bias may have been fitted: only with it is the result what it was.
            tensor = tensor if isinstance(linear, str) else linear.last.outputs[0]
        if tensor.dtype != np.float32:
            continue
        found[tensor.name] = Aim(tensor.name, site.outputs, 1 if node.op == "Conv" else -1, site.rectified)
    return list(found.values())


class ErrorGradients:
    """A session that computes a model's errors and their gradients.

    Args:
        model: not changed.
        aims: where they are measured.
        kept: names of layers whose weights have no gradients.
    """

    def __init__(self, model: Model, aims: Sequence[Aim], kept: Collection[str] = ()) -> None:
        graph = model.clone()
        nodes, tape = graph.nodes(), Tape(graph)
        tensors = {tensor.name: tensor for tensor in graph.tensors()}
        self.targets = {aim.tensor: f"{aim.tensor}/target" for aim in aims}
        self.scales = {aim.tensor: f"{aim.tensor}/scale" for aim in aims}
        seeds, errors = {}, []
        for aim in aims:
            target, scale = (graph.variable(n[aim.tensor], np.float32, None) for n in (self.targets, self.scales))
            seed, error = _seed(tape, tensors[aim.tensor], target, scale, aim.rectified)
            seeds[aim.tensor] = seed
            errors.append(error)
        # Before gradients read weights too, through operators of other names.
        constants = {id(t): t for n in graph.nodes(*_LAYERS) for t in n.inputs[1:3] if _is_weight(t, kept)}
        gradients = add_gradients(tape, nodes, seeds)
        asked = {key: gradients[key] for key in constants if key in gradients}
        self.values: dict[str, RowTable] = {constants[key].name: constants[key].values for key in asked}
        self._outputs = [tensor.name for tensor in (tape.add("Sum", *errors), *asked.values())]
        proto = graph.to_proto()
        _open(proto.graph, self._outputs, self.values, [*self.targets.values(), *self.scales.values()])
        # Small operators gain nothing by several threads, which take twice the time of one: runs go side by side.
        self._session = reference_session(proto, deterministic=True, threads=1)
        self._inputs = {info.name for info in self._session.get_inputs()}

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, RowTable]:
        """The error's gradients by the weights' names."""
        given = {name: values for name, values in feeds.items() if name in self._inputs}
        gradients = self._session.run(self._outputs[1:], {**given, **self.values})
        return dict(zip(self.values, gradients, strict=True))

    def error(self, feeds: Mapping[str, np.ndarray]) -> float:
        given = {name: values for name, values in feeds.items() if name in self._inputs}
        return float(self._session.run(self._outputs[:1], {**given, **self.values})[0])


def _is_weight(tensor: Tensor, kept: Collection[str]) -> bool:
    """Whether it is a constant that nothing but layers reads, none of which are to be kept."""
    values = getattr(tensor, "values", None)
    if values is None or values.dtype != np.float32:
        return False
    return all(reader.op in _LAYERS and reader.name not in kept for reader in tensor.outputs)


def _seed(tape: Tape, tensor: Tensor, target: Tensor, scale: Tensor, rectified: bool) -> tuple[Tensor, Tensor]:
    """The gradient of the error at a tensor, and the error."""
    now = tape.add("Relu", tensor) if rectified else tensor
    difference = tape.add("Sub", now, target)
    error = tape.add("ReduceSum", tape.add("Mul", tape.add("Mul", difference, difference), scale), keepdims=0)
    seed = tape.add("Mul", difference, tape.add("Add", scale, scale))
    return (tape.add("Mul", seed, tape.add("Sign", now)) if rectified else seed), error


def _open(
    graph: onnx.GraphProto, outputs: Sequence[str], weights: Mapping[str, RowTable], given: Sequence[str]
) -> None:
    """Make weights and what the errors are relative to inputs, and leave only what the outputs need."""
    kept = [tensor for tensor in graph.initializer if tensor.name not in weights]
    del graph.initializer[:], graph.output[:]
    graph.initializer.extend(kept)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    for name in (*weights, *given):
        shape = list(weights[name].shape) if name in weights else None
        graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    keep_needed(graph, outputs)
