"""A model of one node, for testing the rule that lowers it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgecc.model import Model
from edgecc.opset import INTERNAL_IR_VERSION, INTERNAL_OPSET

#: What a case reads: an array is a constant, a string such as "f:1,3,8,8" or "i64:2,4" is an input of the model.
Operand = np.ndarray | str | None

_TYPES = {
    **{"f": np.float32, "f16": np.float16, "f64": np.float64, "b": np.bool_},
    **{"i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64},
    **{"u8": np.uint8, "u16": np.uint16, "u32": np.uint32, "u64": np.uint64},
}


@dataclass(frozen=True)
class Case:
    """A model of one node.

    Attributes:
        op: ONNX operator.
        inputs: what it reads.
        attributes: of the node.
        outputs: number of outputs.
        label: tells cases of one operator apart.
        tolerance: largest error allowed, relative to the largest value of the result.
        span: inputs are drawn from this interval.
        domain: "" for ONNX's own operators.
        values: of inputs that random numbers do not suit, such as computed axes, by number.
        results: types and shapes that the model declares for its outputs, where nothing infers them.
    """

    op: str
    inputs: tuple[Operand, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    outputs: int = 1
    label: str = ""
    tolerance: float = 2e-6
    span: tuple[float, float] = (-2.0, 2.0)
    values: Mapping[int, np.ndarray] = field(default_factory=dict)
    results: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.op}-{self.label}" if self.label else self.op

    def model(self) -> Model:
        names, inputs, constants = [], [], []
        for number, operand in enumerate(self.inputs):
            name = "" if operand is None else f"x{number}"
            names.append(name)
            if isinstance(operand, str):
                dtype, shape = parse(operand)
                inputs.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), shape))
            elif operand is not None:
                constants.append(numpy_helper.from_array(np.asarray(operand), name))
        outs = [f"y{n}" for n in range(self.outputs)]
        node = helper.make_node(self.op, names, outs, name=self.op, **self.attributes)
        return to_model([node], inputs, outs, constants, self.results)

    def feeds(self, seed: int = 0, **sizes: int) -> dict[str, np.ndarray]:
        """Random values for the inputs; sizes of open dimensions by name."""
        generator = np.random.default_rng(seed)
        feeds = {}
        for number, operand in enumerate(self.inputs):
            if isinstance(operand, str):
                dtype, shape = parse(operand)
                fixed = [sizes[d] if isinstance(d, str) else d for d in shape]
                if number in self.values:
                    feeds[f"x{number}"] = self.values[number]
                    continue
                values = generator.uniform(*self.span, fixed)
                feeds[f"x{number}"] = values > 0 if dtype == np.bool_ else np.asarray(values, dtype)
        return feeds


def parse(operand: str) -> tuple[np.dtype[Any], list[int | str]]:
    """Type and shape of an operand: "f:n,3" is float32 of shape (n, 3)."""
    kind, _, dims = operand.partition(":")
    shape = [int(d) if d.isdigit() else d for d in dims.split(",") if d]
    return np.dtype(_TYPES[kind]), shape


def to_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[str],
    constants: Sequence[onnx.TensorProto],
    results: Sequence[str] = (),
) -> Model:
    """A model with inferred shapes; types of outputs that `results` does not declare come from inference."""
    graph = helper.make_graph(list(nodes), "g", list(inputs), [], list(constants))
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", INTERNAL_OPSET)])
    proto.ir_version = INTERNAL_IR_VERSION
    for number, name in enumerate(outputs):
        if number < len(results):
            dtype, shape = parse(results[number])
            proto.graph.output.append(
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), shape)
            )
        else:
            proto.graph.output.append(helper.make_empty_tensor_value_info(name))
    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    model = Model.from_proto(inferred)
    model.infer_shapes()
    return model


def weights(*shape: int, seed: int = 1, scale: float = 0.5) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def scalar(value: float) -> np.ndarray:
    return np.array(value, np.float32)
