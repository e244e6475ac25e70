"""Which groups of a model may lose units, and why the others may not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from edgecc.model import matches_any
from edgecc.passes.leaving_alone import TO_BE_IGNORED
from edgecc.pruning.shortfall import Frozen

if TYPE_CHECKING:
    from edgecc.passes.base import PassContext
    from edgecc.pruning.groups import Group

#: What a group must have beside two units, and what it is said to lack.
_NEEDED = {"writers": "no layer computes it", "readers": "no layer reads its result"}


def open_groups(
    groups: Iterable[Group], ignore: Sequence[str], ctx: PassContext, *, unit: str, needs: Literal["writers", "readers"]
) -> tuple[list[Group], list[Frozen]]:
    """Those that may lose something, and the others, which are reported with their reasons.

    Args:
        groups: of a model.
        ignore: patterns of names of layers whose groups stay.
        ctx: gets the skips.
        unit: what a unit is called.
        needs: which layers a group must have for units to go.
    """
    found: list[Group] = []
    frozen: list[Frozen] = []
    for group in groups:
        layers = (*group.writers, *group.readers)
        reason = group.reason
        if ignore and any(matches_any(layer.node, ignore) for layer in layers):
            reason = TO_BE_IGNORED
        elif not reason and len(group.units) < 2:
            reason = f"it has no {unit} to lose"
        elif not reason and not getattr(group, needs):
            reason = _NEEDED[needs]
        if reason:
            ctx.skip(layers[0].node, reason)
            frozen.append(Frozen(group, reason))
        else:
            found.append(group)
    return found, frozen
