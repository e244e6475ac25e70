"""Pass compute-float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgecc.passes.base import Loss, Pass, PassContext

if TYPE_CHECKING:
    from edgecc.model import Constant, Model, Node, Tensor

_HALF, _SINGLE = np.dtype(np.float16), np.dtype(np.float32)
_TO_HALF, _TO_SINGLE = 10, 1
#: Smaller constants become float32 ones.
_LEAST_WEIGHTS = 64


class ComputeFloat32(Pass):
    """Compute in float32 what the model computes in float16; weights stay stored in float16.

    Before: h = Conv(x, w_float16)
    After:  f = Cast<to=1>(x)   w = Cast<to=1>(w_float16)   g = Conv(f, w)   h = Cast<to=10>(g)

    TFLite's kernels have no float16 arithmetic on processors. Unpacking the weights when the model is loaded costs
    nothing later. Inputs and outputs of the model keep their type; what was rounded to float16 in between is not.
    """

    name = "compute-float32"
    loss = Loss.ROUNDING
    after = ("convert-float16",)

    def run(self, model: Model, ctx: PassContext) -> bool:
        nodes = [node for node in model.nodes() if any(_is_half(t) for t in (*node.inputs, *node.outputs))]
        nodes = [node for node in nodes if not _is_boundary(node, model)]
        if not nodes:
            return False
        from edgecc.precision.retype import drop_idle_casts
        from edgecc.serialization import subgraphs_of

        with_subgraphs = [node for node in model.nodes() if subgraphs_of(node)]
        if with_subgraphs:
            ctx.skip(with_subgraphs[0], "its subgraphs may compute in float16 too")
            return False
        self._leave_ends(model)
        stored: dict[int, Tensor] = {}
        for node in model.nodes():
            if not _is_boundary(node, model):
                _retype(node, model, stored)
        drop_idle_casts(model)
        return True

    def _leave_ends(self, model: Model) -> None:
        """Casts at the model's inputs and outputs."""
        for source in model.inputs:
            readers = [node for node in model.consumers(source) if not _is_boundary(node, model)]
            if source.dtype != _HALF or not readers:
                continue
            inner = model.variable(f"{source.name}/float32", _SINGLE, source.shape)
            for node in readers:
                for index, tensor in enumerate(node.inputs):
                    if tensor is source:
                        model.set_input(node, index, inner)
            model.add("Cast", [source], [inner], attributes={"to": _TO_SINGLE})
        for output in model.outputs:
            producer = model.producer(output)
            if output.dtype != _HALF or producer is None or _is_boundary(producer, model):
                continue
            inner = model.variable(f"{output.name}/float32", _SINGLE, output.shape)
            readers = model.consumers(output)
            model.set_output(producer, next(i for i, t in enumerate(producer.outputs) if t is output), inner)
            for node in readers:
                for index, tensor in enumerate(node.inputs):
                    if tensor is output:
                        model.set_input(node, index, inner)
            model.add("Cast", [inner], [output], attributes={"to": _TO_HALF})


def _is_half(tensor: Tensor) -> bool:
    return tensor.dtype is not None and np.dtype(tensor.dtype) == _HALF


def _is_boundary(node: Node, model: Model) -> bool:
    """A Cast from an input of the model, to an output, or of stored weights: what this pass puts there."""
    if node.op != "Cast":
        return False
    source, result = node.inputs[0], node.outputs[0]
    if _is_half(source) and result.dtype == _SINGLE:
        return getattr(source, "values", None) is not None or any(source is t for t in model.inputs)
    return _is_half(result) and source.dtype == _SINGLE and model.is_output(result)


def _retype(node: Node, model: Model, stored: dict[int, Tensor]) -> None:
    import onnx_graphsurgeon as gs

    from edgecc.precision.slots import OUTPUT_TYPE_ATTRIBUTE

    for index, tensor in enumerate(node.inputs):
        if isinstance(tensor, gs.Constant) and _is_half(tensor):
            model.set_input(node, index, _unpacked(tensor, model, stored))
    for tensor in node.outputs:
        if _is_half(tensor):
            tensor.dtype = _SINGLE
    name = OUTPUT_TYPE_ATTRIBUTE.get(node.op)
    if name is not None and node.attrs.get(name) == _TO_HALF:
        node.attrs[name] = _TO_SINGLE
    value: Any = node.attrs.get("value")
    if node.op == "ConstantOfShape" and value is not None and np.dtype(value.dtype) == _HALF:
        node.attrs["value"] = gs.Constant(value.name, value.values.astype(_SINGLE))


def _unpacked(tensor: Constant, model: Model, stored: dict[int, Tensor]) -> Tensor:
    """The constant in float32: behind a Cast where it is large, which keeps it small in the file."""
    if id(tensor) not in stored:
        if tensor.values.size < _LEAST_WEIGHTS:
            stored[id(tensor)] = model.constant(tensor.name, tensor.values.astype(_SINGLE))
        else:
            wide = model.variable(f"{tensor.name}/float32", _SINGLE, tensor.values.shape)
            model.add("Cast", [tensor], [wide], attributes={"to": _TO_SINGLE})
            stored[id(tensor)] = wide
    return stored[id(tensor)]
