"""Pass eliminate-nan-guard."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model
from edgecc.passes.eliminate_nan_guard import EliminateNanGuard
from edgecc.testing import assert_skipped, check_pass

#: Nothing is computed otherwise: the same bits for finite values.
ROUNDING = 0.0

INF = np.inf
SIGNATURE = "(float[2,4,8] q, float[2,8,4] k, float[2,4,8] v) => (float[2,4,8] y)"
CONSTANTS = "<float zero = {0}, float scale = {0.125}, float minus = {-2}>"
GUARD = "s = Softmax(m) n = IsNaN(s) w = Where(n, zero, s) y = MatMul(w, v)"
CAUSAL = np.triu(np.full((4, 4), -INF, np.float32), 1)
ANTI_CAUSAL = np.ascontiguousarray(CAUSAL.T)


def graph(body: str, signature: str = SIGNATURE, **weights: np.ndarray) -> Model:
    return Model.from_text(f"g {signature} {CONSTANTS} {{ {body} }}", weights)


@pytest.mark.parametrize(
    "scores",
    [
        "m = MatMul(q, k)",
        "p = MatMul(q, k) m = Mul(p, scale)",
        "p = MatMul(q, k) a = Div(p, scale) m = Add(a, mask)",
        "p = MatMul(q, k) a = Add(mask, p) m = Mul(scale, a)",
        "p = MatMul(q, k) m = Sub(p, finite)",
        "p = MatMul(q, k) m = Where(lower, p, minus_infinity)",
        "p = MatMul(q, k) m = Where(upper, minus_infinity, p)",
        "p = MatMul(q, k) m = Where(never, p, minus)",
    ],
)
def test_rows_with_something_in_them(scores: str) -> None:
    weights = {
        "mask": CAUSAL,
        "finite": np.full((4, 4), 1e9, np.float32),
        "lower": CAUSAL == 0,
        "upper": CAUSAL < 0,
        "never": np.zeros((4, 4), bool),
        "minus_infinity": np.array(-INF, np.float32),
    }
    model = check_pass(EliminateNanGuard(), graph(f"{scores} {GUARD}", **weights), tolerance=ROUNDING)
    assert [node.op for node in model.nodes()][-2:] == ["Softmax", "MatMul"]
    assert not model.nodes("IsNaN")


@pytest.mark.parametrize("shape", ["float[N,S,8] q, float[N,8,T] k, float[N,T,8] v) => (float[N,S,8] y"])
def test_open_dimensions(shape: str) -> None:
    after = graph("m = MatMul(q, k) s = Softmax(m) y = MatMul(s, v)", f"({shape})")
    check_pass(EliminateNanGuard(), graph(f"m = MatMul(q, k) {GUARD}", f"({shape})"), after, tolerance=ROUNDING)


def test_output_keeps_its_name() -> None:
    before = graph(
        "m = MatMul(q, k) s = Softmax(m) n = IsNaN(s) y = Where(n, zero, s)", SIGNATURE.replace("8] y", "4] y")
    )
    model = check_pass(EliminateNanGuard(), before, tolerance=ROUNDING)
    assert [node.op for node in model.nodes()] == ["MatMul", "Softmax"]


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        ("p = MatMul(q, k) m = Add(p, row)", "the mask of Add_1 (Add) forbids a whole row"),
        ("p = MatMul(q, k) m = Add(p, all)", "the mask of Add_1 (Add) forbids a whole row"),
        ("p = MatMul(q, k) m = Add(p, nan)", "adds NaN or infinity"),
        ("p = MatMul(q, k) a = Add(p, causal) m = Add(a, anti)", "and another mask may forbid a row together"),
        ("p = MatMul(q, k) a = Add(p, causal) m = Mul(a, minus)", "scales by what is not positive and finite"),
        ("p = MatMul(q, k) m = Add(p, p)", "rows of minus infinity may come from Add_1 (Add)"),
        ("p = MatMul(q, k) m = Sub(causal, p)", "rows of minus infinity may come from Sub_1 (Sub)"),
        ("m = Identity(k)", "rows of minus infinity may come from"),
        ("p = MatMul(q, k) z = Greater(p, zero) m = Where(z, p, inf)", "its condition is computed"),
        ("p = MatMul(q, k) z = Greater(p, zero) m = Where(z, p, k2)", "rows of minus infinity may come from Where"),
        ("p = MatMul(q, k) m = Log(p)", "rows of minus infinity may come from Log_1 (Log)"),
    ],
)
def test_rows_that_may_be_empty(scores: str, reason: str) -> None:
    row = CAUSAL.copy()
    row[2] = -INF
    weights = {
        "row": row,
        "all": np.array(-INF, np.float32),
        "nan": np.full(4, np.nan, np.float32),
        "causal": CAUSAL,
        "anti": ANTI_CAUSAL,
        "inf": np.array(-INF, np.float32),
    }
    signature = SIGNATURE.replace("v)", "v, float[2,4,4] k2)")
    if "Identity" in scores:
        signature = signature.replace("float[2,8,4] k", "float[2,4,4] k")
    assert_skipped(EliminateNanGuard(), graph(f"{scores} {GUARD}", signature, **weights), reason=reason)


@pytest.mark.parametrize(
    ("guard", "signature", "reason"),
    [
        (GUARD + " z = Not(n)", SIGNATURE.replace("y)", "y, bool[2,4,4] z)"), "is not one Where that puts a constant"),
        (GUARD.replace("zero, s", "s, zero"), SIGNATURE, "is not one Where that puts a constant"),
        (GUARD.replace("zero, s", "zero, m"), SIGNATURE, "is not one Where that puts a constant"),
        (GUARD, SIGNATURE.replace("y)", "y, float[2,4,4] s, float[2,4,4] w)"), "are both outputs of the model"),
        (GUARD.replace("Softmax(m)", "Relu(m)"), SIGNATURE, ""),
        (
            GUARD.replace("Softmax(m)", "Softmax<axis = 1>(a)").replace("s = S", "a = Add(m, mask) s = S"),
            SIGNATURE,
            "the last axis",
        ),
    ],
    ids=["flag is read", "other way round", "another tensor", "two outputs", "no Softmax", "another axis"],
)
def test_other_guards(guard: str, signature: str, reason: str) -> None:
    assert_skipped(EliminateNanGuard(), graph(f"m = MatMul(q, k) {guard}", signature, mask=CAUSAL), reason=reason)


def test_reader_in_a_subgraph() -> None:
    body = """m = MatMul(q, k) s = Softmax(m) n = IsNaN(s) y = If(c)<
        then_branch = p () => (float[2,4,4] r) { r = Where(n, zero, s) },
        else_branch = o () => (float[2,4,4] t) { t = Identity(s) }>"""
    signature = SIGNATURE.replace("8] y", "4] y").replace("v)", "v, bool c)")
    assert_skipped(EliminateNanGuard(), graph(body, signature), reason="what reads it is in a subgraph")


def test_other_readers_of_the_softmax_stay() -> None:
    before = graph(f"m = MatMul(q, k) {GUARD} z = Relu(s)", SIGNATURE.replace("y)", "y, float[2,4,4] z)"))
    model = check_pass(EliminateNanGuard(), before, tolerance=ROUNDING)
    assert [node.op for node in model.nodes()] == ["MatMul", "Softmax", "MatMul", "Relu"]


def test_ignored() -> None:
    before = graph(f"m = MatMul(q, k) {GUARD.replace('n = IsNaN', '[mine] n = IsNaN')}")
    assert_skipped(EliminateNanGuard(ignore=("mine",)), before, reason="")
