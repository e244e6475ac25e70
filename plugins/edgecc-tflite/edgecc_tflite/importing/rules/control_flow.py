"""IF, WHILE and calls of subgraphs."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from edgecc_tflite.importing.base import ImportRule, Refusal
from edgecc_tflite.importing.constants import onnx_type
from edgecc_tflite.importing.context import Import
from edgecc_tflite.importing.graph_import import GraphImport
from edgecc_tflite.ir import Graph, Tensor


def _if(c: Import) -> None:
    """Branches see the values around them, so that nothing is handed over."""
    names = [c.stored(index) for index in range(1, len(c.operator.inputs))]
    branches = []
    for graph in c.operator.subgraphs:
        inner = c.graph.called(graph.inputs, names)
        branches.append(_finished(inner, graph, [], graph.outputs))
    _check_count(c, len(branches[0].output), len(branches[1].output))
    results = c.many("If", [c.x(0)], len(c.operator.outputs), then_branch=branches[0], else_branch=branches[1])
    for index, result in enumerate(results):
        c.give_stored(result, index)


def _while(c: Import) -> None:
    """The condition is computed once in front, and in the body for the next iteration."""
    condition, body = c.operator.subgraphs
    start = [c.stored(index) for index in range(len(c.operator.inputs))]
    _check_count(c, len(body.outputs), len(start))
    if len(condition.outputs) != 1:
        raise Refusal(f"its condition gives {len(condition.outputs)} values")
    first = _truth(c, _inlined(c.graph, condition, start)[0])
    shared = c.graph.shared
    carried = [shared.fresh(f"{tensor.name}/carried") for tensor in body.inputs]
    step, go = shared.fresh("step"), shared.fresh("go")
    inner = c.graph.called(body.inputs, carried)
    inner.run(body)
    results = [inner.stored(tensor) for tensor in body.outputs]
    again = _inlined(inner, condition, results)[0]
    inputs = [
        onnx.helper.make_tensor_value_info(step, onnx.TensorProto.INT64, []),
        onnx.helper.make_tensor_value_info(go, onnx.TensorProto.BOOL, []),
        *(_declared(tensor, name) for tensor, name in zip(body.inputs, carried, strict=True)),
    ]
    graph = _graph(inner, body.name, inputs)
    next_ = shared.fresh("go_on")
    inner.add("Reshape", [again, c.constant([], "scalar_shape")], [next_], c.origin)
    graph.output.append(onnx.helper.make_tensor_value_info(next_, onnx.TensorProto.BOOL, []))
    for tensor, result in zip(body.outputs, results, strict=True):
        wanted = shared.fresh(f"{tensor.name}/next")
        inner.add("Identity", [result], [wanted], c.origin)
        graph.output.append(_declared(tensor, wanted))
    graph.node.extend(inner.nodes)
    found = c.many("Loop", ["", first, *start], len(c.operator.outputs), body=graph)
    for index, result in enumerate(found):
        c.give_stored(result, index)


def _truth(c: Import, name: str) -> str:
    return c.reshape(name, [])


def _call(c: Import) -> None:
    """Written in its place."""
    graph = c.operator.subgraphs[0]
    _check_count(c, len(graph.outputs), len(c.operator.outputs))
    names = [c.stored(index) for index in range(len(c.operator.inputs))]
    for index, result in enumerate(_inlined(c.graph, graph, names)):
        c.graph.shared.captured.add(result)
        c.give_stored(result, index)


def _inlined(around: GraphImport, graph: Graph, names: Sequence[str]) -> list[str]:
    """The results of a subgraph whose nodes are written among those around it."""
    inner = around.called(graph.inputs, names, is_inline=True)
    inner.run(graph)
    return [inner.stored(tensor) for tensor in graph.outputs]


def _finished(
    inner: GraphImport, graph: Graph, inputs: list[onnx.ValueInfoProto], outputs: Sequence[Tensor]
) -> onnx.GraphProto:
    """A subgraph that is imported now, with outputs of its own names."""
    named = [(tensor, inner.shared.fresh(f"{tensor.name}/result")) for tensor in outputs]
    inner.reserve(named)
    inner.run(graph)
    inner.settle(named)
    proto = _graph(inner, graph.name, inputs)
    proto.output.extend(_declared(tensor, name) for tensor, name in named)
    proto.node.extend(inner.nodes)
    return proto


def _graph(inner: GraphImport, name: str, inputs: list[onnx.ValueInfoProto]) -> onnx.GraphProto:
    proto = onnx.GraphProto(name=inner.shared.fresh(name or "subgraph"))
    proto.input.extend(inputs)
    return proto


def _declared(tensor: Tensor, name: str) -> onnx.ValueInfoProto:
    """Type and shape of a subgraph's input or output.

    No shape where a dimension is open: those of the values around it, which have names, say more.
    """
    kind = onnx_type(tensor.dtype)
    if kind is None:
        raise Refusal(f"its subgraph's {tensor.name!r} holds {tensor.dtype.name}, which cannot be imported")
    return onnx.helper.make_tensor_value_info(name, kind, None if -1 in tensor.shape else tensor.shape)


def _check_count(c: Import, found: int, wanted: int) -> None:
    if found != wanted:
        raise Refusal(f"its subgraphs give {found} and {wanted} values")


RULES = (
    ImportRule("IF", _if, ("If",)),
    ImportRule("WHILE", _while, ("Loop",)),
    ImportRule("CALL", _call, (), "Written in its place."),
    ImportRule("STABLEHLO_COMPOSITE", _call, (), "Its decomposition is written in its place."),
)
