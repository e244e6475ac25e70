"""Operators of a quantized model that targets compute with integers: float16 around them would only add Casts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecc.model import Model, Node, is_standard
from edgecc.precision.slots import Slots, is_float32
from edgecc.quantization.scheme import MEASURED
from edgecc.rewriting.reading import is_op

if TYPE_CHECKING:
    from edgecc.model import Tensor
    from edgecc.precision.policy import Rule

_REASON = "it computes with integers: all that it reads is dequantized, and all that it writes is quantized"


def integer_islands(model: Model) -> Rule:
    """Operators between DequantizeLinear and QuantizeLinear, which targets compute with the integers themselves."""
    islands = islands_of(model)

    def rule(node: Node, slots: Slots) -> str:
        del slots
        return _REASON if id(node) in islands else ""

    return rule


def islands_of(model: Model) -> set[int]:
    """Ids of the nodes that some target has an integer kernel for and that meet floats nowhere.

    They may be several behind one another, as a Relu behind a convolution, if both ends are integers.
    """
    known = [node for node in model.nodes() if node.op in MEASURED and is_standard(node) and _computed(node)]
    found = {id(node) for node in known}
    count = -1
    # One that meets floats lets its neighbours meet them too.
    while count != len(found):
        count = len(found)
        for node in known:
            if not (_reads_integers(node, model, found) and _writes_integers(node, model, found)):
                found.discard(id(node))
    return found


def _computed(node: Node) -> list[Tensor]:
    return [t for t in node.inputs if is_float32(t) and getattr(t, "values", None) is None]


def _reads_integers(node: Node, model: Model, found: set[int]) -> bool:
    writers = [model.producer(tensor) for tensor in _computed(node)]
    return all(w is not None and (is_op(w, "DequantizeLinear") or id(w) in found) for w in writers)


def _writes_integers(node: Node, model: Model, found: set[int]) -> bool:
    written = [tensor for tensor in node.outputs if not tensor.is_empty()]
    readers = [reader for tensor in written for reader in model.consumers(tensor)]
    outputs = any(model.is_output(tensor) for tensor in written)
    return not outputs and all(is_op(r, "QuantizeLinear") or id(r) in found for r in readers)
