"""What `inspect_model` counts: attentions as they are written out, bodies as often as they run, the larger branch."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.inspection import inspect_model, total_macs
from edgecc.model import Model

WEIGHTS = {"w": np.eye(4, dtype=np.float32)}
#: Multiply-accumulates of one product of the bodies below, x[1,4] times w[4,4].
ONE = 16


def counted(text: str, **constants: np.ndarray) -> tuple[int, int, int]:
    model = Model.from_text(text, WEIGHTS | constants)
    model.infer_shapes()
    facts = inspect_model(model)
    return facts.macs, facts.uncounted, facts.unrepeated


@pytest.mark.parametrize(
    ("inputs", "attributes", "expected"),
    [
        # batch 2, 8 heads, 5 queries, 7 keys, sizes 4 and 6
        ("float[2,8,5,4] q, float[2,8,7,4] k, float[2,8,7,6] v", "", 2 * 8 * 5 * 7 * (4 + 6)),
        ("float[2,8,5,4] q, float[2,2,7,4] k, float[2,2,7,6] v", "", 2 * 8 * 5 * 7 * (4 + 6)),
        ("float[2,5,32] q, float[2,7,32] k, float[2,7,48] v", "q_num_heads = 8, kv_num_heads = 8", 5600),
        ("float[2,5,32] q, float[2,7,8] k, float[2,7,12] v", "q_num_heads = 8, kv_num_heads = 2", 5600),
    ],
)
def test_attention_counts_both_of_its_products(inputs: str, attributes: str, expected: int) -> None:
    size = "[2,8,5,6]" if not attributes else "[2,5,48]"
    text = f"g ({inputs}) => (float{size} y) {{ y = Attention{f'<{attributes}>' if attributes else ''}(q, k, v) }}"
    assert counted(text) == (expected, 0, 0)


def test_past_keys_are_keys() -> None:
    text = """g (float[1,2,1,4] q, float[1,2,1,4] k, float[1,2,1,4] v, float[1,2,9,4] pk, float[1,2,9,4] pv)
    => (float[1,2,1,4] y, float[1,2,10,4] nk, float[1,2,10,4] nv) { y, nk, nv = Attention(q, k, v, "", pk, pv) }"""
    assert counted(text) == (2 * 10 * (4 + 4), 0, 0)


def test_other_domains_are_not_counted() -> None:
    model = Model.from_text(
        "g (float[1,5,8] x) => (float[1,5,8] y) { a = my.domain.Attention(x, x, x) y = my.domain.MatMul(a, a) }"
    )
    assert total_macs(model.nodes()) == 0


LOOP = """g (float[1,4] x, {inputs}) => (float[1,4] y) {{
  y = Loop({limit}, {begins}, x) <body = b (int64 i, bool c, float[1,4] s) => (bool d, float[1,4] t)
  {{ t = MatMul(s, w) {condition} }}> }}"""


@pytest.mark.parametrize(
    ("limit", "begins", "condition", "expected"),
    [
        ("n", '""', "d = Identity(c)", (7 * ONE, 0, 0)),
        ("n", "yes", "d = Identity(c)", (7 * ONE, 0, 0)),
        ("n", '""', "d = Constant<value = bool {1}>()", (7 * ONE, 0, 0)),
        ("n", "go", "d = Identity(c)", (ONE, 0, 1)),
        ("n", '""', "r = ReduceSum<keepdims = 0>(t) d = Less(r, r)", (ONE, 0, 1)),
        ("count", '""', "d = Identity(c)", (ONE, 0, 1)),
    ],
)
def test_bodies_of_loops_count_as_often_as_they_run(
    limit: str, begins: str, condition: str, expected: tuple[int, int, int]
) -> None:
    text = LOOP.format(inputs="bool go, int64 count", limit=limit, begins=begins, condition=condition)
    assert counted(text, n=np.array(7), yes=np.array(True)) == expected


def test_a_scan_runs_along_its_axis() -> None:
    text = """g (float[1,4] x, float[4,9,1] z) => (float[1,4] y, float[9,1,4] a) {
      y, a = Scan<num_scan_inputs = 1, scan_input_axes = [1],
        body = b (float[1,4] s, float[4,1] p) => (float[1,4] t, float[1,4] u) { t = MatMul(s, w) u = Identity(t) }>
      (x, z) }"""
    assert counted(text) == (9 * ONE, 0, 0)
    assert counted(text.replace("[4,9,1]", "[4,N,1]").replace("[9,1,4]", "[N,1,4]")) == (ONE, 0, 1)


def test_the_branch_that_has_more_counts() -> None:
    text = """g (float[1,4] x, bool c) => (float[1,4] y) {
      y = If(c) <then_branch = t () => (float[1,4] p) { p = MatMul(x, w) },
                 else_branch = e () => (float[1,4] q) { r = MatMul(x, w) q = MatMul(r, w) }> }"""
    assert counted(text) == (2 * ONE, 0, 0)


def test_loops_in_loops() -> None:
    inner = """s1 = Loop(m, "", s) <body = e (int64 j, bool f, float[1,4] o) => (bool h, float[1,4] p)
      { p = MatMul(o, w) h = Identity(f) }>"""
    text = f"""g (float[1,4] x) => (float[1,4] y) {{
      y = Loop(n, "", x) <body = b (int64 i, bool c, float[1,4] s) => (bool d, float[1,4] t)
      {{ {inner} u = MatMul(s, w) t = Add(u, s1) d = Identity(c) }}> }}"""
    assert counted(text, n=np.array(3), m=np.array(5)) == (3 * (5 + 1) * ONE, 0, 0)
