"""From a model to the IR: which nodes can be lowered, and lowering them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgecc.errors import Unsupported
from edgecc.opset import INTERNAL_OPSET
from edgecc_tflite.ir import Graph, Operator, Tensor
from edgecc_tflite.lowerings.base import RuleTable
from edgecc_tflite.lowerings.constraints import OPEN_DIMENSION
from edgecc_tflite.lowerings.context import GraphBuilder, Lowering
from edgecc_tflite.lowerings.node_view import NodeView
from edgecc_tflite.quantization import Stored, use_integer_kernels, with_float_constants, with_pool_scales

if TYPE_CHECKING:
    from edgecc.model import Model, Node
    from edgecc.model import Tensor as SourceTensor


_MAX_RANK = 8
_MAX_ELEMENTS = 2**31 - 1
_NO_ELEMENTS = "a tensor without elements, which TFLite's kernels do not expect"


def find_unsupported(model: Model, rules: RuleTable) -> list[Unsupported]:
    """Every node that no rule takes, with all reasons.

    Args:
        model: in the internal opset, shapes inferred.
        rules: what can be lowered.
    """
    model, _ = with_float_constants(model)
    flag, outputs = _shape_flag(model), _output_names(model)
    return [
        *(problem for node in model.all_nodes() for problem in problems_of(node, outputs, rules, flag)),
    ]


def problems_of(node: Node, outputs: frozenset[str], rules: RuleTable, flag: str = "") -> list[Unsupported]:
    """Why no rule takes a node; nothing if one does.

    Args:
        node: of the main graph or a subgraph.
        outputs: names of all graphs' outputs.
        rules: what can be lowered.
        flag: the command line flag that fixes the model's open dimensions.
    """
    from edgecc.model import origins

    view = NodeView(node, outputs)
    domain = "" if node.domain in (None, "ai.onnx") else node.domain
    name = ", ".join(origins(node)) or node.name
    op = f"{domain}.{node.op}" if domain else node.op
    rule = rules.find(node.op, domain, INTERNAL_OPSET)
    if rule is None:
        hint = "`edgecc targets` names targets that may take it; a plugin can add a rule (docs/adding_a_lowering.md)"
        return [Unsupported(name, op, "no lowering rule for this operator", hint)]
    if too_large := _too_large(view):
        return [Unsupported(name, op, too_large)]
    unranked = [t.name for t in (*view.inputs, *view.outputs) if t is not None and t.shape is None]
    if unranked:
        reasons = [f"the shape of {unranked[0]!r} could not be inferred"]
    elif is_empty(view):
        reasons = []
    elif not rule.takes_empty and (empty := _without_elements(view)) is not None:
        reasons = [f"{empty!r}: {_NO_ELEMENTS}"]
    else:
        reasons = rule.reasons(view)
    is_open = bool(unranked) or (bool(flag) and _follows_shapes(node))
    hints = [flag if is_open or OPEN_DIMENSION in reason else "" for reason in reasons]
    return [Unsupported(name, op, reason, hint) for reason, hint in zip(reasons, hints, strict=True)]


def _follows_shapes(node: Node) -> bool:
    """Whether an operand, such as a size or an index, is computed from the shape of a tensor."""
    pending, seen = list(node.inputs), set()
    while pending:
        tensor = pending.pop()
        is_list = tensor.shape is not None and len(tensor.shape) <= 1
        if id(tensor) in seen or not tensor.inputs or not is_list:
            continue
        seen.add(id(tensor))
        producer = tensor.inputs[0]
        if producer.op in ("Shape", "Size"):
            return True
        pending += producer.inputs
    return False


def _too_large(view: NodeView) -> str:
    """What keeps every rule from taking the node, because of a tensor's extent; "" if nothing does."""
    for tensor in (*view.inputs, *view.outputs):
        if tensor is None or tensor.shape is None:
            continue
        if len(tensor.shape) > _MAX_RANK:
            return f"{tensor.name!r} has rank {len(tensor.shape)}, and TFLite's kernels take at most {_MAX_RANK}"
        count = math.prod(d for d in tensor.shape if isinstance(d, int))
        if count > _MAX_ELEMENTS:
            return f"{tensor.name!r} has {count:,} elements, and TFLite counts them in 32 bits"
    return ""


def is_empty(view: NodeView) -> bool:
    """Whether every output that somebody needs has no elements: then it is known without computing anything."""
    shapes = [view.out_shape(n) for n in range(len(view.outputs)) if view.has_output(n)]
    return bool(shapes) and all(shape is not None and 0 in shape and -1 not in shape for shape in shapes)


def _without_elements(view: NodeView) -> str | None:
    """The first computed tensor of size 0; a list of integers, such as axes or sizes, may have none."""
    for number, tensor in enumerate((*view.inputs, *view.outputs)):
        if tensor is None or getattr(tensor, "values", None) is not None or 0 not in tensor.shape:
            continue
        is_operand = 0 < number < len(view.inputs) and len(tensor.shape) == 1 and np.dtype(tensor.dtype).kind == "i"
        if not is_operand:
            return str(tensor.name)
    return None


def _shape_flag(model: Model) -> str:
    """The command line flag that fixes the model's open dimensions; "" if it has none."""
    for spec in model.signature.inputs:
        if not spec.is_static:
            dims = ",".join(str(_suggested(dim, axis, len(spec.shape))) for axis, dim in enumerate(spec.shape))
            return f"fix the input's shape: --shape {spec.name}={dims}"
    return ""


def _suggested(dim: int | str, axis: int, rank: int) -> int:
    """A plausible size for an open dimension: one sample, an ordinary image."""
    if isinstance(dim, int):
        return dim
    return 224 if rank == 4 and axis > 0 else 1


def lower(model: Model, rules: RuleTable) -> Graph:
    """The model as TFLite operators, every one in the order of axes that its kernel wants.

    Args:
        model: one for which `find_unsupported` found nothing. It is not changed.
        rules: how to lower each operator.
    """
    from edgecc.model import origins

    model, stored = with_float_constants(with_pool_scales(model))
    stored_by: dict[Operator, list[Stored]] = {}
    readers, output_names = _reader_counts(model), _output_names(model)

    def lower_part(part: GraphBuilder, nodes: Sequence[Node], outputs: Sequence[SourceTensor]) -> None:
        for node in nodes:
            domain = "" if node.domain in (None, "ai.onnx") else node.domain
            rule = rules.find(node.op, domain, INTERNAL_OPSET)
            assert rule is not None, f"{node.op} went through find_unsupported"
            view = NodeView(node, output_names)
            if is_empty(view):
                _define_empty(part, view)
                continue
            before = len(part.graph.operators)
            rule.lower(Lowering(part, view, origins(node), readers))
            if known := [stored[t.name] for t in node.inputs if t.name in stored]:
                stored_by.update((operator, known) for operator in part.graph.operators[before:])
        part.graph.outputs = _outputs(part, outputs)

    builder = GraphBuilder(model.graph.name or "main")
    builder.lower_part = lower_part
    builder.graph.inputs = [builder.tensor(t) for t in model.inputs]
    lower_part(builder, model.nodes(), model.outputs)
    for part in builder.graph.nested():
        use_integer_kernels(part, stored_by)
    return builder.graph


def _define_empty(builder: GraphBuilder, view: NodeView) -> None:
    for index, source in enumerate(view.outputs):
        shape = None if source is None else view.out_shape(index)
        if source is not None and shape is not None:
            builder.alias(source, builder.constant(np.zeros(shape, source.dtype), source.name))


def _output_names(model: Model) -> frozenset[str]:
    """Names of the outputs of the model and of every subgraph."""
    from edgecc.serialization import graphs_of

    return frozenset(tensor.name for part in graphs_of(model.graph) for tensor in part.outputs)


def _reader_counts(model: Model) -> Mapping[str, int]:
    """How often each source tensor is read, by nodes and as an output, subgraphs included."""
    from edgecc.serialization import graphs_of

    counts: dict[str, int] = {}
    parts = list(graphs_of(model.graph))
    read = (tensor for part in parts for node in part.nodes for tensor in node.inputs)
    for tensor in (*read, *(tensor for part in parts for tensor in part.outputs)):
        counts[tensor.name] = counts.get(tensor.name, 0) + 1
    return counts


def _outputs(builder: GraphBuilder, sources: Sequence[SourceTensor]) -> list[Tensor]:
    """The output tensors under their own names: one that is an input, a constant or another output is copied."""
    taken: set[Tensor] = set()
    outputs: list[Tensor] = []
    for source in sources:
        tensor = builder.tensor(source)
        if tensor in taken or tensor in builder.graph.inputs or tensor.is_constant:
            tensor = _copied(builder, tensor, source.name)
        elif tensor.source != source.name:
            tensor.name = tensor.source = source.name
        taken.add(tensor)
        outputs.append(tensor)
    return outputs


def _copied(builder: GraphBuilder, tensor: Tensor, name: str) -> Tensor:
    """A copy through a dynamic-shape-proof identity: x reshaped to the shape that x has."""
    # An input or constant that is an output under its own name: only one tensor can stand for it.
    copy = Tensor(name, tensor.shape, tensor.dtype, source="" if name == tensor.source else name)
    if tensor.shape.count(-1) <= 1:
        shape = builder.constant(np.array(tensor.shape, np.int32), f"{name}/shape")
    else:
        shape = Tensor(f"{name}/shape", (tensor.rank,), np.dtype(np.int32))
        builder.append(Operator("SHAPE", [tensor], [shape], {"outType": 2}))
    builder.append(Operator("RESHAPE", [tensor, shape], [copy]))
    return copy
