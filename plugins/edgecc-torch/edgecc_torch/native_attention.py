"""ONNX operators for the fused attention that PyTorch traces `torch.nn.MultiheadAttention` as, outside of training.

The operators: `_native_multi_head_attention` and `_transformer_encoder_layer_fwd` of PyTorch's native_functions.yaml,
without masks.
"""

from __future__ import annotations

import functools
import math
from typing import Any


@functools.cache
def register(opset: int) -> None:
    """Teach PyTorch's TorchScript exporter the operators."""
    import torch

    torch.onnx.register_custom_op_symbolic("aten::_native_multi_head_attention", _attention, opset)
    torch.onnx.register_custom_op_symbolic("aten::_transformer_encoder_layer_fwd", _encoder_layer, opset)


def _attention(g: Any, query: Any, key: Any, value: Any, *rest: Any) -> Any:
    """The result, and nothing for the weights, which must not be asked for."""
    from torch.onnx import symbolic_helper as helper
    from torch.onnx.errors import SymbolicValueError

    *parameters, mask, need_weights = rest[:8]
    if helper._get_const(need_weights, "b", "need_weights"):
        raise SymbolicValueError("attention that gives its weights is not written out", query)
    _refuse_mask(mask)
    return _projected(g, (query, key, value), *parameters), g.op("prim::Constant")


def _encoder_layer(g: Any, source: Any, *rest: Any) -> Any:
    """Attention and two linear layers, with a normalization in front of each or behind it."""
    from torch.onnx import symbolic_helper as helper

    attention, norms, layers = rest[:6], rest[9:13], rest[13:17]
    use_gelu, norm_first = (helper._get_const(value, "b", "flag") for value in rest[6:8])
    epsilon = helper._get_const(rest[8], "f", "eps")
    _refuse_mask(rest[17])

    def normalized(data: Any, which: int) -> Any:
        scale, shift = norms[2 * which : 2 * which + 2]
        return g.op("LayerNormalization", data, scale, shift, epsilon_f=epsilon)

    def attended(data: Any) -> Any:
        return _projected(g, (data, data, data), *attention)

    def fed_forward(data: Any) -> Any:
        hidden = _linear(g, data, layers[0], layers[1])
        return _linear(g, _gelu(g, hidden) if use_gelu else g.op("Relu", hidden), layers[2], layers[3])

    for which, step in enumerate((attended, fed_forward)):
        if norm_first:
            source = g.op("Add", source, step(normalized(source, which)))
        else:
            source = normalized(g.op("Add", source, step(source)), which)
    return source


def _projected(
    g: Any, data: Any, width: Any, heads: Any, weight: Any, bias: Any, out_weight: Any, out_bias: Any
) -> Any:
    """Projections of query, key and value, scaled products of each head, and the projection back."""
    from torch.onnx import symbolic_helper as helper

    total, count = helper._get_const(width, "i", "embed_dim"), helper._get_const(heads, "i", "num_heads")
    parts = []
    for place, perm in enumerate(([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])):
        bounds = [_ints(g, [number]) for number in (place * total, (place + 1) * total, 0)]
        product = _linear(g, data[place], g.op("Slice", weight, *bounds), g.op("Slice", bias, *bounds))
        by_head = g.op("Reshape", product, _ints(g, [0, -1, count, total // count]))
        parts.append(g.op("Transpose", by_head, perm_i=perm))
    scaled = g.op("Mul", g.op("MatMul", parts[0], parts[1]), _float(g, (total // count) ** -0.5))
    mixed = g.op("MatMul", g.op("Softmax", scaled, axis_i=-1), parts[2])
    joined = g.op("Reshape", g.op("Transpose", mixed, perm_i=[0, 2, 1, 3]), _ints(g, [0, -1, total]))
    return _linear(g, joined, out_weight, out_bias)


def _linear(g: Any, data: Any, weight: Any, bias: Any) -> Any:
    return g.op("Add", g.op("MatMul", data, g.op("Transpose", weight, perm_i=[1, 0])), bias)


def _gelu(g: Any, x: Any) -> Any:
    error = g.op("Erf", g.op("Mul", x, _float(g, math.sqrt(0.5))))
    return g.op("Mul", g.op("Mul", x, _float(g, 0.5)), g.op("Add", error, _float(g, 1.0)))


def _refuse_mask(mask: Any) -> None:
    from torch.onnx import symbolic_helper as helper
    from torch.onnx.errors import SymbolicValueError

    if not helper._is_none(mask):
        raise SymbolicValueError("attention with a mask is not written out", mask)


def _ints(g: Any, values: list[int]) -> Any:
    import torch

    return g.op("Constant", value_t=torch.tensor(values, dtype=torch.int64))


def _float(g: Any, value: float) -> Any:
    import torch

    return g.op("Constant", value_t=torch.tensor(value, dtype=torch.float32))
