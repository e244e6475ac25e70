"""Choose: the set of nodes that compute in float16, given the rules and what each node is connected to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import onnx_graphsurgeon as gs

from edgecc.model import Model, Node, is_standard
from edgecc.precision.policy import NEUTRAL, Rule, reasons
from edgecc.precision.slots import Slots, is_float32
from edgecc.rewriting.reading import is_op


def choose_half(
    model: Model, slots: Mapping[int, Slots], rules: Sequence[Rule], *, keep_io: bool
) -> tuple[set[int], dict[int, str]]:
    """Ids of the nodes to convert, and the reasons of those that stay.

    Nodes without an objection become float16, except where that would only add Casts: regions that merely move values
    between float32 neighbours, comparisons of a float32 value, and Casts and
    DequantizeLinear that something reads as float32.
    """
    objections = reasons(model, slots, rules)
    half = {id(node) for node in model.nodes() if slots[id(node)].concerned and id(node) not in objections}
    # One release can bring about another; each only takes nodes out of the set.
    count = -1
    while count != len(half):
        count = len(half)
        _release_casts(model, slots, half, keep_io=keep_io)
        _release_regions(model, half, keep_io=keep_io)
        _release_comparisons(model, slots, half, keep_io=keep_io)
    return half, objections


def _release_casts(model: Model, slots: Mapping[int, Slots], half: set[int], *, keep_io: bool) -> None:
    for node in model.nodes("Cast", "DequantizeLinear"):
        readers = [r for t in node.outputs for r in model.consumers(t)]
        wanted = all(_reads_half(r, slots, half) for r in readers)
        if not wanted or (keep_io and model.is_output(node.outputs[0])):
            half.discard(id(node))


def _reads_half(node: Node, slots: Mapping[int, Slots], half: set[int]) -> bool:
    return id(node) in half or (id(node) in slots and bool(slots[id(node)].any_inputs))


def _release_regions(model: Model, half: set[int], *, keep_io: bool) -> None:
    """Connected regions of neutral nodes all of whose neighbours are float32."""
    candidates = {id(n): n for n in model.nodes() if id(n) in half and n.op in NEUTRAL and is_standard(n)}
    seen: set[int] = set()
    for start in candidates:
        if start in seen:
            continue
        region, float16_near = _region(model, candidates, start, half, keep_io=keep_io)
        seen |= region
        if not float16_near:
            half -= region


def _region(
    model: Model, candidates: Mapping[int, Node], start: int, half: set[int], *, keep_io: bool
) -> tuple[set[int], bool]:
    """The region around a node, and whether it touches float16 anywhere."""
    region, pending, float16_near = {start}, [start], False
    while pending:
        node = candidates[pending.pop()]
        if not keep_io and _at_boundary(model, node):
            float16_near = True
        for neighbour in _neighbours(model, node):
            if id(neighbour) in candidates and id(neighbour) not in region:
                region.add(id(neighbour))
                pending.append(id(neighbour))
            elif id(neighbour) not in candidates and id(neighbour) in half:
                float16_near = True
    return region, float16_near


def _neighbours(model: Model, node: Node) -> Iterable[Node]:
    for tensor in node.inputs:
        producer = model.producer(tensor) if is_float32(tensor) else None
        if producer is not None:
            yield producer
    for tensor in node.outputs:
        if is_float32(tensor):
            yield from model.consumers(tensor)


def _at_boundary(model: Model, node: Node) -> bool:
    inputs = {id(t) for t in model.inputs}
    return any(id(t) in inputs for t in node.inputs) or any(model.is_output(t) for t in node.outputs)


def _release_comparisons(model: Model, slots: Mapping[int, Slots], half: set[int], *, keep_io: bool) -> None:
    """Nodes that give no float (Less, Equal, QuantizeLinear): a Cast down before them would only lose digits."""
    for node in model.nodes():
        own = slots[id(node)]
        if id(node) not in half or own.outputs or not own.inputs:
            continue
        read = [node.inputs[i] for i in own.inputs if not isinstance(node.inputs[i], gs.Constant)]
        producers = [model.producer(t) for t in read]
        # Between DequantizeLinear and QuantizeLinear, integers change their scale.
        requantizes = any(p is not None and is_op(p, "DequantizeLinear") for p in producers)
        if requantizes or any(keep_io if p is None else id(p) not in half for p in producers):
            half.discard(id(node))
