"""Convolutions, in ONNX's order of axes, with transposes around them that meet and cancel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgecc_tflite.enums import Padding
from edgecc_tflite.importing.base import ImportRule, Refusal
from edgecc_tflite.importing.context import Import
from edgecc_tflite.importing.graph_import import is_quantized
from edgecc_tflite.importing.rules.windows import dilations, padding, strides
from edgecc_tflite.ir import Quantization, Tensor


def bias_of(c: Import, index: int, data: int, weights: int) -> str | None:
    """The bias in real values; None if there is none.

    Kernels add it as it is to products of stored integers, so that its scale is the data's times the weights'.
    """
    if not c.has(index):
        return None
    tensor, x, w = c.tensor(index), c.tensor(data), c.tensor(weights)
    if tensor.dtype.name not in ("int32", "int64") or x.quantization is None or w.quantization is None:
        return c.x(index)
    scale = (x.quantization.scale.astype(np.float32) * w.quantization.scale).astype(np.float32)
    if tensor.data is None:
        floats = c.cast(c.stored(index), np.float32)
        return c.add("Mul", [floats, c.constant(scale, "bias_scale")])
    if np.abs(tensor.data, dtype=np.float64).max(initial=0) >= 2**31:
        return c.constant((tensor.data * scale.astype(np.float64)).astype(np.float32), "bias")
    said = tensor.quantization
    if said is not None and said.scale.size == scale.size and np.allclose(said.scale, scale, rtol=1e-5, atol=0):
        scale = said.scale
    quantization = Quantization(scale, np.zeros(scale.size, np.int64))
    values = tensor.data.astype(np.int32)
    stored = Tensor(tensor.name, tensor.shape, values.dtype, values, quantization)
    return c.graph.dequantized(c.graph.shared.constant(values, tensor.name), stored, c.origin)


def rounded(c: Import, name: str) -> str:
    """Float data beside stored weights: rounded to 8 bits, over the range that it has this time.

    Kernels have a range for each row or image, for which ONNX has no operator.
    """
    x, w = c.tensor(0), c.tensor(1)
    if w.data is None or not is_quantized(w) or w.dtype.name not in _DYNAMIC or x.dtype != np.float32:
        return name
    return c.add("DequantizeLinear", c.many("DynamicQuantizeLinear", [name], 3))


#: Types of weights that kernels take beside float data.
_DYNAMIC = frozenset({"int8", "int4"})


def _inputs(c: Import, weights: str, data: int = 0, bias: int = 2) -> list[str]:
    found = bias_of(c, bias, data, 1)
    x = c.first(data)
    # Transposed convolutions have no such kernel.
    return [rounded(c, x) if data == 0 else x, weights, *([found] if found is not None else [])]


def _conv_2d(c: Import) -> None:
    outs, height, width, channels = _filters(c, 4)
    groups = _groups(c.shape()[3], channels, outs)
    steps, spread = strides(c), dilations(c)
    pads = padding(c, c.shape()[1:3], [height, width], steps, spread)
    inputs = _inputs(c, c.permuted(1, (0, 3, 1, 2)))
    kernel = [height, width]
    c.give_first(c.add("Conv", inputs, kernel_shape=kernel, strides=steps, dilations=spread, group=groups, **pads))


def _groups(data: int, weights: int, outs: int) -> int:
    """CONV_2D has fewer channels in its weights than in its data where it works on groups."""
    if data < 0 or data == weights:
        return 1
    if weights <= 0 or data % weights or outs % (data // weights):
        raise Refusal(f"its data has {data} channels, and its weights {weights}")
    return data // weights


def _depthwise(c: Import) -> None:
    one, height, width, outs = _filters(c, 4)
    channels = c.shape()[3]
    if one != 1 or channels <= 0 or outs % channels:
        raise Refusal(f"its data has {channels} channels, and its weights have shape {list(c.shape(1))}")
    steps, spread = strides(c), dilations(c)
    pads = padding(c, c.shape()[1:3], [height, width], steps, spread)
    inputs, kernel = _inputs(c, c.permuted(1, (3, 0, 1, 2))), [height, width]
    c.give_first(c.add("Conv", inputs, kernel_shape=kernel, strides=steps, dilations=spread, group=channels, **pads))


def _conv_3d(c: Import) -> None:
    *kernel, channels, outs = _filters(c, 5)
    groups = _groups(c.shape()[4], channels, outs)
    steps, spread = strides(c, 3), dilations(c, 3)
    pads = padding(c, c.shape()[1:4], kernel, steps, spread)
    inputs = _inputs(c, c.permuted(1, (4, 3, 0, 1, 2)))
    c.give_first(c.add("Conv", inputs, kernel_shape=kernel, strides=steps, dilations=spread, group=groups, **pads))


def _transpose_conv(c: Import) -> None:
    """Inputs: the output's shape, the weights, the data, a bias."""
    _, *kernel, _ = _filters(c, 4)
    _transposed(c, c.permuted(1, (3, 0, 1, 2)), kernel, strides(c))


def _conv_3d_transpose(c: Import) -> None:
    *kernel, _, _ = _filters(c, 5)
    _transposed(c, c.permuted(1, (4, 3, 0, 1, 2)), kernel, strides(c, 3))


def _transposed(c: Import, weights: str, kernel: list[int], steps: list[int]) -> None:
    """What the padding cuts off depends on the wanted size, which several inputs may come to."""
    count, given = len(kernel), c.value(0)
    if given is not None and given.size != count + 2:
        raise Refusal(f"its output's shape has {given.size} sizes, not {count + 2}")
    wanted = [size for size in c.graph.numbers(c.tensor(0))[1 : 1 + count] if size is not None]
    sizes = c.shape(2)[1 : 1 + count]
    is_same = c.option("padding") == Padding.SAME
    if len(wanted) < count or any(size < 0 for size in sizes):
        if is_same:
            raise Refusal("its output's size is computed")
        cut = [0] * (2 * count)
        extra = [max(step - length, 0) for step, length in zip(steps, kernel, strict=True)]
    else:
        cut, extra = _cut(wanted, sizes, kernel, steps, is_same)
    inputs = _inputs(c, weights, data=2, bias=3)
    c.give_first(c.add("ConvTranspose", inputs, kernel_shape=kernel, strides=steps, pads=cut, output_padding=extra))


def _cut(
    wanted: Sequence[int], sizes: tuple[int, ...], kernel: list[int], steps: list[int], is_same: bool
) -> tuple[list[int], list[int]]:
    """Elements cut off before and behind, and those added behind."""
    before, behind, extra = [], [], []
    for size, count, length, step in zip(wanted, sizes, kernel, steps, strict=True):
        full = (count - 1) * step + length
        total = max(full - size, 0)
        first = _same_padding(size, length, step) // 2 if is_same else 0
        before.append(min(first, total))
        behind.append(total - before[-1])
        extra.append(max(size - full, 0))
    if any(more >= step for more, step in zip(extra, steps, strict=True)):
        raise Refusal(f"its output's size is {list(wanted)}, which its windows do not reach")
    return [*before, *behind], extra


def _same_padding(size: int, length: int, step: int) -> int:
    return max((-(-size // step) - 1) * step + length - size, 0)


def _filters(c: Import, rank: int) -> tuple[int, ...]:
    shape = c.shape(1)
    if len(shape) != rank or any(dim <= 0 for dim in shape):
        raise Refusal(f"its weights have shape {list(shape)}")
    if is_quantized(c.tensor(1)) and c.tensor(1).blocks is not None:
        raise Refusal("its weights have a scale for each run, which only FULLY_CONNECTED takes")
    return shape


_NOTE = "Channels first, between transposes that meet and cancel."

RULES = (
    ImportRule("CONV_2D", _conv_2d, ("Conv", "Transpose"), _NOTE),
    ImportRule("DEPTHWISE_CONV_2D", _depthwise, ("Conv", "Transpose"), _NOTE),
    ImportRule("CONV_3D", _conv_3d, ("Conv", "Transpose"), _NOTE),
    ImportRule("TRANSPOSE_CONV", _transpose_conv, ("ConvTranspose", "Transpose"), _NOTE),
    ImportRule("CONV_3D_TRANSPOSE", _conv_3d_transpose, ("ConvTranspose", "Transpose"), _NOTE),
)
