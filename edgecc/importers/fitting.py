"""Whether a node of a newer opset means the same in the internal one."""

from __future__ import annotations

from functools import cache

import onnx

from edgecc.importers.upgrade_site import Facts
from edgecc.opset import INTERNAL_OPSET


def fits(node: onnx.NodeProto, opset: int, facts: Facts) -> bool:
    """Whether the internal opset can express the node as it is; drops attributes that say a newer default."""
    return bool(node.domain) or not _changed(node.op_type, opset) or _is_expressible(node, opset, facts)


@cache
def _changed(op: str, opset: int) -> bool:
    if not onnx.defs.has(op):
        return False
    return bool(onnx.defs.get_schema(op, opset).since_version > INTERNAL_OPSET)


def _is_expressible(node: onnx.NodeProto, opset: int, facts: Facts) -> bool:
    if not onnx.defs.has(node.op_type, INTERNAL_OPSET, ""):
        return False
    newer = onnx.defs.get_schema(node.op_type, opset)
    older = onnx.defs.get_schema(node.op_type, INTERNAL_OPSET)
    extra = [a for a in node.attribute if a.name not in older.attributes]
    if any(onnx.helper.get_attribute_value(a) != _default(newer, a.name) for a in extra):
        return False
    if any(node.input[older.max_input :]) or any(node.output[older.max_output :]):
        return False
    if not _types_fit(older, node, facts) or _means_more(node, facts):
        return False
    for attribute in extra:
        node.attribute.remove(attribute)
    return True


def _means_more(node: onnx.NodeProto, facts: Facts) -> bool:
    """Mod-28 takes floats without fmod, which has the same signature as before and was not defined."""
    if node.op_type != "Mod" or any(a.name == "fmod" and a.i for a in node.attribute):
        return False
    dtype = facts.dtype(node.input[0])
    return bool(dtype) and onnx.helper.tensor_dtype_to_np_dtype(dtype).kind not in "iu"


def _default(schema: onnx.defs.OpSchema, name: str) -> object:
    value = schema.attributes[name].default_value
    return onnx.helper.get_attribute_value(value) if value.type else None


def _types_fit(schema: onnx.defs.OpSchema, node: onnx.NodeProto, facts: Facts) -> bool:
    # `formal.types` would say it, but its binding is broken in onnx 1.20.
    allowed = {constraint.type_param_str: constraint.allowed_type_strs for constraint in schema.type_constraints}
    for formals, names in ((schema.inputs, node.input), (schema.outputs, node.output)):
        for index, name in enumerate(names):
            formal = formals[min(index, len(formals) - 1)]
            dtype = facts.dtype(name)
            types = allowed.get(formal.type_str, [formal.type_str])
            if dtype and f"tensor({onnx.TensorProto.DataType.Name(dtype).lower()})" not in types:
                return False
    return True
