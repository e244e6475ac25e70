from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model
from edgecc.passes.base import PassContext
from edgecc.passes.eliminate_slice_concat import EliminateSliceConcat
from edgecc.testing import assert_skipped, check_pass

ELIMINATE = EliminateSliceConcat()
NUMBERS = ", ".join(f"int64[1] n{i} = {{{i}}}" for i in range(9))
CONSTANTS = f"""{NUMBERS}, int64[1] end = {{9223372036854775807}}, int64[2] halves = {{4, 4}},
    int64[2] sizes = {{3, 5}}, int64 zero = {{0}}, int64 last = {{-1}}"""
X8 = "float[6,8] x"


def graph(body: str, outputs: str = "float[6,8] y", inputs: str = X8) -> str:
    return f"g ({inputs}) => ({outputs}) <{CONSTANTS}> {{ {body} }}"


@pytest.mark.parametrize(
    "body",
    [
        "a = Slice(x, n0, n3, n1) b = Slice(x, n3, end, n1) c = Concat<axis = 1>(a, b)",
        "a, b = Split<axis = 1>(x, sizes) c = Concat<axis = -1>(a, b)",
        "a = Slice(x, n0, n3, n1) b = Slice(x, n3, n4, n1) d = Slice(x, n4, n8, n1) c = Concat<axis = 1>(a, b, d)",
        """a, b = Split<axis = 1>(x, sizes) d, e = Split<axis = 1, num_outputs = 2>(b) f = Concat<axis = 1>(d, e)
        c = Concat<axis = 1>(a, f)""",
    ],
    ids=["slices", "split", "three", "nested"],
)
def test_all_pieces_in_order(body: str) -> None:
    check_pass(ELIMINATE, graph(f"{body} y = Relu(c)"), graph("y = Relu(x)"))


def test_output_keeps_its_name() -> None:
    body = "r = Relu(x) a, b = Split<axis = 1>(r, sizes) y = Concat<axis = 1>(a, b)"
    check_pass(ELIMINATE, graph(body), graph("y = Relu(x)"))
    body = "a, b = Split<axis = 1>(x, sizes) y = Concat<axis = 1>(a, b)"
    check_pass(ELIMINATE, graph(body), graph("y = Identity(x)"))


def test_pieces_beside_each_other() -> None:
    body = "a = Slice(x, n1, n3, n1) b = Slice(x, n3, n6, n1) y = Concat<axis = 1>(a, b, z)"
    inputs = f"{X8}, float[6,1] z"
    check_pass(
        ELIMINATE,
        graph(body, "float[6,6] y", inputs),
        graph("a = Slice(x, n1, n6, n1) y = Concat<axis = 1>(a, z)", "float[6,6] y", inputs),
    )


def test_concat_of_concat() -> None:
    check_pass(
        ELIMINATE,
        graph("a = Concat<axis = 1>(x, x) b = Relu(x) y = Concat<axis = 1>(a, b, a)", "float[6,40] y"),
        graph("b = Relu(x) y = Concat<axis = 1>(x, x, b, x, x)", "float[6,40] y"),
    )


def test_concats_in_a_row_go_in_one_step() -> None:
    """Each taking in the one before would copy their inputs as many times as there are."""
    body = (
        "a = Concat<axis = 1>(x, x) b = Concat<axis = 1>(a, a) c = Concat<axis = -1>(x, b) y = Concat<axis = 1>(c, x)"
    )
    model = Model.from_text(graph(body, "float[6,48] y"))
    ctx = PassContext(None, np.random.default_rng(0))
    assert ELIMINATE.run(model, ctx)
    assert [change.what for change in ctx.changes] == ["took in 3 Concats"]
    check_pass(
        ELIMINATE, graph(body, "float[6,48] y"), graph("y = Concat<axis = 1>(x, x, x, x, x, x)", "float[6,48] y")
    )


def test_a_concat_in_the_middle_that_others_read() -> None:
    body = "a = Concat<axis = 1>(x, x) b = Concat<axis = 1>(a, x) z = Relu(b) y = Concat<axis = 1>(b, x)"
    after = "b = Concat<axis = 1>(x, x, x) z = Relu(b) y = Concat<axis = 1>(b, x)"
    outputs = "float[6,32] y, float[6,24] z"
    check_pass(ELIMINATE, graph(body, outputs), graph(after, outputs))


@pytest.mark.parametrize(
    ("body", "after"),
    [
        ("d = Slice(c, n0, n8, n1) y = Relu(d)", "y = Relu(x)"),
        ("d = Slice(c, n8, end, n1) y = Relu(d)", "y = Relu(z)"),
        ("p, q = Split<axis = 1>(c, s) y = Add(p, q)", "y = Add(x, z)"),
    ],
)
def test_parts_of_a_concat(body: str, after: str) -> None:
    inputs = f"{X8}, float[6,8] z"
    text = graph(f"c = Concat<axis = 1>(x, z) {body}", inputs=inputs).replace(
        "<int64", "<int64[2] s = {8, 8}, int64", 1
    )
    check_pass(ELIMINATE, text, graph(after, inputs=inputs))


def test_gather_of_a_concat() -> None:
    """torch's last hidden state of stacked recurrent layers."""
    inputs = "float[1,6] x, float[1,6] z"
    check_pass(
        ELIMINATE,
        graph("c = Concat<axis = 0>(x, z) y = Gather(c, last)", "float[6] y", inputs),
        graph("y = Squeeze(z, n0)", "float[6] y", inputs),
    )


@pytest.mark.parametrize(
    ("body", "outputs", "reason"),
    [
        ("a = Slice(x, n0, n3, n1) b = Slice(x, n3, end, n1) y = Concat<axis = 1>(b, a)", "float[6,8] y", ""),
        ("a, b = Split<axis = 1>(x, halves) y = Concat<axis = 0>(a, b)", "float[12,4] y", ""),
        (
            "a = Slice(x, n0, n3, n1) b = Slice(x, n3, n5, n1) y = Concat<axis = 1>(a, b) z = Relu(a)",
            "float[6,5] y, float[6,3] z",
            "would not replace what cuts them now",
        ),
        ("c = Concat<axis = 1>(x, x) y = Slice(c, n1, n8, n1)", "float[6,7] y", "which is not one of its inputs"),
        (
            "c = Concat<axis = 1>(x, x) y, z = Split<axis = 1>(c, s)",
            "float[6,3] y, float[6,13] z",
            "it cuts elsewhere",
        ),
        ("a = Concat<axis = 1>(x, x) y = Concat<axis = 0>(a, a)", "float[12,16] y", ""),
        ("a = Concat<axis = 1>(x, x) y = Concat<axis = 1>(a, x)", "float[6,24] y, float[6,16] a", ""),
    ],
    ids=["roll", "another axis", "another reader", "part", "other places", "concat of another axis", "inner output"],
)
def test_left_alone(body: str, outputs: str, reason: str) -> None:
    text = graph(body, outputs).replace("<int64", "<int64[2] s = {3, 13}, int64", 1)
    assert_skipped(ELIMINATE, text, reason=reason)


def test_open_dimensions() -> None:
    inputs = "float[N,8] x"
    body = "a, b = Split<axis = 1>(x, sizes) c = Concat<axis = 1>(a, b) y = Relu(c)"
    check_pass(ELIMINATE, graph(body, "float[N,8] y", inputs), graph("y = Relu(x)", "float[N,8] y", inputs))
    body = "a = Slice(x, n0, n3, n0) b = Slice(x, n3, end, n0) c = Concat<axis = 0>(a, b) y = Relu(c)"
    assert_skipped(ELIMINATE, graph(body, "float[M,8] y", inputs), reason="")


def test_subgraph_and_ignored() -> None:
    text = f"""g (bool c, {X8}) => (float[6,8] y, float[6,3] z) <{CONSTANTS}> {{
        a = Slice(x, n0, n3, n1) b = Slice(x, n3, n8, n1) d = Concat<axis = 1>(a, b) y = Relu(d) z = If(c)<
            then_branch = t () => (float[6,3] p) {{ p = Neg(a) }},
            else_branch = e () => (float[6,3] q) {{ q = Abs(a) }}> }}"""
    model = check_pass(ELIMINATE, text)
    assert sorted(node.op for node in model.nodes()) == ["If", "Relu", "Slice"]
    body = "[mine] a = Slice(x, n0, n3, n1) b = Slice(x, n3, end, n1) y = Concat<axis = 1>(a, b)"
    assert_skipped(EliminateSliceConcat(ignore=("mine",)), graph(body), reason="")
