"""Pass prune-weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from edgecc.errors import OptionError
from edgecc.passes.base import Loss, Pass, PassContext, check_ignore
from edgecc.passes.leaving_alone import ignored_layers, leave_quantized, leave_recurrent, note_nothing
from edgecc.passes.observing import samples_of
from edgecc.passes.shaping import one_budget, refuse_idle

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model, Node
    from edgecc.pruning.features import Linear
    from edgecc.pruning.sparsifying import Sparsity
    from edgecc.pruning.sparsity import Pattern, Scores


class PruneWeights(Pass):
    """Set the weights that matter least to 0, and let the others make up for them.

    Shapes stay. Single weights anywhere save bytes where the file is compressed or written without zeros
    (`tflite:sparse=true`), and no time; a pattern such as 2:4 (2 of each 4 along the input channels stay) is what
    NVIDIA's sparse tensor cores multiply. What a weight costs is estimated from calibration data (criterion obs: the
    optimal brain surgeon on each layer's inputs, relative to the variance of the layer's output), and every layer is
    fitted, in order, to what it computed, on what the layers before it have become.

    Before: y = Conv(x, w)      w [64, 64, 3, 3]
    After:  y = Conv(x, w2)     w2 [64, 64, 3, 3], half of it 0
    """

    name: ClassVar[str] = "prune-weights"
    loss: ClassVar[Loss] = Loss.LOSSY
    keeps_types: ClassVar[bool] = True
    after: ClassVar[tuple[str, ...]] = (
        *("fold-batchnorm", "fold-leading-affine", "fuse-matmul-add", "fuse-consecutive-linear"),
        *("prune-channels", "factorize-low-rank"),
    )
    before: ClassVar[tuple[str, ...]] = (
        *("quantize-static", "quantize-dynamic", "quantize-weights", "mixed-precision", "convert-float16"),
        *("equalize-layers", "smooth-activations"),
    )

    sparsity: float | None = Field(default=None, gt=0, lt=1, description="share of the weights that become 0")
    pattern: str | None = Field(
        default=None,
        pattern=r"^[1-9]\d?:[1-9]\d?$",
        examples=["2:4"],
        description="N:M: N of each M along the input channels may stay",
    )
    criterion: Literal["obs", "activation", "magnitude"] = Field(
        default="obs", description="what a weight costs: by inverse Hessian, by activations, or by its size"
    )
    allocation: Literal["global", "uniform"] = Field(
        default="global", description="whether layers that lose little by it lose more weights, or all the same share"
    )
    repair: bool = Field(default=True, description="fit the weights that are left to what the layers computed")
    keep: float = Field(default=0.05, ge=0, lt=1, description="least share of a layer's weights that stays")
    ignore: tuple[str, ...] = Field(default=(), description="patterns of names of layers whose weights stay")

    def run(self, model: Model, ctx: PassContext) -> bool:
        from edgecc.pruning.sparsifying import Sparsifier, measured_scores

        pattern = self._check(model)
        linears = self._layers(model, pattern, ctx)
        leave_recurrent(model, ctx, "weights of recurrent layers are not set to 0 one by one", self.ignore)
        quantized = leave_quantized(self, model, ctx)
        if not linears:
            if not quantized and not self._is_in_place(model, pattern):
                note_nothing(self, ctx, "layer", "no layer with constant weights", "")
            return False
        if self.sparsity is not None and self._is_done(linears):
            ctx.note(
                f"{self.name}: nothing to do: as many weights as sparsity={self.sparsity:g} asks for are 0 already"
            )
            return False
        data = None if self.criterion == "magnitude" and not self.repair else self._data(ctx)
        scores: list[Scores] = []
        if pattern is None or not self.repair:
            left = 1 - (self.sparsity or 0.5)
            scores = measured_scores(model, linears, self.criterion, left, data, ctx.progress)
        chosen = self._choose(linears, scores, pattern)
        sparsifier = Sparsifier(self.criterion, ctx.progress)
        if self.repair:
            assert data is not None, "it was asked for"
            sparsifier.with_repair(model, chosen, self._kept(model, pattern), data)
        else:
            names = [linear.node.name for linear in linears]
            sparsifier.without_repair(model, chosen, dict(zip(names, scores, strict=True)))
        self._report(linears, model, pattern, ctx)
        return True

    def _check(self, model: Model) -> Pattern | None:
        """The pattern that is asked for."""
        from edgecc.pruning.sparsity import Pattern

        check_ignore(self, self.ignore, model)
        hint = f"{self.name}:sparsity=0.5 sets half of the weights to 0, {self.name}:pattern=2:4 two of each 4"
        one_budget(self, ("sparsity", "pattern"), hint=hint)
        if self.pattern is None:
            return None
        why = "a pattern says how many weights of each layer stay"
        refuse_idle(self, ("keep", "allocation"), why, f"{self.name}:pattern={self.pattern}, or sparsity=0.5 with them")
        keep, of = map(int, self.pattern.split(":"))
        if keep >= of:
            raise OptionError(
                f"the pattern {self.pattern} sets nothing to 0",
                where=f"pass {self.name}, option pattern",
                hint="2:4 keeps two of each four",
            )
        return Pattern(keep, of)

    def _data(self, ctx: PassContext) -> CalibrationData:
        why = "it measures what each weight contributes, and fits the others"
        return samples_of(self, ctx, why, without=f"{self.name}:criterion=magnitude,repair=false,...")

    def _is_done(self, linears: list[Linear]) -> bool:
        """Whether as many weights are 0 as may be; one more of each layer would be rounding."""
        sizes = [linear.weights[:, :-1].size for linear in linears]
        zeros = sum(int(np.count_nonzero(linear.weights[:, :-1] == 0)) for linear in linears)
        most = sum(size - math.ceil(self.keep * size) for size in sizes)
        assert self.sparsity is not None, "it was checked"
        return zeros >= min(self.sparsity * sum(sizes), most) - len(linears)

    def _is_in_place(self, model: Model, pattern: Pattern | None) -> bool:
        """Whether there is nothing to do since a layer has the pattern already."""
        from edgecc.pruning.features import linear_of

        found = (linear_of(node) for node in model.nodes("Conv", "Gemm", "MatMul", ignore=self.ignore))
        return any(linear is not None and _has(pattern, linear) for linear in found)

    def _kept(self, model: Model, pattern: Pattern | None) -> set[str]:
        """Names of layers that are not to be fitted: those to be ignored, and those that have the pattern already."""
        from edgecc.pruning.features import linear_of

        nodes = model.nodes("Conv", "Gemm", "MatMul") if pattern is not None else []
        linears = [linear_of(node) for node in nodes]
        return ignored_layers(self.ignore, model) | {
            one.node.name for one in linears if one is not None and _has(pattern, one)
        }

    def _layers(self, model: Model, pattern: Pattern | None, ctx: PassContext) -> list[Linear]:
        """Those that may lose weights; the others are reported with their reasons."""
        from edgecc.model import matches_any
        from edgecc.pruning.features import linear_of
        from edgecc.rewriting.reading import constant

        found = []
        for node in model.nodes("Conv", "ConvTranspose", "Gemm", "MatMul"):
            if constant(node, 1) is None:
                continue
            linear = linear_of(node)
            reason = "it is to be ignored" if matches_any(node, self.ignore) else _reason(node, linear, pattern)
            if reason:
                ctx.skip(node, reason)
            elif linear is not None and not _has(pattern, linear):
                found.append(linear)
        return found

    def _choose(self, linears: list[Linear], scores: list[Scores], pattern: Pattern | None) -> dict[str, Sparsity]:
        from edgecc.pruning.sparsifying import Sparsity
        from edgecc.pruning.sparsity import zeros_at

        if pattern is not None:
            return {linear.node.name: Sparsity(0, pattern) for linear in linears}
        assert self.sparsity is not None, "it was checked"
        if self.allocation == "global":
            zeros = zeros_at(scores, self.sparsity, self.keep)
        else:
            zeros = [round(min(self.sparsity, 1 - self.keep) * found.size) for found in scores]
        pairs = zip(linears, zeros, strict=True)
        return {linear.node.name: Sparsity(count) for linear, count in pairs if count}

    def _report(self, linears: list[Linear], model: Model, pattern: Pattern | None, ctx: PassContext) -> None:
        from edgecc.pruning.features import linear_of
        from edgecc.pruning.works import size_of

        zeros = total = 0
        for before in linears:
            linear = linear_of(before.node)
            assert linear is not None, "it was one"
            weights = linear.weights[:, :-1]
            assert pattern is None or _has(pattern, linear), "the mask has it"
            gone = int(np.count_nonzero(weights == 0))
            ctx.done(before.node, f"{gone / weights.size:.0%} of its weights are 0")
            zeros, total = zeros + gone, total + weights.size
        count = "1 layer" if len(linears) == 1 else f"{len(linears)} layers"
        whole = size_of(model, "params")
        share = f", {zeros / whole:.0%} of those of all layers" if total < _MOST * whole else ""
        ctx.note(f"{self.name}: {zeros / total:.0%} of the weights of {count} are 0{share}; {_WHAT_FOR}")
        if self.sparsity is not None and zeros < self.sparsity * total - len(linears):
            ctx.note(f"{self.name}: not {self.sparsity:.0%}, since each layer keeps {self.keep:.0%}")


#: From this share on, what the pass can reach is said to be the model.
_MOST = 0.95
#: What zeros are good for, as long as no target says more.
_WHAT_FOR = "files become smaller only when they are compressed, or written without zeros (tflite:sparse=true)"


def _has(pattern: Pattern | None, linear: Linear) -> bool:
    return pattern is not None and pattern.holds(linear.weights[:, :-1], linear.taps)


def _reason(node: Node, linear: Linear | None, pattern: Pattern | None) -> str:
    """Why a layer stays as it is; "" if it need not."""
    from edgecc.rewriting.reading import constant, is_floating

    weights = constant(node, 1)
    assert weights is not None
    if not is_floating(weights.dtype):
        return f"its weights are {weights.dtype}"
    if len(node.inputs[1].outputs) > 1:
        return "its weights are shared"
    if node.op == "ConvTranspose":
        return "what it sums over is not known"
    if int(node.attrs.get("group", 1)) != 1:
        return "it works on groups of channels"
    if linear is None:
        return "its weights are no matrix, or its bias is not constant"
    channels = (linear.weights.shape[1] - 1) // linear.taps
    if pattern is not None and channels % pattern.of:
        return f"it reads {channels} channels, no multiple of {pattern.of}"
    return ""
