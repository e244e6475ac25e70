"""How small a pass has to make a model for it to take a share of its time, and which layers that makes slower.

Measured before the pass runs, on models of the right shapes: what weights are in them makes no difference.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from glob import escape
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecc.inspection import inspect_model
from edgecc.measuring.layer_times import LAYER_NOISE, LayerClock
from edgecc.measuring.racing import NOISE, Race, least_ratio, machine_of
from edgecc.rewriting.extraction import extract

if TYPE_CHECKING:
    from edgecc.backend import Backend
    from edgecc.model import Model, Node
    from edgecc.passes.base import Pass, WorkProgress
    from edgecc.passes.shaping import Shapes, ShapingPass
    from edgecc.target import Target

#: Seconds that measuring single layers may take; those that come later are taken to be faster.
_SECONDS = 8.0
#: Times that layers are chosen anew around those that are slower.
_ROUNDS = 4


@dataclass(frozen=True)
class Try:
    """The pass with a budget of multiply-accumulates, and what is left with it.

    Attributes:
        step: the pass.
        macs: share that it was to leave.
        left: share that it left, which is less where it counts in large steps.
        time: share of the time.
    """

    step: str
    macs: float
    left: float
    time: float


@dataclass(frozen=True)
class LayerPair:
    """A layer as it was and as the pass makes it, each as a model of its own, in seconds."""

    node: str
    before: float
    after: float

    @property
    def is_slower(self) -> bool:
        return self.after > (1 + LAYER_NOISE) * self.before


@dataclass(frozen=True)
class ShapingChoice:
    """What was measured for a pass, and what it became.

    Attributes:
        step: the pass as it was asked for.
        chosen: as it runs.
        machine: that measured.
        wanted: share of the time that may be left; None if there was no such budget.
        tried: shares of the multiply-accumulates, in order.
        layers: that the pass changes, where they were measured alone.
        time: of the model with those that are not slower, as a share of that of the model in front of the pass.
        why_not: why nothing could be measured; "" if it was.
    """

    step: str
    chosen: str
    machine: str = ""
    wanted: float | None = None
    tried: tuple[Try, ...] = ()
    layers: tuple[LayerPair, ...] = ()
    time: float | None = None
    why_not: str = ""

    @property
    def slower(self) -> tuple[str, ...]:
        """Patterns of layers that are to stay as they are."""
        return tuple(escape(pair.node) for pair in self.layers if pair.is_slower)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @property
    def best(self) -> Try | None:
        """What leaves most and is fast enough; what leaves least if nothing is."""
        fast = [one for one in self.tried if self.wanted is not None and one.time <= self.wanted]
        if fast:
            return max(fast, key=lambda one: (one.left, -one.time))
        return min(self.tried, key=lambda one: (one.left, one.macs), default=None)

    def notes(self) -> tuple[str, ...]:
        """What the user should read."""
        name = self.step.partition(":")[0]
        if self.why_not:
            return (f"whether layers are faster behind {name} was not measured: {self.why_not}",)
        found = []
        if self.wanted is not None and self.best is not None:
            # With layers left whole, what was timed last is what runs; it was not chosen by its time.
            share, most = (self.best.time, self.wanted) if self.time is None else (self.time, (1 + NOISE) * self.wanted)
            time = f"takes {share:.2f} of the time here ({self.machine})"
            if share <= most:
                found.append(f"latency={self.wanted:g}: {self.chosen} {time}")
            elif self.best.time <= self.wanted:
                found.append(
                    f"latency={self.wanted:g} is not reached: with layers left whole that are slower in factors, "
                    f"{self.chosen} {time}. Try: a smaller latency, or --no-measure"
                )
            else:
                found.append(
                    f"latency={self.wanted:g} is not reached: the least that {name} can leave {time}. Try: a smaller "
                    "keep, --quantize int8, or --low-rank beside --prune"
                )
        if self.layers:
            count = (
                "1 layer stays whole, which is"
                if len(self.slower) == 1
                else f"{len(self.slower)} layers stay whole, which are"
            )
            found.append(
                f"measured here ({self.machine}): {name} leaves {self.time:.2f} of the time"
                + (f"; {count} slower in factors, and --no-measure factorizes them too" if self.slower else "")
            )
        return tuple(found)


@dataclass(frozen=True)
class ShapingClock:
    """Times what a pass would make.

    Attributes:
        before: the model in front of the pass.
        backend: whose runtime runs it.
        target: what it is compiled for.
        passes: those behind that keep values.
        progress: called at each step.
    """

    before: Model
    backend: Backend
    target: Target
    passes: Sequence[Pass]
    progress: WorkProgress

    def find_macs(
        self, wanted: float, step: ShapingPass, at: Shapes, known: float | None = None
    ) -> tuple[str, tuple[Try, ...]]:
        """The machine, and what was tried until a hundredth more would be too slow.

        Args:
            wanted: share of the time.
            step: the pass.
            at: the model as a variant of it would shape it.
            known: share of the multiply-accumulates from which on others are of interest; what the pass can leave at
                least if None.

        Raises:
            RunnerError: the model does not run.
        """
        with tempfile.TemporaryDirectory(prefix="edgecc-") as folder:
            race = Race(self.backend, self.target, self.passes, Path(folder), "measuring the target", self.progress)
            machine, whole = "", max(1, inspect_model(self.before).macs)
            tried: list[Try] = []

            def is_fast(percent: int) -> bool:
                nonlocal machine
                variant = step.with_macs(percent / 100)
                model = at(variant)
                first, second = race.run([self.before, model])
                machine, left = machine_of(second), inspect_model(model).macs / whole
                time = round(least_ratio(first, second), 4)
                tried.append(Try(variant.spec(), percent / 100, round(left, 4), time))
                return tried[-1].time <= wanted

            least = inspect_model(at(step.with_macs(0.01))).macs / whole
            low, high = min(99, max(1, ceil(100 * least))) if known is None else round(100 * known), 100
            # Time is nearly proportional, so that the first guess is near.
            guess = round(100 * wanted)
            able = is_fast(low)
            while able and high - low > 1:
                percent = min(max(guess, low + 1), high - 1)
                low, high = (percent, high) if is_fast(percent) else (low, percent)
                guess = (low + high) // 2
        return machine, tuple(tried)

    def slower_layers(self, shaped: Callable[[tuple[str, ...]], Model]) -> tuple[str, tuple[LayerPair, ...], float]:
        """The machine, the layers that the pass changes, each timed before and after, and the time of what is left.

        Args:
            shaped: the model, with layers of these patterns left whole.
        """
        known: dict[str, LayerPair] = {}
        with tempfile.TemporaryDirectory(prefix="edgecc-") as folder:
            for _ in range(_ROUNDS):
                after = shaped(tuple(escape(pair.node) for pair in known.values() if pair.is_slower))
                # A layer may have other factors now that others are left whole.
                found = self._pairs(after, Path(folder))
                known |= {pair.node: pair for pair in found}
                if not any(pair.is_slower for pair in found):
                    break
            race = Race(self.backend, self.target, self.passes, Path(folder), "measuring the target", self.progress)
            first, second = race.run([self.before, after])
        return machine_of(second), tuple(known.values()), round(least_ratio(first, second), 4)

    def _pairs(self, after: Model, folder: Path) -> list[LayerPair]:
        nodes = _changed(self.before, after)
        with LayerClock(self.before, after, self.backend, self.target, self.passes, folder) as clock:
            doing = "measuring layers on the target"
            times = clock.pairs(
                _forms(nodes, self.before, after), _SECONDS, lambda done: self.progress(doing, done, len(nodes))
            )
            return [LayerPair(node.name, *pair) for node, pair in zip(nodes, times, strict=False)]


def _changed(before: Model, after: Model) -> list[Node]:
    """Layers of the first model that are several in the second, where the last one has their name."""
    twins = {node.name: node for node in after.nodes()}
    found = []
    for node in before.nodes("Conv", "Gemm", "MatMul"):
        twin = twins.get(node.name)
        if twin is not None and twin.inputs[0].name != node.inputs[0].name:
            found.append(node)
    return found


def _forms(nodes: Iterable[Node], before: Model, after: Model) -> Iterable[tuple[Model, Model]]:
    for node in nodes:
        reads, writes = [node.inputs[0].name], [node.outputs[0].name]
        yield extract(before, reads, writes), extract(after, reads, writes)
