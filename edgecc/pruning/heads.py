"""Which groups of a model are heads of an attention, and how many of each go."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgecc.pruning.allocation import Work, allocate
from edgecc.rewriting.reading import is_op, rank

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor
    from edgecc.pruning.groups import Coupling, Group
    from edgecc.pruning.saliency import Curve

#: What may stand between a Softmax and the product with values.
_BEHIND_SOFTMAX = ("Cast", "Dropout", "Identity", "Where")


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
    grouped = {unit.root for group in coupling.groups for unit in group.units}
    return [
        (node, reason)
        for node in model.nodes("MatMul", "Attention")
        if node.op == "Attention" or any(_is_softmax(tensor, model) for tensor in node.inputs)
        if (reason := _why_kept(node, coupling, grouped))
    ]


def heads_of(node: Node) -> int:
    """Heads of a product of attention weights and values, or of an Attention; 0 where that is not known."""
    shape = node.outputs[0].shape
    heads = shape[-3] if shape is not None and len(shape) >= 4 else node.attrs.get("q_num_heads", 0)
    return heads if isinstance(heads, int) else 0


def _is_softmax(tensor: Tensor, model: Model) -> bool:
    """Whether it is the result of a Softmax, with or without what mends NaN of rows that are masked as a whole."""
    writer = model.producer(tensor)
    while is_op(writer, *_BEHIND_SOFTMAX):
        assert writer is not None, "it is an operator"
        # Where(IsNaN(weights), 0, weights): the last operand is what is mended.
        writer = model.producer(writer.inputs[2 if writer.op == "Where" else 0])
    return is_op(writer, "Softmax")


def _why_kept(node: Node, coupling: Coupling, grouped: Container[int]) -> str:
    """Why a product's heads are in no group; "" if they are in one."""
    operands = node.inputs[: 3 if node.op == "Attention" else 2]
    ranks = [rank(tensor) or 0 for tensor in operands]
    if min(ranks) < 4:
        return f"{operands[ranks.index(min(ranks))].name!r} has no axis of heads"
    heads = [coupling.tracker.of(tensor).get(axes - 3) for tensor, axes in zip(operands, ranks, strict=True)]
    # What all heads share has an axis of size 1.
    own = [
        (tensor, labels)
        for tensor, labels, axes in zip(operands, heads, ranks, strict=True)
        if tensor.shape[axes - 3] != 1
    ]
    stuck = [tensor for tensor, labels in own if labels is None]
    if stuck:
        return f"{stuck[0].name!r} keeps all of its heads"
    roots = [int(root) for labels in heads if labels is not None for root in coupling.root_of(labels)]
    alone = [root for root in roots if root not in grouped]
    return (coupling.tracker.ties.reason(alone[0]) or "no layer writes its heads") if alone else ""


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
