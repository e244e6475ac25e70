"""Shapes within Loop and Scan: onnx infers none where the body does not declare what it carries on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from edgecc.serialization import graphs_of, tensors_of

if TYPE_CHECKING:
    from edgecc.model import Model


def infer_loops(model: Model, infer: Callable[[Model], None]) -> None:
    """Shapes of the states of Loop and Scan whose body does not declare them.

    The first iteration gets the shapes of the initial values. If it gives the same ones to the next, all have them.
    Another loop may begin with what this one ends with: then it is its turn.

    Args:
        model: shapes outside of its loops are inferred.
        infer: derives all shapes from those that are declared.
    """
    if _declare_slices(model):
        infer(model)
    tried: set[int] = set()
    while True:
        states = [state for part in graphs_of(model.graph) for node in part.nodes for state in _undeclared_states(node)]
        guesses = [state for state in states if id(state[1]) not in tried]
        if not guesses:
            return
        tried.update(id(state[1]) for state in guesses)
        _try_guesses(model, infer, guesses)


def _try_guesses(
    model: Model, infer: Callable[[Model], None], guesses: list[tuple[gs.Tensor, gs.Tensor, gs.Tensor]]
) -> None:
    """Give the states the shapes that they begin with, and leave out those that do not keep them."""
    known = {
        id(t): (t, t.shape)
        for part in graphs_of(model.graph)
        for t in tensors_of(part)
        if not isinstance(t, gs.Constant)
    }
    while guesses:
        for start, before, _ in guesses:
            before.shape, before.dtype = list(start.shape), start.dtype
        infer(model)
        right = [(start, before, after) for start, before, after in guesses if after.shape == list(start.shape)]
        if len(right) == len(guesses):
            return
        # What was derived from a wrong guess must not stay.
        for tensor, shape in known.values():
            tensor.shape = shape
        infer(model)
        guesses = right


def _declare_slices(model: Model) -> bool:
    """Types of the slices that the body of a Scan gets; returns whether one was not declared."""
    changed = False
    scans = (node for part in graphs_of(model.graph) for node in part.nodes if node.op == "Scan")
    for node in scans:
        body, count = node.attrs["body"], node.attrs["num_scan_inputs"]
        axes = node.attrs.get("scan_input_axes", [0] * count)
        for sequence, one, axis in zip(node.inputs[-count:], body.inputs[-count:], axes, strict=True):
            if one.shape is None and sequence.shape:
                shape = list(sequence.shape)
                del shape[axis]
                one.shape, one.dtype, changed = shape, sequence.dtype, True
    return changed


def _undeclared_states(node: gs.Node) -> list[tuple[gs.Tensor, gs.Tensor, gs.Tensor]]:
    """Initial value, the body's input and its output of each state whose shape only the initial value tells."""
    body = node.attrs.get("body")
    if node.op not in ("Loop", "Scan") or not isinstance(body, gs.Graph):
        return []
    # A Loop has a limit and a condition in front, its body an iteration number and a condition.
    is_loop = node.op == "Loop"
    count = len(body.inputs) - (2 if is_loop else node.attrs["num_scan_inputs"])
    first, returned = (2, 1) if is_loop else (0, 0)
    states = zip(
        node.inputs[first : first + count],
        body.inputs[first : first + count],
        body.outputs[returned : returned + count],
        strict=False,
    )
    return [state for state in states if state[1].shape is None and state[0].shape is not None]


def type_states(graph: onnx.GraphProto, infos: Mapping[str, onnx.ValueInfoProto]) -> bool:
    """Give results of Loops that keep their shape the type of the initial values; returns whether there were any."""
    changed = False
    constants = {t.name: onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in graph.initializer}
    for node in graph.node:
        body = next((a.g for a in node.attribute if a.name == "body"), None)
        if node.op_type != "Loop" or node.domain not in ("", "ai.onnx") or body is None:
            continue
        states = zip(node.input[2:], body.input[2:], body.output[1:], node.output, strict=False)
        for start, before, after, result in states:
            source = infos.get(start) or constants.get(start)
            if source is None or not result or not all(map(_has_shape, (source, before, after))):
                continue
            if (result in infos and _has_shape(infos[result])) or not _same_shape(source, before, after):
                continue
            info = infos[result] if result in infos else graph.value_info.add(name=result)
            info.type.CopyFrom(source.type)
            changed = True
    return changed


def count_slices(graph: onnx.GraphProto, infos: Mapping[str, onnx.ValueInfoProto]) -> bool:
    """Say how many slices a Loop's results have, where its limit is known and nothing ends it earlier.

    Returns:
        Whether that was not known of some result.
    """
    changed = False
    constants = {t.name: t for t in graph.initializer}
    for node in graph.node:
        body = next((a.g for a in node.attribute if a.name == "body"), None)
        if node.op_type != "Loop" or node.domain not in ("", "ai.onnx") or body is None:
            continue
        count = _iterations(node, body, constants)
        known = [infos[name] for name in node.output[len(body.input) - 2 :] if name in infos]
        for info in known if count is not None else []:
            dims = info.type.tensor_type.shape.dim
            if _has_shape(info) and dims and not dims[0].HasField("dim_value"):
                dims[0].dim_value = count
                changed = True
    return changed


def _iterations(node: onnx.NodeProto, body: onnx.GraphProto, constants: Mapping[str, onnx.TensorProto]) -> int | None:
    """How often a Loop runs its body; None if that depends on what is computed."""
    limit, begins = constants.get(node.input[0]), node.input[1] if len(node.input) > 1 else ""
    if limit is None or (begins and not _is_true(constants.get(begins))):
        return None
    producers = {name: inner for inner in body.node for name in inner.output}
    goes_on = body.output[0].name
    while goes_on in producers and producers[goes_on].op_type == "Identity":
        goes_on = producers.pop(goes_on).input[0]
    own = {tensor.name: tensor for tensor in body.initializer}
    own |= {n.output[0]: a.t for n in body.node if n.op_type == "Constant" for a in n.attribute if a.name == "value"}
    if goes_on != body.input[1].name and not _is_true(own.get(goes_on, constants.get(goes_on))):
        return None
    return max(int(onnx.numpy_helper.to_array(limit).reshape(-1)[0]), 0)


def iterations_of(node: gs.Node) -> int | None:
    """How often a Loop or a Scan runs its body; None if that depends on what is computed, and for other operators."""
    body = node.attrs.get("body")
    if node.op not in ("Loop", "Scan") or node.domain not in ("", "ai.onnx", None) or not isinstance(body, gs.Graph):
        return None
    return _steps(node) if node.op == "Scan" else _turns(node, body)


def _steps(node: gs.Node) -> int | None:
    """The length of what a Scan goes along."""
    count = node.attrs["num_scan_inputs"]
    axis, shape = (node.attrs.get("scan_input_axes") or [0])[0], node.inputs[-count].shape
    length = shape[axis] if shape else None
    return length if isinstance(length, int) else None


def _turns(node: gs.Node, body: gs.Graph) -> int | None:
    """The limit of a Loop whose condition is true, and stays as it is."""
    limit, begins = _known(node.inputs[0]), node.inputs[1] if len(node.inputs) > 1 else None
    if limit is None:
        return None
    if begins is not None and not begins.is_empty() and not _is_always(begins):
        return None
    goes_on = body.outputs[0]
    while goes_on.inputs and goes_on.inputs[0].op == "Identity":
        goes_on = goes_on.inputs[0].inputs[0]
    if goes_on is not body.inputs[1] and not _is_always(goes_on):
        return None
    return max(int(limit.reshape(-1)[0]), 0)


def _is_always(condition: gs.Tensor) -> bool:
    values = _known(condition)
    return values is not None and bool(values.all())


def _known(tensor: gs.Tensor) -> np.ndarray | None:
    """Values of a constant, and of what a Constant node gives: bodies are not folded."""
    if tensor.inputs and tensor.inputs[0].op == "Constant":
        tensor = tensor.inputs[0].attrs.get("value")
    return tensor.values if isinstance(tensor, gs.Constant) else None


def _is_true(condition: onnx.TensorProto | None) -> bool:
    return condition is not None and bool(onnx.numpy_helper.to_array(condition).all())


def _has_shape(info: onnx.ValueInfoProto) -> bool:
    return bool(info.type.HasField("tensor_type") and info.type.tensor_type.HasField("shape"))


def _same_shape(*infos: onnx.ValueInfoProto) -> bool:
    shapes = [tuple((d.dim_value, d.dim_param) for d in info.type.tensor_type.shape.dim) for info in infos]
    # A dimension without a number and without a name may be any.
    return len(set(shapes)) == 1 and all(number or name for number, name in shapes[0])
