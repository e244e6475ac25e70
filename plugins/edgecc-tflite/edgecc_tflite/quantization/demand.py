"""Which tensors are only ever needed on one grid."""

from __future__ import annotations

from edgecc_tflite.ir import Graph, Operator, Tensor
from edgecc_tflite.quantization.grid import Grid
from edgecc_tflite.quantization.kernels import KERNELS, IntegerKernel, Role

#: Rounding to a grid in front of these is the same as behind them.
_COMMUTES = frozenset({Role.MOVE, Role.CHOOSE, Role.CLAMP})


def wanted_grids(graph: Graph) -> dict[Tensor, Grid]:
    """The grid of each float tensor whose readers all quantize it to the same one.

    Moving, choosing and clamping commute with rounding, so that what is wanted behind them is wanted in front.
    """
    readers, outputs = graph.consumers(), set(graph.outputs)
    wanted: dict[Tensor, Grid] = {}
    for op in reversed(graph.operators):
        for tensor in op.outputs:
            if tensor.dtype != "float32" or tensor in outputs:
                continue
            asked = [_asked(reader, tensor, wanted) for reader in readers.get(tensor, ()) if reader.builtin != "SHAPE"]
            first = asked[0] if asked else None
            if first is not None and all(grid == first for grid in asked):
                wanted[tensor] = first
    return wanted


def _asked(reader: Operator, tensor: Tensor, wanted: dict[Tensor, Grid]) -> Grid | None:
    if reader.builtin == "QUANTIZE":
        return Grid.of(reader.outputs[0])
    kernel = KERNELS.get(reader.builtin)
    if kernel is None or kernel.role not in _COMMUTES or tensor not in data_inputs(reader, kernel):
        return None
    grids = {wanted.get(out) for out in reader.outputs}
    grid = grids.pop()
    return None if grids or grid is None or grid.dtype not in kernel.types else grid


def data_inputs(op: Operator, kernel: IntegerKernel) -> list[Tensor]:
    """The inputs that hold data."""
    places = range(len(op.inputs)) if kernel.data is None else kernel.data
    found = (op.inputs[place] for place in places if place < len(op.inputs))
    return [tensor for tensor in found if tensor is not None]
