"""Slots: which inputs and outputs of a node change type together, read from the operator's schema."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from edgecc.model import is_standard
from edgecc.opset import INTERNAL_OPSET
from edgecc.serialization import subgraphs_of

#: Attribute with the type of the output, of operators whose inputs do not decide it.
OUTPUT_TYPE_ATTRIBUTE = {"Cast": "to", "DequantizeLinear": "output_dtype"}
#: Inputs that stay float32 beside float16 data: regions of interest are coordinates.
_FIXED_INPUTS = frozenset({("Resize", 1)})
#: Operators whose schema allows float16 and whose definition as an ONNX function has float32 constants in it.
_FLOAT32_INSIDE = frozenset({"MeanVarianceNormalization"})
_HALF = "tensor(float16)"


class Slots(NamedTuple):
    """Positions of a node's float32 tensors.

    Attributes:
        inputs, outputs: those that become float16 if the node does.
        fixed_inputs: those that must be float32 in either case.
        any_inputs: those that are read in whatever float type they are stored.
        problem: why the node cannot become float16; "" if it can.
    """

    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    fixed_inputs: tuple[int, ...] = ()
    any_inputs: tuple[int, ...] = ()
    problem: str = ""

    @property
    def concerned(self) -> bool:
        """Whether float16 is a question for this node at all."""
        return bool(self.inputs or self.outputs)


def is_float32(tensor: gs.Tensor) -> bool:
    known = not tensor.is_empty() and tensor.dtype is not None and _is_tensor(tensor)
    return known and bool(tensor.dtype == np.float32)


def _is_tensor(tensor: gs.Tensor) -> bool:
    """Not a sequence or an optional, whose elements have types of their own."""
    return isinstance(tensor, gs.Constant) or getattr(tensor, "type", "tensor_type") == "tensor_type"


def slots_of(node: gs.Node) -> Slots:
    """The node's slots; a node that cannot be float16 reads float32 everywhere."""
    inputs = tuple(i for i, t in enumerate(node.inputs) if is_float32(t))
    outputs = tuple(i for i, t in enumerate(node.outputs) if is_float32(t))
    if subgraphs_of(node):
        return Slots(inputs, outputs, inputs, problem="it has subgraphs")
    if not is_standard(node):
        return Slots(inputs, outputs, inputs, problem=f"the types of domain {node.domain} are not known")
    types = _types(node.op)
    if types is None:
        return Slots(inputs, outputs, inputs, problem=f"{node.op} is not an operator of opset {INTERNAL_OPSET}")
    if types.has_sequence or not all(_is_tensor(t) for t in (*node.inputs, *node.outputs)):
        return Slots(inputs, outputs, inputs, problem="it works on sequences")
    return _by_schema(node, inputs, outputs, types)


def _by_schema(node: gs.Node, inputs: tuple[int, ...], outputs: tuple[int, ...], types: _Types) -> Slots:
    half_inputs = tuple(i for i in inputs if types.takes_half(i) and (node.op, i) not in _FIXED_INPUTS)
    fixed = tuple(i for i in inputs if i not in half_inputs)
    half_outputs = tuple(i for i in outputs if types.gives_half(i))
    if node.op in _FLOAT32_INSIDE or (not half_inputs and inputs and half_outputs):
        return Slots(inputs, outputs, inputs, problem=f"{node.op} computes in float32 only")
    bound = {types.input_variable(i) for i in range(len(node.inputs))}
    unbound = [i for i in half_outputs if types.output_variable(i) not in bound]
    if unbound and node.op not in OUTPUT_TYPE_ATTRIBUTE:
        return Slots(inputs, outputs, inputs, problem=f"{node.op} makes float32 values from an attribute")
    if len(half_inputs) == 1 and (node.op == "Cast" or not outputs):
        # Nothing else must have the same type: a Cast, Shape, ArgMax or NonZero needs no Cast before it.
        return Slots((), half_outputs, fixed, half_inputs)
    return Slots(half_inputs, half_outputs, fixed)


class _Types(NamedTuple):
    """Type variables of an operator's formal inputs and outputs; the last one may repeat.

    Attributes:
        half: variables that can be float16.
        has_sequence: one of them is always a sequence or an optional.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    half: frozenset[str]
    has_sequence: bool

    def input_variable(self, position: int) -> str:
        return self.inputs[min(position, len(self.inputs) - 1)]

    def output_variable(self, position: int) -> str:
        return self.outputs[min(position, len(self.outputs) - 1)]

    def takes_half(self, position: int) -> bool:
        return self.input_variable(position) in self.half

    def gives_half(self, position: int) -> bool:
        return self.output_variable(position) in self.half


@functools.cache
def _types(op: str) -> _Types | None:
    try:
        schema = onnx.defs.get_schema(op, INTERNAL_OPSET, "")
    except onnx.defs.SchemaError:
        return None
    allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    return _Types(
        inputs=tuple(i.type_str for i in schema.inputs),
        outputs=tuple(o.type_str for o in schema.outputs),
        half=frozenset(name for name, types in allowed.items() if _HALF in types),
        has_sequence=any(not any(text.startswith("tensor(") for text in types) for types in allowed.values()),
    )
