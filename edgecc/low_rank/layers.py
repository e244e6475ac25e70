"""The layers of a model that could be factorized, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecc.inspection import macs
from edgecc.low_rank.splits import Split, splits_of
from edgecc.model import matches_any, origins
from edgecc.pruning.features import Linear, linear_of
from edgecc.pruning.works import size_of, size_of_constant, weights_of
from edgecc.rewriting.linear import LINEAR
from edgecc.rewriting.linear import linear_of as constant_linear
from edgecc.rewriting.reading import constant, is_floating, is_op, is_scaled_gemm

if TYPE_CHECKING:
    from edgecc.model import Model, Node
    from edgecc.passes.base import PassContext


@dataclass(frozen=True)
class Candidate:
    """A layer that could be factorized.

    Attributes:
        linear: its weights and how it reads its rows.
        splits: where; each of them saves something at rank 1.
        biased: whether it has, or may be given, a bias that makes up for what is lost on average.
    """

    linear: Linear
    splits: tuple[Split, ...]
    biased: bool


def candidates(
    model: Model, kinds: Sequence[str], ignore: Sequence[str], whole: Sequence[str], ctx: PassContext
) -> list[Candidate]:
    """The layers that could be factorized; the others are reported with the reason.

    Args:
        model: not changed.
        kinds: of splits.
        ignore: patterns of names of layers that are none.
        whole: likewise, for another reason.
        ctx: gets the skips.
    """
    found = []
    for node in model.nodes("Conv", "ConvTranspose", "Gemm", "MatMul"):
        if constant(node, 1) is None:
            continue
        if matches_any(node, ignore):
            result: Candidate | str = "it is to be ignored"
        elif matches_any(node, whole):
            result = "it is to stay whole"
        else:
            result = _candidate(node, kinds, model)
        if isinstance(result, str):
            ctx.skip(node, result)
        else:
            found.append(result)
    return found


def _candidate(node: Node, kinds: Sequence[str], model: Model) -> Candidate | str:
    weights = constant(node, 1)
    assert weights is not None
    if node.op == "ConvTranspose":
        return "a ConvTranspose is not factorized"
    if int(node.attrs.get("group", 1)) != 1:
        return "it works on groups of channels"
    if not is_floating(weights.dtype):
        return f"its weights are {weights.dtype}"
    if len(node.inputs[1].outputs) > 1:
        return "its weights are shared"
    if node.outputs[0].shape is None:
        return "the shape of its output is not known"
    if is_scaled_gemm(node):
        return "it scales its product or its bias"
    if _factor_before(node, model) is not None or _factor_behind(node, model) is not None:
        return "it is a factor already"
    linear = linear_of(node)
    if linear is None:
        return "its weights are no matrix, or its bias is not constant"
    outputs, features = len(linear.weights), linear.weights.shape[1] - 1
    splits = splits_of(node, features // linear.taps, outputs, kinds)
    splits = [split for split in splits if split.macs(1) < split.full_macs() and split.params(1) < split.full_params()]
    if not splits:
        return "no rank saves anything"
    found = constant_linear(node, model)
    assert not isinstance(found, str), "its weights are constant"
    return Candidate(linear, tuple(splits), node.op != "MatMul" or found.adder is not None)


# ---------------------------------------------------------------------------------------------------- factors there


def _factor_behind(node: Node, model: Model) -> Node | None:
    """The next factor of the same source layer: it reads this one's result, and nothing else does."""
    reader = model.single_consumer(node.outputs[0])
    if reader is None or not is_op(reader, *LINEAR) or reader.inputs[0] is not node.outputs[0]:
        return None
    return reader if origins(reader) == origins(node) and not model.is_inner(reader) else None


def _factor_before(node: Node, model: Model) -> Node | None:
    producer = model.producer(node.inputs[0])
    if producer is None or not is_op(producer, *LINEAR):
        return None
    return producer if _factor_behind(producer, model) is node else None


def sizes_of(model: Model, measure: str) -> tuple[int, int]:
    """What a budget counts: as it is, and as it was before factorizing.

    Multiply-accumulates (`macs`), weights of layers (`params`) or bytes of all constants (`bytes`). Where layers are
    the factors of one, that one is counted in the second number, so that a budget stays the same share of the same
    whole.
    """
    now = whole = size_of(model, measure)
    for node in model.nodes():
        behind, before = _factor_behind(node, model), _factor_before(node, model)
        if behind is not None or before is not None:
            whole -= _size(node, measure)
        if behind is None and before is not None:
            whole += _product_size(node, model, measure)
    return now, whole


def _size(node: Node, measure: str) -> int:
    if measure == "macs":
        return macs(node)
    return sum(size_of_constant(tensor, measure) for tensor in weights_of(node))


def _product_size(last: Node, model: Model, measure: str) -> int:
    """Of the layer of which this is the last factor."""
    chain = [last]
    while (before := _factor_before(chain[0], model)) is not None:
        chain.insert(0, before)
    size = 1
    for node in chain:
        linear = linear_of(node)
        assert linear is not None, "the pass has made it"
        size *= linear.taps
        if node is chain[0]:
            size *= (linear.weights.shape[1] - 1) // linear.taps
        if node is last:
            size *= len(linear.weights)
            own = linear.weights.size - len(linear.weights)
            positions = macs(node) // max(1, own)
    if measure == "params":
        return size
    return size * (positions if measure == "macs" else int(np.dtype(last.inputs[1].dtype).itemsize))
