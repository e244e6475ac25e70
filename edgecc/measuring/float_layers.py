"""Which layers a machine computes faster in float than in integers: measured, by whoever compiles, never by a pass."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from glob import escape
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecc.errors import RunnerError
from edgecc.measuring.benchmark import Ratio
from edgecc.measuring.layer_times import LAYER_NOISE, Layer, LayerClock, LayerTime, integer_layers
from edgecc.measuring.racing import NOISE, Race, machine_of

if TYPE_CHECKING:
    from edgecc.backend import Backend
    from edgecc.model import Model
    from edgecc.passes.base import Pass, WorkProgress
    from edgecc.target import Target

#: Seconds that measuring single layers may take; those that come later in the model stay as they are.
SECONDS = 8.0
#: The pattern that keeps the whole model in float.
EVERYTHING = ("*",)
_DOING = "measuring where integers are slower"


@dataclass(frozen=True)
class MeasuredLayer:
    """One layer alone, in seconds; the runtime's own call is in both."""

    node: str
    integers: float
    floats: float


@dataclass(frozen=True)
class MeasuredChoice:
    """What was measured, and which nodes are kept in float for it.

    Attributes:
        machine: that measured.
        integers: time of the quantized model over that of the float model.
        chosen: the same of what was chosen.
        ignore: patterns of names of the nodes that are kept in float, as quantize-static takes them.
        layers: what was measured of single layers; empty where whole models were enough.
        why_not: why nothing could be measured; "" if it was.
    """

    machine: str = ""
    integers: Ratio | None = None
    chosen: Ratio | None = None
    ignore: tuple[str, ...] = ()
    layers: tuple[MeasuredLayer, ...] = ()
    why_not: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    def note(self) -> str:
        """What the user should read."""
        if self.why_not:
            return f"whether integers are faster was not measured: {self.why_not}"
        if self.ignore == EVERYTHING and self.integers is not None:
            slower = f"integers are {self.integers.median:.2f} times slower than float32 on this machine"
            return f"nothing is quantized: {slower} ({self.machine}); --no-measure keeps them, for a small file"
        head = f"measured here ({self.machine}): integers take {self.integers} of float32's time"
        if not self.ignore:
            return f"{head}; every layer stays in integers" if self._is_slower else head
        count = "1 node stays float" if len(self.ignore) == 1 else f"{len(self.ignore)} nodes stay float"
        return f"{head}, so {count}, which takes {self.chosen}; --no-measure keeps all in integers, for a small file"

    @property
    def _is_slower(self) -> bool:
        return self.integers is not None and self.integers.median > 1


def choose_float_layers(
    before: Model,
    after: Model,
    backend: Backend,
    target: Target,
    passes: Sequence[Pass],
    requantize: Callable[[tuple[str, ...]], Model],
    progress: WorkProgress,
) -> MeasuredChoice:
    """Race the quantized model against the float one; where it loses, find out by which layers.

    Each layer is timed in both forms as a small model, and so is changing between integers and float. The layers to
    keep in float are the minimum cut of the graph between both, its capacities being those seconds. What it gives is
    raced as a whole: the fastest wins, where it cannot be told apart the one with more integers.

    Args:
        before: the float model in front of the pass that quantizes.
        after: what that made of it.
        backend: whose runtime runs both here.
        target: what they are compiled for.
        passes: those behind the one that quantizes.
        requantize: the model quantized again, with nodes of these patterns kept in float.
        progress: called at each step.
    """
    available = backend.can_run()
    if not available:
        return MeasuredChoice(why_not=available.reason)
    with tempfile.TemporaryDirectory(prefix="edgecc-") as folder:
        race = Race(backend, target, passes, Path(folder), _DOING, progress)
        try:
            return _choose(before, after, race, requantize)
        except RunnerError as error:
            return MeasuredChoice(why_not=error.what)


def _choose(before: Model, after: Model, race: Race, requantize: Callable[[tuple[str, ...]], Model]) -> MeasuredChoice:
    _, result = race.run([before, after])
    machine, integers = machine_of(result), result.ratio
    assert integers is not None, "it is not the first"
    if integers.median <= 1:
        return MeasuredChoice(machine, integers, integers)
    layers = integer_layers(before, after)
    times, floats = _layer_times(layers, before, after, race)
    measured = tuple(
        MeasuredLayer(layer.node, found.in_integers, found.in_float)
        for layer, found in zip(layers, times, strict=False)
    )
    ignore = tuple(escape(name) for layer in layers if layer.node in floats for name in (layer.node, layer.activation))
    ignore = tuple(name for name in ignore if name)
    tried: dict[tuple[str, ...], Model] = {(): after}
    if floats and len(floats) < len(layers):
        again = requantize(ignore)
        # What is left can be too little for anything to be quantized: that is the float model.
        if again.nodes("DequantizeLinear"):
            tried[ignore] = again
    _, *results = race.run([before, *tried.values()])
    ratios = {choice: found.ratio for choice, found in zip(tried, results, strict=True) if found.ratio is not None}
    ratios[EVERYTHING] = Ratio(1.0, 1.0, 1.0)
    # The first of them, with the most integers, that is as fast as the fastest.
    least = min(ratio.median for ratio in ratios.values())
    best = next(choice for choice, ratio in ratios.items() if ratio.median <= least + NOISE)
    return MeasuredChoice(machine, ratios[()], ratios[best], best, measured)


def _layer_times(layers: Sequence[Layer], before: Model, after: Model, race: Race) -> tuple[list[LayerTime], set[str]]:
    """Times of single layers, and the names of those that are faster in float, changes of type included."""
    with LayerClock(before, after, race.backend, race.target, race.passes, race.folder) as clock:
        times = list(clock.measure(layers, SECONDS, lambda count: race.progress(_DOING, count, len(layers))))
        if not any(found.loss > 0 for found in times):
            return times, set()
        sizes = {tensor.name: _size(tensor.shape) for tensor in before.tensors()}
        dtype = str(after.nodes("QuantizeLinear")[0].outputs[0].dtype)
        largest = max((sizes[name] for layer in layers for name in layer.reads), default=1)
        per_value = [seconds / largest for seconds in clock.conversion(dtype, largest)]
    return times, cheapest_floats(layers, times, sizes, per_value[0], per_value[1])


def cheapest_floats(
    layers: Sequence[Layer],
    times: Sequence[LayerTime],
    sizes: dict[str, int],
    quantize: float,
    dequantize: float,
) -> set[str]:
    """Names of the layers in float for which the sum of all times is least.

    A minimum cut: on one side is what is float, the model's own ends among it.

    Args:
        layers: those that can be in integers.
        times: of as many of them as were measured, in order; the others stay in integers.
        sizes: values of each tensor, by name.
        quantize: seconds per value.
        dequantize: seconds per value.
    """
    import networkx as nx

    graph = nx.DiGraph()
    graph.add_nodes_from(("float", "integers"))
    writers = {layer.writes: layer.node for layer in layers}
    read = set()
    for place, layer in enumerate(layers):
        if place >= len(times):
            graph.add_edge(layer.node, "integers")  # without a capacity: never cut
        elif times[place].loss > LAYER_NOISE * times[place].in_float:
            _add(graph, "float", layer.node, times[place].loss)
        else:
            _add(graph, layer.node, "integers", max(0.0, -times[place].loss))
        for name in layer.reads:
            writer = writers.get(name, "float")
            read.add(name)
            _add(graph, writer, layer.node, quantize * sizes[name])
            if writer != "float":
                _add(graph, layer.node, writer, dequantize * sizes[name])
    for layer in layers:
        if layer.writes not in read:
            _add(graph, "float", layer.node, dequantize * sizes[layer.writes])
    # Of cuts that are equal networkx gives the one with the largest first side: that shall be the integers.
    _, (_, floats) = nx.minimum_cut(graph.reverse(), "integers", "float")
    return {layer.node for layer in layers if layer.node in floats}


def _add(graph: Any, first: str, second: str, seconds: float) -> None:
    """A capacity in whole picoseconds, which add exactly."""
    if graph.has_edge(first, second):
        if "capacity" in graph[first][second]:
            graph[first][second]["capacity"] += round(seconds * 1e12)
    else:
        graph.add_edge(first, second, capacity=round(seconds * 1e12))


def _size(shape: Sequence[int | str] | None) -> int:
    return prod(dim if isinstance(dim, int) else 1 for dim in shape or ())
