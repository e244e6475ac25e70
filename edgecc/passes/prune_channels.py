"""Pass prune-channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from edgecc.errors import OptionError
from edgecc.passes.base import Loss, Pass, PassContext, check_ignore
from edgecc.passes.observing import samples_of

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model
    from edgecc.pruning.groups import Coupling, Group
    from edgecc.pruning.removal import Kept
    from edgecc.pruning.repair import Site
    from edgecc.pruning.saliency import Curve
    from edgecc.pruning.shortfall import Frozen


class PruneChannels(Pass):
    """Remove the channels, heads and hidden units that matter least, and let the others make up for them.

    What must go together is found on the graph. What each unit costs is estimated from calibration data (criterion obs:
    the optimal brain surgeon on each layer's inputs), groups are compared by error per multiply-accumulate saved, and
    every layer behind is fitted again to what it computed. One of macs, params and ratio says how much goes.

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
    multiple: int = Field(default=1, ge=1, description="what the number of channels left is divided by")
    sweeps: int = Field(default=16, ge=1, description="most runs over the data in which layers are fitted")
    epochs: int = Field(
        default=20, ge=0, description="most runs over the data in which all layers are fitted together, in small steps"
    )
    ignore: tuple[str, ...] = Field(default=(), description="patterns of names of layers whose groups stay")

    def run(self, model: Model, ctx: PassContext) -> bool:
        from edgecc.pruning.groups import find_coupling
        from edgecc.pruning.planning import Planner
        from edgecc.pruning.removal import remove_units
        from edgecc.pruning.shortfall import nothing_goes

        self._check(model)
        coupling = find_coupling(model)
        groups, frozen = self._groups(coupling, ctx)
        if not groups:
            ctx.note(f"{self.name}: {nothing_goes(frozen)}")
            return False
        data = None if self.criterion == "magnitude" and not self.repair else self._data(ctx)
        measured = self.sensitivity == "outputs" and self.ratio is None
        planner = Planner(model, coupling, self.criterion, self.keep, ctx.progress, measured)
        curves = planner.curves(groups, data)
        gone = self._allocate(groups, frozen, curves, coupling, ctx)
        units = [groups[g].units[i] for g, count in enumerate(gone) for i in curves[g].order[:count]]
        if not units:
            return False
        original = model.clone()
        for group, count in zip(groups, gone, strict=True):
            if count:
                ctx.done((group.writers or group.readers)[0].node, f"{count} of {len(group.units)} units removed")
        kept = remove_units(model, coupling, units)
        model.infer_shapes()
        if self.repair and data is not None:
            self._repair(self._sites(original, model, coupling, kept), original, model, data, ctx)
        return True

    def _check(self, model: Model) -> None:
        check_ignore(self, self.ignore, model)
        given = [key for key in ("macs", "params", "ratio") if getattr(self, key) is not None]
        if len(given) != 1:
            raise OptionError(
                f"{self.name} takes one of macs, params and ratio, and {' and '.join(given) or 'none'} is given",
                where=f"pass {self.name}",
                hint=f"{self.name}:macs=0.5 leaves half of the multiply-accumulates",
            )

    def _data(self, ctx: PassContext) -> CalibrationData:
        why = "it measures what each channel contributes, and fits the layers behind"
        return samples_of(self, ctx, why, without=f"{self.name}:criterion=magnitude,repair=false,...")

    def _groups(self, coupling: Coupling, ctx: PassContext) -> tuple[list[Group], list[Frozen]]:
        """Those that may lose something, and the others, which are reported with their reasons."""
        from edgecc.model import matches_any
        from edgecc.pruning.shortfall import Frozen

        found: list[Group] = []
        frozen: list[Frozen] = []
        for group in coupling.groups:
            layers = (*group.writers, *group.readers)
            reason = group.reason
            if self.ignore and any(matches_any(layer.node, self.ignore) for layer in layers):
                reason = "it is to be ignored"
            elif not reason and len(group.units) < 2:
                reason = "it has no unit to lose"
            elif not reason and not group.writers:
                reason = "no layer computes it"
            if reason:
                ctx.skip(layers[0].node, reason)
                frozen.append(Frozen(group, reason))
            else:
                found.append(group)
        return found, frozen

    def _allocate(
        self, groups: list[Group], frozen: list[Frozen], curves: list[Curve], coupling: Coupling, ctx: PassContext
    ) -> list[int]:
        """How many units each group loses."""
        from edgecc.pruning.allocation import allocate, share_left, uniform, works_of
        from edgecc.pruning.shortfall import shortfall

        sizes = [len(group.units) for group in groups]
        multiples = [self.multiple if _has_multiple(group, self.multiple) else 1 for group in groups]
        if self.ratio is not None:
            return uniform(curves, self.ratio, multiples, sizes)
        measure, budget = ("macs", self.macs) if self.macs is not None else ("params", self.params)
        assert budget is not None, "it was checked"
        works = works_of(coupling, groups, measure)
        gone = allocate(curves, works, budget, multiples, sizes)
        left = share_left(works, gone)
        if left > budget:
            missed = shortfall(left, budget, _WORDS[measure], len(groups), frozen, self.keep)
            ctx.note(f"{self.name}: {missed}")
        return gone

    def _sites(self, original: Model, model: Model, coupling: Coupling, kept: Kept) -> list[Site]:
        """Layers behind the first that lost something, in order."""
        from edgecc.pruning.repair import site_of

        before = {node.name: node for node in original.nodes()}
        inputs = {tensor.name for tensor in model.inputs}
        found = []
        for layer in coupling.tracker.layers:
            node = layer.node
            if node.inputs[0].name in inputs or node.op not in ("Conv", "Gemm", "MatMul"):
                continue
            mask = ~np.isin(coupling.root_of(layer.writes), kept.gone)
            site = site_of(before[node.name], node, mask, model)
            if site is not None:
                found.append(site)
        return found

    def _repair(
        self, sites: list[Site], original: Model, model: Model, data: CalibrationData, ctx: PassContext
    ) -> None:
        from edgecc.pruning.refinement import refine
        from edgecc.pruning.repair import repair, targets_of

        targets = targets_of(original, sites, data, ctx.progress)
        size = -(-len(targets) // self.sweeps)
        for start in range(0, len(targets), size):
            repair(model, targets[start : start + size], data, ctx.progress)
        gain = refine(original, model, sites, data, self.epochs, ctx.progress)
        if gain:
            ctx.note(f"{self.name}: fitting all layers together took {gain:.0%} off the error on samples held out")


_WORDS = {"macs": "multiply-accumulates", "params": "weights"}


def _has_multiple(group: Group, multiple: int) -> bool:
    """Whether its units are single channels, of which there is a multiple to begin with."""
    single = all(len(place.indices) == 1 for place in group.units[0].places)
    return single and len(group.units) % multiple == 0
