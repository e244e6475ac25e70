from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model
from edgecc.passes.fuse_global_average_pool import FuseGlobalAveragePool
from edgecc.target import Target
from edgecc.testing import assert_skipped, check_pass

FUSE = FuseGlobalAveragePool()
#: Twenty float32 values in another order, whose sum may be small beside them.
ROUNDING = 1e-5
TYPES = {"float": np.float32, "double": np.float64}


def graph(
    shape: str, out: str, axes: str, keepdims: int = 1, dtype: str = "float", between: str = "c = Conv(x, w)"
) -> Model:
    """A Conv of one tap, what is between, and the mean."""
    count = axes.count(",") + 1
    text = f"""g ({dtype}[{shape}] x) => ({dtype}[{out}] y) <int64[{count}] k = {{{axes}}}> {{
        {between} y = ReduceMean<keepdims = {keepdims}>(c, k) }}"""
    weights = np.eye(3, dtype=np.float32).reshape(3, 3, *[1] * (shape.count(",") - 1)).astype(TYPES[dtype])
    return Model.from_text(text, {"w": weights})


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
    model = check_pass(FUSE, graph(shape, out, axes), tolerance=ROUNDING)
    assert [node.op for node in model.nodes()] == ["Conv", "GlobalAveragePool"]


@pytest.mark.parametrize(
    "between",
    [
        "a = Conv(x, w) c = Relu(a)",
        "a = Conv(x, w) b = Sigmoid(a) c = Mul(a, b)",
        "a = Conv(x, w) b = HardSwish(a) c = Add(x, b)",
    ],
)
def test_behind_what_a_conv_is_followed_by(between: str) -> None:
    model = check_pass(FUSE, graph("2,3,4,5", "2,3,1,1", "2, 3", between=between), tolerance=ROUNDING)
    assert model.nodes()[-1].op == "GlobalAveragePool"


@pytest.mark.parametrize("between", ["c = Relu(x)", "a = Conv(x, w) c = Erf(a)", "a = Conv(x, w) c = Softmax(a)"])
def test_without_blocks_of_channels(between: str) -> None:
    assert_skipped(FUSE, graph("2,3,4,5", "2,3,1,1", "2, 3", between=between), reason="no Conv is in front of it")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (graph("2,3,4,5", "2,3", "2, 3", keepdims=0), "it drops the axes"),
        (graph("2,3,4,5", "2,3,4,1", "3"), "reduces axes [3] of 4"),
        (graph("2,3,4,5", "2,1,1,5", "1, 2"), "reduces axes [1, 2] of 4"),
        ("g (float[3,4] x) => (float[3,1] y) <int64[1] k = {1}> { y = ReduceMean(x, k) }", "its input has 2 axes"),
        (graph("2,3,4,5", "2,3,1,1", "2, 3", dtype="double"), "its input is float64"),
        ("g (float[2,3,4] x, int64[1] k) => (float[A,B,C] y) { y = ReduceMean(x, k) }", "are not known"),
        ("g (float[2,3,4] x) => (float[1,1,1] y) { y = ReduceMean(x) }", "reduces axes [0, 1, 2] of 3"),
    ],
)
def test_left_alone(text: str | Model, reason: str) -> None:
    assert_skipped(FUSE, text, reason=reason)


def test_target_without() -> None:
    class Small(Target):
        name = "small"
        suffixes = (".small",)

    assert_skipped(FUSE, graph("2,3,4,5", "2,3,1,1", "2, 3"), reason="gains nothing", target=Small())


def test_ignored() -> None:
    model = graph("2,3,4,5", "2,3,1,1", "2, 3")
    model.nodes("ReduceMean")[0].name = "mine"
    assert_skipped(FuseGlobalAveragePool(ignore=("mine",)), model, reason="")


WEIGHTS = {"w": np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)}


def test_other_readers_of_what_is_reduced() -> None:
    """Nothing in front of the ReduceMean changes, so they may be any."""
    text = """g (float[2,3,4,5] x) => (float[2,3,1,1] y, float[2,3,1,1] z, float[2,3,4,5] r) <int64[2] k = {2, 3}> {
        r = Conv(x, w) y = ReduceMean(r, k) z = ReduceMax(r, k) }"""
    model = check_pass(FUSE, Model.from_text(text, WEIGHTS), tolerance=ROUNDING)
    assert [node.op for node in model.nodes()] == ["Conv", "GlobalAveragePool", "ReduceMax"]


def test_subgraphs() -> None:
    branches = """If(c)<then_branch = t () => (float[2,3,1,1] p) { p = ReduceMean(r, k) },
        else_branch = e () => (float[2,3,1,1] q) { q = Neg(a) }>"""
    text = f"""g (bool c, float[2,3,4,5] x) => (float[2,3,1,1] y) <int64[2] k = {{2, 3}}> {{
        r = Conv(x, w) a = ReduceMean(r, k) y = {branches} }}"""
    model = check_pass(FUSE, Model.from_text(text, WEIGHTS), tolerance=ROUNDING)
    assert sorted(node.op for node in model.nodes()) == ["Conv", "GlobalAveragePool", "If"]
    assert "ReduceMean" in {node.op for node in model.all_nodes()}
