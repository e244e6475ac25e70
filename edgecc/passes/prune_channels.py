"""Pass prune-channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from edgecc.errors import DataError, OptionError
from edgecc.passes.base import Loss, Pass, PassContext, check_ignore

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model
    from edgecc.pruning.groups import Coupling, Group
    from edgecc.pruning.saliency import Curve

#: Statistics of so many bytes are kept at a time.
_MEMORY = 512 << 20


class PruneChannels(Pass):
    """Remove the channels, heads and hidden units that matter least, and let the others make up for them.

    What must go together is found on the graph. What each unit costs is estimated from calibration data (criterion obs,
    the optimal brain surgeon on each layer's inputs), groups are compared by error per multiply-accumulate saved, and
    every layer that reads less is fitted again to what it computed.

    Before: a = Conv(x, w)  b = Relu(a)  y = Conv(b, v)        w [64, 3, 3, 3]  v [32, 64, 3, 3]
    After:  a = Conv(x, w')  b = Relu(a)  y = Conv(b, v')      w' [40, 3, 3, 3]  v' [32, 40, 3, 3]
    """

    name: ClassVar[str] = "prune-channels"
    loss: ClassVar[Loss] = Loss.LOSSY
    after: ClassVar[tuple[str, ...]] = ("fold-batchnorm", "fuse-matmul-add")
    before: ClassVar[tuple[str, ...]] = ("quantize-static", "quantize-dynamic", "quantize-weights", "convert-float16")

    macs: float | None = Field(default=None, gt=0, lt=1, description="share of the multiply-accumulates that may be left")
    params: float | None = Field(default=None, gt=0, lt=1, description="share of the weights that may be left")
    ratio: float | None = Field(default=None, gt=0, lt=1, description="share that every group loses")
    criterion: Literal["obs", "activation", "magnitude"] = Field(
        default="obs", description="what a unit costs: by inverse Hessian, by weights and activations, or by weights"
    )
    repair: bool = Field(default=True, description="fit the layers that read less to what they computed")
    keep: float = Field(default=0.2, ge=0, lt=1, description="least share of a group that stays")
    multiple: int = Field(default=1, ge=1, description="what the number of channels left is divided by")
    sweeps: int = Field(default=16, ge=1, description="most sweeps over the data in which layers are fitted")
    ignore: tuple[str, ...] = Field(default=(), description="patterns of names of layers whose groups stay")

    def run(self, model: Model, ctx: PassContext) -> bool:
        from edgecc.pruning.groups import find_coupling
        from edgecc.pruning.removal import remove_units

        self._check(model)
        coupling = find_coupling(model)
        groups = self._groups(model, coupling, ctx)
        if not groups:
            return False
        curves = self._curves(groups, coupling, model, ctx)
        gone = self._allocate(groups, curves, coupling)
        units = [groups[g].units[i] for g, count in enumerate(gone) for i in curves[g].order[:count]]
        if not units:
            return False
        original = model.clone()
        for group, count in zip(groups, gone, strict=True):
            if count:
                layer = (group.writers or group.readers)[0].node
                ctx.done(layer, f"{count} of {len(group.units)} units removed")
        kept = remove_units(model, coupling, units)
        model.cleanup()
        if self.repair:
            self._repair(original, model, coupling, kept, self._data(ctx), ctx)
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
        if ctx.calibration is None:
            raise DataError(
                f"pass {self.name!r} needs calibration data",
                why="it measures what each channel contributes, and fits the layers that lose some",
                hint="add --calibration DATA.npz, one array per input with 100 to 500 samples; "
                f"{self.name}:criterion=magnitude,repair=false does without",
            )
        return ctx.calibration

    def _groups(self, model: Model, coupling: Coupling, ctx: PassContext) -> list[Group]:
        from edgecc.model import matches_any

        found = []
        for group in coupling.groups:
            layers = (*group.writers, *group.readers)
            reason = group.reason
            if self.ignore and any(matches_any(layer.node, self.ignore) for layer in layers):
                reason = "it is to be ignored"
            if not reason and len(group.units) < 2:
                reason = "it has no unit to lose"
            if not reason and not group.writers:
                reason = "nothing computes it"
            if reason:
                ctx.skip(layers[0].node, reason)
            else:
                found.append(group)
        return found

    # ------------------------------------------------------------------------------------------------ what it costs

    def _curves(self, groups: list[Group], coupling: Coupling, model: Model, ctx: PassContext) -> list[Curve]:
        if self.criterion == "magnitude":
            return [self._by_magnitude(group) for group in groups]
        from edgecc.pruning.features import linear_of
        from edgecc.pruning.rows import bytes_of, gather

        data = self._data(ctx)
        curves: dict[int, Curve] = {}
        linears = [
            {id(layer): found for layer in group.readers if (found := linear_of(layer.node)) is not None}
            for group in groups
        ]
        for chunk in _chunks([sum(bytes_of(l.weights.shape[1]) for l in found.values()) for found in linears]):
            asked = [linear for index in chunk for linear in linears[index].values()]
            tables = iter(gather(model, asked, data, "measuring channels", ctx.progress))
            for index in chunk:
                group, found = groups[index], linears[index]
                sums = [table.T @ table for table in (next(tables) for _ in found)]
                curves[index] = (
                    self._by_data(group, list(found.values()), sums, coupling) if found else self._by_magnitude(group)
                )
        return [curves[index] for index in range(len(groups))]

    def _most(self, group: Group) -> int:
        return len(group.units) - max(1, int(np.ceil(self.keep * len(group.units))))

    def _by_magnitude(self, group: Group) -> Curve:
        from edgecc.pruning.saliency import static_curve

        scores = np.array([_magnitude(unit) for unit in group.units])
        return static_curve(scores, self._most(group))

    def _by_data(self, group: Group, linears: list, sums: list, coupling: Coupling) -> Curve:  # type: ignore[type-arg]
        from edgecc.pruning.features import columns_of
        from edgecc.pruning.saliency import Reader, static_curve, surgeon_curve

        roots = np.array([unit.root for unit in group.units])
        layers = {id(layer.node): layer for layer in group.readers}
        columns = [columns_of(layers[id(l.node)], coupling, roots, l.taps) for l in linears]
        if self.criterion == "obs":
            readers = [Reader(l.weights, s, c) for l, s, c in zip(linears, sums, columns, strict=True)]
            return surgeon_curve(readers, len(roots), self._most(group))
        scores = np.zeros(len(roots))
        for linear, total, found in zip(linears, sums, columns, strict=True):
            strength = (linear.weights[:, :-1] ** 2).sum(axis=0) * np.diag(total)[:-1]
            scores += np.array([strength[c].sum() for c in found]) / max(strength.sum(), 1e-30)
        return static_curve(scores, self._most(group))

    def _allocate(self, groups: list[Group], curves: list[Curve], coupling: Coupling) -> list[int]:
        from edgecc.pruning.allocation import allocate, uniform, works_of

        sizes = [len(group.units) for group in groups]
        plain = [all(len(place.indices) == 1 for place in group.units[0].places) for group in groups]
        multiples = [
            self.multiple if simple and size >= 2 * self.multiple and size % self.multiple == 0 else 1
            for simple, size in zip(plain, sizes, strict=True)
        ]
        if self.ratio is not None:
            return uniform(curves, self.ratio, multiples, sizes)
        measure, budget = ("macs", self.macs) if self.macs is not None else ("params", self.params)
        assert budget is not None
        return allocate(curves, works_of(coupling, groups, measure), budget, multiples, sizes)

    # ---------------------------------------------------------------------------------------------------- repair

    def _repair(self, original, model, coupling, kept, data, ctx) -> None:  # type: ignore[no-untyped-def]
        from edgecc.pruning.repair import repair, site_of

        before = {node.name: node for node in original.nodes()}
        inputs = {tensor.name for tensor in model.inputs}
        sites = []
        for layer in coupling.tracker.layers:
            node = layer.node
            if node.inputs[0].name in inputs or node.op not in ("Conv", "Gemm", "MatMul"):
                continue
            mask = ~np.isin(coupling.root_of(layer.writes), kept.gone)
            site = site_of(before[node.name], node, mask, model)
            if site is not None:
                sites.append(site)
        size = -(-len(sites) // self.sweeps)
        for start in range(0, len(sites), size):
            fresh = [site_of(before[s.after.node.name], s.after.node, s.outputs, model) for s in sites[start : start + size]]
            repair(original, model, [s for s in fresh if s is not None], data, ctx.progress)


def _magnitude(unit) -> float:  # type: ignore[no-untyped-def]
    """Sum of absolute weights, each constant relative to its own."""
    total = 0.0
    for place in unit.places:
        values = np.abs(place.constant.values.astype(np.float64))
        total += float(np.take(values, place.indices, axis=place.axis).sum())
    return total


def _chunks(sizes: list[int]) -> list[list[int]]:
    """Indices in a row whose sizes fit into the memory together."""
    found: list[list[int]] = []
    room = 0
    for index, size in enumerate(sizes):
        if not found or size > room:
            found.append([])
            room = _MEMORY
        found[-1].append(index)
        room -= size
    return found
