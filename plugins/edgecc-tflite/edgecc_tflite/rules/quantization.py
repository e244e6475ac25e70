"""Rules of quantized graphs. The runtime checks few of them: a model that breaks the others loads and is wrong."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgecc_tflite.ir import Blocks, Graph, Operator, Quantization, Tensor
from edgecc_tflite.quantization.kernels import (
    ARITHMETIC,
    FIXED,
    MOST_RESCALED,
    SAME_SCALE,
    WEIGHTED,
    WeightedInputs,
    most_rescaled,
    rescales_too_much,
)
from edgecc_tflite.rules.violation import Violation, violation
from edgecc_tflite.schema import type_name

#: Types that mean something only with a scale when an operator computes with them.
_QUANTIZED = frozenset({"int8", "uint8", "int16", "int4", "int2"})

#: Runs of weights are whole multiples of this long (XNNPACK).
_SMALLEST_BLOCK = 32

#: A bias scale is the product of two float32 scales and may be rounded once more.
_BIAS_SCALE_TOLERANCE = 1e-6


def scale_values(graph: Graph) -> Iterator[Violation]:
    """Scales are finite and positive, zero points can be stored, and there is one of each per slice."""
    for tensor in _quantized_tensors(graph):
        quantization, problem = tensor.quantization, ""
        assert quantization is not None
        scale, zero_point = np.ravel(quantization.scale), np.ravel(quantization.zero_point)
        if scale.size != zero_point.size:
            problem = f"has {scale.size} scales and {zero_point.size} zero points"
        elif not np.all(np.isfinite(scale) & (scale > 0)):
            problem = "has a scale that is not a positive number"
        elif scale.size > 1 and not _one_per_slice(quantization, tensor):
            problem = f"has {scale.size} scales along axis {quantization.axis} of shape {list(tensor.shape)}"
        elif type_name(tensor.dtype) in ("int8", "uint8", "int16") and not _storable(zero_point, tensor):
            problem = f"has zero point {_first_unstorable(zero_point, tensor)}, which is no {type_name(tensor.dtype)}"
        elif type_name(tensor.dtype) == "int16" and np.any(zero_point != 0):
            problem = "is int16 with a zero point; the kernels take 0"
        if problem:
            yield Violation("scale-values", problem, tensor.name)


def scales_present(graph: Graph) -> Iterator[Violation]:
    """An operator that computes with small integers knows what they stand for."""
    for operator in graph.operators:
        if operator.builtin not in ARITHMETIC or not _has_scales(operator):
            continue
        for tensor in (*operator.inputs, *operator.outputs):
            if tensor is not None and type_name(tensor.dtype) in _QUANTIZED and tensor.quantization is None:
                yield violation("scales-present", operator, f"{tensor.name!r} has no scale", tensor.name)


#: Types that kill the process, or give nonsense, in a kernel that finds no scale; measured with LiteRT 2.3.
_SCALED_ONLY = {
    **dict.fromkeys(
        ("EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL", "ADD", "MUL"), frozenset({"int8", "uint8"})
    ),
    **dict.fromkeys(("NOT_EQUAL", "SUB", "DIV", "SUM", "MEAN"), frozenset({"int8", "uint8", "int16"})),
    **dict.fromkeys(("ABS", "SQUARED_DIFFERENCE"), frozenset({"int8"})),
}


def scales_needed(graph: Graph) -> Iterator[Violation]:
    """Kernels that exist only for quantized small integers get no plain ones."""
    for operator in graph.operators:
        if operator.builtin not in _SCALED_ONLY or _has_scales(operator):
            continue
        for tensor in operator.inputs[:2]:
            if tensor is not None and type_name(tensor.dtype) in _SCALED_ONLY[operator.builtin]:
                message = f"has no kernel for plain {tensor.dtype.name}, which {tensor.name!r} is"
                yield violation("scales-needed", operator, message, tensor.name)


def same_scale(graph: Graph) -> Iterator[Violation]:
    """Operators that move stored values do not rescale them."""
    for operator in graph.operators:
        if operator.builtin not in SAME_SCALE:
            continue
        tensors = [t for t in (*operator.inputs, *operator.outputs) if t is not None and t.quantization is not None]
        for tensor in tensors[1:]:
            if not _equal(tensors[0], tensor):
                message = f"does not rescale: {_text(tensors[0])} and {_text(tensor)} must be the same"
                yield violation("same-scale", operator, message, tensor.name)


def fixed_scale(graph: Graph) -> Iterator[Violation]:
    """Operators with a known range write it at a fixed scale."""
    for operator in graph.operators:
        output = operator.outputs[0]
        fixed = FIXED.get((operator.builtin, type_name(output.dtype)))
        if fixed is None or output.quantization is None:
            continue
        scale, zero_point = _scalar(output)
        if not np.isclose(scale, fixed[0], rtol=1e-6, atol=0) or zero_point != fixed[1]:
            message = (
                f"writes {type_name(output.dtype)} at scale {fixed[0]:g}, zero point {fixed[1]}, not {_text(output)}"
            )
            yield violation("fixed-scale", operator, message, output.name)


def weight_axis(graph: Graph) -> Iterator[Violation]:
    """Scales per channel stand along the axis that the kernel reads."""
    for operator, places in _weighted(graph):
        weights = _input(operator, places.weights)
        if weights is None or weights.quantization is None or np.size(weights.quantization.scale) == 1:
            continue
        if weights.quantization.axis != places.axis:
            message = f"reads scales along axis {places.axis}, not {weights.quantization.axis}, of {weights.name!r}"
            yield violation("weight-axis", operator, message, weights.name)


def weight_zero_point(graph: Graph) -> Iterator[Violation]:
    """Signed weights are symmetric."""
    for operator, places in _weighted(graph):
        weights = _input(operator, places.weights)
        if weights is None or weights.quantization is None or weights.dtype.kind == "u":
            continue
        if np.any(weights.quantization.zero_point != 0):
            message = f"takes signed weights around 0; {weights.name!r} has another zero point"
            yield violation("weight-zero-point", operator, message, weights.name)


def data_per_tensor(graph: Graph) -> Iterator[Violation]:
    """Only weights and what QUANTIZE and DEQUANTIZE convert may have a scale per channel."""
    for operator in graph.operators:
        if operator.builtin in ("QUANTIZE", "DEQUANTIZE"):
            continue
        computed = [tensor for tensor in (*operator.inputs, *operator.outputs) if tensor and not tensor.is_constant]
        for tensor in computed:
            if tensor.quantization is not None and np.size(tensor.quantization.scale) > 1:
                message = f"takes data with one scale; {tensor.name!r} has {np.size(tensor.quantization.scale)}"
                yield violation("data-per-tensor", operator, message, tensor.name)


def bias_scale(graph: Graph) -> Iterator[Violation]:
    """The kernel adds the stored bias to the products as it is, whatever scale it says."""
    for operator, places in _weighted(graph):
        data, weights = _input(operator, places.data), _input(operator, places.weights)
        bias = _input(operator, places.bias)
        if bias is None or data is None or weights is None:
            continue
        if data.quantization is None or weights.quantization is None:
            continue
        expected = np.ravel(data.quantization.scale) * np.ravel(weights.quantization.scale)
        if type_name(bias.dtype) not in (("int32", "int64") if type_name(data.dtype) == "int16" else ("int32",)):
            yield violation("bias-scale", operator, f"takes an integer bias, not {type_name(bias.dtype)}", bias.name)
        elif bias.quantization is None:
            yield violation("bias-scale", operator, f"bias {bias.name!r} has no scale", bias.name)
        elif np.any(bias.quantization.zero_point != 0):
            yield violation("bias-scale", operator, f"bias {bias.name!r} must have zero point 0", bias.name)
        elif not _close(np.ravel(bias.quantization.scale), expected):
            message = f"bias {bias.name!r} must have the scale of the data times that of the weights"
            yield violation("bias-scale", operator, message, bias.name)


def rescaling(graph: Graph) -> Iterator[Violation]:
    """The data's scales are not so much larger than the output's that the kernel overflows."""
    for operator in graph.operators:
        output = operator.outputs[0]
        if operator.builtin not in MOST_RESCALED or output.quantization is None:
            continue
        places = WEIGHTED.get(operator.builtin)
        positions = range(len(operator.inputs)) if places is None else (places.data, places.weights)
        data = (_input(operator, position) for position in positions)
        scales = [float(np.max(t.quantization.scale)) for t in data if t is not None and t.quantization is not None]
        dtype = type_name(output.dtype)
        if rescales_too_much(operator, scales, _scalar(output)[0], dtype):
            most = most_rescaled(operator, dtype)
            message = f"takes data of at most {most:g} times the output's scale; {_text(output)} is finer"
            yield violation("rescaling", operator, message, output.name)


def int16_scales(graph: Graph) -> Iterator[Violation]:
    """ADD and SUB of int16 take any scale only when told so; by default they want powers of two."""
    for operator in graph.operators:
        if operator.builtin not in ("ADD", "SUB") or type_name(operator.outputs[0].dtype) != "int16":
            continue
        if _has_scales(operator) and operator.options.get("potScaleInt16", True):
            yield violation("int16-scales", operator, "needs the option potScaleInt16=False")


def block_scales(graph: Graph) -> Iterator[Violation]:
    """Scales of runs belong to int4 weights of FULLY_CONNECTED, one positive float16 for each whole run of a row."""
    for operator in graph.operators:
        for place, tensor in enumerate(operator.inputs):
            if tensor is None or tensor.blocks is None:
                continue
            problem = _block_problem(tensor, tensor.blocks)
            if operator.builtin != "FULLY_CONNECTED" or place != 1:
                problem = "has a scale for each run, which only weights of FULLY_CONNECTED may"
            if problem:
                yield violation("block-scales", operator, f"{tensor.name!r} {problem}", tensor.name)


def _block_problem(tensor: Tensor, blocks: Blocks) -> str:
    scales = blocks.scales.data
    if type_name(tensor.dtype) != "int4" or tensor.rank != 2 or tensor.quantization is not None:
        return "must be an int4 matrix without other scales"
    if scales is None or type_name(blocks.scales.dtype) != "float16":
        return "must have constant scales in float16"
    if blocks.size % _SMALLEST_BLOCK or scales.shape != (tensor.shape[0], tensor.shape[1] / blocks.size):
        return f"of shape {list(tensor.shape)} has runs of {blocks.size} and scales {list(scales.shape)}"
    if not np.all(np.isfinite(scales) & (scales > 0)):
        return "has a scale that is not a positive number"
    return ""


def _quantized_tensors(graph: Graph) -> dict[Tensor, None]:
    tensors = dict.fromkeys((*graph.inputs, *graph.outputs))
    for operator in graph.operators:
        tensors.update(dict.fromkeys(t for t in (*operator.inputs, *operator.outputs) if t is not None))
    return {tensor: None for tensor in tensors if tensor.quantization is not None}


def _has_scales(operator: Operator) -> bool:
    """Whether any of the operator's tensors is quantized; plain integers are integers."""
    if operator.builtin in ("QUANTIZE", "DEQUANTIZE"):
        return True
    return any(t is not None and t.quantization is not None for t in (*operator.inputs, *operator.outputs))


def _weighted(graph: Graph) -> Iterator[tuple[Operator, WeightedInputs]]:
    for operator in graph.operators:
        places = WEIGHTED.get(operator.builtin)
        if places is not None:
            yield operator, places


def _input(operator: Operator, position: int) -> Tensor | None:
    return operator.inputs[position] if position < len(operator.inputs) else None


def _one_per_slice(quantization: Quantization, tensor: Tensor) -> bool:
    axis = quantization.axis
    return 0 <= axis < tensor.rank and tensor.shape[axis] == np.size(quantization.scale)


def _storable(zero_point: np.ndarray, tensor: Tensor) -> bool:
    limits = np.iinfo(tensor.dtype)
    return bool(np.all((limits.min <= zero_point) & (zero_point <= limits.max)))


def _first_unstorable(zero_point: np.ndarray, tensor: Tensor) -> int:
    limits = np.iinfo(tensor.dtype)
    return int(next(value for value in zero_point if not limits.min <= value <= limits.max))


def _scalar(tensor: Tensor) -> tuple[float, int]:
    assert tensor.quantization is not None
    return float(np.ravel(tensor.quantization.scale)[0]), int(np.ravel(tensor.quantization.zero_point)[0])


def _equal(left: Tensor, right: Tensor) -> bool:
    """Same scales and zero points, value by value. The axis may differ: a TRANSPOSE of weights moves it."""
    first, second = left.quantization, right.quantization
    assert first is not None
    assert second is not None
    same_scales = np.array_equal(np.ravel(first.scale), np.ravel(second.scale))
    return same_scales and np.array_equal(np.ravel(first.zero_point), np.ravel(second.zero_point))


def _close(found: np.ndarray, expected: np.ndarray) -> bool:
    if found.size not in (1, expected.size):
        return False
    return bool(np.allclose(found, expected, rtol=_BIAS_SCALE_TOLERANCE, atol=0))


def _text(tensor: Tensor) -> str:
    scale, zero_point = _scalar(tensor)
    return f"{tensor.name!r} ({scale:g}, {zero_point})"
