"""Bringing a detached model to the internal opset, its local functions inlined.

Which way an operator goes was decided by running a sample of every operator that changed since opset 7 (see
tests/importers/old_opsets.py), and onnx's node tests relabelled to each older opset that can express them, in ONNX
Runtime before and after:

* Unchanged operators, and those whose newer schemas only add types or attributes with the old behaviour as default,
  get nothing but the new label: some 2000 relabelled node tests give the same outputs.
* Operators that changed go through `upgrades.TABLE`: BatchNormalization, Clip, DFT, Dropout, GridSample,
  GroupNormalization, Hardmax, LogSoftmax, Pad, Reduce*, Resize, RoiAlign, Scan, Scatter, Slice, Softmax, Split,
  Squeeze, TopK, Unsqueeze, Upsample. The table is complete for opset 7 to 22, which are history and change no more.
* onnx's own version converter brings opset 1 to 6 up to 7 (all of the wheel's 112 models of opset 6 but PRelu with
  several slopes, which it gets wrong and which is refused), and does nothing else. For opset 7 and up it (onnx 1.23)
  gave other numbers for Hardmax-11, Resize-10 (linear, and nearest with fractions) and Upsample (linear), broken
  graphs for GroupNormalization-18 and Scan-8, and refuses a model with an operator that it does not know; it leaves its
  helper nodes unnamed and drops nodes' metadata, so that reports could not name the source.

Models newer than the internal opset: nodes that the older schema can express are relabelled, the others are replaced
by what `downgrades.TABLE` has for them or by the function body that their newer schema defines, and where there is
neither the model is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache

import onnx

from edgecc.errors import InvalidModelError
from edgecc.importers.downgrades import TABLE as DOWNGRADES
from edgecc.importers.fitting import fits
from edgecc.importers.functions import body_of, has_body, put_in_place
from edgecc.importers.inlining import inline_functions
from edgecc.importers.proto_graphs import every_graph, subgraphs
from edgecc.importers.upgrade_site import Facts, Site
from edgecc.importers.upgrades import TABLE, Step, replace_tf_half_pixel
from edgecc.opset import INTERNAL_IR_VERSION, INTERNAL_OPSET

_OLDEST = 7
#: The first opset without `tf_half_pixel_for_nn`; the steps to it replace what is older.
_WITHOUT_TF_HALF_PIXEL = 13


def convert(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The detached model in the internal opset.

    Args:
        proto: a model whose nodes are named; it is edited.

    Raises:
        InvalidModelError: the opset is too old or too new, or nodes in it cannot be expressed in the internal one.
    """
    _use_one_domain_name(proto)
    if proto.functions:
        _agree_on_opset(proto)
        proto = inline_functions(proto)
    return _convert(proto)


def opset_of(imports: Iterable[onnx.OperatorSetIdProto]) -> int:
    """The version of the default domain; the internal one if the model does not use it."""
    return next((o.version for o in imports if o.domain == ""), INTERNAL_OPSET)


def _convert(proto: onnx.ModelProto) -> onnx.ModelProto:
    opset = opset_of(proto.opset_import)
    newest = onnx.defs.onnx_opset_version()
    if opset > newest:
        raise InvalidModelError(
            f"opset {opset} is newer than onnx {onnx.__version__} knows (up to {newest})",
            hint="pip install --upgrade onnx, or export the model with an older opset",
        )
    if opset < _OLDEST:
        proto, opset = _to_oldest(proto, opset), _OLDEST
    if opset >= _WITHOUT_TF_HALF_PIXEL:
        _replace_tf_half_pixel(proto)
    if opset > INTERNAL_OPSET:
        _bring_down(proto, opset)
    elif opset < INTERNAL_OPSET:
        _bring_up(proto, opset)
    _set_opset(proto.opset_import)
    return proto


def _replace_tf_half_pixel(proto: onnx.ModelProto) -> None:
    """ONNX Runtime still computes the mode in opsets that do not have it, and onnx's checker does not look at it."""
    facts = Facts(proto)
    for graph in every_graph(proto.graph):
        for node in graph.node:
            if node.op_type == "Resize" and not node.domain:
                replace_tf_half_pixel(Site(node, facts))


def _use_one_domain_name(proto: onnx.ModelProto) -> None:
    """`ai.onnx` is another name of the default domain; onnx's own tools disagree on which of the two they look for."""
    for imported in (*proto.opset_import, *(o for function in proto.functions for o in function.opset_import)):
        if imported.domain == "ai.onnx":
            imported.domain = ""
    for graph in every_graph(proto.graph):
        _drop_alias(graph.node)
    for function in proto.functions:
        _drop_alias(function.node)
        for graph in (part for node in function.node for subgraph in subgraphs(node) for part in every_graph(subgraph)):
            _drop_alias(graph.node)


def _drop_alias(nodes: Iterable[onnx.NodeProto]) -> None:
    for node in nodes:
        if node.domain == "ai.onnx":
            node.domain = ""


def _set_opset(imports: Iterable[onnx.OperatorSetIdProto]) -> None:
    for imported in imports:
        if imported.domain == "":
            imported.version = INTERNAL_OPSET


def _agree_on_opset(proto: onnx.ModelProto) -> None:
    """A function may be written in another opset than the model; then each part is converted before inlining."""
    opset = opset_of(proto.opset_import)
    if all(opset_of(function.opset_import) == opset for function in proto.functions):
        return
    for function in proto.functions:
        outputs = [onnx.ValueInfoProto(name=name) for name in function.output]
        body = onnx.GraphProto(name=function.name, node=function.node, output=outputs)
        alone = onnx.ModelProto(ir_version=proto.ir_version, graph=body, opset_import=function.opset_import)
        converted = _convert(alone)
        del function.node[:]
        function.node.extend(converted.graph.node)
        _set_opset(function.opset_import)
    functions = list(proto.functions)
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    bare.ClearField("functions")
    proto.CopyFrom(_convert(bare))
    proto.functions.extend(functions)


def _to_oldest(proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    from onnx import version_converter

    for node in (n for graph in every_graph(proto.graph) for n in graph.node if n.op_type == "PRelu"):
        _refuse_old_slope(proto.graph, node, opset)
    proto.ir_version = INTERNAL_IR_VERSION  # before IR version 4 it looks for initializers among the inputs only
    try:
        return version_converter.convert_version(proto, _OLDEST)
    except Exception as error:  # the converter raises RuntimeError and its own errors
        raise InvalidModelError(
            f"opset {opset} is too old: onnx cannot convert the model to opset {_OLDEST}",
            why=str(error).splitlines()[0],
            hint=f"export the model with opset {_OLDEST} or newer",
        ) from error


def _refuse_old_slope(graph: onnx.GraphProto, node: onnx.NodeProto, opset: int) -> None:
    """Before opset 7 a slope of several values ran along the channels; the converter leaves it as it is."""
    dims = {t.name: list(t.dims) for t in graph.initializer}
    dims |= {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.input}
    if any(size != 1 for size in dims.get(node.input[1], [0])):
        raise InvalidModelError(
            f"PRelu of opset {opset} cannot be converted",
            where=f"node {node.name!r}",
            why="before opset 7 its slope ran along the channels",
            hint=f"export the model with opset {_OLDEST} or newer",
        )


# ------------------------------------------------------------------------------------------------------------ older


def _bring_up(proto: onnx.ModelProto, opset: int) -> None:
    graphs = [g for g in every_graph(proto.graph) if any(_steps(n.op_type, opset) for n in g.node if not n.domain)]
    if not graphs:
        return
    facts = Facts(proto)
    # Inner graphs first: replacing the nodes of an outer one copies those that are inside.
    for graph in reversed(graphs):
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
        site, table = Site(node, facts), TABLE[node.op_type]
        _run([table[version] for version in steps], site, opset)
        result += site.nodes()
    _set_nodes(graph, result)


def _set_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    copies = onnx.GraphProto(node=nodes).node  # some of them are in the graph, and would go with it
    del graph.node[:]
    graph.node.extend(copies)


def _run(steps: Sequence[Step], site: Site, opset: int) -> None:
    """Steps of the table; a node that lacks what its own opset asks for makes them fail."""
    given = onnx.NodeProto()
    given.CopyFrom(site.node)
    try:
        for step in steps:
            step(site)
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
        objection = _objection(given, opset)
        # Of a node that its schema allows, values that do not fit each other raise the others; these two are our bugs.
        if not objection and isinstance(error, (TypeError, AttributeError)):
            raise
        raise InvalidModelError(
            "a node is not valid in the opset that the model says it is in",
            where=f"node {given.name!r} ({given.op_type})",
            why=objection or str(error),
        ) from error


def _objection(node: onnx.NodeProto, opset: int) -> str:
    """What the checker says against the node; "" if nothing."""
    context = onnx.checker.C.CheckerContext()
    context.ir_version = INTERNAL_IR_VERSION
    context.opset_imports = {"": opset}
    try:
        onnx.checker.check_node(node, context)
    except onnx.checker.ValidationError as error:
        return str(error).strip().splitlines()[0]
    return ""


# ------------------------------------------------------------------------------------------------------------ newer


def _bring_down(proto: onnx.ModelProto, opset: int) -> None:
    facts, lost = Facts(proto), []
    # Inner graphs first, as above.
    for graph in reversed(list(every_graph(proto.graph))):
        result: list[onnx.NodeProto] = []
        for node in graph.node:
            nodes = [node] if fits(node, opset, facts) else _in_other_words(node, opset, facts)
            result += nodes
            if not nodes:
                lost.append(node)
        _set_nodes(graph, result)
    if lost:
        raise _too_new(opset, lost)


def _in_other_words(node: onnx.NodeProto, opset: int, facts: Facts) -> list[onnx.NodeProto]:
    """What stands for the node in the internal opset; nothing if it cannot be expressed there."""
    site = Site(node, facts)
    if node.op_type in DOWNGRADES and DOWNGRADES[node.op_type](site):
        return site.nodes()
    try:
        return expand(node, [facts.type(name) for name in node.input], opset, facts.fresh) or []
    except InvalidModelError:  # of the body, which the user never saw
        return []


def expand(
    node: onnx.NodeProto, types: Sequence[onnx.TypeProto | None], opset: int, fresh: Callable[[str], str]
) -> list[onnx.NodeProto] | None:
    """The body that ONNX defines for a node, in the internal opset; see `functions`.

    Args:
        node: a named one of the default domain.
        types: of its inputs.
        opset: of the node.
        fresh: makes a name that no tensor or node has, from a hint.

    Returns:
        None if there is no body for such a node.

    Raises:
        InvalidModelError: the internal opset cannot express the body.
    """
    body = body_of(node, types, opset) if has_body(node.op_type, opset) else None
    if body is None:
        return None
    body = _convert(body)
    _settle_types(body)
    _squeeze_ranges(body)
    return put_in_place(body.graph, node, fresh)


def _settle_types(body: onnx.ModelProto) -> None:
    """Bodies are written for any type: for the one at hand, their CastLikes are Casts, which constants fold through."""
    facts = Facts(body)
    for node in (n for graph in every_graph(body.graph) for n in graph.node if n.op_type == "CastLike"):
        dtype = facts.dtype(node.input[1])
        if dtype and not node.attribute:
            node.op_type, node.input[:] = "Cast", node.input[:1]
            node.attribute.append(onnx.helper.make_attribute("to", dtype))


def _squeeze_ranges(body: onnx.ModelProto) -> None:
    """The body of AffineGrid gives Range tensors of one element where scalars are due."""
    facts = Facts(body)
    for graph in reversed([g for g in every_graph(body.graph) if any(node.op_type == "Range" for node in g.node)]):
        result: list[onnx.NodeProto] = []
        for node in graph.node:
            site = Site(node, facts)
            for index, name in enumerate(node.input):
                if node.op_type == "Range" and facts.shape(name) != ():
                    site.set_input(index, site.before("Squeeze", [name]))
            result += site.nodes()
        _set_nodes(graph, result)


def _too_new(opset: int, nodes: list[onnx.NodeProto]) -> InvalidModelError:
    listed = ", ".join(f"{node.name} ({node.op_type})" for node in nodes)
    count = f"{len(nodes)} node{'s' if len(nodes) != 1 else ''}"
    return InvalidModelError(
        f"{count} of opset {opset} cannot be expressed in opset {INTERNAL_OPSET}",
        where=listed,
        hint=f"export the model with opset {INTERNAL_OPSET}",
    )
