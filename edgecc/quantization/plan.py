"""What becomes integers: which nodes, which tensors, and which tensors share a scale."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from edgecc.quantization.groups import Edge
from edgecc.quantization.scheme import CLAMPING, CLAMPS, COMPUTING, MEASURED, OperatorRule, QuantizationScheme, Role
from edgecc.rewriting.reading import constant, has_operand, is_op, is_scaled_gemm, text
from edgecc.statistics.samples import MASK

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor

#: Operators that may have weights.
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
#: Why a node stays float that the options name.
EXCLUDED = "it is excluded"


@dataclass
class Plan:
    """What becomes integers.

    Attributes:
        rules: row of each node that computes with integers, by its id.
        types: type of the data of each of them, by its id: int8 or int16.
        tensors: float tensors that are rounded, in order, by key: the name, and the type behind it where some read it
            in another type than the first.
        dtypes: type of each of them, by key.
        edges: pairs of them that share a scale.
        reasons: why a node of an operator that has an integer kernel stays float, by its id.
        dynamic: products that round their data at run time, by id, since their results had better stay float.
    """

    rules: dict[int, OperatorRule] = field(default_factory=dict)
    types: dict[int, str] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)
    dynamic: set[int] = field(default_factory=set)

    def key(self, tensor: Tensor, node: Node) -> str:
        """The key of a tensor as that node writes or reads it."""
        dtype = self.types[id(node)]
        first = self.dtypes.get(tensor.name, dtype)
        return str(tensor.name) if dtype == first else f"{tensor.name}/{dtype}"

    def take(self, tensor: Tensor, node: Node) -> str:
        """Let the tensor be rounded as that node writes or reads it; its key."""
        key = self.key(tensor, node)
        self.tensors[key], self.dtypes[key] = tensor, self.types[id(node)]
        return key


def measured_tensors(model: Model, kept: Collection[int]) -> list[str]:
    """Names of the tensors that some target rounds, in order; what is only clamped is none.

    Keeping an operator together with its clamp asks for nothing more: what lies between them is rounded by neither,
    so that saved statistics serve whichever whole layers stay float.

    Args:
        model: not changed.
        kept: ids of nodes that the user wants to stay float.
    """
    found: dict[str, None] = {}
    for node in model.nodes(*MEASURED):
        for tensor in (*node.inputs, *node.outputs):
            if is_float(tensor) and not _is_inside_layer(tensor, model, kept):
                found[tensor.name] = None
    return list(found)


def _is_inside_layer(tensor: Tensor, model: Model, kept: Collection[int]) -> bool:
    """Whether it lies between an operator and its clamp, which are both integers or both float."""
    clamp, producer = clamp_behind(tensor, model), model.producer(tensor)
    return clamp is not None and (id(clamp) not in kept or id(producer) in kept)


def is_float(tensor: Tensor) -> bool:
    """Whether it is a computed float32 tensor."""
    known = tensor.dtype is not None and np.dtype(tensor.dtype) == np.float32
    return known and not tensor.is_empty() and getattr(tensor, "values", None) is None


def clamp_behind(tensor: Tensor, model: Model) -> Node | None:
    """The Clamp that the operator which writes the tensor can take in."""
    producer, reader = model.producer(tensor), model.single_consumer(tensor)
    if producer is None or producer.op not in CLAMPING or reader is None or model.is_inner(reader):
        return None
    if reader.op not in CLAMPS or reader.inputs[0] is not tensor or _has_computed_bounds(reader):
        return None
    return reader


def _has_computed_bounds(clamp: Node) -> bool:
    return any(has_operand(clamp, place) and constant(clamp, place) is None for place in (1, 2))


def make_plan(
    model: Model,
    scheme: QuantizationScheme,
    dtype: str,
    kept: Collection[int],
    unbounded: Collection[str],
    types: Mapping[int, str] = MappingProxyType({}),
) -> Plan:
    """Decide what becomes integers.

    Args:
        model: not changed.
        scheme: of the target.
        dtype: of the data: int8 or int16.
        kept: ids of nodes that the user wants to stay float.
        unbounded: names of tensors with infinities or masks among their values, which no scale can hold.
        types: of single nodes' data, by id, where it is another one. What only moves values or clamps follows the
            operator in front of it.
    """
    plan = Plan()
    for node in model.nodes(*scheme.operators):
        rule = _rule_of(node, scheme)
        chosen = types.get(id(node)) or _type_in_front(node, rule, model, scheme, plan) or dtype
        reason = EXCLUDED if id(node) in kept else _refuses(node, rule, scheme, chosen)
        reason = reason or (reason if reason is None else _refuses_values(node, model, unbounded))
        if reason == "" and node.op in CLAMPS:
            reason = _refuses_clamp(node, model, scheme, plan)
        if reason:
            plan.reasons[id(node)] = reason
        elif reason is not None:
            plan.rules[id(node)], plan.types[id(node)] = rule, chosen
    drop_islands(plan, model, scheme)
    _name_unreached(plan, model)
    for node in model.nodes():
        if id(node) in plan.rules:
            _take_tensors(node, plan, model, scheme)
    return plan


def _name_unreached(plan: Plan, model: Model) -> None:
    """Reasons of the layers with weights that no row is about, or that are in subgraphs."""
    from edgecc.inspection import RECURRENT

    main = {id(node) for node in model.nodes()}
    for node in model.all_nodes():
        if not is_op(node, *_LAYERS, *RECURRENT) or id(node) in plan.rules or id(node) in plan.reasons:
            continue
        if id(node) not in main:
            plan.reasons[id(node)] = "it is in a subgraph, whose values no scale is measured for"
        elif node.op in RECURRENT:
            plan.reasons[id(node)] = "no scale is measured for the state of a recurrent layer: it stays float"


def _type_in_front(node: Node, rule: OperatorRule, model: Model, scheme: QuantizationScheme, plan: Plan) -> str | None:
    """The type of the operator in front of what moves values or clamps; None where it does not follow one."""
    if rule.role not in (Role.SAME, Role.CLAMP):
        return None
    writers = [model.producer(node.inputs[place]) for place in rule.positions(node)]
    found = next(
        (plan.types[id(writer)] for writer in writers if writer is not None and id(writer) in plan.types), None
    )
    return None if found == "int16" and node.op in scheme.int8_only else found


def _rule_of(node: Node, scheme: QuantizationScheme) -> OperatorRule:
    """The node's row; a product of two computed tensors is no operator with weights."""
    rule = scheme.operators[node.op]
    if node.op == "MatMul" and constant(node, 1) is None:
        return OperatorRule(Role.COMPUTE, (0, 1))
    return rule


def _refuses(node: Node, rule: OperatorRule, scheme: QuantizationScheme, dtype: str) -> str | None:
    """Why the node has no integer kernel; "" if it has one, None if it is not about real numbers at all."""
    data = [node.inputs[place] for place in rule.positions(node)]
    if not any(is_float(tensor) for tensor in data):
        return None
    others = [t for t in (*data, *node.outputs) if not is_float(t) and getattr(t, "values", None) is None]
    if others:
        return f"{others[0].name!r} is not float32"
    if dtype in ("int16",) and node.op in scheme.int8_only:
        return "the target has no kernel for int16"
    if rule.role is Role.FIXED and (node.op, dtype) not in scheme.fixed:
        return f"the target has no kernel for {dtype}"
    if rule.role is Role.WEIGHTED:
        return _refuses_weights(node)
    if node.op == "Pad" and not _pads_zeros(node):
        return "it pads with something else than zeros"
    return ""


def _refuses_values(node: Node, model: Model, unbounded: Collection[str]) -> str:
    """Why the node's values fit no scale: masks, of any size, in front of Softmax, and infinities anywhere."""
    if any(tensor.name in unbounded or _has_masks(tensor) for tensor in (*node.inputs, *node.outputs)):
        return "infinities or masks are among its values"
    if _masks_softmax(node, model):
        return "it may add a mask to what Softmax reads, beside which the other values would be one"
    producer = model.producer(node.inputs[0])
    if node.op == "Softmax" and producer is not None and _masks_softmax(producer, model):
        return "what it reads may be masked, and stays float"
    return ""


def _has_masks(tensor: Tensor) -> bool:
    from edgecc.model import value_of

    values = value_of(tensor)
    return values is not None and values.dtype.kind == "f" and not bool((np.abs(values) < MASK).all())


def _masks_softmax(node: Node, model: Model) -> bool:
    if node.op not in ("Add", "Sub", "Where"):
        return False
    return any(reader.op == "Softmax" for reader in model.consumers(node.outputs[0]))


def _refuses_weights(node: Node) -> str:
    weights = constant(node, 1)
    if weights is None:
        return "its weights are computed"
    if weights.dtype != np.float32:
        return f"its weights are {weights.dtype}"
    if not np.isfinite(weights).all():
        return "its weights are not finite"
    if node.op == "MatMul" and weights.ndim != 2:
        return "its weights are no matrix"
    if has_operand(node, 2) and constant(node, 2) is None:
        return "its bias is computed"
    bias = constant(node, 2)
    if bias is not None and math.prod(bias.shape[:-1]) != 1:
        return "its bias is not the same for all rows"
    if is_scaled_gemm(node) or (node.op == "Gemm" and node.attrs.get("transA", 0)):
        return "it transposes its data, or scales its product"
    return ""


def _pads_zeros(node: Node) -> bool:
    if text(node, "mode", "constant") != "constant":
        return True
    value = constant(node, 2)
    return not has_operand(node, 2) or (value is not None and not value.any())


def _refuses_clamp(node: Node, model: Model, scheme: QuantizationScheme, plan: Plan) -> str:
    """Why a Clamp stays float; nodes in front of it have been seen."""
    if _has_computed_bounds(node):
        return "its bounds are computed"
    producer = model.producer(node.inputs[0])
    if producer is None or id(producer) not in plan.rules:
        return "what it clamps is float"
    if clamp_behind(node.inputs[0], model) is node or scheme.clamps_alone:
        return ""
    return f"{producer.name} cannot take it in"


def drop_islands(plan: Plan, model: Model, scheme: QuantizationScheme) -> None:
    """Let connected nodes stay float that only move values, or that the target does not gain from."""
    import networkx as nx

    wanted = (Role.WEIGHTED,) if scheme.needs_weights else COMPUTING
    graph, known = nx.Graph(), {id(node): node for node in model.nodes() if id(node) in plan.rules}
    graph.add_nodes_from(known)
    for node in known.values():
        for place in plan.rules[id(node)].positions(node):
            producer = model.producer(node.inputs[place])
            if producer is not None and id(producer) in known:
                graph.add_edge(id(producer), id(node))
    for island in list(nx.connected_components(graph)):
        if any(plan.rules[key].role in wanted for key in island):
            continue
        for key in island:
            computes = plan.rules.pop(key).role in COMPUTING
            if computes:
                plan.reasons[key] = (
                    "no operator with weights is beside it: changing to integers takes longer than it gains"
                )


def _take_tensors(node: Node, plan: Plan, model: Model, scheme: QuantizationScheme) -> None:
    rule = plan.rules[id(node)]
    data = [node.inputs[place] for place in rule.positions(node)]
    clamped = rule.role is Role.CLAMP and clamp_behind(node.inputs[0], model) is node
    read = [] if clamped else [plan.take(tensor, node) for tensor in data if is_float(tensor)]
    if not scheme.rounds_results:
        return
    behind = clamp_behind(node.outputs[0], model)
    if behind is None or id(behind) not in plan.rules:
        written = [plan.take(tensor, node) for tensor in node.outputs]
        if rule.role is Role.SAME:
            plan.edges += [Edge(data_key, out, node.name) for data_key in read for out in written]
