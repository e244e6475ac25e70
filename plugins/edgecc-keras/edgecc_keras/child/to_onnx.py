"""Traced functions to ONNX, through tf2onnx."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import onnx

from edgecc_keras.child.report import ModelError
from edgecc_keras.child.traced import Traced

#: The newest that tf2onnx writes; edgecc brings it to its own.
_OPSET = 18
_BATCH = "batch"


def to_onnx(traced: Traced) -> bytes:
    """The bytes of an ONNX file with the model's names; dimensions that are open have names.

    Raises:
        ModelError: ONNX has nothing for one of the operators, or tf2onnx fails.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
    from tf2onnx import convert

    _add_operators()
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)
    function, count = traced.function, len(traced.inputs)
    inputs = [tensor.name for tensor in function.inputs[:count]]
    outputs = [tensor.name for tensor in function.outputs]
    try:
        with tf.device("/cpu:0"):
            frozen = convert_variables_to_constants_v2(function, lower_control_flow=False, aggressive_inlining=True)
        graph = frozen.graph.as_graph_def(add_shapes=True)
        proto, _ = convert.from_graph_def(graph, "model", inputs, outputs, opset=_OPSET)
    except Exception as error:  # of graphs that it does not expect
        why = f"{type(error).__name__}: {error}"[:1000]
        raise ModelError("{path} cannot be converted by tf2onnx", why=why) from error
    _check_operators(proto)
    _name_inputs(proto.graph, traced, inputs)
    _name_outputs(proto.graph, traced, outputs)
    del proto.graph.value_info[:]
    proto.graph.name = traced.name or "model"
    contents: bytes = proto.SerializeToString()
    return contents


def _add_operators() -> None:
    """Operators that tf2onnx lacks and Keras uses."""
    from tf2onnx.handler import tf_op

    class Erfc:
        """1 - erf(x), of Keras's GELU."""

        @classmethod
        def version_9(cls, ctx: Any, node: Any, **_: Any) -> None:
            node.type = "Erf"
            dtype = onnx.helper.tensor_dtype_to_np_dtype(ctx.get_dtype(node.output[0]))
            one = ctx.make_const(f"{node.name}_one", np.array(1, dtype)).output[0]
            ctx.insert_new_node_on_output("Sub", node.output[0], name=f"{node.name}_sub", inputs=[one, node.output[0]])

    tf_op("Erfc")(Erfc)


def _check_operators(proto: onnx.ModelProto) -> None:
    known = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    unknown = []
    pending = [proto.graph]
    while pending:
        for node in pending.pop().node:
            pending.extend(attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH)
            if node.op_type not in known or node.domain:
                unknown.append((node.name, node.op_type))
    if unknown:
        what = f"ONNX has nothing for {len(unknown)} of the operators of {{path}}"
        raise ModelError(what, kind="unsupported", nodes=tuple(unknown))


def _name_inputs(graph: onnx.GraphProto, traced: Traced, raw_names: list[str]) -> None:
    """The model's names and order; tf2onnx leaves out inputs that nothing reads."""
    entries = {value.name: value for value in graph.input}
    values = []
    for name, raw, tensor in zip(traced.inputs, raw_names, traced.function.inputs, strict=False):
        kind = tensor.dtype.as_numpy_dtype
        value = entries.get(raw) or onnx.helper.make_tensor_value_info(
            raw, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind)), list(tensor.shape)
        )
        if raw in entries:
            graph.node.insert(0, onnx.helper.make_node("Identity", [name], [raw], f"{name}/as_input"))
        value.name = name
        _name_dimensions(value, name, tensor.shape)
        values.append(value)
    _replace(graph.input, values)


def _name_outputs(graph: onnx.GraphProto, traced: Traced, raw_names: list[str]) -> None:
    """The model's names and order; sizes are those that TensorFlow knows, edgecc's shape inference finds others."""
    results = {value.name: value for value in graph.output}
    values = []
    for name, raw, batched, tensor in zip(
        traced.outputs, raw_names, traced.batched, traced.function.outputs, strict=True
    ):
        value = onnx.ValueInfoProto.FromString(results[raw].SerializeToString())
        value.name = name
        value.type.tensor_type.ClearField("shape")
        if tensor.shape.rank is not None:
            value.type.tensor_type.shape.SetInParent()
            for axis, size in enumerate(tensor.shape):
                dimension = value.type.tensor_type.shape.dim.add()
                if size is not None:
                    dimension.dim_value = size
                elif batched and not axis:
                    dimension.dim_param = _BATCH
        values.append(value)
        graph.node.append(onnx.helper.make_node("Identity", [raw], [name], f"{name}/as_output"))
    _replace(graph.output, values)


def _replace(field: Any, values: list[onnx.ValueInfoProto]) -> None:
    copies = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in values]
    del field[:]
    field.extend(copies)


def _name_dimensions(value: onnx.ValueInfoProto, name: str, shape: Any) -> None:
    if shape.rank is None:
        value.type.tensor_type.ClearField("shape")
        return
    for axis, (dimension, size) in enumerate(zip(value.type.tensor_type.shape.dim, shape, strict=True)):
        if size is None:
            dimension.dim_param = f"{name}_{axis}" if axis else _BATCH
