"""Pass expand-functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecc.errors import UnknownNameError
from edgecc.passes.base import Loss, NodePass, PassContext

if TYPE_CHECKING:
    from edgecc.model import Model, Node

#: Functions that many runtimes have no kernel for.
_RARE = (
    "AffineGrid",
    "Attention",
    "CastLike",
    "CenterCropPad",
    "GroupNormalization",
    "MeanVarianceNormalization",
    "NegativeLogLikelihoodLoss",
    "RMSNormalization",
    "RotaryEmbedding",
    "SoftmaxCrossEntropyLoss",
)


class ExpandFunctions(NodePass):
    """Replace operators that ONNX defines as functions by the bodies that ONNX gives them.

    Before: y = Softsign(x)
    After:  a = Abs(x)   b = Add(one, a)   y = Div(x, b)

    For targets that lack an operator and have those of its body. A runtime that has the operator sums in another order
    than its body does, hence rounding.

    Attributes:
        operators: types of the operators to expand.
        ignore: patterns of node names to leave alone.
    """

    name = "expand-functions"
    loss = Loss.ROUNDING

    operators: tuple[str, ...] = _RARE

    def run(self, model: Model, ctx: PassContext) -> bool:
        self._check_operators()
        changed = False
        # Bodies hold functions too, and some bodies depend on the types that the one around them leads to.
        while super().run(model, ctx):
            model.infer_shapes()
            changed = True
        return changed

    def candidates(self, model: Model) -> list[Node]:
        return model.nodes(*self.operators, ignore=self.ignore) if self.operators else []

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        if expand(node, model):
            return True
        ctx.skip(node, "ONNX has no body for it in this form, or the types of its inputs are not known")
        return False

    def _check_operators(self) -> None:
        import onnx

        from edgecc.importers.functions import has_body
        from edgecc.opset import INTERNAL_OPSET

        for operator in self.operators:
            if not has_body(operator, INTERNAL_OPSET):
                names = {s.name for s in onnx.defs.get_all_schemas() if has_body(s.name, INTERNAL_OPSET)}
                raise UnknownNameError("ONNX function", operator, names, where=f"pass {self.name}")


def expand(node: Node, model: Model) -> bool:
    """Put the body that ONNX defines for a node of the main graph in its place; its origins are the node's.

    Returns:
        Whether there is one: the model is unchanged otherwise.
    """
    from edgecc.deserialization import nodes_from_protos
    from edgecc.errors import InvalidModelError
    from edgecc.importers import opset_conversion
    from edgecc.opset import INTERNAL_OPSET
    from edgecc.serialization import node_to_proto, value_info

    types = [value_info(t).type if t.dtype is not None else None for t in node.inputs]
    try:
        protos = opset_conversion.expand(node_to_proto(node), types, INTERNAL_OPSET, model.fresh_name)
    except InvalidModelError:  # the internal opset cannot express the body
        return False
    if protos is None:
        return False
    tensors = [*node.inputs, *node.outputs]
    position = next(index for index, other in enumerate(model.graph.nodes) if other is node)
    model.remove(node)
    model.graph.nodes[position : position + 1] = nodes_from_protos(protos, tensors, INTERNAL_OPSET)
    return True
