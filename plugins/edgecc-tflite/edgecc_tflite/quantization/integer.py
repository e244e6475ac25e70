"""Let operators work on stored integers wherever their kernels give what the source means.

One walk in execution order. A DEQUANTIZE is only noted: "this float tensor is that integer tensor". An operator whose
data is known in integers, and whose result is only needed on one grid (`demand`), is emitted on integers and its result
is noted likewise. An operator that cannot reads floats, for which DEQUANTIZE is written when it is needed. A QUANTIZE
of something known in integers is nothing, or a change from one scale to another.

**Exactness.** The source rounds once, where it has QuantizeLinear. Operators that round a second time (a kernel that
keeps its input's scale while it averages, or one that writes a scale of its own) are used only if the first rounding is
no coarser than the second, which keeps the result within 1 LSB; otherwise the operator stays in float.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from edgecc_tflite.enums import Activation
from edgecc_tflite.ir import Graph, Operator, Tensor
from edgecc_tflite.quantization.demand import data_inputs, wanted_grids
from edgecc_tflite.quantization.grid import Grid, grid_for_scalar, unsigned_like
from edgecc_tflite.quantization.kernels import (
    FIXED,
    KERNELS,
    WEIGHTED,
    IntegerKernel,
    Role,
    rescales_too_much,
)
from edgecc_tflite.quantization.moved_integers import spread_scales
from edgecc_tflite.quantization.pools import pads, rescaling_pool
from edgecc_tflite.quantization.stored import Stored
from edgecc_tflite.quantization.weights import integer_bias, integer_weights, unsigned_weights

#: Scales that differ by less, such as 1/255 and 1/256, count as equally fine.
_AS_FINE = 1.01
_FLOAT32 = np.dtype(np.float32)
_ONE = np.ones((), np.float32)
#: What a clamp lets through.
_BOUNDS = {"RELU": (0.0, np.inf), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0)}


def use_integer_kernels(graph: Graph, stored: Mapping[Operator, Sequence[Stored]]) -> None:
    """Rewrite a graph with QUANTIZE and DEQUANTIZE in place; one without stays as it is.

    Args:
        graph: as the rules made it.
        stored: how constants of the source node behind each operator were stored.
    """
    if any(op.builtin in ("QUANTIZE", "DEQUANTIZE") for op in graph.operators):
        spread_scales(graph)
        _Rewriter(graph, stored).run()


class _Rewriter:
    def __init__(self, graph: Graph, stored: Mapping[Operator, Sequence[Stored]]) -> None:
        self._graph = graph
        self._stored = stored
        self._wanted = wanted_grids(graph)
        self._operators: list[Operator] = []
        self._written = set(graph.inputs)
        #: The integer tensor that holds a float tensor's values.
        self._integer: dict[Tensor, Tensor] = {}
        #: The signed tensor that holds a quantized tensor of the source, and back where that one is unsigned.
        self._signed: dict[Tensor, Tensor] = {}
        self._unsigned: dict[Tensor, Tensor] = {}
        self._requantized: dict[tuple[Tensor, Grid], Tensor] = {}

    def run(self) -> None:
        for op in self._graph.operators:
            if op.builtin == "QUANTIZE" and Grid.of(op.outputs[0]) is not None:
                self._quantize(op)
            elif op.builtin == "DEQUANTIZE" and _is_on_grid(op.inputs[0]):
                self._dequantize(op)
            elif not self._compute(op):
                self._keep(op)
        for tensor in self._graph.outputs:
            self._give(tensor)
        self._graph.operators = self._operators
        _name_once(self._graph)

    # ----------------------------------------------------------------------------------------------- between the two

    def _quantize(self, op: Operator) -> None:
        source, out = _first(op), op.outputs[0]
        grid = Grid.of(out)
        assert grid is not None
        known = self._integer.get(source)
        if known is not None:
            self._signed[out] = self._on(known, grid, op.origins)
            return
        if out in self._graph.outputs:
            self._append(op)
            return
        signed = out if out.dtype != np.uint8 else grid.like(out)
        self._append(replace(op, outputs=[signed]))
        self._signed[out] = signed

    def _dequantize(self, op: Operator) -> None:
        stored, out = _first(op), op.outputs[0]
        if stored not in self._signed:
            self._signed[stored] = self._signed_of(stored, op.origins)
        signed = self._signed[stored]
        if signed.source == "" and signed not in self._graph.inputs:
            # Its values are the dequantized ones: reports compare them under that name.
            signed.source = out.source
        self._integer[out] = signed

    def _signed_of(self, stored: Tensor, origins: tuple[str, ...]) -> Tensor:
        if stored.dtype != np.uint8:
            return stored
        grid = Grid.of(stored)
        assert grid is not None
        signed = grid.like(stored, f"{stored.name}/signed")
        self._append(Operator("QUANTIZE", [stored], [signed], {}, origins))
        self._unsigned[signed] = stored
        return signed

    def _on(self, tensor: Tensor, grid: Grid, origins: tuple[str, ...]) -> Tensor:
        """The integers on another grid: multiplied by 1.

        QUANTIZE between two scales would do too. XNNPACK's multiplies by a number of 9 bits, so that up to a fifth of
        the values are one step off, where its MUL rounds right and takes as long.
        """
        if Grid.of(tensor) == grid:
            return tensor
        key = tensor, grid
        if key not in self._requantized:
            result = grid.like(tensor, f"{tensor.name}/requantized")
            one = grid_for_scalar(1.0, grid.dtype).constant(Tensor(f"{result.name}/one", (), _FLOAT32, _ONE))
            multiply = Operator("MUL", [tensor, one], [result], {"fusedActivationFunction": Activation.NONE}, origins)
            if tensor.dtype == one.dtype and _is_exact(multiply, [tensor, one], grid):
                self._append(multiply)
            else:
                real = Tensor(f"{result.name}/float", tensor.shape, _FLOAT32)
                self._append(Operator("DEQUANTIZE", [tensor], [real], {}, origins))
                self._append(Operator("QUANTIZE", [real], [result], {}, origins))
            self._requantized[key] = result
        return self._requantized[key]

    def _keep(self, op: Operator) -> None:
        for tensor in op.inputs:
            if tensor is not None and not tensor.is_constant:
                self._give(tensor)
        self._append(op)

    def _give(self, tensor: Tensor) -> None:
        """Write a tensor of the graph that so far is only known by its integers."""
        if tensor in self._written or tensor.is_constant:
            return
        if tensor in self._integer:
            known = self._integer[tensor]
            self._append(Operator("DEQUANTIZE", [self._unsigned.get(known, known)], [tensor], {}, ()))
        elif tensor in self._signed:
            signed = self._signed[tensor]
            if signed.dtype == tensor.dtype and signed not in (*self._graph.inputs, *self._graph.outputs):
                self._rename(signed, tensor)
            else:
                self._append(Operator("QUANTIZE", [signed], [tensor], {}, ()))

    def _rename(self, old: Tensor, new: Tensor) -> None:
        """Let the new tensor stand wherever the old one did."""
        for op in self._operators:
            op.inputs = [new if t is old else t for t in op.inputs]
            op.outputs = [new if t is old else t for t in op.outputs]
        for known in (self._integer, self._signed, self._requantized):
            for key, value in known.items():
                if value is old:
                    known[key] = new  # type: ignore[index]
        self._written.add(new)

    def _append(self, op: Operator) -> None:
        self._operators.append(op)
        self._written.update(op.outputs)

    # ------------------------------------------------------------------------------------------------- on integers

    def _compute(self, op: Operator) -> bool:
        """Emit the operator on integers, if it can work on them and the result is right."""
        kernel = KERNELS.get(op.builtin)
        if kernel is None or not any(self._integers_of(op, t) for t in data_inputs(op, kernel)):
            return False
        match kernel.role:
            case Role.MOVE:
                return self._move(op, kernel)
            case Role.CHOOSE:
                return self._choose(op, kernel)
            case Role.AVERAGE:
                return self._average(op)
            case Role.CLAMP:
                return self._clamp(op)
            case Role.COMPUTE:
                return self._arithmetic(op, kernel)
            case Role.FIXED:
                return self._fixed(op)
            case Role.WEIGHTED:
                return self._weighted(op)
            case Role.READ:
                return self._read(op, kernel)

    def _integers_of(self, op: Operator, tensor: Tensor) -> Tensor | None:
        """The tensor in integers, if it is known so: computed ones, and constants that were stored so."""
        if tensor.data is None:
            return self._integer.get(tensor)
        if tensor.dtype != np.float32:
            return None
        for stored in self._stored.get(op, ()):
            grid = stored.grid
            if grid is not None and grid.holds(tensor.data):
                return grid.constant(tensor)
        return None

    def _emit(self, op: Operator, inputs: Mapping[Tensor, Tensor], grid: Grid) -> list[Tensor]:
        """The operator with inputs exchanged and its outputs on a grid."""
        outs = []
        for out in op.outputs:
            integer = grid.like(out)
            integer.source = out.source
            self._integer[out] = integer
            outs.append(integer)
        exchanged = [inputs.get(t, t) if t is not None else None for t in op.inputs]
        options = op.options
        if op.builtin in ("ADD", "SUB") and grid.dtype == "int16":
            options = {**options, "potScaleInt16": False}
        self._append(Operator(op.builtin, exchanged, outs, options, op.origins))
        return outs

    def _move(self, op: Operator, kernel: IntegerKernel) -> bool:
        data = data_inputs(op, kernel)[0]
        known = self._integers_of(op, data)
        grid = None if known is None else Grid.of(known)
        if known is None or grid is None or grid.dtype not in kernel.types:
            return False
        self._emit(op, {data: known}, grid)
        return True

    def _choose(self, op: Operator, kernel: IntegerKernel) -> bool:
        tensors = data_inputs(op, kernel)
        known = {t: self._integers_of(op, t) for t in tensors}
        grid = self._wanted.get(op.outputs[0]) or _common_grid([k for k in known.values() if k is not None])
        if grid is None or grid.dtype not in kernel.types:
            return False
        if op.outputs[0] not in self._wanted and not all(
            known[t] is not None or (t.data is not None and grid.holds(t.data)) for t in tensors
        ):
            return False
        inputs: dict[Tensor, Tensor] = {}
        for tensor in tensors:
            integer = known[tensor]
            if tensor.data is not None:
                inputs[tensor] = grid.constant(tensor)
            elif integer is not None:
                inputs[tensor] = self._on(integer, grid, op.origins)
            else:
                inputs[tensor] = self._rounded(tensor, grid, op.origins)
        self._emit(op, inputs, grid)
        return True

    def _rounded(self, tensor: Tensor, grid: Grid, origins: tuple[str, ...]) -> Tensor:
        """A float tensor on a grid."""
        result = grid.like(tensor, f"{tensor.name}/quantized")
        self._append(Operator("QUANTIZE", [tensor], [result], {}, origins))
        return result

    def _read(self, op: Operator, kernel: IntegerKernel) -> bool:
        known = self._integers_of(op, _first(op))
        if known is None or known.dtype.name not in kernel.types:
            return False
        self._append(replace(op, inputs=[known, *op.inputs[1:]]))
        return True

    def _clamp(self, op: Operator) -> bool:
        data, out = _first(op), op.outputs[0]
        known = self._integer[data]
        grid = self._wanted.get(out) or Grid.of(known)
        assert grid is not None
        if grid.dtype not in KERNELS[op.builtin].types or known.dtype.name != grid.dtype:
            return False
        low, high = _BOUNDS[op.builtin]
        if grid.lowest >= low and grid.highest <= high:
            # Rounding to the grid saturates at its ends, which does the clamping.
            self._integer[out] = self._on(known, grid, op.origins)
        else:
            self._emit(op, {data: known}, grid)
        return True

    def _average(self, op: Operator) -> bool:
        data, out = _first(op), op.outputs[0]
        known, wanted = self._integer[data], self._wanted.get(out)
        grid = Grid.of(known)
        if wanted is None or grid is None or grid.dtype not in KERNELS[op.builtin].types:
            return False
        if grid == wanted:
            self._emit(op, {data: known}, grid)
        elif grid.dtype != wanted.dtype:
            return False
        elif op.builtin == "AVERAGE_POOL_2D" and not pads(op) and grid.scale < 64 * wanted.scale:
            self._emit(rescaling_pool(op, known, grid), {data: known}, wanted)
        elif grid.scale <= wanted.scale * _AS_FINE:
            self._integer[out] = self._on(self._emit(op, {data: known}, grid)[0], wanted, op.origins)
        else:
            return False
        return True

    def _arithmetic(self, op: Operator, kernel: IntegerKernel) -> bool:
        wanted = self._wanted.get(op.outputs[0])
        if wanted is None or wanted.dtype not in kernel.types:
            return False
        inputs: dict[Tensor, Tensor] = {}
        for tensor in data_inputs(op, kernel):
            integer = self._integers_of(op, tensor)
            if integer is None and tensor.data is not None and tensor.data.size == 1:
                integer = grid_for_scalar(float(tensor.data.reshape(())), wanted.dtype).constant(tensor)
            if integer is None or integer.dtype.name != wanted.dtype:
                return False
            inputs[tensor] = integer
        if not _is_exact(op, list(inputs.values()), wanted):
            return False
        self._emit(op, inputs, wanted)
        return True

    def _fixed(self, op: Operator) -> bool:
        data, out = _first(op), op.outputs[0]
        known, wanted = self._integer[data], self._wanted.get(out)
        fixed = FIXED.get((op.builtin, known.dtype.name))
        if wanted is None or fixed is None or wanted.dtype != known.dtype.name:
            return False
        grid = Grid(wanted.dtype, *fixed)
        if wanted.dtype not in KERNELS[op.builtin].types or grid.scale > wanted.scale * _AS_FINE:
            return False
        if op.builtin == "LOG_SOFTMAX" and wanted.lowest < grid.lowest:
            # Results have no lower bound: the kernel would cut off what the source keeps.
            return False
        result = self._emit(op, {data: known}, grid)[0]
        self._integer[out] = self._on(result, wanted, op.origins)
        return True

    # ------------------------------------------------------------------------------------------------ with weights

    def _weighted(self, op: Operator) -> bool:
        places, out = WEIGHTED[op.builtin], op.outputs[0]
        data, weights = op.inputs[places.data], op.inputs[places.weights]
        bias = op.inputs[places.bias] if places.bias < len(op.inputs) else None
        assert data is not None
        assert weights is not None
        known, wanted, stored = self._integer.get(data), self._wanted.get(out), self._stored.get(op, ())
        grid = None if known is None else Grid.of(known)
        if known is None or grid is None or wanted is None or grid.dtype != wanted.dtype:
            return False
        if grid.dtype not in KERNELS[op.builtin].types:
            return False
        signed = integer_weights(weights, places.axis, stored)
        exact = signed or (unsigned_weights(weights, stored) if grid.dtype == "int8" else None)
        if exact is None or (bias is not None and integer_bias(bias, grid, exact) is None):
            return False
        if not _is_exact(op, [known, exact], wanted):
            return False
        inputs = {data: known, weights: exact}
        if bias is not None:
            integer = integer_bias(bias, grid, exact)
            assert integer is not None
            inputs[bias] = integer
        if signed is not None:
            self._emit(op, inputs, wanted)
        else:
            self._emit_unsigned(op, {**inputs, data: self._unsigned_of(known, op.origins)}, wanted)
        return True

    def _unsigned_of(self, signed: Tensor, origins: tuple[str, ...]) -> Tensor:
        """The same numbers in uint8."""
        if signed not in self._unsigned:
            result = unsigned_like(signed, f"{signed.name}/unsigned")
            self._append(Operator("QUANTIZE", [signed], [result], {}, origins))
            self._unsigned[signed] = result
        return self._unsigned[signed]

    def _emit_unsigned(self, op: Operator, inputs: Mapping[Tensor, Tensor], grid: Grid) -> None:
        """Weights around a zero point other than 0: only the kernels for uint8 take them."""
        out = op.outputs[0]
        signed = grid.like(out)
        signed.source = out.source
        unsigned = unsigned_like(signed, f"{out.name}/unsigned")
        exchanged = [inputs.get(t, t) if t is not None else None for t in op.inputs]
        self._append(Operator(op.builtin, exchanged, [unsigned], op.options, op.origins))
        self._append(Operator("QUANTIZE", [unsigned], [signed], {}, op.origins))
        self._unsigned[signed] = unsigned
        self._integer[out] = signed


def _first(op: Operator) -> Tensor:
    tensor = op.inputs[0]
    assert tensor is not None
    return tensor


def _is_on_grid(tensor: Tensor | None) -> bool:
    return tensor is not None and Grid.of(tensor) is not None


def _is_exact(op: Operator, data: Sequence[Tensor], grid: Grid) -> bool:
    """Whether the kernel computes right between these scales."""
    scales = [float(np.max(t.quantization.scale)) for t in data if t.quantization is not None]
    return not rescales_too_much(op, scales, grid.scale, grid.dtype)


def _common_grid(tensors: Sequence[Tensor]) -> Grid | None:
    grids = {Grid.of(tensor) for tensor in tensors}
    return grids.pop() if len(grids) == 1 else None


def _name_once(graph: Graph) -> None:
    """A source tensor that is there both in integers and in float stands for itself only once, at the model's ends."""
    ends = {tensor.source: tensor for tensor in (*graph.inputs, *graph.outputs) if tensor.source}
    for op in graph.operators:
        for tensor in op.outputs:
            if tensor.source and ends.setdefault(tensor.source, tensor) is not tensor:
                tensor.source = ""
