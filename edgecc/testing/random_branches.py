"""Branches of random models: If nodes that read any tensor of the main graph, the inner ones of a pattern too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx_graphsurgeon as gs

from edgecc.opset import INTERNAL_OPSET
from edgecc.testing.random_steps import unary

if TYPE_CHECKING:
    from edgecc.model import Node, Tensor
    from edgecc.testing.random_builder import Builder, Step


def branch(b: Builder, steps: Sequence[Step]) -> None:
    """Add an If; one of its branches may hold what a step makes or what reads the tensor already, or hand it on."""
    source = b.pick(_readable(b))
    if not any(source is tensor for tensor in b.tensors):
        b.tensors.append(source)
    then = b.pick([_handed_on, _like_a_reader, _like_a_reader, _step(steps)])
    before, outside = _ends(b), len(b.tensors)
    result = then(b, source)
    # Some steps offer their inner tensors to others: those outside cannot read them here.
    del b.tensors[outside:]
    if not result.inputs or id(result.inputs[0]) in before:
        result = _handed_on(b, result)
    inner = _taken_out(b, before)
    # The branches agree in shape: the other one reads what has it already, or computes the same again.
    alike = [tensor for tensor in _readable(b) if list(tensor.shape) == list(result.shape)]
    before = _ends(b)
    other = b.pick([_handed_on, _unary])(b, b.pick(alike)) if alike else _again(b, inner, result)
    bodies = {
        "then_branch": gs.Graph(inner, [], [result], name="then", opset=INTERNAL_OPSET),
        "else_branch": gs.Graph(_taken_out(b, before), [], [other], name="else", opset=INTERNAL_OPSET),
    }
    b.tensors.append(_if(b, bodies, result))


def _readable(b: Builder) -> list[Tensor]:
    """Everything computed so far that steps can read: four axes of float32."""
    written = [tensor for node in b.model.graph.nodes for tensor in node.outputs]
    return [tensor for tensor in (b.tensors[0], *written) if _is_readable(tensor)]


def _is_readable(tensor: Tensor) -> bool:
    if tensor.dtype != np.float32 or not tensor.shape or len(tensor.shape) != 4:
        return False
    return all(isinstance(dim, int) for dim in tensor.shape[1:])


def _handed_on(b: Builder, x: Tensor) -> Tensor:
    return b.node("Identity", [x], x.shape)


def _unary(b: Builder, x: Tensor) -> Tensor:
    return unary(b, x)


def _like_a_reader(b: Builder, x: Tensor) -> Tensor:
    """What some node of the main graph does with the tensor."""
    readers = [node for node in x.outputs if len(node.outputs) == 1 and not b.model.is_inner(node)]
    alike = [node for node in readers if node.op != "If" and _is_readable(node.outputs[0])]
    if not alike:
        return unary(b, x)
    return _copy(b, b.pick(alike), {})


def _copy(b: Builder, node: Node, renamed: dict[int, Tensor]) -> Tensor:
    outputs = [b.model.variable("t", tensor.dtype, tensor.shape) for tensor in node.outputs]
    inputs = [renamed.get(id(tensor), tensor) for tensor in node.inputs]
    b.model.add(node.op, inputs, outputs, attributes=node.attrs)
    renamed.update({id(old): new for old, new in zip(node.outputs, outputs, strict=True)})
    return outputs[0]


def _again(b: Builder, nodes: list[Node], result: Tensor) -> Tensor:
    renamed: dict[int, Tensor] = {}
    for node in nodes:
        _copy(b, node, renamed)
    return renamed[id(result)]


def _step(steps: Sequence[Step]) -> Step:
    def step(b: Builder, x: Tensor) -> Tensor:
        result = b.pick(steps)(b, x)
        return unary(b, x) if result is None else result

    return step


def _ends(b: Builder) -> set[int]:
    return {id(node) for node in b.model.graph.nodes}


def _taken_out(b: Builder, before: set[int]) -> list[Node]:
    """The nodes that are new, which the main graph loses."""
    graph = b.model.graph
    new = [node for node in graph.nodes if id(node) not in before]
    graph.nodes = [node for node in graph.nodes if id(node) in before]
    return new


def _if(b: Builder, bodies: dict[str, gs.Graph], like: Tensor) -> Tensor:
    """The node, on the input that all of them share."""
    graph = b.model.graph
    flag = next((tensor for tensor in graph.inputs if tensor.name == "flag"), None)
    if flag is None:
        flag = gs.Variable(b.model.fresh_name("flag"), np.dtype(np.bool_), [])
        graph.inputs.append(flag)
    output = b.model.variable("t", np.float32, like.shape)
    b.model.add("If", [flag], [output], attributes=bodies)
    b.model._inner = None
    return output
