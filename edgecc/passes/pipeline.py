"""PassPipeline: runs passes in the written order and holds them to their contract."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from edgecc.errors import EdgeccError, PassContractError, PassOrderError, VerificationError
from edgecc.passes.base import Loss, Pass, PassContext, Skip
from edgecc.passes.entry import DeferredPass
from edgecc.passes.observing import answer_requests

if TYPE_CHECKING:
    from edgecc.acceptance.gate import Gate
    from edgecc.model import Model
    from edgecc.passes.verification import Verifier


class Instrument(Protocol):
    """Watches passes run (hook `edgecc_instruments`): timing, printing, dumping."""

    def before_pass(self, step: Pass, model: Model) -> None: ...

    def after_pass(self, step: Pass, model: Model, changed: bool, seconds: float) -> None: ...


@dataclass(frozen=True)
class PassRecord:
    """What one pass did; one that was taken back changed nothing."""

    spec: str
    changed: bool
    seconds: float
    nodes_before: int
    nodes_after: int

    def followed_by(self, later: PassRecord) -> PassRecord:
        """This one and a later run of the same pass as one."""
        return PassRecord(
            self.spec,
            self.changed or later.changed,
            self.seconds + later.seconds,
            self.nodes_before,
            later.nodes_after if later.changed else self.nodes_after,
        )


@dataclass
class PipelineResult:
    """What a pipeline did: one record per pass, every skipped node, notes of the driver."""

    records: list[PassRecord] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Rounds(NamedTuple):
    """Passes that run in turns until none of them changes anything.

    One pass makes what another one matches, in either direction: no order alone is enough. Every one of them must
    make the graph smaller or bring it nearer to one form, never undo another.
    """

    passes: tuple[Pass | DeferredPass, ...]


#: Operators of models that are quantized, be it weights alone.
QUANTIZED = ("DequantizeLinear", "QuantizeLinear", "DynamicQuantizeLinear")
#: Rounds before it is certain that two passes undo each other.
_MOST_ROUNDS = 32


class PassPipeline:
    """An ordered list of passes.

    Args:
        passes: in the order in which they run; several can run in rounds.
        instruments: called around each pass.
        verifier: executes each EXACT or ROUNDING pass's model before and after it (`--verify`).
        asked: those that the user wrote, which errors about their order list; all that do not run in rounds if None.

    Attributes:
        gate: measures what each lossy pass cost, and takes it back if that is too much; None for neither.
    """

    gate: Gate | None = None

    def __init__(
        self,
        passes: Iterable[Pass | Rounds],
        *,
        instruments: Sequence[Instrument] = (),
        verifier: Verifier | None = None,
        asked: Sequence[Pass] | None = None,
    ) -> None:
        self.steps = tuple(passes)
        self.instruments = tuple(instruments)
        self.verifier = verifier
        self._mark = 0, 0, 0, 0
        if asked is None:
            asked = [item for item in self.steps if not isinstance(item, Rounds)]
        check_order(self.passes, asked)

    @property
    def passes(self) -> tuple[Pass | DeferredPass, ...]:
        """Every pass, in order; some of those that run in rounds are not made yet."""
        return tuple(step for item in self.steps for step in (item.passes if isinstance(item, Rounds) else (item,)))

    @property
    def made_passes(self) -> tuple[Pass, ...]:
        """Those that are made; the others keep values, ask for nothing, and run in rounds."""
        return tuple(step for step in self.passes if isinstance(step, Pass))

    @property
    def loses(self) -> bool:
        """Whether one of the passes may change values."""
        return any(step.loses() is Loss.LOSSY for step in self.made_passes)

    @property
    def quantizes(self) -> bool:
        """Whether one of the passes does."""
        return any(step.quantizes for step in self.made_passes)

    def run(self, model: Model, ctx: PassContext) -> PipelineResult:
        """Run every pass on the model, in place; cleanup and `model.verify()` after each that changed something.

        Raises:
            PassContractError: a pass left a broken graph, or did not ensure what it declares.
            VerificationError: the verifier found a pass that changed values it must not change.
        """
        result = PipelineResult(skips=ctx.skips)
        for index, item in enumerate(self.steps):
            if isinstance(item, Rounds):
                result.records += self._run_rounds(item.passes, model, ctx, result)
            else:
                behind = _directly_behind(self.steps, index)
                answer_requests(item, behind, model, ctx)
                self._run_gated(item, behind, model, ctx, result)
        result.notes = list(dict.fromkeys([*ctx.notes, *result.notes]))
        return result

    def _run_gated(
        self, step: Pass, behind: Sequence[Pass], model: Model, ctx: PassContext, result: PipelineResult
    ) -> None:
        """Run a pass; if it is lossy, through the gate."""
        gate = self.gate if step.loses() is Loss.LOSSY else None
        if gate is None:
            result.records.append(self._run_one(step, model, ctx, result))
            return
        if not gate.is_open:
            self._mark = len(result.records), len(ctx.changes), len(ctx.notes), len(result.notes)
        gate.enter(step, model)
        record = self._run_one(step, model, ctx, result)
        result.records.append(record)
        mended = bool(behind) and behind[0].needs_float_model and behind[0].loses() is Loss.LOSSY
        earlier = gate.judge(step, model, changed=record.changed, mended=mended)
        if earlier is None:
            return
        model.restore(earlier)
        records, changes, notes, cleaned = self._mark
        undone = [replace(one, changed=False, nodes_after=one.nodes_before) for one in result.records[records:]]
        result.records[records:] = undone
        # What a pass says that it did is not so any more; why it was taken back is a note of the gate.
        del ctx.changes[changes:], ctx.notes[notes:], result.notes[cleaned:]
        if not model.nodes(*QUANTIZED):
            ctx.float_model = None

    def _run_rounds(
        self, passes: Sequence[Pass | DeferredPass], model: Model, ctx: PassContext, result: PipelineResult
    ) -> list[PassRecord]:
        """One record per pass, of all its rounds."""
        totals: list[PassRecord] = []
        for _ in range(_MOST_ROUNDS):
            records: list[PassRecord] = []
            present, count = _operators(model), len(model.nodes())
            for item in passes:
                if isinstance(item, DeferredPass) and present.isdisjoint(item.operators):
                    ctx.within(item.name).forget_skips()
                    records.append(PassRecord(item.spec(), False, 0, count, count))
                    continue
                step = item.step if isinstance(item, DeferredPass) else item
                answer_requests(step, (), model, ctx)
                records.append(self._run_one(step, model, ctx, result, trusted=True))
                if records[-1].changed:
                    present, count = _operators(model), records[-1].nodes_after
            totals = [a.followed_by(b) for a, b in zip(totals, records, strict=True)] if totals else records
            changed = [record.spec for record in records if record.changed]
            if not changed:
                _verify(model, "one of the passes " + ", ".join(step.name for step in passes))
                return totals
        raise PassContractError(
            f"passes go on changing the model after {_MOST_ROUNDS} rounds: {', '.join(changed)}",
            why="each of them undoes what another one does",
            hint="this is a bug in one of them: leave it out by writing the passes that you want with -O0 --pass ...",
        )

    def _run_one(
        self, step: Pass, model: Model, ctx: PassContext, result: PipelineResult, *, trusted: bool = False
    ) -> PassRecord:
        """Run a pass; if it is trusted, the graph is not verified where it says that it changed nothing."""
        for wanted in step.requires:
            if not wanted.holds(model):
                raise PassOrderError(
                    f"pass {step.name!r} needs a model with {wanted.value}",
                    hint=f"run a pass that ensures {wanted.value} first, or drop {step.name!r}",
                )
        before = model.clone() if self._is_compared(step, model, ctx) else None
        count = len(model.nodes())
        for instrument in self.instruments:
            instrument.before_pass(step, model)
        start = time.perf_counter()
        context = ctx.within(step.name)
        context.forget_skips()
        changed = _call(step, model, context)
        if changed:
            result.notes += model.cleanup(types_known=step.keeps_types)
        seconds = time.perf_counter() - start
        if changed or not trusted:
            _verify(model, f"pass {step.name!r}")
        _check_promises(step, model)
        for instrument in self.instruments:
            instrument.after_pass(step, model, changed, seconds)
        if changed and before is not None and step.loses() is Loss.LOSSY:
            ctx.float_model = before if model.nodes(*QUANTIZED) else None
        elif changed and before is not None and self.verifier is not None:
            self.verifier.check(step, before, model)
        return PassRecord(step.spec(), changed, seconds, count, len(model.nodes()) if changed else count)

    def _is_compared(self, step: Pass, model: Model, ctx: PassContext) -> bool:
        """Whether somebody wants to see the model in front of the pass: the verifier, or a later pass."""
        if step.loses() is not Loss.LOSSY:
            return self.verifier is not None
        if ctx.float_model is not None or not any(later.needs_float_model for later in self.made_passes):
            return False
        return not model.nodes(*QUANTIZED)

    def spec(self) -> list[str]:
        return [step.spec() for step in self.passes]


def _operators(model: Model) -> set[str]:
    """The operators of the main graph, as passes look at it."""
    return {node.op for node in model.graph.nodes}


def _directly_behind(steps: Sequence[Pass | Rounds], index: int) -> list[Pass]:
    """The passes after a place, up to the next that run in rounds."""
    found: list[Pass] = []
    for item in steps[index + 1 :]:
        if isinstance(item, Rounds):
            break
        found.append(item)
    return found


def _call(step: Pass, model: Model, ctx: PassContext) -> bool:
    try:
        changed = step.run(model, ctx)
    except EdgeccError:
        raise
    except Exception as error:
        raise PassContractError(
            f"pass {step.name!r} raised {type(error).__name__}: {error}",
            hint="this is a bug in the pass: report it to its author (edgecc plugins shows who owns it)",
        ) from error
    if not isinstance(changed, bool):
        raise PassContractError(f"pass {step.name!r} returned {changed!r}", why="run() must return True or False")
    return changed


def _verify(model: Model, who: str) -> None:
    try:
        model.verify()
    except VerificationError as error:
        raise PassContractError(f"{who} left a broken graph: {error.what}", where=error.where) from error


def _check_promises(step: Pass, model: Model) -> None:
    for promised in step.promises():
        if not promised.holds(model):
            raise PassContractError(f"pass {step.name!r} does not ensure {promised.value} although it declares it")


def check_order(passes: Sequence[Pass | DeferredPass], asked: Sequence[Pass] | None = None) -> None:
    """Raise PassOrderError, with an order that works, if `after`, `before`, `requires` or `ensures` are violated.

    Args:
        passes: in the order in which they run.
        asked: those that the message lists, beside the two that it is about; all if None.
    """
    wrong = [(first, second) for first, second in _constraints(passes) if first > second]
    if not wrong:
        return
    first, second = wrong[0]
    known = None if asked is None else {id(step) for step in asked} | {id(passes[first]), id(passes[second])}
    listed = [index for index, step in enumerate(passes) if known is None or id(step) in known]
    raise PassOrderError(
        f"pass {passes[first].name!r} must run before {passes[second].name!r}",
        where=" ".join(passes[index].name for index in listed),
        hint=_right_order(passes, listed),
    )


def _constraints(passes: Sequence[Pass | DeferredPass]) -> list[tuple[int, int]]:
    """Pairs of positions (earlier, later) that the passes' declarations demand."""
    positions: dict[str, list[int]] = {}
    for index, step in enumerate(passes):
        positions.setdefault(step.name, []).append(index)
    pairs = []
    for index, step in enumerate(passes):
        pairs += [(other, index) for name in step.after for other in positions.get(name, ())]
        pairs += [(index, other) for name in step.before for other in positions.get(name, ())]
        for wanted in step.requires:
            givers = [other for other, giver in enumerate(passes) if wanted in giver.ensures]
            if givers and min(givers) > index:
                pairs.append((min(givers), index))
    return pairs


def _right_order(passes: Sequence[Pass | DeferredPass], listed: Sequence[int]) -> str:
    # networkx is imported only here: a right order, the usual case, is found without it.
    import networkx as nx

    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(passes)))
    graph.add_edges_from(_constraints(passes))
    try:
        order = list(nx.lexicographical_topological_sort(graph))
    except nx.NetworkXUnfeasible:
        cycle = [passes[edge[0]].name for edge in nx.find_cycle(graph)]
        return f"no order can work: {' before '.join([*cycle, cycle[0]])}"
    return "use this order: " + " ".join(f"--pass {passes[index].spec()}" for index in order if index in listed)
