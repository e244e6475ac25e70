"""Pass eliminate-zero-states."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc.passes.base import Loss, NodePass, PassContext
from edgecc.rewriting.reading import has_operand

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor

#: Operators whose results are zero where their first operand is, or all of them are.
_HANDS_ON = frozenset(
    {"Expand", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
)
#: Inputs that are zero where they are left out.
_STATES = {"GRU": (5,), "LSTM": (5, 6), "RNN": (5,)}
#: Nodes between a state and where its zeros come from.
_MOST_STEPS = 16


class EliminateZeroStates(NodePass):
    """Leave out the initial states of recurrent operators where they are zero.

    Before: h = ConstantOfShape(shape)   y = GRU(x, w, r, b, , h)
    After:  y = GRU(x, w, r, b)

    With an open batch exporters compute their shape, which goes with them.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "eliminate-zero-states"
    loss = Loss.EXACT
    keeps_types = True

    def candidates(self, model: Model) -> list[Node]:
        return model.nodes(*_STATES, ignore=self.ignore)

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        changed = False
        for index in _STATES[node.op]:
            if not has_operand(node, index):
                continue
            state = node.inputs[index]
            if not _is_zero(state, _MOST_STEPS):
                ctx.skip(node, f"its initial state {state.name!r} is not known to be zero")
                continue
            ctx.done(node, f"its initial state {state.name!r} is zero")
            model.set_input(node, index, _nothing())
            changed = True
        while changed and node.inputs[-1].is_empty():
            model.drop_input(node, len(node.inputs) - 1)
        return changed


def _nothing() -> Tensor:
    import onnx_graphsurgeon as gs

    return gs.Variable.empty()


def _is_zero(tensor: Tensor, steps: int) -> bool:
    """Whether every element is 0.0, and not -0.0."""
    from edgecc.model import is_standard, value_of

    values = value_of(tensor)
    if values is not None:
        return values.dtype.kind == "f" and not values.any() and not np.signbit(values).any()
    node = tensor.inputs[0] if tensor.inputs else None
    if node is None or not is_standard(node) or not steps:
        return False
    if node.op == "ConstantOfShape":
        filler = node.attrs.get("value")
        held = np.zeros(1, np.float32) if filler is None else np.asarray(getattr(filler, "values", filler))
        return held.dtype.kind == "f" and not held.any() and not np.signbit(held).any()
    if node.op == "Concat":
        return all(_is_zero(part, steps // 2) for part in node.inputs)
    return node.op in _HANDS_ON and _is_zero(node.inputs[0], steps - 1)
