"""One node being upgraded: what is known about its tensors, and the helper nodes around it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import onnx

from edgecc.deserialization import numpy_type, to_array
from edgecc.errors import InvalidModelError
from edgecc.importers.proto_graphs import every_graph
from edgecc.serialization import METADATA_ORIGINS

Shape = tuple[int | None, ...]


class Facts:
    """What is known about the tensors of a model before its conversion, found out only when a step asks.

    Subgraphs side by side may use one name for different tensors; then nothing is known about it.
    """

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._proto = onnx.ModelProto()
        self._proto.CopyFrom(proto)

    @cached_property
    def _types(self) -> dict[str, onnx.TypeProto | None]:
        try:
            inferred = onnx.shape_inference.infer_shapes(self._proto).graph
        except (onnx.shape_inference.InferenceError, ValueError):
            # Attributes of a function's body may refer to its caller's; and a damaged model is for the checker to name.
            inferred = self._proto.graph
        types: dict[str, onnx.TypeProto | None] = {}
        for graph in every_graph(inferred):
            for value in (*graph.value_info, *graph.input, *graph.output):
                known = types.setdefault(value.name, value.type)
                types[value.name] = known if known == value.type else None
            for tensor in graph.initializer:
                types[tensor.name] = onnx.helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
        return types

    @cached_property
    def _values(self) -> dict[str, onnx.TensorProto | None]:
        found: dict[str, onnx.TensorProto | None] = {}
        for graph in every_graph(self._proto.graph):
            tensors = {tensor.name: tensor for tensor in graph.initializer}
            for node in graph.node:
                if node.op_type == "Constant" and (tensor := _constant(node)) is not None:
                    tensors[node.output[0]] = tensor
            for name, tensor in tensors.items():
                found[name] = None if name in found else tensor
        return found

    @cached_property
    def _read(self) -> set[str]:
        graphs = list(every_graph(self._proto.graph))
        read = {name for graph in graphs for node in graph.node for name in node.input}
        return read | {value.name for graph in graphs for value in graph.output}

    @cached_property
    def _taken(self) -> set[str]:
        graphs = list(every_graph(self._proto.graph))
        taken = {name for graph in graphs for node in graph.node for name in (*node.input, *node.output)}
        return taken | {v.name for graph in graphs for v in (*graph.input, *graph.initializer)}

    def fresh(self, hint: str) -> str:
        """A tensor name that nothing has."""
        name, count = hint, 1
        while name in self._taken:
            count += 1
            name = f"{hint}_{count}"
        self._taken.add(name)
        return name

    def is_read(self, name: str) -> bool:
        return name in self._read

    def type(self, name: str) -> onnx.TypeProto | None:
        return self._types.get(name)

    def dtype(self, name: str) -> int:
        """The element type as onnx's number; 0 if unknown."""
        kind = self._types.get(name)
        return int(kind.tensor_type.elem_type) if kind is not None else 0

    def shape(self, name: str) -> Shape | None:
        kind = self._types.get(name)
        if kind is None or not kind.tensor_type.HasField("shape"):
            return None
        return tuple(int(d.dim_value) if d.HasField("dim_value") else None for d in kind.tensor_type.shape.dim)

    def values(self, name: str) -> np.ndarray | None:
        """The values of a small constant; None for large ones and for what is computed."""
        tensor = self._values.get(name)
        return None if tensor is None else to_array(tensor)


def _constant(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """What a Constant holds, if that is numbers."""
    attribute = node.attribute[0]
    if attribute.ref_attr_name or attribute.name not in _CONSTANTS:
        return None
    value, dtype = onnx.helper.get_attribute_value(attribute), _CONSTANTS[attribute.name]
    return value if dtype is None else onnx.numpy_helper.from_array(np.array(value, dtype))


#: Attributes of Constant, and the type that they give where it is not the value's own.
_CONSTANTS = {
    "value": None,
    "value_int": np.int64,
    "value_ints": np.int64,
    "value_float": np.float32,
    "value_floats": np.float32,
}


class Site:
    """One node being upgraded, and the helper nodes that take a place before and after it."""

    def __init__(self, node: onnx.NodeProto, facts: Facts) -> None:
        self.node = node
        self.facts = facts
        self._before: list[onnx.NodeProto] = []
        self._after: list[onnx.NodeProto] = []
        self._keeps_node = True

    def nodes(self) -> list[onnx.NodeProto]:
        """What stands in the node's place now."""
        return [*self._before, *([self.node] if self._keeps_node else ()), *self._after]

    # ------------------------------------------------------------------------------------------------ attributes

    def get(self, name: str, default: Any = None) -> Any:
        """The value of an attribute."""
        attribute = next((a for a in self.node.attribute if a.name == name), None)
        if attribute is None:
            return default
        if attribute.ref_attr_name:
            why = f"its attribute {name!r} is a parameter of a local function"
            raise self.refuse(why, "export the model without local functions")
        return onnx.helper.get_attribute_value(attribute)

    def pop(self, name: str, default: Any = None) -> Any:
        """Take an attribute away and return its value."""
        value = self.get(name, default)
        self.drop(name)
        return value

    def drop(self, name: str) -> None:
        for index, attribute in enumerate(self.node.attribute):
            if attribute.name == name:
                del self.node.attribute[index]
                return

    def set(self, name: str, value: object) -> None:
        self.drop(name)
        self.node.attribute.append(onnx.helper.make_attribute(name, value))

    # ------------------------------------------------------------------------------------------------ inputs, outputs

    def input(self, index: int) -> str:
        """The name of an input, "" if it is omitted."""
        return self.node.input[index] if index < len(self.node.input) else ""

    def set_input(self, index: int, name: str) -> None:
        while len(self.node.input) <= index:
            self.node.input.append("")
        self.node.input[index] = name

    def output(self, index: int) -> str:
        """The name of an output, "" if it is omitted or nothing reads it."""
        name = self.node.output[index] if index < len(self.node.output) else ""
        return name if name and self.facts.is_read(name) else ""

    def divert_output(self, index: int) -> str:
        """Let the node write under a fresh name, which is returned; a node added after it is to write the old one."""
        self.node.output[index] = self.facts.fresh(f"{self.node.output[index]}_{self.node.op_type}")
        return str(self.node.output[index])

    # ------------------------------------------------------------------------------------------------ helper nodes

    def constant(self, values: np.ndarray) -> str:
        tensor = onnx.numpy_helper.from_array(values)
        return self.before("Constant", [], value=tensor)

    def ints(self, values: Sequence[int]) -> str:
        return self.constant(np.array(values, np.int64))

    def scalar_like(self, value: float, name: str) -> str:
        """A scalar of the same type as the tensor `name`."""
        dtype = self.facts.dtype(name)
        if not dtype:
            return self.before("CastLike", [self.constant(np.array(value, np.float32)), name])
        return self.constant(np.array(value, numpy_type(dtype)))

    def reference(self, name: str) -> str:
        """The value of a local function's parameter, a list of integers."""
        output = self.before("Constant", [])
        self._before[-1].attribute.add(name="value_ints", ref_attr_name=name, type=onnx.AttributeProto.INTS)
        return output

    def before(self, op: str, inputs: Sequence[str], **attributes: object) -> str:
        """Add a node in front of this one; returns the name of its output."""
        output = self.facts.fresh(f"{self.node.output[0]}_{op}")
        self._before.append(self._make(op, inputs, output, attributes))
        return output

    def after(self, op: str, inputs: Sequence[str], output: str, **attributes: object) -> None:
        """Add a node behind this one that writes `output`."""
        self._after.append(self._make(op, inputs, output, attributes))

    def drop_node(self) -> None:
        """Leave only the helper nodes."""
        self._keeps_node = False

    def _make(self, op: str, inputs: Sequence[str], output: str, attributes: dict[str, object]) -> onnx.NodeProto:
        made = onnx.helper.make_node(op, inputs, [output], name=f"{self.node.name}/{op}")
        made.attribute.extend(onnx.helper.make_attribute(key, value) for key, value in attributes.items())
        made.metadata_props.add(key=METADATA_ORIGINS, value=self.node.name)
        return made

    def refuse(self, why: str, hint: str = "export the model with a newer opset") -> InvalidModelError:
        return InvalidModelError(
            f"{self.node.op_type} of an old opset cannot be converted",
            where=f"node {self.node.name!r}",
            why=why,
            hint=hint,
        )
