"""Pass factorize-low-rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from edgecc.passes.base import Loss, PassContext, check_ignore
from edgecc.passes.leaving_alone import ignored_layers, leave_quantized, leave_recurrent, note_nothing, note_uncounted
from edgecc.passes.observing import samples_of
from edgecc.passes.shaping import BUDGETS, KERNEL_MULTIPLE, ShapingPass, hint_to_take, how_far, one_budget, refuse_idle

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.low_rank.layers import Candidate
    from edgecc.low_rank.options import Measure, Option
    from edgecc.model import Model
    from edgecc.passes.shaping import Shapes


#: Where a budget cannot be met, the most that layers lose of the variance of their outputs for what is saved of the
#: model: a layer that is next to nothing of it is not taken apart.
_DEAREST = 20.0


class FactorizeLowRank(ShapingPass):
    """Replace layers by two or three smaller ones in a row whose product computes nearly the same on the data.

    Before: y = Conv(x, w)                            w [64, 64, 3, 3]
    After:  a = Conv(x, u)   y = Conv(a, v)           u [24, 64, 3, 1]  v [64, 24, 1, 3]

    A matrix product becomes two with few features between them (the principal components of its output). A convolution
    becomes, where it loses least for each multiply-accumulate saved: one to few channels and one of size 1 (channel),
    or one of k x 1 and one of 1 x k (spatial); if asked for, one of size 1, one of size k and one of size 1 (tucker).
    Then the layers are fitted in order, each to what it computed in the original, on what those before it have become.
    """

    name: ClassVar[str] = "factorize-low-rank"
    loss: ClassVar[Loss] = Loss.LOSSY
    after: ClassVar[tuple[str, ...]] = (
        "fold-batchnorm",
        "fuse-consecutive-linear",
        "fuse-matmul-add",
        "prune-channels",
    )
    before: ClassVar[tuple[str, ...]] = (
        *("quantize-static", "quantize-dynamic", "quantize-weights", "mixed-precision", "convert-float16"),
        "equalize-layers",
    )

    energy: float | None = Field(
        default=None, gt=0, lt=1, description="share of the variance of each layer's output that is kept; 0.99 if unset"
    )
    rank: Literal["evbmf"] | None = Field(
        default=None, description="evbmf: as many components of each layer's weights as are no noise"
    )
    macs: float | None = Field(
        default=None, gt=0, lt=1, description="share of the multiply-accumulates that may be left"
    )
    params: float | None = Field(default=None, gt=0, lt=1, description="share of the layers' weights that may be left")
    bytes: float | None = Field(
        default=None, gt=0, description="share of the constants' bytes that may be left; from 1 on, that many bytes"
    )
    latency: float | None = Field(
        default=None, gt=0, lt=1, description="share of the time on the target's runtime that may be left"
    )
    forms: tuple[Literal["channel", "spatial", "tucker"], ...] = Field(
        default=("channel", "spatial"), min_length=1, description="what convolutions may become"
    )
    keep: float = Field(
        default=0.5,
        ge=0,
        lt=1,
        description="with a budget, least share of the variance of each layer's output that stays",
    )
    multiple: int = Field(default=1, ge=1, description="what ranks are divided by")
    epochs: int = Field(
        default=40, ge=0, description="most runs over the data in which all layers are fitted together, in small steps"
    )
    ignore: tuple[str, ...] = Field(default=(), description="patterns of names of layers that stay as they are")
    whole: tuple[str, ...] = Field(
        default=(), description="patterns of names of layers that stay whole, and are fitted like the others"
    )

    def wanted_latency(self) -> float | None:
        return self.latency

    def with_macs(self, share: float) -> FactorizeLowRank:
        return self.model_copy(update={"latency": None, "macs": share})

    def rounded(self) -> FactorizeLowRank | None:
        return self.model_copy(update={"multiple": KERNEL_MULTIPLE}) if self.multiple == 1 else None

    def leaving(self, patterns: tuple[str, ...]) -> FactorizeLowRank:
        return self.model_copy(update={"whole": (*self.whole, *patterns)})

    def shapes(self, model: Model, ctx: PassContext) -> Shapes:
        from edgecc.low_rank.replacement import random_factors, replace_layer
        from edgecc.model import matches_any

        found = self._candidates(model, ctx)
        measured = self._measured(model, found, self._data(ctx), ctx) if found else []

        def at(step: ShapingPass) -> Model:
            assert isinstance(step, FactorizeLowRank), "it is a variant of this one"
            kept = [
                (candidate, [option for option in options if _is_multiple(option, step.multiple)])
                for candidate, options in zip(found, measured, strict=True)
                if not matches_any(candidate.linear.node, (*step.ignore, *step.whole))
            ]
            chosen = step._choose(model, [one for one, _ in kept], [options for _, options in kept], PassContext(None))
            shaped = model.clone()
            for node in shaped.nodes():
                option = chosen.get(node.name)
                if option is not None and option.split is not None:
                    factors = random_factors(option.split, option.rank, option.inner, ctx.rng)
                    replace_layer(shaped, node, option.split, factors)
            shaped.cleanup()
            return shaped

        return at

    def run(self, model: Model, ctx: PassContext) -> bool:
        from edgecc.low_rank.fitting import factorize_in_order
        from edgecc.pruning.refinement import refine

        self.refuse_latency()
        found = self._candidates(model, ctx)
        quantized = leave_quantized(self, model, ctx)
        if not found:
            if not quantized:
                none = "no layer with constant weights"
                note_nothing(self, ctx, "layer", none, "--prune 0.3 takes channels out")
            return False
        if self.macs is not None:
            note_uncounted(self, model, ctx)
        data = self._data(ctx)
        chosen = self._choose(model, found, self._measured(model, found, data, ctx), ctx)
        if not chosen:
            if self._counted() is None:
                note_nothing(self, ctx, "layer", "no such layer", "--low-rank 0.3, a budget, says how much is to go")
            return False
        original = model.clone()
        kept = ignored_layers(self.ignore, model)
        sites = factorize_in_order(original, model, chosen, data, ctx.progress, kept)
        gain = refine(original, model, sites, data, self.epochs, ctx.progress, kept)
        if gain:
            ctx.note(f"{self.name}: fitted together, layers' errors on these samples fell by {gain:.0%}")
        return True

    def _candidates(self, model: Model, ctx: PassContext) -> list[Candidate]:
        from edgecc.low_rank.layers import candidates

        check_ignore(self, self.ignore, model)
        check_ignore(self, self.whole, model, option="whole")
        one_budget(self, ("energy", "rank", "macs", "params", "bytes", "latency"), optional=True)
        if self._counted() is None and self.latency is None:
            why = "it is about budgets, and without one energy or rank says how much of each layer stays"
            refuse_idle(self, ("keep",), why, f"{self.name}:energy=0.9, or {self.name}:macs=0.5,keep=0.3")
        leave_recurrent(model, ctx, "recurrent layers are not factorized", self.ignore)
        return candidates(model, self.forms, self.ignore, self.whole, ctx)

    def _data(self, ctx: PassContext) -> CalibrationData:
        why = "which components of a layer matter depends on what it reads, and factors are fitted to it"
        return samples_of(self, ctx, why)

    def _measured(
        self, model: Model, found: list[Candidate], data: CalibrationData, ctx: PassContext
    ) -> list[list[Option]]:
        """What each layer could become."""
        from edgecc.low_rank.measuring import measure
        from edgecc.low_rank.options import evbmf_option, options_of

        if self.rank is not None:
            return measure(model, found, lambda b, w: evbmf_option(b, w, self.multiple), data, ctx.progress)
        return measure(model, found, lambda b, _: options_of(b, self.multiple), data, ctx.progress)

    def _choose(
        self, model: Model, found: list[Candidate], measured: list[list[Option]], ctx: PassContext
    ) -> dict[str, Option]:
        """What becomes of layers, by the nodes' names."""
        from edgecc.low_rank.options import best_value, by_energy

        chosen: list[Option | None]
        if self.rank is not None:
            chosen = [best_value(layer) for layer in measured]
        elif self._counted() is None:
            chosen = [by_energy(layer, self.energy or 0.99) for layer in measured]
        else:
            reached = self._to_budget(model, found, measured, ctx)
            if reached is None:
                return {}
            chosen = list(reached)
        result = {}
        for candidate, options, option in zip(found, measured, chosen, strict=True):
            if option is None or option.split is None:
                ctx.skip(candidate.linear.node, self._reason(option, options))
            else:
                ctx.done(candidate.linear.node, option.describe())
                result[candidate.linear.node.name] = option
        return result

    def _counted(self) -> Measure | None:
        """What the budget counts; None if there is none."""
        budgets: tuple[Measure, ...] = ("macs", "params", "bytes")
        return next((key for key in budgets if getattr(self, key) is not None), None)

    def _to_budget(
        self, model: Model, found: list[Candidate], measured: list[list[Option]], ctx: PassContext
    ) -> list[Option] | None:
        """What becomes of each layer; None if the budget is met already."""
        from edgecc.low_rank.layers import sizes_of
        from edgecc.low_rank.options import cost_of, to_budget, to_floor, unchanged

        counted = self._counted()
        assert counted is not None, "there is a budget"
        layers = [[unchanged(candidate.splits[0]), *layer] for candidate, layer in zip(found, measured, strict=True)]
        now, whole = sizes_of(model, counted)
        wanted = float(getattr(self, counted))
        share = wanted if wanted < 1 else wanted / max(1, whole)
        if now <= share * whole:
            ctx.note(f"{self.name}: nothing goes: the {BUDGETS[counted]} are within the budget")
            return None
        fixed = now - sum(layer[0].cost(counted) for layer in layers)
        sensible = [list(filter(self._keeps_enough, layer)) for layer in layers]
        chosen = to_budget(sensible, counted, share * whole - fixed)
        if fixed + cost_of(chosen, counted) <= share * whole:
            return chosen
        dearest = _DEAREST / max(1, whole) if self.keep > 0 else float("inf")
        chosen = to_floor(layers, counted, 1 - self.keep, dearest)
        left = (fixed + cost_of(chosen, counted)) / max(1, whole)
        ctx.note(f"{self.name}: {self._shortfall(left, share, counted, fixed / max(1, whole))}")
        return chosen

    def _keeps_enough(self, option: Option) -> bool:
        return option.error <= 1 - self.keep

    def _shortfall(self, left: float, share: float, counted: Measure, fixed: float) -> str:
        """Why a budget is not met, and what to type next."""
        causes = []
        if fixed < share:
            floor = f"no more goes without layers that keep less than {self.keep:.0%} of the variance of their outputs"
            causes.append(floor if self.keep > 0 else "all layers are at their smallest ranks")
        if fixed >= 0.005:
            causes.append(f"{fixed:.0%} is in what cannot be factorized (the report says why)")
        hints = [f"keep={self.keep / 2:g} lets more go"] if self.keep > 0 and fixed < share else []
        hints.append(hint_to_take("--prune", counted, left, share))
        return f"{how_far(counted, left, share)}: {', and '.join(causes)}. Try: {', or '.join(hints)}"

    def _reason(self, option: Option | None, options: list[Option]) -> str:
        if option is not None and not any(map(self._keeps_enough, options)):
            return f"no rank that keeps {self.keep:g} of the variance of its output saves anything"
        if option is not None:
            return "others cost less for what they save"
        if self.rank is not None:
            return "it saves nothing at the rank that its weights have without noise"
        return f"no rank that keeps {self.energy or 0.99:g} of the variance of its output saves anything"


def _is_multiple(option: Option, multiple: int) -> bool:
    return option.rank % multiple == 0 and option.inner % multiple == 0
