"""The oldest operator set in which every node of a model means what it means in the internal one.

A newer schema often adds only data types or an attribute that the node does not use. Such a node is the same in an
older operator set, and an older runtime loads it.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import onnx
import onnx_graphsurgeon as gs

from edgecc.importers.proto_graphs import every_graph
from edgecc.model import is_standard
from edgecc.opset import INTERNAL_OPSET
from edgecc_onnxruntime.target import OLDEST_OPSET

if TYPE_CHECKING:
    from edgecc.model import Model, Node

#: Attributes that a later version added, and the values with which the node does what it did before.
_ADDED: dict[tuple[str, str], tuple[object, ...]] = {
    ("AveragePool", "dilations"): (),
    ("BatchNormalization", "training_mode"): (0,),
    ("Cast", "saturate"): (1,),
    ("DequantizeLinear", "block_size"): (0,),
    ("DequantizeLinear", "output_dtype"): (0,),
    ("GRU", "layout"): (0,),
    ("LSTM", "layout"): (0,),
    ("QuantizeLinear", "block_size"): (0,),
    ("QuantizeLinear", "output_dtype"): (0,),
    ("QuantizeLinear", "precision"): (0,),
    ("QuantizeLinear", "saturate"): (1,),
    ("RNN", "layout"): (0,),
    ("Reshape", "allowzero"): (0,),
    ("Resize", "antialias"): (0,),
    ("Resize", "axes"): (),
    ("Resize", "keep_aspect_ratio_policy"): ("stretch",),
    ("ScatterElements", "reduction"): ("none",),
    ("ScatterND", "reduction"): ("none",),
    ("Shape", "end"): (),
    ("Shape", "start"): (0,),
    ("Split", "num_outputs"): (),
}
#: Values that a later version gave to an attribute that was there before, with the version.
_ADDED_VALUES: dict[tuple[str, str, object], int] = {
    ("Pad", "mode", "wrap"): 19,
    ("Resize", "coordinate_transformation_mode", "half_pixel_symmetric"): 19,
    ("ScatterElements", "reduction", "max"): 18,
    ("ScatterElements", "reduction", "min"): 18,
    ("ScatterND", "reduction", "max"): 18,
    ("ScatterND", "reduction", "min"): 18,
}


def oldest_opset(model: Model) -> int:
    """The oldest operator set, `OLDEST_OPSET` or later, that says the same."""
    return max([OLDEST_OPSET, *(oldest_for(node) for node in model.all_nodes())])


def oldest_for(node: Node) -> int:
    """The oldest operator set in which this node means the same."""
    if not is_standard(node):
        return OLDEST_OPSET
    versions = _schemas(node.op)
    if not versions:
        return INTERNAL_OPSET
    oldest = int(versions[0].since_version)
    for schema in versions[1:]:
        if oldest <= OLDEST_OPSET or not _means_the_same(node, schema, versions[0]):
            break
        oldest = int(schema.since_version)
    added = _ADDED_VALUES.items()
    needed = [version for (op, key, value), version in added if op == node.op and node.attrs.get(key) == value]
    return max([OLDEST_OPSET, oldest, *needed])


def drop_newer_attributes(graph: onnx.GraphProto, opset: int) -> None:
    """Remove attributes that the operator set does not know yet; `oldest_for` made sure that they say nothing new."""
    for part in every_graph(graph):
        for node in part.node:
            if node.domain not in ("", "ai.onnx") or not onnx.defs.has(node.op_type, opset, ""):
                continue
            known = onnx.defs.get_schema(node.op_type, opset, "").attributes
            kept = [attribute for attribute in node.attribute if attribute.name in known]
            if len(kept) < len(node.attribute):
                del node.attribute[:]
                node.attribute.extend(kept)


@functools.cache
def _schemas(op: str) -> tuple[Any, ...]:
    """The schemas of an operator up to the internal version, newest first."""
    found: list[Any] = []
    version = INTERNAL_OPSET
    while version >= 1 and onnx.defs.has(op, version, ""):
        schema = onnx.defs.get_schema(op, version, "")
        found.append(schema)
        version = schema.since_version - 1
    return tuple(found)


def _means_the_same(node: Node, older: Any, newest: Any) -> bool:
    if older.deprecated or not _same_attributes(node, older, newest):
        return False
    inputs = _present(node.inputs)
    if not older.min_input <= len(inputs) <= older.max_input or len(node.outputs) > older.max_output:
        return False
    return _types_allowed(inputs, older.inputs, older) and _types_allowed(node.outputs, older.outputs, older)


def _same_attributes(node: Node, older: Any, newest: Any) -> bool:
    if set(older.attributes) - set(newest.attributes):
        return False
    for name, attribute in newest.attributes.items():
        if name not in older.attributes:
            harmless = _ADDED.get((node.op, name))
            if harmless is None or (name in node.attrs and node.attrs[name] not in harmless):
                return False
        elif attribute.default_value != older.attributes[name].default_value:
            return False
    return True


def _present(tensors: list[gs.Tensor]) -> list[gs.Tensor]:
    """Without the omitted ones at the end."""
    count = len(tensors)
    while count and tensors[count - 1].is_empty():
        count -= 1
    return list(tensors[:count])


def _types_allowed(tensors: list[gs.Tensor], parameters: Any, schema: Any) -> bool:
    allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    for index, tensor in enumerate(tensors):
        if tensor.is_empty():
            continue
        kind = parameters[min(index, len(parameters) - 1)].type_str
        if type_string(tensor) not in allowed.get(kind, [kind]):
            return False
    return True


def type_string(tensor: gs.Tensor) -> str:
    """The tensor's type as schemas write it, `tensor(float)`; "" if it is unknown."""
    if tensor.dtype is None:
        return ""
    try:
        code = tensor.dtype if isinstance(tensor.dtype, int) else onnx.helper.np_dtype_to_tensor_dtype(tensor.dtype)
    except (KeyError, ValueError):
        return ""
    return f"tensor({onnx.TensorProto.DataType.Name(code).lower()})"
