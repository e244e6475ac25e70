"""Weights that a program stores in integers stay integers: as ONNX has them, behind DequantizeLinear."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import onnx

if TYPE_CHECKING:
    from torch.export import ExportedProgram

#: Integers of up to 8 bits.
_STORED = frozenset(
    {onnx.TensorProto.INT8, onnx.TensorProto.UINT8, onnx.TensorProto.INT4, onnx.TensorProto.UINT4}
)  # fmt: skip
_READERS = frozenset({"MatMul", "Gemm", "Conv"})
#: Its place among the arguments of `dequantize_affine`, after the data, its blocks, scale, zero point, type and limits.
_OUTPUT_TYPE = 7
_MOVES = frozenset({"Transpose", "Reshape", "Identity"})


def has_stored_weights(program: ExportedProgram) -> bool:
    """Whether some parameter is a matrix of integers of 8 bits."""
    import torch

    kinds = (torch.int8, torch.uint8)
    return any(tensor.dtype in kinds and tensor.dim() > 1 for tensor in program.state_dict.values())


def translations(program: ExportedProgram) -> dict[Any, Callable[..., Any]]:
    """What the exporter is to make of torchao's dequantization of weights: DequantizeLinear with a scale for each row.

    Empty where a program has none, or others; those the exporter writes out, and their weights become float.
    """
    calls = [
        node
        for node in program.graph.nodes
        if node.op == "call_function" and str(node.target) == "torchao.dequantize_affine.default"
    ]
    if not calls or not all(_is_by_row(node) for node in calls):
        return {}
    from onnxscript import FLOAT, INT8
    from onnxscript import opset20 as op

    def dequantize(
        input: INT8,
        block_size: Sequence[int],
        scale: FLOAT,
        zero_point: INT8,
        input_dtype: int = 0,
        quant_min: int = 0,
        quant_max: int = 0,
        output_dtype: int = 1,
    ) -> Any:
        del block_size, input_dtype, quant_min, quant_max, output_dtype
        rows = op.Constant(value_ints=[-1])
        return op.DequantizeLinear(input, op.Reshape(scale, rows), op.Reshape(zero_point, rows), axis=0)

    # The exporter reads the types, which are text under `from __future__ import annotations`.
    dequantize.__annotations__ |= {"input": INT8, "scale": FLOAT, "zero_point": INT8, "block_size": Sequence[int]}
    dequantize.__annotations__ |= dict.fromkeys(("input_dtype", "quant_min", "quant_max", "output_dtype"), int)
    dequantize.__annotations__["return"] = FLOAT
    return {calls[0].target: dequantize}


def _is_by_row(node: Any) -> bool:
    """Whether it dequantizes int8 to float32, with a scale and a zero point of int8 for each row."""
    import torch

    if node.kwargs or len(node.args) < _OUTPUT_TYPE:
        return False
    tensors: list[Any] = [getattr(node.args[place], "meta", {}).get("val") for place in (0, 2, 3)]
    types = [getattr(tensor, "dtype", None) for tensor in tensors]
    if types != [torch.int8, torch.float32, torch.int8] or node.args[_OUTPUT_TYPE:] not in ((), (torch.float32,)):
        return False
    stored, scale, zero_point = tensors
    return list(node.args[1]) == [1, *stored.shape[1:]] and scale.numel() == stored.shape[0] == zero_point.numel()


def keep_integers(graph: onnx.GraphProto) -> None:
    """Write a Cast of stored integers to float32, in front of what multiplies them, as DequantizeLinear with scale 1.

    torchao multiplies stored weights as they are and scales the product. A Cast of a constant would be computed at
    import, and the weights take four times the room.
    """
    stored = {tensor.name: tensor.data_type for tensor in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        if node.op_type != "Cast" or node.output[0] in outputs or _target(node) != onnx.TensorProto.FLOAT:
            continue
        found = readers.get(node.output[0], [])
        source = node.input[0]
        while source in producers and producers[source].op_type in _MOVES:
            source = producers[source].input[0]
        if stored.get(source) in _STORED and found and all(reader.op_type in _READERS for reader in found):
            scale = onnx.helper.make_tensor(f"{node.output[0]}/scale", onnx.TensorProto.FLOAT, (), [1.0])
            graph.initializer.append(scale)
            node.op_type = "DequantizeLinear"
            del node.attribute[:]
            node.input.append(scale.name)


def _target(cast: onnx.NodeProto) -> int:
    return next((int(attribute.i) for attribute in cast.attribute if attribute.name == "to"), 0)
