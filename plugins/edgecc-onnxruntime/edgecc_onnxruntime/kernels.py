"""Which nodes this ONNX Runtime has kernels for, all at once.

ONNX Runtime's own error at load names one node. Its table of kernels answers for most nodes without loading anything;
a node that is not in it may still run (a function is expanded, a float16 operator runs in float32), so ONNX Runtime is
asked about that one alone.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as internal

from edgecc.errors import Unsupported
from edgecc.model import origins
from edgecc.serialization import graph_to_proto, subgraphs_of
from edgecc_onnxruntime.opset_label import drop_newer_attributes, type_string

if TYPE_CHECKING:
    from edgecc.model import Model, Node


@dataclass(frozen=True)
class Kernel:
    """One kernel: the schema versions it implements and the types it takes, by type parameter or input name."""

    first: int
    last: int
    types: dict[str, list[str]]


@functools.cache
def kernels() -> dict[tuple[str, str], list[Kernel]]:
    """Kernels of every execution provider in this ONNX Runtime, by domain and operator."""
    table: dict[tuple[str, str], list[Kernel]] = {}
    for entry in internal.get_all_opkernel_def():
        first, last = entry.version_range
        kernel = Kernel(first, last, entry.type_constraints)
        table.setdefault((entry.domain, entry.op_name), []).append(kernel)
    return table


@functools.cache
def operators() -> dict[str, set[str]]:
    """Operators that this ONNX Runtime knows, by domain."""
    table: dict[str, set[str]] = {}
    for schema in internal.get_all_operator_schema():
        table.setdefault(schema.domain, set()).add(schema.name)
    return table


def find_missing(model: Model, opset: int) -> list[Unsupported]:
    """Every node, of subgraphs too, that ONNX Runtime cannot execute with the operator set `opset`."""
    answers: dict[tuple[Any, ...], str] = {}
    found = []
    for node in model.all_nodes():
        unknown = _unknown(node)
        if unknown is not None:
            found.append(unknown)
            continue
        if _in_table(node, opset):
            continue
        key = _key(node)
        if key not in answers:
            answers[key] = ask_about(node, opset)
        if answers[key]:
            hint = "compile for another target, or change its type"
            found.append(Unsupported(_name(node), node.op, answers[key], hint))
    return found


def _unknown(node: Node) -> Unsupported | None:
    domain = _domain(node)
    if domain not in operators():
        reason = f"ONNX Runtime has no operators of domain {domain!r}"
        return Unsupported(_name(node), node.op, reason, "replace it by standard operators before export")
    if node.op not in operators()[domain]:
        place = f"domain {domain!r}" if domain else "the standard domain"
        reason = f"ONNX Runtime {ort.__version__} knows no such operator in {place}"
        return Unsupported(_name(node), node.op, reason, "update onnxruntime, or replace the operator before export")
    return None


def _in_table(node: Node, opset: int) -> bool:
    domain = _domain(node)
    available = kernels().get((domain, node.op), [])
    if domain:
        return bool(available)
    try:
        schema = onnx.defs.get_schema(node.op, opset, domain)
    except onnx.defs.SchemaError:
        return False
    types = dict(_types(node, schema))
    return any(
        kernel.first <= schema.since_version <= kernel.last
        and all(types[name] in allowed for name, allowed in kernel.types.items() if name in types)
        for kernel in available
    )


def _types(node: Node, schema: Any) -> Iterable[tuple[str, str]]:
    """Type parameters and parameter names, with the node's types."""
    for tensors, parameters in ((node.inputs, schema.inputs), (node.outputs, schema.outputs)):
        for index, tensor in enumerate(tensors):
            kind = "" if tensor.is_empty() else type_string(tensor)
            if kind:
                parameter = parameters[min(index, len(parameters) - 1)]
                yield from ((parameter.type_str, kind), (parameter.name, kind))


def ask_about(node: Node, opset: int) -> str:
    """Why ONNX Runtime cannot load a model of this node alone; "" if it can, or if the node cannot stand alone."""
    if subgraphs_of(node) or not all(t.is_empty() or type_string(t) for t in (*node.inputs, *node.outputs)):
        return ""
    alone = gs.Node(node.op, node.name, dict(node.attrs), [], [], domain=node.domain)
    copies: dict[int, gs.Tensor] = {}
    alone.inputs.extend([_copy(tensor, copies) for tensor in node.inputs])
    alone.outputs.extend([_copy(tensor, copies) for tensor in node.outputs])
    inputs = [t for t in {id(t): t for t in alone.inputs}.values() if isinstance(t, gs.Variable) and not t.is_empty()]
    outputs = [t for t in alone.outputs if not t.is_empty()]
    graph = gs.Graph([alone], inputs, outputs, opset=opset)
    proto = graph_to_proto(graph, {}, detach=True)
    drop_newer_attributes(proto.graph, opset)
    error = load_error(proto.SerializeToString())
    if "NOT_IMPLEMENTED" not in error:
        return ""
    types = ", ".join(type_string(t).removeprefix("tensor(").removesuffix(")") for t in inputs or outputs)
    return f"ONNX Runtime {ort.__version__} has no kernel for {types}"


def load_error(contents: bytes) -> str:
    """What ONNX Runtime says when it loads the model; "" if it loads."""
    settings = ort.SessionOptions()
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 4
    try:
        ort.InferenceSession(contents, settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no base class beside Exception
        return str(error)
    return ""


def refused_node(model: Model, error: str) -> Unsupported:
    """The node that an error of ONNX Runtime at load speaks of."""
    named = re.findall(r"[Nn]ode(?: with name| name)?[:( ]+'?\"?([^'\")\s]+)", error)
    named += re.findall(r"Name:'([^']+)'", error)
    nodes = {node.name: node for node in model.all_nodes()}
    node = next((nodes[name] for name in named if name in nodes), None)
    reason = f"ONNX Runtime does not load it: {error.splitlines()[0]}"
    return Unsupported(_name(node), node.op, reason) if node is not None else Unsupported("the model", "", reason)


def _copy(tensor: gs.Tensor, copies: dict[int, gs.Tensor]) -> gs.Tensor:
    """The tensor without its links, so that the copied node leaves the model's graph as it is."""
    if id(tensor) not in copies:
        if isinstance(tensor, gs.Constant):
            copies[id(tensor)] = gs.Constant(tensor.name, tensor._values)
        else:
            copies[id(tensor)] = gs.Variable(tensor.name, tensor.dtype, tensor.shape)
    return copies[id(tensor)]


def _key(node: Node) -> tuple[Any, ...]:
    """Nodes with the same key get the same answer."""
    types = tuple("" if t.is_empty() else type_string(t) for t in (*node.inputs, *node.outputs))
    attributes = tuple(sorted((key, _attribute_key(value)) for key, value in node.attrs.items()))
    return node.op, node.domain, types, attributes


def _attribute_key(value: object) -> str:
    return str(value.values.tobytes()) if isinstance(value, gs.Constant) else repr(value)


def _domain(node: Node) -> str:
    return "" if node.domain in (None, "ai.onnx") else str(node.domain)


def _name(node: Node) -> str:
    return ", ".join(origins(node)) or f"the node of {node.outputs[0].name}"
