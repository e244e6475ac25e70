"""Scales of stored integers that are moved as they are."""

from __future__ import annotations

from collections.abc import Iterable

from edgecc_tflite.ir import Graph, Operator, Tensor
from edgecc_tflite.quantization.kernels import KERNELS, Role

_STORED = frozenset({"int8", "uint8", "int16"})
#: It writes values of its own, which depend on the zero point.
_WRITES = frozenset({"PAD"})


def spread_scales(graph: Graph) -> None:
    """Where a QUANTIZE or DEQUANTIZE says what integers stand for, say it of those too that only moved since.

    A source may transpose or reshape integers between QuantizeLinear and DequantizeLinear, or between an input of the
    model and DequantizeLinear. The source says the scale at one end alone; a tensor of the file says it itself.
    """
    for op in graph.operators:
        for data, out in _moves(op):
            if out.quantization is None:
                out.quantization = data.quantization
    for op in reversed(graph.operators):
        for data, out in _moves(op):
            if data.quantization is None and not data.is_constant:
                data.quantization = out.quantization


def _moves(op: Operator) -> Iterable[tuple[Tensor, Tensor]]:
    """Pairs of integer tensors with the same values, maybe fewer or in another order."""
    kernel = KERNELS.get(op.builtin)
    if kernel is None or kernel.role is not Role.MOVE or kernel.data is None or op.builtin in _WRITES:
        return ()
    data = op.inputs[kernel.data[0]]
    if data is None or data.dtype.name not in _STORED:
        return ()
    return [(data, out) for out in op.outputs if out.dtype == data.dtype]
