from __future__ import annotations

from edgecc.quantization.grids import Grid, grid_for
from edgecc.quantization.groups import Edge, solve

UNIT = Grid("int8", 1 / 256, -128)


def test_tensors_alone_get_their_own_range() -> None:
    found = solve({"a": (0.0, 1.0), "b": (-2.0, 2.0)}, [], {}, "int8", symmetric=False)
    assert found.grids == {
        "a": grid_for((0.0, 1.0), "int8", symmetric=False),
        "b": grid_for((-2.0, 2.0), "int8", symmetric=False),
    }


def test_a_group_gets_the_union_whatever_the_order() -> None:
    ranges = {"a": (0.0, 1.0), "b": (-3.0, 0.5), "c": (0.0, 7.0)}
    edges = [Edge("a", "b", "n"), Edge("b", "c", "m")]
    expected = dict.fromkeys("abc", grid_for((-3.0, 7.0), "int8", symmetric=False))
    assert solve(ranges, edges, {}, "int8", symmetric=False).grids == expected
    reverse = dict(reversed(ranges.items()))
    assert solve(reverse, edges[::-1], {}, "int8", symmetric=False).grids == expected


def test_a_fixed_member_wins_where_it_holds_the_others() -> None:
    ranges = {"a": (0.0, 0.8), "b": (0.0, 0.8)}
    found = solve(ranges, [Edge("a", "b", "reshape")], {"a": UNIT}, "int8", symmetric=False)
    assert found.grids == {"a": UNIT, "b": UNIT}
    assert found.boundaries == ()


def test_a_fixed_member_that_does_not_leaves_the_group() -> None:
    ranges = {"sigmoid": (0.0, 1.0), "conv": (-4.0, 4.0), "concat": (-4.0, 4.0)}
    edges = [Edge("sigmoid", "concat", "join"), Edge("conv", "concat", "join")]
    found = solve(ranges, edges, {"sigmoid": UNIT}, "int8", symmetric=False)
    assert found.grids["sigmoid"] == UNIT
    assert found.grids["conv"] == found.grids["concat"] == grid_for((-4.0, 4.0), "int8", symmetric=False)
    assert found.boundaries == (edges[0],)
    assert "join: 'sigmoid' is requantized" in found.notes[0]


def test_two_fixed_members_of_different_grids() -> None:
    tanh = Grid("int8", 1 / 128, 0)
    ranges = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "concat": (-1.0, 1.0)}
    edges = [Edge("sigmoid", "concat", "join"), Edge("tanh", "concat", "join")]
    found = solve(ranges, edges, {"sigmoid": UNIT, "tanh": tanh}, "int8", symmetric=False)
    assert found.grids["concat"] == grid_for((-1.0, 1.0), "int8", symmetric=False)
    assert set(found.boundaries) == set(edges)


def test_edges_to_what_stays_float_are_left_out() -> None:
    found = solve({"a": (0.0, 1.0)}, [Edge("a", "float", "n")], {}, "int8", symmetric=True)
    assert set(found.grids) == {"a"}
