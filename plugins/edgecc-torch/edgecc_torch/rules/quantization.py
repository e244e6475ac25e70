"""Quantization, as PyTorch's own (PT2E) writes it, so that scales are found again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.ao.quantization.fx._decomposed  # registers torch.ops.quantized_decomposed

from edgecc_torch.rules.base import NodeView, RefusalError, Rule, torch_type

if TYPE_CHECKING:
    from torch.fx import Proxy

_OPS = torch.ops.quantized_decomposed
_KINDS = ("int8", "uint8", "int16", "uint16", "int32")


def _grid(n: NodeView, dtype: np.dtype[Any]) -> tuple[np.ndarray, np.ndarray, tuple[int, int, torch.dtype]]:
    """Scales, zero points, and the range and type of the stored numbers."""
    if dtype.name not in _KINDS:
        raise RefusalError(f"PyTorch quantizes to no {dtype.name}")
    if n.attribute("block_size", 0):
        raise RefusalError("its scales hold for blocks")
    scale = n.value(1)
    zero = n.value(2) if n.has(2) else np.zeros(scale.shape, dtype)
    bounds = np.iinfo(dtype)
    kind = torch.uint16 if dtype.name == "uint16" else torch_type(dtype)
    return scale, zero, (int(bounds.min), int(bounds.max), kind)


def _quantize(n: NodeView) -> Proxy:
    return _applied(n, n.output_dtype(), n[0], _OPS.quantize_per_tensor.default, _OPS.quantize_per_channel.default)


def _dequantize(n: NodeView) -> Proxy:
    per_tensor, per_channel = _OPS.dequantize_per_tensor.default, _OPS.dequantize_per_channel.default
    return _applied(n, n.dtype(), n[0], per_tensor, per_channel)


def _applied(n: NodeView, dtype: np.dtype[Any], x: Proxy, per_tensor: Any, per_channel: Any) -> Proxy:
    scale, zero, grid = _grid(n, dtype)
    if scale.size == 1:
        return n.call(per_tensor, x, float(scale.reshape(())), int(zero.reshape(())), *grid)
    scales = n.stored(f"{n.node.inputs[1].name}", scale.astype(np.float32))
    zeros = n.stored(f"{n.node.inputs[1].name}_zero_point", zero.astype(np.int64))
    return n.call(per_channel, x, scales, zeros, n.axis(1), *grid)


RULES: dict[str, Rule] = {
    "DequantizeLinear": _dequantize,
    "QuantizeLinear": _quantize,
}
