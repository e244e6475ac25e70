"""Pass smooth-activations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from edgecc.passes.base import Loss, Pass, PassContext, check_ignore

if TYPE_CHECKING:
    from edgecc.model import Model
    from edgecc.rewriting.channel_regions import Region
    from edgecc.statistics.answers import Array
    from edgecc.statistics.requests import Request


class SmoothActivations(Pass):
    """Move outliers of data into weights: channels of data are divided where they are made, and weights multiplied.

    Before: n = LayerNormalization(x, g, b)    y = MatMul(n, w)
    After:  n = LayerNormalization(x, g2, b2)  y = MatMul(n, w2)     g2 = g / s, b2 = b / s, w2 = s w per channel

    with s = (largest |n| of the channel)^alpha / (largest |w|)^(1 - alpha): SmoothQuant (arXiv 2211.10438). What makes
    the channels is a LayerNormalization, RMSNormalization, a Mul by one constant per channel, or a layer with weights,
    and all that reads them must be layers with weights, which are scaled together. Values stay up to rounding. As with
    equalize-layers, one factor for all channels would change nothing: their median is 1.

    Attributes:
        ignore: patterns of names of nodes whose constants stay.
    """

    name: ClassVar[str] = "smooth-activations"
    loss: ClassVar[Loss] = Loss.ROUNDING
    # What these fold are constants to be scaled, and integers come last.
    after: ClassVar[tuple[str, ...]] = ("expand-qoperators", "fold-batchnorm", "fuse-pad", "fuse-matmul-add")
    before: ClassVar[tuple[str, ...]] = (
        "quantize-static",
        "mixed-precision",
        "quantize-weights",
        "quantize-dynamic",
        "convert-float16",
    )
    keeps_types: ClassVar[bool] = True

    alpha: float = Field(default=0.5, ge=0, le=1, description="how much moves: 0 nothing of the data's, 1 all of it")
    ignore: tuple[str, ...] = ()

    def statistics(self, model: Model) -> Iterable[Request]:
        from edgecc.statistics.requests import ChannelAbsMax

        return [
            ChannelAbsMax(reader.linear.node.inputs[0].name, reader.channels.axis)
            for region in self._regions(model)
            if not region.refused
            for reader in region.readers
        ]

    def run(self, model: Model, ctx: PassContext) -> bool:
        import numpy as np

        from edgecc.quantization.equalization import solve
        from edgecc.quantization.rescaling import report, rescale

        check_ignore(self, self.ignore, model)
        found = self._regions(model)
        for region in found:
            for source in region.sources:
                if region.refused:
                    ctx.skip(source.node, region.refused)
        usable = [region for region in found if not region.refused]
        sizes = {id(region): _largest(region, ctx) for region in usable}

        def smooth(region: Region, factors: Array, rows: Array, columns: Array) -> Array:
            del rows
            data = sizes[id(region)] / factors
            there = (data > 0) & (columns > 0)
            ones = np.ones_like(data)
            step = np.where(there, data, ones) ** self.alpha / np.where(there, columns, ones) ** (1 - self.alpha)
            return np.where(there, step, ones)

        divisions = [division for division in solve(usable, smooth) if division.is_worthwhile]
        if not report(divisions, rescale(divisions, model), ctx):
            return False
        return bool(divisions)

    def _regions(self, model: Model) -> list[Region]:
        from edgecc.model import matches_any
        from edgecc.quantization.rescaling import scaling_of
        from edgecc.rewriting.channel_regions import linear_source, regions

        ignored = [id(node) for node in model.nodes() if self.ignore and matches_any(node, self.ignore)]
        found = regions(model, lambda node: linear_source(node, model) or scaling_of(node), ignored)
        # Clips have bounds that no factor moves; see equalize-layers.
        for region in found:
            for clip in region.clips:
                region.refuse(f"{clip.name} bounds all channels alike")
        return found


def _largest(region: Region, ctx: PassContext) -> Array:
    """Largest magnitude of each channel in what is read of it."""
    import numpy as np

    found = np.zeros(region.count)
    for reader in region.readers:
        values = ctx.statistics.channel_abs_max(reader.linear.node.inputs[0].name, reader.channels.axis)
        np.maximum.at(found, reader.channels.index, values)
    return found
