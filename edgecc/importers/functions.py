"""Operators that ONNX itself defines by other operators: their bodies, and putting a body in a node's place.

onnx's own inliner is not used for them: it replaces all nodes of an operator or none, fails on inputs that a node
omits, and passes on only the attributes that a node writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import zip_longest
from typing import Any

import onnx

from edgecc.importers.proto_graphs import every_graph
from edgecc.opset import INTERNAL_IR_VERSION
from edgecc.serialization import METADATA_ORIGINS


@cache
def has_body(op: str, opset: int) -> bool:
    """Whether ONNX defines the operator of the default domain as a function in this opset."""
    if not onnx.defs.has(op, opset, ""):
        return False
    schema = _schema(op, opset)
    return bool(schema.has_function or schema.has_context_dependent_function)


def body_of(node: onnx.NodeProto, types: Sequence[onnx.TypeProto | None], opset: int) -> onnx.ModelProto | None:
    """What a node stands for: a model of its own, in the opset in which the body is written.

    Its inputs and outputs are named as in the specification; inputs that the node omits are left out.

    Args:
        node: one whose operator `has_body`.
        types: of its inputs, some bodies depend on them; None for what is omitted or unknown.
        opset: of the node.

    Returns:
        None if onnx has no body for a node with these attributes and input types.
    """
    schema = _schema(node.op_type, opset)
    function = _function(schema, node, types, opset)
    if function is None:
        return None
    formals = zip_longest(function.input, node.input, types)
    given = {name: kind for name, used, kind in formals if name and used}
    attributes = _attributes(node, schema)
    body = onnx.ModelProto(ir_version=INTERNAL_IR_VERSION, opset_import=function.opset_import)
    body.graph.name = node.op_type
    body.graph.node.extend(function.node)
    body.graph.input.extend(onnx.ValueInfoProto(name=name, type=kind) for name, kind in given.items())
    body.graph.output.extend(onnx.ValueInfoProto(name=name) for name in function.output)
    omitted = set(function.input) - set(given)
    for inner in _nodes(body.graph):
        _resolve(inner, attributes)
        inner.input[:] = ["" if name in omitted else name for name in inner.input]
    return body


def put_in_place(body: onnx.GraphProto, node: onnx.NodeProto, fresh: Callable[[str], str]) -> list[onnx.NodeProto]:
    """The nodes of a body, reading and writing what the node did.

    Args:
        body: made by `body_of`, possibly converted; it is edited.
        node: its place is taken; the new nodes' names begin with its name, and their origins are its origins.
        fresh: makes a name that no tensor or node has, from a hint.
    """
    used_inputs = [name for name in node.input if name]
    names = {value.name: used for value, used in zip(body.input, used_inputs, strict=True)}
    names |= {value.name: used for value, used in zip(body.output, node.output, strict=False) if used}
    for name in _written(body):
        if name not in names:
            names[name] = fresh(f"{node.name}/{name}")
    for part in every_graph(body):
        for value in (*part.input, *part.output, *part.initializer, *part.value_info):
            value.name = names.get(value.name, value.name)
    origins = next((entry.value for entry in node.metadata_props if entry.key == METADATA_ORIGINS), node.name)
    for inner in _nodes(body):
        inner.name = fresh(f"{node.name}/{inner.op_type}")
        inner.input[:] = [names.get(name, name) for name in inner.input]
        inner.output[:] = [names.get(name, name) for name in inner.output]
        del inner.metadata_props[:]
        inner.metadata_props.add(key=METADATA_ORIGINS, value=origins)
    return list(body.node)


def _schema(op: str, opset: int) -> Any:
    """Of a type that does not tell what schemas say about functions."""
    return onnx.defs.get_schema(op, opset, "")


def _function(
    schema: Any, node: onnx.NodeProto, types: Sequence[onnx.TypeProto | None], opset: int
) -> onnx.FunctionProto | None:
    """The newest body that the opset knows; None if there is none for these attributes and types."""
    plain = [version for version in schema.function_opset_versions if version <= opset]
    if plain:
        return _parsed(schema.get_function_with_opset_version(max(plain)))
    typed = [version for version in schema.context_dependent_function_opset_versions if version <= opset]
    if not typed or any(name and kind is None for name, kind in zip_longest(node.input, types)):
        return None
    kinds = [b"" if kind is None else kind.SerializeToString() for kind in types]
    return _parsed(
        schema.get_context_dependent_function_with_opset_version(max(typed), node.SerializeToString(), kinds)
    )


def _parsed(written: bytes) -> onnx.FunctionProto | None:
    """Onnx gives no bytes at all where a body cannot be built."""
    return onnx.FunctionProto.FromString(written) if written else None


def _attributes(node: onnx.NodeProto, schema: Any) -> dict[str, onnx.AttributeProto]:
    """What the node writes, and the defaults of what it does not."""
    defaults = {name: a.default_value for name, a in schema.attributes.items() if a.default_value.type}
    return defaults | {attribute.name: attribute for attribute in node.attribute}


def _resolve(inner: onnx.NodeProto, attributes: Mapping[str, onnx.AttributeProto]) -> None:
    """Write the caller's values where the body refers to them; an attribute without any is left out."""
    referring = [a for a in inner.attribute if a.ref_attr_name]
    for attribute in referring:
        name, value = attribute.name, attributes.get(attribute.ref_attr_name)
        inner.attribute.remove(attribute)
        if value is not None:
            inner.attribute.add().CopyFrom(value)
            inner.attribute[-1].name = name


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    return (node for part in every_graph(graph) for node in part.node)


def _written(body: onnx.GraphProto) -> Iterator[str]:
    """Names that the body makes: of tensors that its nodes write, and of its subgraphs' own inputs and constants."""
    for part in every_graph(body):
        yield from (name for node in part.node for name in node.output if name)
        if part is not body:
            yield from (value.name for value in (*part.input, *part.initializer))
