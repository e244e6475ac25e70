"""How long single layers take in integers and in float, each as a small model on the target's own runtime."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgecc.artifact import named_files, write_files
from edgecc.data.feeds import random_feeds
from edgecc.errors import EdgeccError
from edgecc.passes.base import Pass, PassContext
from edgecc.passes.pipeline import PassPipeline
from edgecc.quantization.scheme import CLAMPS
from edgecc.rewriting.extraction import extract
from edgecc.running.runner import Runner

if TYPE_CHECKING:
    from edgecc.backend import Backend
    from edgecc.model import Model, Node, Tensor
    from edgecc.target import Target

#: Turns of the two forms of a layer, and the seconds that each of them runs in a turn.
_TURNS, _SECONDS = 7, 0.004
#: Times of a layer that differ by less of the other one cannot be told apart.
LAYER_NOISE = 0.05


@dataclass(frozen=True)
class Layer:
    """An operator that computes with integers, with the activation that it takes in.

    Attributes:
        node: name of its node, in the float and in the quantized model.
        activation: name of the activation's node; "" if there is none.
        reads: names of the float tensors that it computes from.
        writes: name of the float tensor that it computes, behind the activation.
    """

    node: str
    activation: str
    reads: tuple[str, ...]
    writes: str


@dataclass(frozen=True)
class LayerTime:
    """Seconds of one run of a layer as a model of its own; what calling the runtime takes is in both."""

    in_integers: float
    in_float: float

    @property
    def loss(self) -> float:
        """What integers take more; negative where they gain."""
        return self.in_integers - self.in_float


def integer_layers(before: Model, after: Model) -> list[Layer]:
    """The layers that quantization made integers of, in order; each node of the float model is in one at most."""
    quantized = {node.name: node for node in after.nodes()}
    found, taken = [], set()
    for node in before.nodes():
        twin = quantized.get(node.name)
        if twin is None or twin.op != node.op or node.name in taken or not _reads_integers(twin, after):
            continue
        activation = before.single_consumer(node.outputs[0])
        if activation is None or activation.op not in CLAMPS or not _is_taken_in(activation, quantized, after):
            activation = None
        else:
            taken.add(activation.name)
        reads = tuple(dict.fromkeys(tensor.name for tensor in node.inputs if _is_computed(tensor)))
        last = activation or node
        if len(last.outputs) == 1 and reads:
            found.append(Layer(node.name, activation.name if activation else "", reads, last.outputs[0].name))
    return found


def _is_computed(tensor: Tensor) -> bool:
    return not tensor.is_empty() and getattr(tensor, "values", None) is None


def _reads_integers(node: Node, model: Model) -> bool:
    """Whether data of the node is dequantized."""
    writers = [model.producer(tensor) for tensor in node.inputs]
    return any(w is not None and w.op == "DequantizeLinear" and _is_computed(w.inputs[0]) for w in writers)


def _is_taken_in(activation: Node, quantized: dict[str, Node], after: Model) -> bool:
    twin = quantized.get(activation.name)
    return twin is not None and not _reads_integers(twin, after)


@dataclass
class LayerClock:
    """Measures layers; a context manager that holds two workers, one for each form.

    Attributes:
        before: the float model.
        after: the same, quantized.
        backend: whose runtime runs them.
        target: what they are compiled for.
        passes: the backend's own, which a model goes through behind the pass that quantizes.
        folder: for the files.
    """

    before: Model
    after: Model
    backend: Backend
    target: Target
    passes: Sequence[Pass]
    folder: Path
    _known: dict[str, tuple[float, float]] = field(default_factory=dict, init=False)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack, init=False)
    _runners: dict[str, Runner] = field(default_factory=dict, init=False)

    def __enter__(self) -> LayerClock:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def measure(self, layers: Iterable[Layer], seconds: float, progress: Callable[[int], None]) -> Iterator[LayerTime]:
        """One time per layer, in order, until the seconds are over; layers of the same kind are measured once."""
        forms = (self._forms(layer) for layer in layers)
        for in_integers, in_float in self.pairs(forms, seconds, progress):
            yield LayerTime(in_integers, in_float)

    def pairs(
        self, forms: Iterable[tuple[Model, Model]], seconds: float, progress: Callable[[int], None]
    ) -> Iterator[tuple[float, float]]:
        """Seconds of one run of each of two small models, in order; 0 for both where one of them does not run.

        Args:
            forms: the models; pairs of the same kind are measured once.
            seconds: after which nothing more is measured.
            progress: called with the number of pairs that are done.
        """
        end = time.perf_counter() + seconds
        for count, pair in enumerate(forms):
            progress(count)
            key = "\n".join(_key(part) for part in pair)
            if key not in self._known:
                if time.perf_counter() > end:
                    return
                self._known[key] = self._race(pair)
            yield self._known[key]

    def conversion(self, dtype: str, count: int) -> tuple[float, float]:
        """Seconds of QuantizeLinear and DequantizeLinear of that many values, without those of calling the runtime."""
        pairs = [(conversion_model(op, dtype, count), conversion_model(op, dtype, 1)) for op in _CONVERSIONS]
        first, second = (max(0.0, many - one) for many, one in map(self._race, pairs))
        return first, second

    def _forms(self, layer: Layer) -> tuple[Model, Model]:
        """The layer between integers, and in float."""
        given = {tensor.name: tensor for tensor in self.after.tensors()}
        twin = next(node for node in self.after.nodes() if node.name == (layer.activation or layer.node))
        node = next(node for node in self.after.nodes() if node.name == layer.node)
        sources = [self.after.producer(tensor) for tensor in node.inputs]
        reads = [
            writer.inputs[0].name if writer is not None and writer.op == "DequantizeLinear" else tensor.name
            for writer, tensor in zip(sources, node.inputs, strict=True)
            if _is_computed(tensor) and (writer is None or not _is_constant(writer))
        ]
        last = twin.outputs[0]
        rounding = self.after.single_consumer(given[last.name])
        if rounding is not None and rounding.op == "QuantizeLinear":
            last = rounding.outputs[0]
        integers = extract(self.after, dict.fromkeys(reads), [last.name])
        return integers, extract(self.before, layer.reads, [layer.writes])

    def _race(self, models: tuple[Model, Model]) -> tuple[float, float]:
        """The least of both, in turns: other work on the machine only ever adds to a run."""
        times: dict[int, list[float]] = {0: [], 1: []}
        try:
            runners = [self._opened(str(place), model) for place, model in enumerate(models)]
            for _ in range(_TURNS):
                for place, runner in enumerate(runners):
                    runs = runner.time(5, warmup=1, min_seconds=_SECONDS, max_seconds=50 * _SECONDS)
                    times[place].append(min(runs))
        except EdgeccError:
            # A layer that does not stand alone is left as it is.
            return 0.0, 0.0
        return min(times[0]), min(times[1])

    def _opened(self, role: str, model: Model) -> Runner:
        """The worker of that role with the model loaded and fed."""
        path = self.folder / f"layer{role}{self.target.suffixes[0]}"
        compile_to(path, model, self.backend, self.target, self.passes)
        if role not in self._runners:
            self._runners[role] = self._stack.enter_context(Runner(path, self.backend))
        else:
            self._runners[role].reload()
        runner = self._runners[role]
        sizes = {spec.shape[0]: 1 for spec in runner.inputs if spec.shape and isinstance(spec.shape[0], str)}
        runner.time(1, feeds=random_feeds(runner.signature, 0, sizes=sizes))
        return runner


def compile_to(path: Path, model: Model, backend: Backend, target: Target, passes: Sequence[Pass]) -> None:
    """Let a copy of the model go through the passes, compile it, and write the files without a report."""
    legal = model.clone()
    PassPipeline(passes).run(legal, PassContext(target))
    write_files(named_files(path, backend.name_files(backend.compile(legal, target), path.name)))


_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")


def conversion_model(op: str, dtype: str, count: int) -> Model:
    """A model of that operator alone, on a vector."""
    from edgecc.model import Model

    first, second = ("float", dtype) if op == "QuantizeLinear" else (dtype, "float")
    zero = 128 if dtype == "uint8" else 0
    text = f"g ({first}[{count}] x) => ({second}[{count}] y) <float s = {{0.02}}, {dtype} z = {{{zero}}}>"
    return Model.from_text(f"{text} {{ y = {op}(x, s, z) }}")


def _is_constant(writer: Node) -> bool:
    return writer.op == "DequantizeLinear" and not _is_computed(writer.inputs[0])


def _key(model: Model) -> str:
    """Operators, attributes, types and shapes, without names and values."""
    places = {tensor.name: place for place, tensor in enumerate(model.tensors())}
    lines = []
    for node in model.nodes():
        ends = [f"{places.get(t.name, '')}:{t.dtype}{t.shape}" for t in (*node.inputs, *node.outputs)]
        lines.append(f"{node.op} {sorted((key, repr(value)) for key, value in node.attrs.items())} {ends}")
    return "\n".join(lines)
