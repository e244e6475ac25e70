"""Layers with quantized weights, beside the float layers that they were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgecc.inspection import RECURRENT
from edgecc.rewriting.linear import LINEAR, Linear, linear_of
from edgecc.rewriting.reading import constant, is_op

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor
    from edgecc.passes.base import PassContext

#: Products of integers, of ONNX itself and of ONNX Runtime.
_INTEGER = frozenset(
    {"ConvInteger", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat"}
    | {"MatMulNBits", "QGemm", "QLinearConv", "QLinearMatMul"}
)
#: Why passes that compare the quantized model with the float one need samples.
COMPARES = "it runs the float model and the quantized one on samples; saved statistics do not do"


@dataclass(frozen=True)
class QuantizedLayer:
    """A linear node whose weights are stored as integers.

    Attributes:
        node: of the quantized model.
        weights: the DequantizeLinear of its weights.
        source: the same node in the float model.
    """

    node: Node
    weights: Node
    source: Linear

    def output_axis(self) -> int | None:
        """The axis of the output channels."""
        return self.source.output_axis()


def quantized_layers(model: Model, ctx: PassContext, ignore: tuple[str, ...] = ()) -> list[QuantizedLayer]:
    """The layers with integer weights, in order; those without a counterpart in the float model are skipped.

    Args:
        model: quantized; sorted.
        ctx: with the float model; skips are reported to it.
        ignore: patterns of names of nodes to leave out.
    """
    reference = ctx.float_model
    known = {} if reference is None else {node.name: node for node in reference.nodes(*LINEAR)}
    found = []
    for node in model.nodes(*LINEAR, ignore=ignore):
        stored = dequantized(node.inputs[1])
        if stored is None or constant(stored, 0) is None:
            continue
        source = linear_of(known.get(node.name), reference) if reference is not None else "no float model is known"
        if isinstance(source, str):
            reason = "what it was in float is not known: the model came quantized, or a pass made it new"
            ctx.skip(node, reason)
        elif not _have_one_shape(node, stored, source):
            ctx.skip(node, "its weights have another shape than in float")
        else:
            found.append(QuantizedLayer(node, stored, source))
    return found


def integer_layers(model: Model) -> list[Node]:
    """Layers that compute with stored integers, in order: in operators of their own, or behind DequantizeLinear."""
    return [node for node in model.all_nodes() if node.op in _INTEGER or _has_stored_integers(node)]


def _has_stored_integers(node: Node) -> bool:
    if node.op not in (*LINEAR, *RECURRENT) or len(node.inputs) < 2:
        return False
    stored = dequantized(node.inputs[1])
    return stored is not None and constant(stored, 0) is not None


def has_rows_first(node: Node) -> bool:
    """Whether weights have one row per output: a pass may store those of a Gemm the other way round."""
    return node.op == "Conv" or bool(node.op == "Gemm" and node.attrs.get("transB", 0))


def _have_one_shape(node: Node, stored: Node, source: Linear) -> bool:
    values = constant(stored, 0)
    assert values is not None, "the caller has seen to it"
    if has_rows_first(node) != has_rows_first(source.node):
        return values.shape == source.weights.shape[::-1]
    return values.shape == source.weights.shape


def dequantized(tensor: Tensor) -> Node | None:
    """The DequantizeLinear that writes the tensor."""
    producer = tensor.inputs[0] if tensor.inputs else None
    return producer if producer is not None and is_op(producer, "DequantizeLinear") else None
