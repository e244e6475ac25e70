"""Pass prune-layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from edgecc.passes.base import Loss, Pass, PassContext, check_ignore
from edgecc.passes.leaving_alone import ignored_layers, leave_inner, leave_quantized, note_nothing, note_uncounted
from edgecc.passes.observing import samples_of
from edgecc.passes.shaping import how_far, one_budget

if TYPE_CHECKING:
    import numpy as np

    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model
    from edgecc.pruning.residual_blocks import Block


class PruneLayers(Pass):
    """Remove the residual branches that matter least, and fit the layers behind to what they computed.

    A branch whose result is added to the tensor that it reads can go as a whole: the shortcut stays. Branches are left
    out one at a time; of those whose power is least beside that of the sum, the one goes without which the model's
    outputs change least on calibration samples (for what it saves, if there is a budget).

    Before: h = MatMul(x, w)  r = Relu(h)  f = MatMul(r, v)  s = Add(x, f)  y = MatMul(s, u)
    After:  y = MatMul(x, u2)
    """

    name: ClassVar[str] = "prune-layers"
    loss: ClassVar[Loss] = Loss.LOSSY
    after: ClassVar[tuple[str, ...]] = ("fold-batchnorm", "fuse-matmul-add")
    before: ClassVar[tuple[str, ...]] = (
        *("prune-channels", "prune-heads", "factorize-low-rank", "prune-weights", "equalize-layers"),
        *("smooth-activations", "quantize-static", "quantize-dynamic", "quantize-weights", "mixed-precision"),
        "convert-float16",
    )

    blocks: int | None = Field(default=None, ge=1, description="how many branches go")
    macs: float | None = Field(
        default=None, gt=0, lt=1, description="share of the multiply-accumulates that may be left"
    )
    params: float | None = Field(default=None, gt=0, lt=1, description="share of the layers' weights that may be left")
    samples: int = Field(default=64, gt=0, description="calibration samples on which branches are left out, at most")
    tries: int = Field(default=8, ge=1, description="branches that are left out in turn before one of them goes")
    repair: bool = Field(default=True, description="fit the layers behind to what they computed")
    ignore: tuple[str, ...] = Field(default=(), description="patterns of names of nodes whose branches stay")

    def run(self, model: Model, ctx: PassContext) -> bool:
        from edgecc.pruning.residual_blocks import find_blocks

        self._check(model)
        found, others = find_blocks(model)
        for node, reason in others:
            ctx.skip(node, reason)
        found = [block for block in found if not self._is_ignored(block, ctx)]
        inner = leave_inner(model, ctx, self.ignore)
        quantized = leave_quantized(self, model, ctx)
        if not found:
            if not quantized:
                none = "no residual branch: no layers whose result is added to what they read"
                note_nothing(self, ctx, "node" if inner else "addition", none, "--prune 0.3 takes channels out")
            return False
        if self.macs is not None:
            note_uncounted(self, model, ctx)
        data = samples_of(self, ctx, "it measures what is lost without each block, and fits the layers behind")
        original = model.clone()
        gone = self._remove(model, data, ctx)
        if not gone:
            return False
        if self.repair:
            self._repair(original, model, gone, data, ctx)
        for node in model.nodes("Identity"):
            if node.name in gone:
                model.bypass(node)
        return True

    def _check(self, model: Model) -> None:
        check_ignore(self, self.ignore, model)
        hint = f"{self.name}:blocks=1 removes one branch, {self.name}:macs=0.8 branches with a fifth of the work"
        one_budget(self, ("blocks", "macs", "params"), hint=hint)

    def _is_ignored(self, block: Block, ctx: PassContext) -> bool:
        from edgecc.model import matches_any

        ignored = any(matches_any(node, self.ignore) for node in (block.adder, *block.nodes))
        if ignored:
            ctx.skip(block.adder, "it is to be ignored")
        return ignored

    def _remove(self, model: Model, data: CalibrationData, ctx: PassContext) -> set[str]:
        """Names of the additions whose branches are gone."""
        from edgecc.data.split import FirstSamples
        from edgecc.pruning.block_influence import leave_out, outputs_of
        from edgecc.pruning.works import size_of

        few = FirstSamples(data, self.samples)
        wanted = outputs_of(model, few, ctx.progress)
        measure = "params" if self.params is not None else "macs"
        whole = size_of(model, measure)
        gone: set[str] = set()
        while not self._is_enough(model, len(gone), measure, whole):
            block = self._least(model, wanted, few, measure, ctx)
            if block is None:
                self._say(model, gone, measure, whole, ctx)
                break
            ctx.done(block.adder, f"its branch of {len(block.layers())} layers is gone", block.nodes)
            gone.add(block.name)
            leave_out(model, block)
        return gone

    def _is_enough(self, model: Model, count: int, measure: str, whole: int) -> bool:
        if self.blocks is not None:
            return count >= self.blocks
        from edgecc.pruning.works import size_of

        share = self.macs or self.params
        assert share is not None, "it was checked"
        return size_of(model, measure) <= share * whole

    def _least(
        self, model: Model, wanted: list[np.ndarray], data: CalibrationData, measure: str, ctx: PassContext
    ) -> Block | None:
        """The branch that matters least; None if there is no other."""
        from edgecc.pruning.block_influence import error_of, leave_out, outputs_of
        from edgecc.pruning.residual_blocks import find_blocks

        found = [block for block in find_blocks(model)[0] if not self._is_ignored(block, ctx)]
        prices = {}
        tries = self.tries if wanted else 1  # without an output to be compared, power alone decides
        for block in _weakest(model, found, data, tries, ctx):
            tried = model.clone()
            (same,) = (other for other in find_blocks(tried)[0] if other.name == block.name)
            leave_out(tried, same)
            saved = 1 if self.blocks is not None else max(1, block.cost(measure))
            prices[block.name] = error_of(outputs_of(tried, data, ctx.progress), wanted) / saved
        return min((block for block in found if block.name in prices), key=lambda b: prices[b.name], default=None)

    def _say(self, model: Model, gone: set[str], measure: str, whole: int, ctx: PassContext) -> None:
        from edgecc.pruning.works import size_of

        if self.blocks is not None:
            ctx.note(f"{self.name}: {len(gone)} branches are gone, not {self.blocks}: there are no others")
            return
        share = self.macs or self.params
        assert share is not None, "it was checked"
        left = how_far(measure, size_of(model, measure) / max(1, whole), share)
        ctx.note(f"{self.name}: {left}: no other branch may go")

    def _repair(self, original: Model, model: Model, gone: set[str], data: CalibrationData, ctx: PassContext) -> None:
        from edgecc.pruning.fitting import fit_layers, fitted_layers

        places = {node.name: place for place, node in enumerate(model.nodes())}
        first = min(places[name] for name in gone)
        kept = ignored_layers(self.ignore, model)
        names = [name for name in fitted_layers(model, kept) if places[name] > first]
        fit_layers(original, model, names, data, ctx.progress)


def _weakest(model: Model, blocks: list[Block], data: CalibrationData, most: int, ctx: PassContext) -> list[Block]:
    """Those whose branch has least power beside that of the sum; all, unmeasured, if they are not more than `most`."""
    from edgecc.statistics.requests import Moments
    from edgecc.statistics.sweep import sweep

    if len(blocks) <= most:
        return blocks
    names = {tensor.name for block in blocks for tensor in (block.branch, block.adder.outputs[0])}
    table = sweep(model, [Moments(name) for name in sorted(names)], data, progress=ctx.progress)

    def power(name: str) -> float:
        moments = table.moments(name)
        return float(moments.variance) + float(moments.mean) ** 2

    def share(block: Block) -> float:
        return power(block.branch.name) / max(power(block.adder.outputs[0].name), 1e-30)

    return sorted(blocks, key=share)[:most]
