"""Constant folding: everything that depends on constants alone is computed once, by ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_graphsurgeon as gs

from edgecc.serialization import graph_to_proto, graphs_of, subgraphs_of
from edgecc.shape_arithmetic import fold_shape_arithmetic

if TYPE_CHECKING:
    from edgecc.model import Model

#: Larger results stay computed at run time: folding must not turn a small file into one that no device loads.
MAX_FOLDED_BYTES = 1 << 30
_RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
#: Precision lives in the graph (Q/DQ and Cast nodes, docs/design.md section 6): folding them would undo it.
_PRECISION = frozenset({"DequantizeLinear"})


def fold_constants(model: Model, notes: list[str]) -> bool:
    """Replace what depends on constants alone by constants; returns whether anything changed.

    Shape and Size of tensors with a static shape count as constants. Custom operators, random ones, nodes with
    subgraphs and DequantizeLinear stay. One ONNX Runtime session computes everything of one sweep.
    """
    changed = _fold_constant_nodes(model)
    changed |= fold_shape_arithmetic(model)
    return _fold_through_runtime(model, notes) or changed


def _become_constant(tensor: gs.Tensor, values: np.ndarray) -> None:
    tensor.inputs.clear()
    tensor.to_constant(values)


def _fold_constant_nodes(model: Model) -> bool:
    outputs = _output_ids(model)
    constants = (n for n in model.all_nodes() if n.op == "Constant" and n.domain in (None, "", "ai.onnx"))
    nodes = [n for n in constants if id(n.outputs[0]) not in outputs]
    for node in nodes:
        values, output = _constant_value(node), node.outputs[0]
        if values is None:
            continue
        _become_constant(output, values)
    return any(not node.outputs for node in nodes)


def _output_ids(model: Model) -> set[int]:
    """The outputs of the model and of every subgraph."""
    return {id(tensor) for part in graphs_of(model.graph) for tensor in part.outputs}


def _constant_value(node: gs.Node) -> np.ndarray | None:
    name, value = next(iter(node.attrs.items()), ("", None))
    if name == "value" and isinstance(value, gs.Constant):
        return value.values  # type: ignore[no-any-return]  # graphsurgeon is untyped
    if name in ("value_float", "value_floats"):
        return np.array(value, np.float32)
    if name in ("value_int", "value_ints"):
        return np.array(value, np.int64)
    return None


def _fold_through_runtime(model: Model, notes: list[str]) -> bool:
    foldable = _foldable_nodes(model, notes)
    if not foldable:
        return False
    inside = {id(node) for node in foldable}
    frontier = [
        tensor
        for node in foldable
        for tensor in node.outputs
        if not tensor.is_empty() and any(id(reader) not in inside for reader in tensor.outputs)
    ]
    if not frontier:
        return False
    for tensor, values in zip(frontier, _run(model, foldable, frontier, notes), strict=False):
        _become_constant(tensor, values)
    return not any(tensor.inputs for tensor in frontier)


def _foldable_nodes(model: Model, notes: list[str]) -> list[gs.Node]:
    computed: set[int] = set()
    found = []
    for node in model.nodes():
        if not all(isinstance(t, gs.Constant) or id(t) in computed or t.is_empty() for t in node.inputs):
            continue
        if not _may_fold(model, node, notes):
            continue
        computed |= {id(t) for t in node.outputs}
        found.append(node)
    return found


def _may_fold(model: Model, node: gs.Node, notes: list[str]) -> bool:
    if node.domain not in (None, "", "ai.onnx") or node.op in _RANDOM or node.op in _PRECISION or subgraphs_of(node):
        return False
    if any(model.is_output(t) for t in node.outputs) or _widens_stored_weights(node):
        return False
    if not all(_passes_runtime(t) for t in (*node.inputs, *node.outputs) if not t.is_empty()):
        return False
    size = sum(_nbytes(t) for t in node.outputs)
    if size > MAX_FOLDED_BYTES:
        notes.append(f"{node.name} ({node.op}) depends on constants alone and was not folded: {size} bytes")
        return False
    return True


def _passes_runtime(tensor: gs.Tensor) -> bool:
    """Whether ONNX Runtime takes and gives the tensor as a numpy array: bfloat16, float8 and int4 it does not."""
    return tensor.dtype is not None and np.dtype(tensor.dtype).isbuiltin == 1


def _widens_stored_weights(node: gs.Node) -> bool:
    """A Cast from a smaller float: the weights were stored small on purpose."""
    if node.op != "Cast" or not isinstance(node.inputs[0], gs.Constant):
        return False
    source, output = node.inputs[0], node.outputs[0]
    if output.dtype is None or np.dtype(source.dtype).kind not in "fV" or source.values.size < 64:
        return False
    return bool(np.dtype(output.dtype).itemsize > np.dtype(source.dtype).itemsize)


def _nbytes(tensor: gs.Tensor) -> int:
    if tensor.shape is None or tensor.dtype is None or not all(isinstance(d, int) for d in tensor.shape):
        return 0
    return int(np.prod(tensor.shape, dtype=np.int64)) * int(np.dtype(tensor.dtype).itemsize)


def _run(model: Model, nodes: list[gs.Node], outputs: list[gs.Tensor], notes: list[str]) -> list[np.ndarray]:
    """Values of `outputs`, computed by the nodes alone; [] with a note if ONNX Runtime cannot run them."""
    import onnxruntime as ort

    part = gs.Graph(nodes, [], outputs, opset=model.graph.opset)
    proto = graph_to_proto(part, {}, detach=True)
    weights = {t.name: t for node in nodes for t in node.inputs if isinstance(t, gs.Constant)}
    feeds = {info.name: weights[info.name].values for info in proto.graph.input}
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return list(session.run(None, feeds))
    except Exception as error:  # ONNX Runtime's errors share no base class beside Exception
        names = ", ".join(f"{node.name} ({node.op})" for node in nodes[:3])
        notes.append(f"constants not folded at {names}: {str(error).splitlines()[0]}")
        return []
