"""Tensors that share one scale, as components of a graph; each group gets one range."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edgecc.quantization.grids import Grid, grid_for
from edgecc.quantization.ranges import Interval


@dataclass(frozen=True)
class Edge:
    """An operator that wants its data at the scale of its result.

    Attributes:
        data: name of a data input.
        result: name of the result.
        node: name of the node, for messages.
    """

    data: str
    result: str
    node: str


@dataclass(frozen=True)
class Solution:
    """Grids of tensors.

    Attributes:
        grids: by tensor name.
        boundaries: edges between two grids, where values are requantized.
        notes: a sentence for each of them.
    """

    grids: dict[str, Grid]
    boundaries: tuple[Edge, ...] = ()
    notes: tuple[str, ...] = ()


def solve(
    ranges: Mapping[str, Interval],
    edges: Iterable[Edge],
    fixed: Mapping[str, Grid],
    dtype: str,
    *,
    symmetric: bool,
    dtypes: Mapping[str, str] = MappingProxyType({}),
) -> Solution:
    """The grid of every tensor.

    A group is a connected component; its range is the union of its members'. A member with a fixed grid gives that to
    its group if it holds all of it; otherwise it leaves the group, and values are requantized between the two.

    Args:
        ranges: by name of each tensor that becomes integers.
        edges: between them; one whose tensors have no range is left out.
        fixed: grids that kernels write whatever the tensor says, by tensor name.
        dtype: int8 or int16.
        symmetric: whether zero points are 0, as those of int16 always are.
        dtypes: of tensors of another type, by name; edges are between tensors of one type.
    """
    import networkx as nx

    graph = nx.MultiGraph()
    graph.add_nodes_from(ranges)
    graph.add_edges_from((e.data, e.result, {"edge": e}) for e in edges if e.data in ranges and e.result in ranges)
    boundaries = [edge for group in list(nx.connected_components(graph)) for edge in _cut(graph, group, ranges, fixed)]
    grids: dict[str, Grid] = {}
    for group in nx.connected_components(graph):
        known = [fixed[name] for name in sorted(group) if name in fixed]
        kind = dtypes.get(next(iter(group)), dtype)
        held = union(ranges[name] for name in group)
        grid = known[0] if known else grid_for(held, kind, symmetric=symmetric or kind == "int16")
        grids |= dict.fromkeys(group, grid)
    ordered = {name: grids[name] for name in ranges}
    split = tuple(edge for edge in boundaries if grids[edge.data] != grids[edge.result])
    return Solution(ordered, split, tuple(_note(edge, grids) for edge in split))


def union(ranges: Iterable[Interval]) -> Interval:
    """The smallest interval that holds all of them, and 0."""
    low = high = 0.0
    for first, last in ranges:
        low, high = min(low, first), max(high, last)
    return low, high


def _cut(graph: object, group: set[str], ranges: Mapping[str, Interval], fixed: Mapping[str, Grid]) -> list[Edge]:
    """Take the fixed members out of a group that they do not fit; the edges that are cut."""
    import networkx as nx

    assert isinstance(graph, nx.MultiGraph)
    members = [name for name in sorted(group) if name in fixed]
    if not members:
        return []
    rest = union(ranges[name] for name in group if name not in fixed)
    if len({fixed[name] for name in members}) == 1 and fixed[members[0]].holds(rest):
        return []
    cut = list(graph.edges(members, keys=True, data="edge"))
    graph.remove_edges_from([(first, last, key) for first, last, key, _ in cut])
    return [edge for *_, edge in cut]


def _note(edge: Edge, grids: Mapping[str, Grid]) -> str:
    first, last = grids[edge.data], grids[edge.result]
    return (
        f"{edge.node}: {edge.data!r} is requantized from scale {first.scale:g} to {last.scale:g}, since not all that "
        f"{edge.node} chooses from is at one scale"
    )
