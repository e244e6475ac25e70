"""From a model to the IR: which nodes can be lowered, and lowering them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgecc.errors import Unsupported
from edgecc.opset import INTERNAL_OPSET
from edgecc_tflite.ir import Graph, Operator, Tensor
from edgecc_tflite.lowerings.base import RuleTable
from edgecc_tflite.lowerings.constraints import OPEN_DIMENSION
from edgecc_tflite.lowerings.context import GraphBuilder, Lowering
from edgecc_tflite.lowerings.node_view import NodeView

if TYPE_CHECKING:
    from edgecc.model import Model, Node
    from edgecc.model import Tensor as SourceTensor


_NO_ELEMENTS = "a tensor without elements, which TFLite's kernels do not expect"


def find_unsupported(model: Model, rules: RuleTable) -> list[Unsupported]:
    """Every node that no rule takes, with all reasons.

    Args:
        model: in the internal opset, shapes inferred.
        rules: what can be lowered.
    """
    flag, outputs = _shape_flag(model), frozenset(t.name for t in model.outputs)
    empty = [t.name for t in model.inputs if t.shape is not None and 0 in t.shape]
    return [
        *(Unsupported(name, "model input", _NO_ELEMENTS) for name in empty),
        *(problem for node in model.nodes() for problem in _problems(node, outputs, rules, flag)),
    ]


def _problems(node: Node, outputs: frozenset[str], rules: RuleTable, flag: str) -> list[Unsupported]:
    from edgecc.model import origins

    view = NodeView(node, outputs)
    domain = "" if node.domain in (None, "ai.onnx") else node.domain
    name = ", ".join(origins(node)) or node.name
    op = f"{domain}.{node.op}" if domain else node.op
    rule = rules.find(node.op, domain, INTERNAL_OPSET)
    if rule is None:
        hint = "`edgecc targets` names targets that may take it; a plugin can add a rule (docs/adding_a_lowering.md)"
        return [Unsupported(name, op, "no lowering rule for this operator", hint)]
    unranked = [t.name for t in (*view.inputs, *view.outputs) if t is not None and t.shape is None]
    if unranked:
        reasons = [f"the shape of {unranked[0]!r} could not be inferred"]
    elif (empty := _without_elements(view)) is not None:
        reasons = [f"{empty!r}: {_NO_ELEMENTS}"]
    else:
        reasons = rule.reasons(view)
    hints = [flag if OPEN_DIMENSION in reason or unranked else "" for reason in reasons]
    return [Unsupported(name, op, reason, hint) for reason, hint in zip(reasons, hints, strict=True)]


def _without_elements(view: NodeView) -> str | None:
    """The first computed tensor of size 0."""
    for tensor in (*view.inputs, *view.outputs):
        if tensor is not None and getattr(tensor, "values", None) is None and 0 in tensor.shape:
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

    builder = GraphBuilder(model.graph.name or "main")
    readers = _reader_counts(model)
    outputs = frozenset(t.name for t in model.outputs)
    builder.graph.inputs = [builder.tensor(t) for t in model.inputs]
    for node in model.nodes():
        domain = "" if node.domain in (None, "ai.onnx") else node.domain
        rule = rules.find(node.op, domain, INTERNAL_OPSET)
        assert rule is not None, f"{node.op} went through find_unsupported"
        rule.lower(Lowering(builder, NodeView(node, outputs), origins(node), readers))
    builder.graph.outputs = _outputs(builder, model.outputs)
    return builder.graph


def _reader_counts(model: Model) -> Mapping[str, int]:
    """How often each source tensor is read, by nodes and as an output of the model."""
    counts: dict[str, int] = {}
    for node in model.nodes():
        for tensor in node.inputs:
            counts[tensor.name] = counts.get(tensor.name, 0) + 1
    for tensor in model.outputs:
        counts[tensor.name] = counts.get(tensor.name, 0) + 1
    return counts


def _outputs(builder: GraphBuilder, sources: list[SourceTensor]) -> list[Tensor]:
    """The output tensors under their own names: one that is an input, a constant or another output is copied."""
    taken = set(builder.graph.inputs)
    outputs: list[Tensor] = []
    for source in sources:
        tensor = builder.tensor(source)
        if tensor in taken or tensor.is_constant:
            tensor = _copied(builder, tensor, source.name)
        elif tensor.source != source.name:
            tensor.name = tensor.source = source.name
        taken.add(tensor)
        outputs.append(tensor)
    return outputs


def _copied(builder: GraphBuilder, tensor: Tensor, name: str) -> Tensor:
    """A copy through a dynamic-shape-proof identity: x reshaped to the shape that x has."""
    import numpy as np

    copy = Tensor(name, tensor.shape, tensor.dtype, source=name)
    if tensor.shape.count(-1) <= 1:
        shape = builder.constant(np.array(tensor.shape, np.int32), f"{name}/shape")
    else:
        shape = Tensor(f"{name}/shape", (tensor.rank,), np.dtype(np.int32))
        builder.append(Operator("SHAPE", [tensor], [shape], {"outType": 2}))
    builder.append(Operator("RESHAPE", [tensor, shape], [copy]))
    return copy
