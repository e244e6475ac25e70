"""Which groups of a model are heads of an attention, and how many of each go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgecc.pruning.allocation import Work, allocate
from edgecc.rewriting.reading import is_op, rank

if TYPE_CHECKING:
    from edgecc.model import Model, Node
    from edgecc.pruning.groups import Coupling, Group
    from edgecc.pruning.saliency import Curve


def head_groups(coupling: Coupling) -> list[Group]:
    """Groups whose units are heads: what products of two computed tensors are batched over, or an Attention has."""
    heads = {int(root) for labels in coupling.tracker.heads for root in coupling.root_of(labels)}
    return [group for group in coupling.groups if any(unit.root in heads for unit in group.units)]


def kept_whole(model: Model, coupling: Coupling) -> list[tuple[Node, str]]:
    """Products of attention weights and values whose heads are in no group, and why.

    Args:
        model: that the coupling was found in.
        coupling: its groups.
    """
    found = []
    for node in model.nodes("MatMul", "Attention"):
        if node.op == "MatMul" and not any(is_op(model.producer(tensor), "Softmax") for tensor in node.inputs):
            continue
        operands = node.inputs[: 3 if node.op == "Attention" else 2]
        ranks = [rank(tensor) or 0 for tensor in operands]
        if min(ranks) < 4:
            found.append((node, f"{operands[ranks.index(min(ranks))].name!r} has no axis of heads"))
            continue
        stuck = [t for t, axes in zip(operands, ranks, strict=True) if coupling.tracker.of(t).get(axes - 3) is None]
        if stuck:
            found.append((node, f"{stuck[0].name!r} keeps all of its heads"))
    return found


def heads_to_remove(curves: Sequence[Curve], sizes: Sequence[int], share: float) -> list[int]:
    """How many heads each attention loses, so that a share of all goes where it costs least.

    Args:
        curves: of the groups.
        sizes: heads of each.
        share: of all of them that goes, rounded to whole heads.
    """
    total = sum(sizes)
    left = (total - round(share * total)) / total
    works = [Work(size, {}, {index: 1}, 1, size) for index, size in enumerate(sizes)]
    # Half a head of slack: sums of shares are not exact.
    return allocate(curves, works, left + 0.5 / total, np.ones(len(sizes), np.int64).tolist(), sizes)
