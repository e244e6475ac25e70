"""Pass prune-heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from edgecc.passes.base import Loss, Pass, PassContext, check_ignore
from edgecc.passes.leaving_alone import (
    TO_BE_IGNORED,
    ignored_layers,
    leave_quantized,
    named_reasons,
    note_nothing,
    open_sizes,
)
from edgecc.passes.observing import samples_of
from edgecc.passes.shaping import one_budget

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model, Node
    from edgecc.pruning.groups import Coupling, Group
    from edgecc.pruning.saliency import Curve
    from edgecc.pruning.shortfall import Frozen


class PruneHeads(Pass):
    """Remove the attention heads that contribute least, and fit the layers that read them to what they computed.

    A head goes as a whole: its part of the projections to queries, keys and values, and of the projection of the
    result. What it contributes is what the last projection loses when the other heads make up for it as well as they
    can, relative to the variance of what it computes; that is compared between all attentions of the model.
    `prune-channels` takes heads too, beside channels; this pass takes nothing else.

    Before: q = MatMul(x, wq)  k = MatMul(x, wk)  v = MatMul(x, wv)  ...  y = MatMul(a, wo)    wq [384, 12 * 32]
    After:  q = MatMul(x, uq)  k = MatMul(x, uk)  v = MatMul(x, uv)  ...  y = MatMul(a, uo)    uq [384, 9 * 32]
    """

    name: ClassVar[str] = "prune-heads"
    loss: ClassVar[Loss] = Loss.LOSSY
    after: ClassVar[tuple[str, ...]] = ("fold-batchnorm", "fuse-matmul-add")
    before: ClassVar[tuple[str, ...]] = (
        *("factorize-low-rank", "prune-weights", "equalize-layers", "smooth-activations"),
        *("quantize-static", "quantize-dynamic", "quantize-weights", "mixed-precision", "convert-float16"),
    )

    ratio: float | None = Field(
        default=None, gt=0, lt=1, description="share of the model's heads that goes, from where they matter least"
    )
    heads: int | None = Field(default=None, ge=1, description="heads that are left to each attention that has more")
    criterion: Literal["obs", "activation", "magnitude"] = Field(
        default="obs", description="what a head costs: by inverse Hessian, by weights and activations, or by weights"
    )
    repair: bool = Field(default=True, description="fit the layers that read heads to what they computed")
    keep: float = Field(default=0.2, ge=0, lt=1, description="least share of the heads of an attention that stays")
    ignore: tuple[str, ...] = Field(default=(), description="patterns of names of layers whose heads stay")

    def run(self, model: Model, ctx: PassContext) -> bool:
        from edgecc.pruning.groups import find_coupling
        from edgecc.pruning.heads import heads_of, kept_whole
        from edgecc.pruning.planning import Planner
        from edgecc.pruning.repaired_removal import remove_with_repair

        self._check(model)
        coupling = find_coupling(model)
        hidden = kept_whole(model, coupling)
        for node, reason in hidden:
            ctx.skip(node, reason)
        groups, frozen = self._groups(coupling, ctx)
        frozen = [one for one in frozen if one.reason != TO_BE_IGNORED]
        left_alone = [(skip.node, skip.reason) for skip in ctx.skips if skip.pass_name == self.name]
        left_alone = [pair for pair in left_alone if pair[1] != TO_BE_IGNORED]
        quantized = leave_quantized(self, model, ctx)
        if not groups:
            if not quantized:
                none = "no attention: no product with the result of a Softmax"
                note_nothing(self, ctx, "attention", none, _hint(model, hidden))
            return False
        data = None if self.criterion == "magnitude" and not self.repair else self._data(ctx)
        keep = 0.0 if self.heads is not None else self.keep
        curves = Planner(model, coupling, self.criterion, keep, ctx.progress).curves(groups, data)
        gone = self._allocate(groups, curves, ctx)
        units = []
        for group, curve, count in zip(groups, curves, gone, strict=True):
            units += [group.units[index] for index in curve.order[:count]]
            if count:
                ctx.done(group.readers[0].node, f"{count} of {len(group.units)} heads removed")
        if not units:
            most = max(len(group.units) for group in groups)
            asked = f"heads={self.heads}" if self.heads is not None else f"ratio={self.ratio:g}"
            ctx.note(f"{self.name}: nothing to do: with {asked}, attentions of at most {most} heads keep all of them")
            return False
        if self.ratio is not None:
            stuck = sum(heads_of(node) for node, _ in hidden) + sum(len(one.group.units) for one in frozen)
            sizes = [len(group.units) for group in groups]
            self._say_if_short(gone, sizes, stuck, left_alone, _hint(model, hidden), ctx)
        ignored = ignored_layers(self.ignore, model)
        remove_with_repair(model, coupling, units, data if self.repair else None, ignored, ctx.progress)
        return True

    def _check(self, model: Model) -> None:
        check_ignore(self, self.ignore, model)
        hint = f"{self.name}:ratio=0.25 removes a quarter of all heads, {self.name}:heads=8 leaves 8 to each"
        one_budget(self, ("ratio", "heads"), hint=hint)

    def _data(self, ctx: PassContext) -> CalibrationData:
        why = "it measures what each head contributes, and fits the layers that read heads"
        return samples_of(self, ctx, why, without=f"{self.name}:criterion=magnitude,repair=false,...")

    def _groups(self, coupling: Coupling, ctx: PassContext) -> tuple[list[Group], list[Frozen]]:
        """Heads that may go; attentions that must keep theirs are reported with the reason."""
        from edgecc.pruning.heads import head_groups
        from edgecc.pruning.open_groups import open_groups

        return open_groups(head_groups(coupling), self.ignore, ctx, unit="head", needs="readers")

    def _allocate(self, groups: list[Group], curves: list[Curve], ctx: PassContext) -> list[int]:
        """How many heads each attention loses."""
        from edgecc.pruning.heads import heads_to_remove

        sizes = [len(group.units) for group in groups]
        if self.heads is not None:
            return [max(0, size - self.heads) for size in sizes]
        assert self.ratio is not None, "it was checked"
        return heads_to_remove(curves, sizes, self.ratio)

    def _say_if_short(
        self,
        gone: Sequence[int],
        sizes: Sequence[int],
        stuck: int,
        left_alone: Sequence[tuple[str, str]],
        hint: str,
        ctx: PassContext,
    ) -> None:
        """Say why fewer heads are gone than were asked for.

        Args:
            gone: heads that each attention loses.
            sizes: that it had.
            stuck: heads of attentions that keep all of theirs, as far as is known.
            left_alone: those attentions, with reasons.
            hint: what to try about them; "" for nothing.
            ctx: gets the note.
        """
        assert self.ratio is not None, "it was checked"
        total = sum(sizes) + stuck
        if sum(gone) >= round(self.ratio * total):
            return
        causes, hints = [], []
        if left_alone:
            keep = "1 attention keeps" if len(left_alone) == 1 else f"{len(left_alone)} attentions keep"
            causes.append(
                f"{keep} all of {'its' if len(left_alone) == 1 else 'their'} heads ({named_reasons(left_alone)})"
            )
            hints += [hint] if hint else []
        if sum(gone) < round(self.ratio * sum(sizes)):
            others = "each of the others keeps" if left_alone else "each attention keeps"
            single = max(size - count for size, count in zip(sizes, gone, strict=True)) == 1
            causes.append(f"{others} {'its last head' if single else f'{self.keep:.0%} of its heads'}")
            hints += [] if single else [f"keep={self.keep / 2:g} lets more of each go"]
        tries = f". Try: {', or '.join(hints)}" if hints else ""
        ctx.note(
            f"{self.name}: {sum(gone)} of {total} heads are gone, not {self.ratio:.0%}: {', and '.join(causes)}{tries}"
        )


def _hint(model: Model, hidden: list[tuple[Node, str]]) -> str:
    """What to try where heads are in no group: as PyTorch writes it, they are on one axis with an open batch."""
    fixed = open_sizes(model) if hidden else ""
    return f"{fixed}, since heads that share an axis with an open size cannot be told apart" if fixed else ""
