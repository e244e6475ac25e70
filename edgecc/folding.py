"""Constant folding: everything that depends on constants alone is computed once, by numpy or ONNX Runtime."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import onnx_graphsurgeon as gs

from edgecc.constant_moves import moved
from edgecc.reference_session import reference_session
from edgecc.serialization import graph_to_proto, graphs_of, subgraphs_of
from edgecc.shape_arithmetic import fold_shape_arithmetic

if TYPE_CHECKING:
    from edgecc.model import Model

#: Bytes by which a result may be larger than what it is computed from: folding must not turn a small file into one that
#: no device loads. Weights may be, which backends need as constants: compact files compute theirs, from one value even.
MAX_GROWTH = 16 << 20
#: What folding may add to a model in all.
MAX_TOTAL_GROWTH = 1 << 30
#: Operators and which of their inputs are weights, and those that only hand weights on.
_WEIGHTS = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gather": (0,),
    "Gemm": (0, 1, 2),
    "GRU": (1, 2, 3),
    "LSTM": (1, 2, 3),
    "MatMul": (0, 1),
    "RNN": (1, 2, 3),
}
_HANDS_ON = frozenset({"Transpose", "Reshape", "Cast", "Identity", "Unsqueeze", "Squeeze", "Flatten"})
#: Operators whose values decide the shape, with at most the elements of the input for every axis.
_SHAPED_BY_VALUES = frozenset({"NonZero", "Unique", "Compress", "NonMaxSuppression"})
_RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
#: Precision lives in the graph (Q/DQ and Cast nodes, docs/design.md section 6): folding them would undo it.
_PRECISION = frozenset({"DequantizeLinear"})


def fold_constants(model: Model, notes: list[str]) -> bool:
    """Replace what depends on constants alone by constants; returns whether anything changed.

    Shape and Size of tensors with a static shape count as constants. Custom operators, random ones, nodes with
    subgraphs and DequantizeLinear stay, and so does what would make the model much larger (MAX_GROWTH). One ONNX
    Runtime session computes everything of one sweep.
    """
    changed = _fold_constant_nodes(model)
    changed |= fold_shape_arithmetic(model)
    changed |= _fold_moves(model)
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


def _fold_moves(model: Model) -> bool:
    changed = False
    # What is left out here is left out, and noted, by the runtime's turn too.
    for node in _foldable_nodes(model, []):
        if not all(isinstance(t, gs.Constant) or t.is_empty() for t in node.inputs):
            continue
        values = moved(node)
        if values is None:
            continue
        model.grown += _growth(node) or 0
        _become_constant(node.outputs[0], values)
        changed = True
    return changed


def _fold_through_runtime(model: Model, notes: list[str]) -> bool:
    return _fold(_foldable_nodes(model, notes), model, notes)


def _fold(nodes: list[gs.Node], model: Model, notes: list[str]) -> bool:
    """Compute what the nodes, which are in order, give to others; by halves where ONNX Runtime refuses all at once."""
    nodes = _computable(nodes)
    inside = {id(node) for node in nodes}
    results = [tensor for node in nodes for tensor in node.outputs if not tensor.is_empty()]
    wanted = [tensor for tensor in results if any(id(reader) not in inside for reader in tensor.outputs)]
    if not wanted:
        return False
    try:
        values = _run(model, nodes, wanted)
    except Exception as error:  # ONNX Runtime's errors share no base class beside Exception
        if len(nodes) == 1:
            notes.append(f"constants not folded at {nodes[0].name} ({nodes[0].op}): {str(error).splitlines()[0]}")
            return False
        half = len(nodes) // 2
        # Both, whatever the first gives.
        return bool(_fold(nodes[:half], model, notes) | _fold(nodes[half:], model, notes))
    model.grown += sum(_growth(node) or 0 for node in nodes)
    for tensor, value in zip(wanted, values, strict=True):
        _become_constant(tensor, value)
    return True


def _computable(nodes: list[gs.Node]) -> list[gs.Node]:
    """The nodes that read nothing but constants and each other's results."""
    computed: set[int] = set()
    found = []
    for node in nodes:
        if all(isinstance(t, gs.Constant) or id(t) in computed or t.is_empty() for t in node.inputs):
            computed |= {id(t) for t in node.outputs}
            found.append(node)
    return found


def _foldable_nodes(model: Model, notes: list[str]) -> list[gs.Node]:
    computed: set[int] = set()
    grown = model.grown
    found = []
    for node in model.nodes():
        if not all(isinstance(t, gs.Constant) or id(t) in computed or t.is_empty() for t in node.inputs):
            continue
        if not _may_fold(model, node) or (growth := _growth(node)) is None:
            continue
        if grown + growth > MAX_TOTAL_GROWTH or (growth > MAX_GROWTH and not any(map(_is_weight, node.outputs))):
            notes.append(
                f"{node.name} ({node.op}) depends on constants alone and was not folded: it adds {growth} bytes"
            )
            continue
        grown += growth
        computed |= {id(t) for t in node.outputs}
        found.append(node)
    return found


def _may_fold(model: Model, node: gs.Node) -> bool:
    if node.domain not in (None, "", "ai.onnx") or node.op in _RANDOM or node.op in _PRECISION or subgraphs_of(node):
        return False
    if any(model.is_output(t) for t in node.outputs) or _widens_stored_weights(node):
        return False
    return all(_passes_runtime(t) for t in (*node.inputs, *node.outputs) if not t.is_empty())


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


def _growth(node: gs.Node) -> int | None:
    """Bytes by which the results are larger than the operands; None if that is not known (yet)."""
    size = _nbytes_of_results(node)
    operands = {id(t): t for t in node.inputs if not t.is_empty()}.values()
    return None if size is None else max(0, size - sum(_nbytes(t) or 0 for t in operands))


def _is_weight(tensor: gs.Tensor) -> bool:
    """Whether the tensor is, handed on perhaps, what an operator takes as weights."""
    pending, seen = [tensor], {id(tensor)}
    while pending:
        operand = pending.pop()
        for reader in operand.outputs:
            if any(operand is t for i, t in enumerate(reader.inputs) if i in _WEIGHTS.get(reader.op, ())):
                return True
            if reader.op in _HANDS_ON and id(reader.outputs[0]) not in seen:
                seen.add(id(reader.outputs[0]))
                pending.append(reader.outputs[0])
    return False


def _nbytes_of_results(node: gs.Node) -> int | None:
    """Bytes of all outputs, or a bound of them; None if that is not known."""
    sizes = [_nbytes(t) for t in node.outputs if not t.is_empty()]
    known = [size for size in sizes if size is not None]
    if len(known) == len(sizes):
        return sum(known)
    operand = node.inputs[0] if node.inputs else None
    elements = None if operand is None else _elements(operand)
    if node.op not in _SHAPED_BY_VALUES or operand is None or elements is None:
        return None
    return len(sizes) * max(1, len(operand.shape)) * elements * 8


def _nbytes(tensor: gs.Tensor) -> int | None:
    elements = _elements(tensor)
    return None if elements is None or tensor.dtype is None else elements * int(np.dtype(tensor.dtype).itemsize)


def _elements(tensor: gs.Tensor) -> int | None:
    if tensor.shape is None or not all(isinstance(d, int) for d in tensor.shape):
        return None
    return int(math.prod(tensor.shape))


def _run(model: Model, nodes: list[gs.Node], outputs: list[gs.Tensor]) -> list[np.ndarray]:
    """Values of `outputs`, computed by the nodes alone."""
    part = gs.Graph(nodes, [], outputs, opset=model.graph.opset)
    proto = graph_to_proto(part, {}, detach=True)
    weights = {t.name: t for node in nodes for t in node.inputs if isinstance(t, gs.Constant)}
    feeds = {info.name: weights[info.name].values for info in proto.graph.input}
    return list(reference_session(proto).run(None, feeds))
