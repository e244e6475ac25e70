"""Pass equalize-layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from edgecc.passes.base import Loss, Pass, PassContext, check_ignore

if TYPE_CHECKING:
    from edgecc.model import Model
    from edgecc.quantization.equalization import Division
    from edgecc.rewriting.channel_regions import Region
    from edgecc.statistics.answers import MomentsStatistic
    from edgecc.statistics.requests import Request


class EqualizeLayers(Pass):
    """Scale channels between layers so that weights on both sides are as large, and one scale fits all of them.

    Before: a = Conv(x, w, b)    r = Relu(a)  y = Conv(r, v)
    After:  a = Conv(x, w2, b2)  r = Relu(a)  y = Conv(r, v2)      w2 = w / s, b2 = b / s, v2 = v s per channel

    with s = sqrt(largest weight of the channel in w / largest in v), repeated over the whole network until nothing
    changes: cross-layer equalization (arXiv 1906.04721), depthwise convolutions included. It passes Relu, LeakyRelu,
    PRelu, pooling, zero padding, residual additions and what moves elements; all layers that read a tensor are scaled
    together. No data is needed, and values stay up to rounding.

    A Clip from 0 to 6 bounds all channels alike; no target here has one with a bound per channel. It becomes Relu where
    calibration data shows that it never clips, which is not certain for other data; so does `absorb` change values.

    Attributes:
        ignore: patterns of names of layers whose weights stay.
    """

    name: ClassVar[str] = "equalize-layers"
    # With clips=keep and absorb=false: see loses().
    loss: ClassVar[Loss] = Loss.LOSSY
    # What these fold is weights to be equalized, and integers come last.
    after: ClassVar[tuple[str, ...]] = ("expand-qoperators", "fold-batchnorm", "fuse-pad", "fuse-matmul-add")
    before: ClassVar[tuple[str, ...]] = (
        "quantize-static",
        "mixed-precision",
        "quantize-weights",
        "quantize-dynamic",
        "convert-float16",
    )
    keeps_types: ClassVar[bool] = True

    clips: Literal["measure", "keep"] = Field(
        default="measure", description="a Clip from 0 becomes Relu where data shows that it never clips, or stays"
    )
    absorb: bool = Field(
        default=False,
        description="what nearly all values of a channel lie above (mean - 3 deviations) moves into the next bias",
    )
    ignore: tuple[str, ...] = ()

    def loses(self) -> Loss:
        return Loss.ROUNDING if self.clips == "keep" and not self.absorb else self.loss

    def needs_statistics(self) -> bool:
        # Without data, Clips stay.
        return self.absorb

    def statistics(self, model: Model) -> Iterable[Request]:
        from edgecc.quantization.absorption import absorbable
        from edgecc.statistics.requests import Moments, Range

        found: list[Request] = []
        for region in self._regions(model):
            if self.clips == "measure" and not region.refused:
                found += [Range(clip.inputs[0].name) for clip in region.clips]
            if self.absorb and absorbable(region, model):
                source = region.sources[0]
                found.append(Moments(source.last.outputs[0].name, source.output_axis()))
        return found

    def run(self, model: Model, ctx: PassContext) -> bool:
        from edgecc.quantization.equalization import balance, solve
        from edgecc.quantization.rescaling import report, rescale

        check_ignore(self, self.ignore, model)
        found = self._regions(model)
        for region in found:
            region.refuse(self._refuses_clips(region, ctx))
            for source in region.sources:
                if region.refused:
                    ctx.skip(source.node, region.refused)
        usable = [region for region in found if not region.refused]
        moments = self._moments(usable, model, ctx)
        divisions = [
            division
            for division in solve(usable, lambda region, factors, rows, columns: balance(rows, columns))
            if division.is_worthwhile
        ]
        if not report(divisions, rescale(divisions, model), ctx):
            return False
        for division in divisions:
            _drop_clips(division.region, model, ctx)
        return self._absorb(usable, divisions, moments, model, ctx) or bool(divisions)

    def _regions(self, model: Model) -> list[Region]:
        from edgecc.model import matches_any
        from edgecc.rewriting.channel_regions import linear_source, regions
        from edgecc.rewriting.linear import LINEAR

        ignored = [id(node) for node in model.nodes(*LINEAR) if self.ignore and matches_any(node, self.ignore)]
        return regions(model, lambda node: linear_source(node, model), ignored)

    def _refuses_clips(self, region: Region, ctx: PassContext) -> str:
        """Why the Clips of a region stand in the way; "" if they never clip."""
        from edgecc.quantization.rescaling import clipped_to
        from edgecc.rewriting.reading import describe
        from edgecc.statistics.requests import Range

        for clip in region.clips:
            name, bound = clip.inputs[0].name, clipped_to(clip)
            if self.clips == "keep":
                return f"{describe(clip)} bounds all channels alike"
            if region.refused:
                return region.refused
            if Range(name) not in ctx.statistics:
                return f"{describe(clip)} may clip at {bound:g}: calibration data would show whether it does"
            highest = float(ctx.statistics.range(name).high)
            if highest > bound:
                return f"{describe(clip)} clips at {bound:g}: {highest:.4g} was measured"
        return ""

    def _moments(self, usable: list[Region], model: Model, ctx: PassContext) -> dict[int, MomentsStatistic]:
        """Of what each source writes that constants can be absorbed from; read before tensors get other names."""
        from edgecc.quantization.absorption import absorbable

        if not self.absorb:
            return {}
        return {
            id(region): ctx.statistics.moments(source.last.outputs[0].name, source.output_axis())
            for region in usable
            if absorbable(region, model)
            for source in region.sources
        }

    def _absorb(
        self,
        usable: list[Region],
        divisions: list[Division],
        moments: dict[int, MomentsStatistic],
        model: Model,
        ctx: PassContext,
    ) -> bool:
        from edgecc.quantization.absorption import absorb, certain
        from edgecc.quantization.rescaling import rename

        factors = {id(division.region): division.factors for division in divisions}
        changed = False
        for region in usable:
            if id(region) not in moments:
                continue
            constants = certain(moments[id(region)]) / factors.get(id(region), 1.0)
            if constants.any() and absorb(region, constants, model):
                count = int((constants > 0).sum())
                ctx.done(region.sources[0].node, f"the next bias takes in what {count} channels lie above")
                if id(region) not in factors:
                    rename(region.tensors, model)
                changed = True
        return changed


def _drop_clips(region: Region, model: Model, ctx: PassContext) -> None:
    """Let Clips that never clip be Relus."""
    for clip in region.clips:
        ctx.done(clip, "it never clips, and became Relu")
        model.replace(clip, "Relu", clip.inputs[:1])
