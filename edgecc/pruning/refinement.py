"""All layers fitted together, in small steps, once each has been fitted by itself.

Fitted one after another, a layer does not know what those behind it make of its errors. Here the errors of all of them
count at once (as in the reconstruction of blocks, BRECQ, arXiv 2102.05426), each relative to the variance of what it
should compute, and Adam follows their gradient. There are no labels: what the original computes on
the samples is all that is aimed at.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx

from edgecc.inspection import macs
from edgecc.pruning.gradients import Tape, add_gradients
from edgecc.pruning.rows import RowTable, Seen, observed
from edgecc.reference_session import reference_session
from edgecc.rewriting.linear import linear_of
from edgecc.statistics.observation import keep_needed

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model, Tensor
    from edgecc.passes.base import WorkProgress
    from edgecc.pruning.repair import Site

_LAYERS = ("Conv", "Gemm", "MatMul")
#: Samples of one step.
_BATCH = 8
#: Of the first step, relative to the root mean square of the weights; what it is multiplied by where the first run
#: over the data gains nothing, and how often that is tried.
_RATE, _SLOWER, _TRIES = 3e-3, 0.3, 4
_DECAYS = (0.9, 0.999)
#: One of so many batches is for validation: these steps are not fitted to it, but it chooses the rate and the epoch,
#: and single layers were fitted to it before. It is a part of what passes see, and not of what the gate holds out.
_VALIDATION = 8
#: Fewer steps than these gain nothing worth their time.
_STEPS = 50
#: Samples that are too few for so many weights.
_FEWEST = 64
#: Most multiply-accumulates, those of the gradients counted twice.
_WORK = 2.4e12
#: Bytes of weights beside which there is no room for their moments.
_LARGEST = 1 << 30
#: Smallest variance that errors can be relative to.
_LEAST = 1e-20
#: What the original computes is kept if it takes at most so many bytes.
_MEMORY = 512 << 20


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


def refine(
    original: Model,
    model: Model,
    sites: Sequence[Site],
    data: CalibrationData,
    epochs: int,
    progress: WorkProgress,
    kept: Collection[str] = (),
) -> float:
    """Fit the weights of all layers together.

    Args:
        original: not changed.
        model: changed: its weights.
        sites: layers whose results are compared.
        data: samples.
        epochs: how often they are looked at; fewer of them if that would take too much work.
        progress: called after each run.
        kept: names of layers whose weights stay as they are.

    Returns:
        By which share the error fell on validation samples, of which the best epoch is taken, so that others gain a
        little less; 0 if nothing was changed.
    """
    total = data.total * data.per_call
    work = sum(macs(node) for part in (model, model, model, original) for node in part.nodes())
    epochs = min(epochs, int(_WORK / max(1, work * data.total)))
    aims = aims_of(sites, model)
    if not aims or total < _FEWEST or epochs * total < _STEPS * _BATCH:
        return 0.0
    if sum(tensor.values.nbytes for tensor in model.constants()) > _LARGEST:
        return 0.0
    gradients = _Gradients(model, aims, kept)
    if not gradients.values:
        return 0.0
    fitting = _Fitting(original, gradients, aims, data, progress)
    gain = fitting.run(epochs)
    if not gain > 0:
        return 0.0
    for tensor in model.constants():
        if tensor.name in gradients.values:
            tensor.values = gradients.values[tensor.name]
    return gain


class _Gradients:
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
        self._session = reference_session(proto, deterministic=True)
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


class _Adam:
    """Steps of Adam (arXiv 1412.6980), in units of each tensor's own size.

    Args:
        weights: by name; changed.
        rate: of the first step; it falls to 0 as a cosine does.
        steps: how many there will be.
    """

    def __init__(self, weights: dict[str, RowTable], rate: float, steps: int) -> None:
        self._weights, self._rate, self._steps = weights, rate, steps
        self._sizes = {name: float(np.sqrt(np.mean(np.square(values)))) for name, values in weights.items()}
        self._moments = {name: np.zeros((2, *values.shape), np.float32) for name, values in weights.items()}
        self._done = 0

    def step(self, gradients: Mapping[str, RowTable]) -> None:
        """Move against the gradients."""
        rate = self._rate * (1 + math.cos(math.pi * min(1.0, self._done / self._steps))) / 2
        self._done += 1
        first, second = (1 - decay**self._done for decay in _DECAYS)
        for name, gradient in gradients.items():
            mean, square = self._moments[name]
            mean += (1 - _DECAYS[0]) * (gradient - mean)
            square += (1 - _DECAYS[1]) * (gradient**2 - square)
            change = (mean / first) / (np.sqrt(square / second) + 1e-12)
            self._weights[name] = self._weights[name] - np.float32(rate * self._sizes[name]) * change


@dataclass(frozen=True)
class _Batch:
    """Samples that are run at once.

    Attributes:
        feeds: inputs, and what the original computes.
        count: how many samples they are; several of one call where the model's batch is fixed.
        held: whether they are for validation.
    """

    feeds: Mapping[str, np.ndarray]
    count: int
    held: bool

    def nbytes(self) -> int:
        return sum(values.nbytes for values in self.feeds.values())


class _Fitting:
    """Adam over the weights of a model.

    Args:
        original: what it computes is aimed at.
        gradients: of the model; its weights are changed.
        aims: where errors are measured.
        data: samples.
        progress: called after each run.
    """

    def __init__(
        self,
        original: Model,
        gradients: _Gradients,
        aims: Sequence[Aim],
        data: CalibrationData,
        progress: WorkProgress,
    ) -> None:
        self._original, self._gradients, self._aims = original, gradients, aims
        self._data, self._progress = data, progress
        self._scales: dict[str, float] = {}
        self._known: list[_Batch] | None = None

    def error(self) -> float:
        """On validation samples."""
        return sum(self._gradients.error(batch.feeds) for batch in self._batches("measuring errors") if batch.held)

    def run(self, epochs: int) -> float:
        """Change the weights to the best of those after each run over the data.

        Returns:
            By which share the error on validation samples fell; 0 if it did not.
        """
        weights = self._gradients.values
        start, before, rate = dict(weights), self.error(), _RATE
        if not before > 0:
            return 0.0
        steps = epochs * max(1, round(self._data.total * self._data.per_call * (1 - 1 / _VALIDATION) / _BATCH))
        for _ in range(_TRIES):
            adam = _Adam(weights, rate, steps)
            self._epoch(adam)
            least = self.error()
            if least < before:
                break
            weights.update(start)
            rate *= _SLOWER
        else:
            return 0.0
        best = dict(weights)
        for _ in range(epochs - 1):
            self._epoch(adam)
            error = self.error()
            if error < least:
                least, best = error, dict(weights)
        weights.update(best)
        return 1 - least / before

    def _epoch(self, adam: _Adam) -> None:
        sums: dict[str, RowTable] = {}
        count = 0
        for batch in self._batches("fitting all layers"):
            if batch.held:
                continue
            for name, gradient in self._gradients.run(batch.feeds).items():
                sums[name] = sums[name] + gradient if name in sums else gradient
            count += batch.count
            if count >= _BATCH:
                adam.step({name: gradient / np.float32(count) for name, gradient in sums.items()})
                sums, count = {}, 0

    def _batches(self, what: str) -> Iterator[_Batch]:
        """What the original computes, again and again: from memory where all of it fits there."""
        if self._known is not None:
            for done, batch in enumerate(self._known):
                yield batch
                self._progress(what, done + 1, len(self._known))
            return
        names = {aim.tensor for aim in self._aims} | {tensor.name for tensor in self._original.inputs}
        known: list[_Batch] | None = []
        run = observed(self._original, names, self._data, what, self._progress, at_once=_BATCH)
        for number, seen in enumerate(run):
            count = seen.count * self._data.per_call
            batch = _Batch(self._feeds(seen, count), count, number % _VALIDATION == _VALIDATION // 2 - 1)
            if known is not None and batch.nbytes() * seen.total > _MEMORY * seen.count:
                known = None
            if known is not None:
                known.append(batch)
            yield batch
        self._known = known

    def _feeds(self, seen: Seen, count: int) -> dict[str, np.ndarray]:
        feeds = dict(seen.tensors)
        for aim in self._aims:
            wanted = aim.wanted(seen.tensors[aim.tensor])
            if aim.tensor not in self._scales:
                # Of the mean of one sample, relative to the variance.
                with np.errstate(
                    invalid="ignore"
                ):  # of masks of minus infinity there is none, and no error: nothing moves
                    variance = float(wanted.var())
                self._scales[aim.tensor] = count / wanted.size / variance if variance > _LEAST else 0.0
            feeds[self._gradients.targets[aim.tensor]] = wanted
            feeds[self._gradients.scales[aim.tensor]] = np.array(self._scales[aim.tensor], np.float32)
        return feeds
