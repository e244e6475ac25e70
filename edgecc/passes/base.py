"""The contract of a pass."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import numpy as np

    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model, Node
    from edgecc.statistics.requests import Request
    from edgecc.statistics.table import StatisticTable
    from edgecc.target import Target

#: Called with what is being done, how much of it is done, and how much there is (0 if that is not known).
WorkProgress: TypeAlias = "Callable[[str, int, int], None]"


def no_progress(text: str, done: int, total: int) -> None:
    """Nobody watches."""


class Loss(enum.Enum):
    """What a pass may do to the model's values."""

    EXACT = "exact"  #: the same values
    ROUNDING = "rounding"  #: the same up to floating point error
    LOSSY = "lossy"  #: different values; needs a metric


class Property(enum.Enum):
    """A fact about a model that a pass can require or ensure; `holds` checks it."""

    STATIC_SHAPES = "static-shapes"  #: no input has an open dimension
    NO_BATCHNORM = "no-batchnorm"  #: no BatchNormalization follows a Conv, ConvTranspose or Gemm with constant weights
    FLOAT16 = "float16"  #: some weights are float16

    def holds(self, model: Model) -> bool:
        from edgecc.passes.properties import CHECKS

        return CHECKS[self](model)


@dataclass(frozen=True)
class Skip:
    """A node that a pass could have changed and did not, with the reason."""

    pass_name: str
    node: str
    op: str
    reason: str


@dataclass(frozen=True)
class Change:
    """A node that a pass changed, and what became of it."""

    pass_name: str
    node: str
    op: str
    what: str


@dataclass
class PassContext:
    """What a pass may use beside the model.

    Attributes:
        target: what the model is compiled for; None when a pass runs alone.
        seed: of the random numbers; or a generator, to go on with those.
        skips: nodes left alone, with reasons; filled through `skip`.
        changes: nodes changed, for `edgecc inspect --explain`; filled through `done`.
        notes: sentences that the user should read; filled through `note`.
        calibration: the samples themselves, to be streamed; None if the user gave none, or saved statistics.
        float_model: as it was in front of the pass that first wrote quantized constants or data, its weights shared;
            None if there was no such pass, or none in the pipeline `needs_float_model`.
        progress: to be called during work that takes longer than a second.
    """

    target: Target | None
    seed: int | np.random.Generator = 0
    skips: list[Skip] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    calibration: CalibrationData | None = None
    float_model: Model | None = None
    progress: WorkProgress = no_progress
    _pass_name: str = ""
    _reported: set[Skip] = field(default_factory=set)
    _statistics: StatisticTable | None = None

    @cached_property
    def rng(self) -> np.random.Generator:
        """The only source of randomness that a pass may use."""
        # At first need: importing numpy.random takes as long as some passes take altogether.
        from numpy.random import default_rng

        return default_rng(self.seed)

    @property
    def statistics(self) -> StatisticTable:
        """Answers to what the pass asked for with `Pass.statistics`, by the tensors' names."""
        if self._statistics is None:
            # Imported at first need: most compilations ask for nothing.
            from edgecc.statistics.table import StatisticTable

            self._statistics = StatisticTable()
        return self._statistics

    @statistics.setter
    def statistics(self, table: StatisticTable) -> None:
        self._statistics = table

    @property
    def has_statistics(self) -> bool:
        """Whether there are answers: a pass asked, or the user gave those of an earlier compilation."""
        return self._statistics is not None and bool(self._statistics.answers)

    def gains_from(self, op: str) -> bool:
        """Whether the target is at least as fast with this operator as with the elementary ones that make it up."""
        return self.target is None or op in self.target.fused

    def skip(self, node: Node, reason: str) -> None:
        """Report a node that the pass could have changed and did not."""
        from edgecc.model import display_name

        entry = Skip(self._pass_name, display_name(node), node.op, reason)
        if entry not in self._reported:
            self._reported.add(entry)
            self.skips.append(entry)

    def done(self, node: Node, what: str, nodes: Sequence[Node] = ()) -> None:
        """Record what becomes of a node; called before it changes.

        Args:
            node: the one that stays, or goes.
            what: in a few words, such as "Add + Erf + Mul became Gelu".
            nodes: all that take part, if there are others.
        """
        from edgecc.model import merged_origins

        names = ", ".join(merged_origins(reversed(nodes or [node])))
        self.changes.append(Change(self._pass_name, names, node.op, what))

    def note(self, text: str) -> None:
        """A sentence that the user should read, about the model as a whole."""
        self.notes.append(text)

    def forget_skips(self) -> None:
        """Drop what this pass reported in an earlier round: it looks at every node again."""
        dropped = {skip for skip in self.skips if skip.pass_name == self._pass_name}
        self._reported -= dropped
        self.skips[:] = [skip for skip in self.skips if skip not in dropped]

    def within(self, name: str) -> PassContext:
        """The same context, speaking for the pass of that name."""
        return replace(self, _pass_name=name)


class Pass(BaseModel, ABC):
    """One transformation of a model; the fields of a subclass are its options.

    A field gives validation, the option on the command line (`--pass NAME:key=value`), the key in a recipe, its line
    in `edgecc passes NAME` and equality. Docstring: what the pass does to the graph, with Before and After as ONNX
    text.

    Class attributes:
        name: on the command line and in recipes; the file and the class are the same word.
        loss: what it may do to values.
        requires: checked before it runs.
        ensures: checked after it ran.
        after: names of passes that must not be listed later than this one.
        before: names of passes that must not be listed earlier than this one.
        keeps_types: every tensor has its right type and shape when it is done, new ones included, so that the driver
            need not infer them again; `edgecc.testing` holds a pass to it.
        keeps_statistics: what was measured before it holds after it too, by the tensors' names, so that the next pass's
            requests are answered in the same sweep over the data.
        needs_float_model: it runs behind a pass that quantizes and compares with `ctx.float_model`.
        quantizes: it writes integers for floats; what that cost is measured and reported.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=False, allow_inf_nan=False)

    name: ClassVar[str]
    loss: ClassVar[Loss] = Loss.EXACT
    requires: ClassVar[tuple[Property, ...]] = ()
    ensures: ClassVar[tuple[Property, ...]] = ()
    after: ClassVar[tuple[str, ...]] = ()
    before: ClassVar[tuple[str, ...]] = ()
    keeps_types: ClassVar[bool] = False
    keeps_statistics: ClassVar[bool] = False
    needs_float_model: ClassVar[bool] = False
    quantizes: ClassVar[bool] = False

    def statistics(self, model: Model) -> Iterable[Request]:
        """What the pass needs to know about the data in this model; answered in `ctx.statistics` when it runs.

        Called right before `run`, with the model that `run` gets. A pass that asks for something cannot run without
        calibration data, unless `needs_statistics` says so: the user is told so.
        """
        return ()

    @abstractmethod
    def run(self, model: Model, ctx: PassContext) -> bool:
        """Transform the model in place; True if it changed."""

    def promises(self) -> tuple[Property, ...]:
        """What this pass, with these options, ensures: `ensures`, unless an option takes it back."""
        return self.ensures

    def loses(self) -> Loss:
        """What this pass, with these options, may do to values: `loss`, unless options leave out what changes them."""
        return self.loss

    def needs_statistics(self) -> bool:
        """Whether it cannot run without answers; if it can, `request in ctx.statistics` tells what there is."""
        return True

    def spec(self) -> str:
        """The pass as written on the command line: `name` or `name:key=value,...` with the options that differ."""
        from edgecc.options import spec_of

        return spec_of(self.name, self)


class NodePass(Pass):
    """A pass that looks at one node at a time: option `ignore` for free.

    Attributes:
        ignore: patterns of node names to leave alone; one that matches nothing is an error.
    """

    ignore: tuple[str, ...] = ()

    def promises(self) -> tuple[Property, ...]:
        # What the user excludes by name may well lack the property.
        return () if self.ignore else self.ensures

    def run(self, model: Model, ctx: PassContext) -> bool:
        self._check_ignore(model)
        changed = False
        for node in self.candidates(model):
            if node.outputs:
                changed |= self._visit_and_record(node, model, ctx)
        return changed

    def _visit_and_record(self, node: Node, model: Model, ctx: PassContext) -> bool:
        """Visit a node; what `visit` changes without saying what it did is recorded in a word."""
        from edgecc.model import display_name

        op, told = node.op, len(ctx.changes)
        if not self.visit(node, model, ctx):
            return False
        if len(ctx.changes) == told:
            ctx.changes.append(Change(self.name, display_name(node), op, "changed" if node.outputs else "removed"))
        return True

    @abstractmethod
    def candidates(self, model: Model) -> list[Node]:
        """The nodes to visit: `model.nodes("Op", ignore=self.ignore)`."""

    @abstractmethod
    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        """Handle one node; True if the model changed."""

    def _check_ignore(self, model: Model) -> None:
        check_ignore(self, self.ignore, model)


def check_ignore(step: Pass, patterns: tuple[str, ...], model: Model, *, option: str = "ignore") -> None:
    """Raise OptionError for a pattern of an option that matches no node: it would silently do nothing."""
    import fnmatch

    from edgecc.errors import OptionError

    if not patterns:
        return
    names = [name for node in model.nodes() for name in (node.name, *getattr(node, "origins", ()))]
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            raise OptionError(
                f"pattern {pattern!r} of option {option!r} matches no node",
                where=f"pass {step.name}",
                hint="edgecc inspect SOURCE --nodes lists the node names",
            )


def check_ops(step: Pass, operators: tuple[str, ...], model: Model, known: Iterable[str]) -> None:
    """Raise OptionError for an operator of option `ignore_ops` that the model does not have.

    Args:
        step: whose option it is.
        operators: the option.
        model: not changed.
        known: operators that the pass looks at, for the hint.
    """
    from edgecc.errors import OptionError

    present = {node.op for node in model.nodes()}
    for op in operators:
        if op not in present:
            raise OptionError(
                f"operator {op!r} of option 'ignore_ops' is not in the model",
                where=f"pass {step.name}",
                hint=f"it has {', '.join(sorted(present & set(known)))}",
            )
