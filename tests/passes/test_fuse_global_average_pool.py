from __future__ import annotations

import pytest

from edgecc.passes.fuse_global_average_pool import FuseGlobalAveragePool
from edgecc.target import Target
from edgecc.testing import assert_skipped, check_pass

FUSE = FuseGlobalAveragePool()
#: Twenty float32 values in another order, whose sum may be small beside them.
ROUNDING = 1e-5


def graph(shape: str, out: str, axes: str, keepdims: int = 1, dtype: str = "float") -> str:
    count = axes.count(",") + 1
    return f"""g ({dtype}[{shape}] x) => ({dtype}[{out}] y) <int64[{count}] k = {{{axes}}}> {{
        y = ReduceMean<keepdims = {keepdims}>(x, k) }}"""


@pytest.mark.parametrize(
    ("shape", "out", "axes"),
    [
        ("2,3,4,5", "2,3,1,1", "-1, -2"),
        ("2,3,4,5", "2,3,1,1", "2, 3"),
        ("2,3,20", "2,3,1", "-1"),
        ("2,3,2,2,5", "2,3,1,1,1", "2, 3, 4"),
        ("N,3,H,W", "N,3,1,1", "3, 2"),
    ],
)
def test_all_spatial_axes(shape: str, out: str, axes: str) -> None:
    after = f"g (float[{shape}] x) => (float[{out}] y) {{ y = GlobalAveragePool(x) }}"
    check_pass(FUSE, graph(shape, out, axes), after, tolerance=ROUNDING)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (graph("2,3,4,5", "2,3", "2, 3", keepdims=0), "it drops the axes"),
        (graph("2,3,4,5", "2,3,4,1", "3"), "reduces axes [3] of 4"),
        (graph("2,3,4,5", "2,1,1,5", "1, 2"), "reduces axes [1, 2] of 4"),
        (graph("3,4", "3,1", "1"), "its input has 2 axes"),
        (graph("2,3,4,5", "2,3,1,1", "2, 3", dtype="int32"), "its input is int32"),
        ("g (float[2,3,4] x, int64[1] k) => (float[A,B,C] y) { y = ReduceMean(x, k) }", "are not known"),
        ("g (float[2,3,4] x) => (float[1,1,1] y) { y = ReduceMean(x) }", "reduces axes [0, 1, 2] of 3"),
    ],
)
def test_left_alone(text: str, reason: str) -> None:
    assert_skipped(FUSE, text, reason=reason)


def test_target_without() -> None:
    class Small(Target):
        name = "small"
        suffixes = (".small",)

    assert_skipped(FUSE, graph("2,3,4,5", "2,3,1,1", "2, 3"), reason="gains nothing", target=Small())


def test_ignored() -> None:
    text = graph("2,3,4,5", "2,3,1,1", "2, 3").replace("y = Reduce", "[mine] y = Reduce")
    assert_skipped(FuseGlobalAveragePool(ignore=("mine",)), text, reason="")


def test_other_readers_of_what_is_reduced() -> None:
    """Nothing in front of the ReduceMean changes, so they may be any."""
    text = """g (float[2,3,4,5] x) => (float[2,3,1,1] y, float[2,3,1,1] z, float[2,3,4,5] r) <int64[2] k = {2, 3}> {
        r = Relu(x) y = ReduceMean(r, k) z = ReduceMax(r, k) }"""
    model = check_pass(FUSE, text, tolerance=ROUNDING)
    assert [node.op for node in model.nodes()] == ["Relu", "GlobalAveragePool", "ReduceMax"]


def test_subgraphs() -> None:
    branches = """If(c)<then_branch = t () => (float[2,3,1,1] p) { p = ReduceMean(x, k) },
        else_branch = e () => (float[2,3,1,1] q) { q = Neg(a) }>"""
    text = f"""g (bool c, float[2,3,4,5] x) => (float[2,3,1,1] y) <int64[2] k = {{2, 3}}> {{
        a = ReduceMean(x, k) y = {branches} }}"""
    model = check_pass(FUSE, text, tolerance=ROUNDING)
    assert sorted(node.op for node in model.nodes()) == ["GlobalAveragePool", "If"]
    assert "ReduceMean" in {node.op for node in model.all_nodes()}
