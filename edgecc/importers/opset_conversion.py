"""Bringing a model to the internal opset."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import onnx

from edgecc.errors import InvalidModelError
from edgecc.importers.onnx_names import every_graph
from edgecc.importers.upgrades import TABLE, Facts, Site
from edgecc.opset import INTERNAL_OPSET

_OLDEST = 7


def convert(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The detached model in the internal opset, local functions inlined.

    Raises:
        InvalidModelError: the opset is too old or too new, or nodes in it cannot be expressed in the internal one.
    """
    _use_one_domain_name(proto)
    if proto.functions:
        proto = _inline_functions(proto)
    opset = opset_of(proto)
    if opset < _OLDEST:
        proto = _to_oldest(proto, opset)
        opset = _OLDEST
    if opset > onnx.defs.onnx_opset_version():
        raise InvalidModelError(
            f"opset {opset} is newer than onnx {onnx.__version__} knows (up to {onnx.defs.onnx_opset_version()})",
            hint="pip install --upgrade onnx, or export the model with an older opset",
        )
    if opset > INTERNAL_OPSET:
        proto = _bring_down(proto, opset)
    elif opset < INTERNAL_OPSET:
        _bring_up(proto, opset)
    _set_opset(proto.opset_import, INTERNAL_OPSET)
    return proto


def opset_of(proto: onnx.ModelProto) -> int:
    """The version of the default domain; the internal one if the model does not use it."""
    return next((o.version for o in proto.opset_import if o.domain == ""), INTERNAL_OPSET)


def _use_one_domain_name(proto: onnx.ModelProto) -> None:
    """`ai.onnx` is another name of the default domain; onnx's own tools disagree on which of the two they look for."""
    for imported in (*proto.opset_import, *(o for function in proto.functions for o in function.opset_import)):
        if imported.domain == "ai.onnx":
            imported.domain = ""
    for nodes in (*(g.node for g in every_graph(proto.graph)), *(f.node for f in proto.functions)):
        for node in nodes:
            if node.domain == "ai.onnx":
                node.domain = ""


def _set_opset(imports: Iterable[onnx.OperatorSetIdProto], version: int) -> None:
    for imported in imports:
        if imported.domain == "":
            imported.version = version


def _inline_functions(proto: onnx.ModelProto) -> onnx.ModelProto:
    from onnx import inliner

    for function in proto.functions:
        for index, node in enumerate(function.node):
            node.name = f"{function.name}/{node.name or f'{node.op_type}_{index}'}"
    opset = opset_of(proto)
    if any(o.domain == "" and o.version != opset for f in proto.functions for o in f.opset_import):
        return _inline_mixed(proto)
    try:
        return inliner.inline_local_functions(proto)
    except Exception as error:
        raise InvalidModelError("the model's local functions cannot be inlined", why=str(error)) from error


def _inline_mixed(proto: onnx.ModelProto) -> onnx.ModelProto:
    raise InvalidModelError("local functions in another opset than the model's", hint="export it with one opset")


def _to_oldest(proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    from onnx import version_converter

    try:
        return version_converter.convert_version(proto, _OLDEST)
    except Exception as error:
        raise InvalidModelError(
            f"opset {opset} is too old: onnx cannot convert it to {_OLDEST}",
            why=str(error).splitlines()[0],
            hint=f"export the model with opset {_OLDEST} or newer",
        ) from error


# ------------------------------------------------------------------------------------------------------------ older


def _bring_up(proto: onnx.ModelProto, opset: int) -> None:
    facts = Facts(proto)
    for graph in every_graph(proto.graph):
        if any(_steps(node.op_type, opset) for node in graph.node if not node.domain):
            _upgrade(graph, opset, facts)


@cache
def _steps(op: str, opset: int) -> tuple[int, ...]:
    """The versions at which the operator changed its meaning since `opset`."""
    return tuple(version for version in sorted(TABLE.get(op, ())) if opset < version <= INTERNAL_OPSET)


def _upgrade(graph: onnx.GraphProto, opset: int, facts: Facts) -> None:
    result: list[onnx.NodeProto] = []
    for node in graph.node:
        steps = () if node.domain else _steps(node.op_type, opset)
        if not steps:
            result.append(node)
            continue
        site = Site(node, facts)
        table = TABLE[node.op_type]
        for version in steps:
            table[version](site)
        result += site.nodes()
    _replace_nodes(graph, result)


def _replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    fresh = onnx.GraphProto()
    fresh.node.extend(nodes)
    del graph.node[:]
    graph.node.extend(fresh.node)


# ------------------------------------------------------------------------------------------------------------ newer


def _bring_down(proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    return proto
