"""Why a budget is not met: which groups may not go, how far the others went, and what to type next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgecc.passes.leaving_alone import named_reasons
from edgecc.passes.shaping import hint_to_take, how_far

if TYPE_CHECKING:
    from edgecc.pruning.groups import Group


@dataclass(frozen=True)
class Frozen:
    """A group that stays.

    Attributes:
        group: whole.
        reason: why.
    """

    group: Group
    reason: str


def shortfall(
    left: float, budget: float, counted: str, units: Sequence[int], frozen: Sequence[Frozen], keep: float
) -> str:
    """A sentence for the user.

    Args:
        left: share that is left when nothing more may go.
        budget: share that was asked for.
        counted: what the budget counts, a key of `BUDGETS`.
        units: that are left to each group which lost what it may.
        frozen: the others.
        keep: least share of a group that stays.
    """
    parts = [how_far(counted, left, budget)]
    causes = []
    if max(units, default=0) > 1:
        causes.append(f"{_groups(len(units))} down to {keep:.0%} of {'its' if len(units) == 1 else 'their'} units")
    elif units:
        causes.append(f"{_groups(len(units))} down to a single unit")
    if frozen:
        causes.append(f"{_groups(len(frozen))} {'not to lose any' if units else 'to stay'} ({_named(frozen)})")
    if causes:
        parts.append(" and ".join(causes))
    hints = []
    if keep > 0 and max(units, default=0) > 1:
        hints.append(f"keep={keep / 2:g} lets more of each group go")
    hints.append(hint_to_take("--low-rank", counted, left, budget))
    return f"{': '.join(parts)}. Try: {', or '.join(hints)}"


def nothing_goes(frozen: Sequence[Frozen], inner: int) -> str:
    """A sentence for a model of which nothing may go.

    Args:
        frozen: its groups.
        inner: how many of its layers are in subgraphs.
    """
    if not frozen and inner:
        what = "1 layer is" if inner == 1 else f"{inner} layers are"
        return f"nothing goes: {what} in subgraphs of If, Loop or Scan, which are left alone"
    if not frozen:
        return "nothing goes: the model has no layer whose channels are read by another one"
    return f"nothing goes: {_groups(len(frozen))} to stay ({_named(frozen)}). Try: --low-rank 0.3 makes layers smaller"


def _groups(count: int) -> str:
    return "1 group of channels is" if count == 1 else f"{count} groups of channels are"


def _named(frozen: Sequence[Frozen]) -> str:
    return named_reasons([(one.group.name, one.reason) for one in frozen])
