"""Quantized models for tests: one operator between DequantizeLinear and QuantizeLinear, compared in steps (LSB)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgecc.model import Model
from edgecc_tflite.testing.case import to_model
from edgecc_tflite.testing.importing import imported
from edgecc_tflite.testing.running import Feeds, counts, lowered, run_tflite


@dataclass(frozen=True)
class Q:
    """A quantized tensor: an input of the model, or a constant if it has values.

    Attributes:
        shape: of the tensor.
        scale: one value, or one per slice along `axis`.
        zero_point: of every slice.
        dtype: what it is stored in.
        values: stored values of a constant.
        axis: of several scales.
    """

    shape: tuple[int, ...]
    scale: float | tuple[float, ...] = 0.02
    zero_point: int = 3
    dtype: str = "int8"
    values: np.ndarray | None = None
    axis: int = 0


def stored(*shape: int, dtype: str = "int8", low: int = -127, high: int = 127, seed: int = 5) -> np.ndarray:
    """Random stored values."""
    return np.random.default_rng(seed).integers(low, high + 1, shape).astype(dtype)


@dataclass(frozen=True)
class QuantizedCase:
    """A model of one node between DequantizeLinear and QuantizeLinear.

    Attributes:
        op: ONNX operator.
        inputs: quantized tensors, arrays as constants that are not, or None.
        outs: scale and zero point of each output, in the first input's type; None leaves an output in float.
        attributes: of the node.
        label: tells cases of one operator apart.
        lsb: largest difference allowed, in steps of the output.
        on_integers: TFLite operators that must be there, and no DEQUANTIZE; "" for a float island.
    """

    op: str
    inputs: tuple[Q | np.ndarray | None, ...]
    outs: tuple[tuple[float, int] | None, ...] = ((0.02, 3),)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    lsb: int = 1
    on_integers: str = ""

    def __str__(self) -> str:
        return f"{self.op}-{self.label}" if self.label else self.op

    @property
    def dtype(self) -> str:
        first = next(x for x in self.inputs if isinstance(x, Q))
        return first.dtype

    def model(self) -> Model:
        nodes: list[onnx.NodeProto] = []
        constants: list[onnx.TensorProto] = []
        inputs: list[onnx.ValueInfoProto] = []
        names = [self._input(n, x, nodes, constants, inputs) for n, x in enumerate(self.inputs)]
        floats = [f"f{n}" for n in range(len(self.outs))]
        nodes.append(helper.make_node(self.op, names, floats, name=self.op, **self.attributes))
        results = []
        for number, out in enumerate(self.outs):
            if out is None:
                results.append(floats[number])
                continue
            names = _parameters(f"y{number}", out[0], out[1], self.dtype, constants)
            nodes.append(
                helper.make_node("QuantizeLinear", [floats[number], *names], [f"y{number}"], name=f"q{number}")
            )
            results.append(f"y{number}")
        return to_model(nodes, inputs, results, constants)

    def _input(
        self,
        number: int,
        operand: Q | np.ndarray | None,
        nodes: list[onnx.NodeProto],
        constants: list[onnx.TensorProto],
        inputs: list[onnx.ValueInfoProto],
    ) -> str:
        name = f"x{number}"
        if operand is None:
            return ""
        if not isinstance(operand, Q):
            constants.append(numpy_helper.from_array(operand, name))
            return name
        if operand.values is not None:
            constants.append(numpy_helper.from_array(operand.values, name))
        else:
            kind = helper.np_dtype_to_tensor_dtype(np.dtype(operand.dtype))
            inputs.append(helper.make_tensor_value_info(name, kind, operand.shape))
        dtype = operand.dtype if operand.values is None else operand.values.dtype.name
        names = _parameters(name, operand.scale, operand.zero_point, dtype, constants)
        attributes: dict[str, Any] = {} if isinstance(operand.scale, float) else {"axis": operand.axis}
        nodes.append(
            helper.make_node("DequantizeLinear", [name, *names], [f"{name}_f"], name=f"dq{number}", **attributes)
        )
        return f"{name}_f"

    def feeds(self, seed: int = 0) -> Feeds:
        """Random stored values for the inputs."""
        generator = np.random.default_rng(seed)
        feeds = {}
        for number, operand in enumerate(self.inputs):
            if isinstance(operand, Q) and operand.values is None:
                limits = np.iinfo(operand.dtype)
                values = generator.integers(limits.min, limits.max + 1, operand.shape)
                feeds[f"x{number}"] = values.astype(operand.dtype)
        return feeds


def _parameters(
    name: str, scale: float | tuple[float, ...], zero_point: int, dtype: str, constants: list[onnx.TensorProto]
) -> list[str]:
    scales = np.array(scale, np.float32)
    zeros = np.full(scales.shape, zero_point, dtype)
    constants += [numpy_helper.from_array(scales, f"{name}_s"), numpy_helper.from_array(zeros, f"{name}_z")]
    return [f"{name}_s", f"{name}_z"]


def run_exactly(model: Model, feeds: Feeds) -> Feeds:
    """ONNX Runtime with its optimizations off: every operator in float, rounded where the model says so."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.to_proto().SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return dict(zip((o.name for o in session.get_outputs()), session.run(None, feeds), strict=True))


def steps_apart(actual: Feeds, expected: Feeds) -> int:
    """The largest difference between stored values."""
    differences = [
        np.max(np.abs(actual[name].astype(np.int64) - wanted.astype(np.int64)), initial=0)
        for name, wanted in expected.items()
    ]
    return int(max(differences))


def check_quantized(case: QuantizedCase) -> None:
    """Assert that a case is within its steps of ONNX Runtime on both sets of kernels, and works on integers."""
    from edgecc_tflite import verify

    model, feeds = case.model(), case.feeds()
    expected = run_exactly(model, feeds)
    graph = lowered(model)
    assert not verify.verify(graph)
    found = counts(graph)
    if case.on_integers:
        assert "DEQUANTIZE" not in found, found
        assert set(case.on_integers.split()) <= set(found), found
    else:
        assert "DEQUANTIZE" in found, found
    for xnnpack in (True, False):
        actual = run_tflite(graph, feeds, xnnpack=xnnpack)
        assert all(actual[name].dtype == wanted.dtype for name, wanted in expected.items())
        apart = steps_apart(actual, expected)
        assert apart <= case.lsb, f"{apart} LSB {'delegated' if xnnpack else 'on the reference kernels'}"
    again = imported(graph)
    if again is not None:
        apart = steps_apart(run_exactly(again, feeds), expected)
        assert apart <= case.lsb, f"{apart} LSB imported from the file"
        assert not counts(lowered(again)) - found, "imported from the file and written once more"
