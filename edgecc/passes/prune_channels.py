"""Pass prune-channels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from edgecc.passes.base import Loss, PassContext, check_ignore
from edgecc.passes.leaving_alone import ignored_layers, leave_inner, leave_quantized, note_uncounted
from edgecc.passes.observing import samples_of
from edgecc.passes.shaping import BUDGETS, KERNEL_MULTIPLE, ShapingPass, one_budget, refuse_idle

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model
    from edgecc.passes.shaping import Shapes
    from edgecc.pruning.allocation import Work
    from edgecc.pruning.groups import Coupling, Group
    from edgecc.pruning.plan import Plan
    from edgecc.pruning.removal import Kept
    from edgecc.pruning.shortfall import Frozen


class PruneChannels(ShapingPass):
    """Remove the channels, heads and hidden units that matter least, and let the others make up for them.

    What must go together is found on the graph. What each unit costs is estimated from calibration data (criterion obs:
    the optimal brain surgeon on each layer's inputs), groups are compared by error per multiply-accumulate saved, and
    every layer behind is fitted again to what it computed. One of macs, params, bytes, latency and ratio says how much
    goes.

    Before: a = Conv(x, w)  b = Relu(a)  y = Conv(b, v)        w [64, 3, 3, 3]  v [32, 64, 3, 3]
    After:  a = Conv(x, w2)  b = Relu(a)  y = Conv(b, v2)      w2 [40, 3, 3, 3]  v2 [32, 40, 3, 3]
    """

    name: ClassVar[str] = "prune-channels"
    loss: ClassVar[Loss] = Loss.LOSSY
    after: ClassVar[tuple[str, ...]] = ("fold-batchnorm", "fuse-matmul-add")
    before: ClassVar[tuple[str, ...]] = (
        *("quantize-static", "quantize-dynamic", "quantize-weights", "mixed-precision", "convert-float16"),
        "equalize-layers",
    )

    macs: float | None = Field(
        default=None, gt=0, lt=1, description="share of the multiply-accumulates that may be left"
    )
    params: float | None = Field(default=None, gt=0, lt=1, description="share of the weights that may be left")
    bytes: float | None = Field(
        default=None, gt=0, description="share of the constants' bytes that may be left; from 1 on, that many bytes"
    )
    latency: float | None = Field(
        default=None, gt=0, lt=1, description="share of the time on the target's runtime that may be left"
    )
    ratio: float | None = Field(default=None, gt=0, lt=1, description="share that every group loses")
    criterion: Literal["obs", "activation", "magnitude"] = Field(
        default="obs", description="what a unit costs: by inverse Hessian, by weights and activations, or by weights"
    )
    sensitivity: Literal["outputs", "layers"] = Field(
        default="outputs",
        description="which errors of criterion obs groups are compared by: of the model's outputs, as measured on "
        "samples, or of the layers that read them, as estimated",
    )
    repair: bool = Field(default=True, description="fit the layers behind to what they computed")
    keep: float = Field(default=0.2, ge=0, lt=1, description="least share of a group that stays")
    multiple: int | None = Field(
        default=None,
        ge=1,
        description="what the number of channels left is divided by; if unset, 8 in groups of 96 channels and more "
        "that go through depthwise convolutions",
    )
    epochs: int = Field(
        default=40, ge=0, description="most runs over the data in which all layers are fitted together, in small steps"
    )
    ignore: tuple[str, ...] = Field(default=(), description="patterns of names of layers whose groups stay")

    def wanted_latency(self) -> float | None:
        return self.latency

    def with_macs(self, share: float) -> PruneChannels:
        return self.model_copy(update={"latency": None, "macs": share})

    def rounded(self) -> PruneChannels | None:
        return self.model_copy(update={"multiple": KERNEL_MULTIPLE}) if self.multiple in (None, 1) else None

    def shapes(self, model: Model, ctx: PassContext) -> Shapes:
        from edgecc.pruning.groups import find_coupling
        from edgecc.pruning.removal import remove_units

        plan = self._plan(model, ctx)

        def at(step: ShapingPass) -> Model:
            assert isinstance(step, PruneChannels), "it is a variant of this one"
            shaped = model.clone()
            if plan is None:
                return shaped
            quiet = PassContext(ctx.target)
            gone = step._allocate(plan, quiet)
            coupling = find_coupling(shaped)
            twin = replace(plan, coupling=coupling, groups=tuple(step._groups(coupling, quiet)[0]))
            remove_units(shaped, coupling, twin.units(gone))
            shaped.infer_shapes()
            return shaped

        return at

    def run(self, model: Model, ctx: PassContext) -> bool:
        from edgecc.pruning.removal import remove_units

        self.refuse_latency()
        plan = self._plan(model, ctx)
        if plan is None:
            return False
        if self.macs is not None:
            note_uncounted(self, model, ctx)
        gone = self._allocate(plan, ctx)
        units = plan.units(gone)
        if not units:
            return False
        original = model.clone()
        for group, count in zip(plan.groups, gone, strict=True):
            if count:
                ctx.done((group.writers or group.readers)[0].node, f"{count} of {len(group.units)} units removed")
        kept = remove_units(model, plan.coupling, units)
        model.infer_shapes()
        if self.repair and plan.data is not None:
            self._repair(original, model, plan.coupling, kept, plan.data, ctx)
        return True

    def _plan(self, model: Model, ctx: PassContext) -> Plan | None:
        """What each group would lose; None if none may lose anything."""
        from edgecc.pruning.groups import find_coupling
        from edgecc.pruning.plan import Plan
        from edgecc.pruning.planning import Planner
        from edgecc.pruning.shortfall import nothing_goes

        check_ignore(self, self.ignore, model)
        one_budget(self, ("macs", "params", "bytes", "latency", "ratio"))
        if self.criterion != "obs":
            why = f"it is about errors of criterion obs, and the criterion is {self.criterion}"
            refuse_idle(self, ("sensitivity",), why, "leave out either of them")
        coupling = find_coupling(model)
        groups, frozen = self._groups(coupling, ctx)
        inner = leave_inner(model, ctx, self.ignore)
        quantized = leave_quantized(self, model, ctx)
        if not groups:
            if not quantized:
                ctx.note(f"{self.name}: {nothing_goes(frozen, inner)}")
            return None
        data = None if self.criterion == "magnitude" and not self.repair else self._data(ctx)
        measured, priced = self.sensitivity == "outputs", self.ratio is None
        planner = Planner(model, coupling, self.criterion, self.keep, ctx.progress, measured, priced)
        curves = planner.curves(groups, data)
        return Plan(model, coupling, tuple(groups), tuple(frozen), tuple(curves), data)

    def _data(self, ctx: PassContext) -> CalibrationData:
        why = "it measures what each channel contributes, and fits the layers behind"
        return samples_of(self, ctx, why, without=f"{self.name}:criterion=magnitude,repair=false,...")

    def _groups(self, coupling: Coupling, ctx: PassContext) -> tuple[list[Group], list[Frozen]]:
        """Those that may lose something, and the others, which are reported with their reasons."""
        from edgecc.pruning.open_groups import open_groups

        return open_groups(coupling.groups, self.ignore, ctx, unit="unit", needs="writers")

    def _allocate(self, plan: Plan, ctx: PassContext) -> list[int]:
        """How many units each group loses."""
        from edgecc.pruning.allocation import allocate, share_left, uniform
        from edgecc.pruning.multiples import multiples_of
        from edgecc.pruning.shortfall import shortfall

        sizes = [len(group.units) for group in plan.groups]
        multiples, small = multiples_of(plan.groups, self.multiple)
        if small:
            what = "1 group has" if len(small) == 1 else f"{len(small)} groups have"
            ctx.note(f"{self.name}: {what} too few channels for multiples of {self.multiple} ({small[0].name!r})")
        if self.ratio is not None:
            if self.ratio > 1 - self.keep:
                ctx.note(
                    f"{self.name}: {self.keep:.0%} of each group stay: keep={1 - self.ratio:.3g} lets more of it go"
                )
            return uniform(plan.curves, self.ratio, multiples, sizes)
        works, budget, counted = self._budget(plan)
        if budget >= 1:
            ctx.note(f"{self.name}: nothing goes: the {BUDGETS[counted]} are within the budget")
            return [0] * len(sizes)
        gone = allocate(plan.curves, works, budget, multiples, sizes)
        left = share_left(works, gone)
        if left > budget:
            units = [size - count for size, count in zip(sizes, gone, strict=True)]
            missed = shortfall(left, budget, counted, units, plan.frozen, self.keep)
            ctx.note(f"{self.name}: {missed}")
        return gone

    def _budget(self, plan: Plan) -> tuple[list[Work], float, str]:
        """What is to become less, the share of it that may be left, and what that is."""
        from edgecc.pruning.works import works_of

        counted = next(key for key in BUDGETS if getattr(self, key) is not None)
        works, wanted = works_of(plan.model, plan.coupling, plan.groups, counted), float(getattr(self, counted))
        share = wanted if wanted < 1 else wanted / max(1, sum(work.size for work in works))
        return works, share, counted

    def _repair(
        self, original: Model, model: Model, coupling: Coupling, kept: Kept, data: CalibrationData, ctx: PassContext
    ) -> None:
        from edgecc.pruning.fitting import fit_layers, fitted_layers
        from edgecc.pruning.refinement import refine

        layers = {layer.node.name: layer for layer in coupling.tracker.layers}
        inputs = {tensor.name for tensor in model.inputs}
        ignored = ignored_layers(self.ignore, model)
        nodes = [layers[name].node for name in fitted_layers(original, ignored) if name in layers]
        names = [node.name for node in nodes if node.inputs[0].name not in inputs]
        if not names:
            return  # recurrent layers and those of several groups are not fitted
        outputs = {name: ~np.isin(coupling.root_of(layers[name].writes), kept.gone) for name in names}
        sites = fit_layers(original, model, names, data, ctx.progress, outputs=outputs)
        gain = refine(original, model, sites, data, self.epochs, ctx.progress, ignored)
        if gain:
            ctx.note(f"{self.name}: fitted together, layers' errors on these samples fell by {gain:.0%}")
