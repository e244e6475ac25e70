from __future__ import annotations

import numpy as np
import pytest

from edgecc import serialization
from edgecc.model import Model, origins
from edgecc.passes.base import PassContext
from edgecc.passes.fuse_pad import FusePad
from edgecc.testing import assert_skipped, check_pass

#: Float32 sums of nine products, in another order.
ROUNDING = 1e-6
W = "float[2,1,3,3] w = {" + ", ".join(f"{0.1 * i - 0.8:.1f}" for i in range(18)) + "}"
PADS = "int64[8] p = {0, 0, 1, 2, 0, 0, 3, 0}"
IN = "float[1,1,5,5] x"


def graph(outputs: str, constants: str, body: str, inputs: str = IN) -> str:
    return f"g ({inputs}) => ({outputs}) <{constants}> {{ {body} }}"


@pytest.mark.parametrize(
    ("pad", "conv", "fused", "out"),
    [
        ("Pad(x, p)", "Conv", "Conv<pads=[1, 2, 3, 0]>", "7,5"),
        ("Pad(x, p, z)", "Conv", "Conv<pads=[1, 2, 3, 0]>", "7,5"),
        ("Pad(x, q, z, a)", "Conv", "Conv<pads=[0, 1, 0, 4]>", "3,8"),
        ("Pad(x, q, , n)", "Conv", "Conv<pads=[0, 1, 0, 4]>", "3,8"),
        ("Pad(x, p)", "Conv<pads=[1, 1, 1, 1]>", "Conv<pads=[2, 3, 4, 1]>", "9,7"),
        ("Pad(x, p)", 'Conv<auto_pad="VALID">', "Conv<pads=[1, 2, 3, 0]>", "7,5"),
        ("Pad(x, p)", 'Conv<auto_pad="SAME_UPPER">', "Conv<pads=[2, 3, 4, 1]>", "9,7"),
        ("Pad(x, p)", 'Conv<auto_pad="SAME_UPPER", strides=[2, 2]>', "Conv<strides=[2, 2], pads=[2, 3, 4, 1]>", "5,4"),
        (
            "Pad(x, q, z, a)",
            'Conv<auto_pad="SAME_LOWER", strides=[1, 2]>',
            "Conv<strides=[1, 2], pads=[1, 2, 1, 4]>",
            "5,5",
        ),
        ("Pad(x, p)", "Conv<strides=[2, 2]>", "Conv<strides=[2, 2], pads=[1, 2, 3, 0]>", "4,3"),
        ("Pad(x, p)", "Conv<dilations=[2, 2]>", "Conv<dilations=[2, 2], pads=[1, 2, 3, 0]>", "5,3"),
    ],
)
def test_conv(pad: str, conv: str, fused: str, out: str) -> None:
    constants = f"{W}, {PADS}, float z = {{0}}, int64[2] q = {{1, 4}}, int64[1] a = {{3}}, int64[1] n = {{-1}}"
    check_pass(
        FusePad(),
        graph(f"float[1,2,{out}] y", constants, f"h = {pad} y = {conv}(h, w)"),
        graph(f"float[1,2,{out}] y", constants, f"y = {fused}(x, w)"),
        tolerance=ROUNDING,
    )


@pytest.mark.parametrize(
    ("pool", "fused", "out"),
    [
        (
            "AveragePool<kernel_shape=[4, 4]>",
            "AveragePool<kernel_shape=[4, 4], count_include_pad=1, pads=[1, 2, 3, 0]>",
            "6,4",
        ),
        (
            "AveragePool<kernel_shape=[5, 5], pads=[1, 1, 1, 1], count_include_pad=1>",
            "AveragePool<kernel_shape=[5, 5], count_include_pad=1, pads=[2, 3, 4, 1]>",
            "7,5",
        ),
    ],
)
def test_average_pool(pool: str, fused: str, out: str) -> None:
    check_pass(
        FusePad(),
        graph(f"float[1,1,{out}] y", PADS, f"h = Pad(x, p) y = {pool}(h)"),
        graph(f"float[1,1,{out}] y", PADS, f"y = {fused}(x)"),
        tolerance=ROUNDING,
    )


@pytest.mark.parametrize("producer", ["Relu(x)", "Sigmoid(x)", "Abs(x)", "Clip(x, zero)"])
def test_max_pool_of_what_is_never_negative(producer: str) -> None:
    constants = f"{PADS}, float zero = {{0}}"
    check_pass(
        FusePad(),
        graph("float[1,1,6,4] y", constants, f"r = {producer} h = Pad(r, p) y = MaxPool<kernel_shape=[4, 4]>(h)"),
        graph("float[1,1,6,4] y", constants, f"r = {producer} y = MaxPool<kernel_shape=[4, 4], pads=[1, 2, 3, 0]>(r)"),
        tolerance=ROUNDING,
    )


def test_max_pool_after_minus_infinity() -> None:
    constants = f"{PADS}, float one = {{1}}, float zero = {{0}}"
    # onnx's text has no infinity: -1 / 0 is folded to it.
    check_pass(
        FusePad(),
        graph(
            "float[1,1,6,4] y",
            constants,
            "d = Div(one, zero) i = Neg(d) h = Pad(x, p, i) y = MaxPool<kernel_shape=[4, 4]>(h)",
        ),
        graph("float[1,1,6,4] y", constants, "y = MaxPool<kernel_shape=[4, 4], pads=[1, 2, 3, 0]>(x)"),
        tolerance=ROUNDING,
    )


def test_every_reader_takes_the_padding_over() -> None:
    out = "float[1,2,7,5] y, float[1,1,6,4] z"
    model = check_pass(
        FusePad(),
        graph(out, f"{W}, {PADS}", "h = Pad(x, p) y = Conv(h, w) z = AveragePool<kernel_shape=[4, 4]>(h)"),
        graph(
            out,
            f"{W}, {PADS}",
            """y = Conv<pads=[1, 2, 3, 0]>(x, w)
            z = AveragePool<kernel_shape=[4, 4], pads=[1, 2, 3, 0], count_include_pad=1>(x)""",
        ),
        tolerance=ROUNDING,
    )
    assert [origins(node) for node in model.nodes()] == [("Pad_0", "Conv_1"), ("Pad_0", "AveragePool_2")]


def test_shared_pads_serve_the_other_pad_still() -> None:
    out = "float[1,2,7,5] y, float[1,1,9,7] z"
    check_pass(
        FusePad(),
        graph(out, f"{W}, {PADS}", "h = Pad(x, p) y = Conv(h, w) z = Pad(x, p)"),
        graph(out, f"{W}, {PADS}", "y = Conv<pads=[1, 2, 3, 0]>(x, w) z = Pad(x, p)"),
        tolerance=ROUNDING,
        skips=["its output 'z' is an output of the model"],
    )


def test_pad_after_pad() -> None:
    check_pass(
        FusePad(),
        graph("float[1,2,11,7] y", f"{W}, {PADS}", "a = Pad(x, p) h = Pad(a, p) y = Conv(h, w)"),
        graph("float[1,2,11,7] y", f"{W}, {PADS}", "y = Conv<pads=[2, 4, 6, 0]>(x, w)"),
        tolerance=ROUNDING,
    )


def test_open_dimensions() -> None:
    check_pass(
        FusePad(),
        graph("float[N,2,P,Q] y", f"{W}, {PADS}", "h = Pad(x, p) y = Conv(h, w)", "float[N,1,H,W] x"),
        graph("float[N,2,P,Q] y", f"{W}, {PADS}", "y = Conv<pads=[1, 2, 3, 0]>(x, w)", "float[N,1,H,W] x"),
        tolerance=ROUNDING,
    )


def test_open_dimensions_behind_it() -> None:
    check_pass(
        FusePad(),
        graph("float[N,2,P,Q] y", f"{W}, {PADS}", "h = Pad(x, p) c = Conv(h, w) y = Relu(c)", "float[N,1,H,W] x"),
        graph("float[N,2,P,Q] y", f"{W}, {PADS}", "c = Conv<pads=[1, 2, 3, 0]>(x, w) y = Relu(c)", "float[N,1,H,W] x"),
        tolerance=ROUNDING,
    )


def test_padding_that_depends_on_an_open_dimension() -> None:
    text = graph(
        "float[N,2,P,Q] y", f"{W}, {PADS}", 'h = Pad(x, p) y = Conv<auto_pad="SAME_UPPER">(h, w)', "float[N,1,H,W] x"
    )
    assert_skipped(FusePad(), text, "has auto_pad=SAME_UPPER, and the size of 'h' is not known")


def test_average_pool_with_automatic_padding() -> None:
    pool = 'AveragePool<kernel_shape=[6, 6], auto_pad="SAME_UPPER", count_include_pad=1>'
    check_pass(
        FusePad(),
        graph("float[1,1,7,7] y", "int64[8] p = {0,0,1,1,0,0,1,1}", f"h = Pad(x, p) y = {pool}(h)"),
        tolerance=ROUNDING,
    )


CONV = "y = Conv(h, w)"
MAX = "y = MaxPool<kernel_shape=[4, 4]>(h)"


@pytest.mark.parametrize(
    ("constants", "body", "reason"),
    [
        (PADS, f'h = Pad<mode="edge">(x, p) {CONV}', "its mode is edge"),
        (
            f"{PADS}, float z = {{1}}",
            f"h = Pad(x, p, z) {CONV}",
            "its reader Conv_1 (Conv) pads with zeros, not with 1",
        ),
        ("int64[8] p = {0, 1, 0, 0, 0, 0, 0, 0}", "h = Pad(x, p) y = Relu(h)", "enlarge spatial axes alone"),
        ("int64[8] p = {0, 0, 1, 0, 0, 0, -1, 0}", f"h = Pad(x, p) {CONV}", "enlarge spatial axes alone"),
        (PADS, "h = Pad(x, p) y = Relu(h)", "its reader Relu_1 (Relu) does not pad"),
        (PADS, f"h = Pad(x, p) a = Relu(h) {CONV}", "its reader Relu_1 (Relu) does not pad"),
        (PADS, "h = Pad(x, p) y = Conv(x, h)", "its reader Conv_1 (Conv) reads it as weights"),
        (PADS, f"h = Pad(x, p) {MAX}", "pads with minus infinity, and its input may be negative"),
        (f"{PADS}, float z = {{1}}", f"h = Pad(x, p, z) {MAX}", "pads with minus infinity, not with 1"),
        (PADS, "h = Pad(x, p) y, i = MaxPool<kernel_shape=[4, 4]>(h)", "gives the places of its maxima too"),
        (
            PADS,
            "r = Relu(x) h = Pad(r, p) y = MaxPool<kernel_shape=[4, 4], dilations=[1, 2]>(h)",
            "is dilated, so that a window could see padding alone",
        ),
        (PADS, "h = Pad(x, p) y = AveragePool<kernel_shape=[3, 3]>(h)", "would have windows of padding alone"),
        (PADS, "h = Pad(x, p) y = AveragePool<kernel_shape=[4, 4], ceil_mode=1>(h)", "has ceil_mode"),
        (
            PADS,
            "h = Pad(x, p) y = AveragePool<kernel_shape=[5, 5], pads=[1, 1, 1, 1]>(h)",
            "does not count its own padding",
        ),
        (
            f"{PADS}, float z = {{1}}",
            "h = Pad(x, p, z) y = AveragePool<kernel_shape=[4, 4]>(h)",
            "pads with zeros, not",
        ),
    ],
)
def test_reason(constants: str, body: str, reason: str) -> None:
    extra = ", float[1,2,?,?] a" if "a = Relu" in body else ""
    extra = ", int64[?,?,?,?] i" if "y, i" in body else extra
    outputs = f"float[?,?,?,?] y{extra}".replace("?", "D")
    assert_skipped(FusePad(), graph(outputs, f"{W}, {constants}", body), reason)


@pytest.mark.parametrize(
    ("inputs", "pad", "reason"),
    [
        ("int64[8] q", "Pad(x, q)", "its pads are not constants"),
        ("float f", "Pad(x, p, f)", "the value it pads with is not constant"),
        ("int64[4] a", "Pad(x, q, , a)", "its pads are not constants"),
    ],
)
def test_arguments_that_are_not_constant(inputs: str, pad: str, reason: str) -> None:
    constants = f"{W}, {PADS}" + ("" if "int64[8] q" in inputs else ", int64[8] q = {0, 0, 0, 0, 1, 1, 1, 1}")
    text = graph("float[A,B,C,D] y", constants, f"h = {pad} y = Conv(h, w)", f"{IN}, {inputs}")
    assert_skipped(FusePad(), text, reason)


def test_reader_in_a_subgraph() -> None:
    text = f"""g ({IN}, bool c) => (float[1,2,7,5] y) <{W}, {PADS}> {{
        h = Pad(x, p)
        y = If (c) <then_branch = t () => (float[1,2,7,5] a) {{ a = Conv(h, w) }},
                    else_branch = e () => (float[1,2,7,5] b) {{ n = Conv(x, w) b = Conv<pads=[1,2,3,0]>(x, w) }}>
    }}"""
    assert_skipped(FusePad(), text, "(Conv) is in a subgraph")


def test_ignored_pad_stays() -> None:
    model = check_pass(
        FusePad(ignore=("Pad_0",)),
        graph(
            "float[1,2,7,5] y, float[1,2,7,5] z",
            f"{W}, {PADS}",
            "h = Pad(x, p) y = Conv(h, w) k = Pad(x, p) z = Conv(k, w)",
        ),
        tolerance=ROUNDING,
    )
    assert [node.op for node in model.nodes()] == ["Pad", "Conv", "Conv"]


def test_many_pads_walk_the_graph_no_more_often_than_few(monkeypatch: pytest.MonkeyPatch) -> None:
    walks = []
    walk = serialization.graphs_of
    monkeypatch.setattr(serialization, "graphs_of", lambda graph: walks.append(graph) or walk(graph))
    counts = []
    for pads in (2, 40):
        lines = " ".join(f"p{i} = Pad(x, s) y{i} = Conv(p{i}, w)" for i in range(pads))
        outputs = ", ".join(f"float[1,1,4,4] y{i}" for i in range(pads))
        model = Model.from_text(
            f"g (float[1,1,4,4] x) => ({outputs}) <int64[8] s = {{0,0,1,1,0,0,1,1}}> {{ {lines} }}",
            {"w": np.ones((1, 1, 3, 3), np.float32)},
        )
        walks.clear()
        FusePad().run(model, PassContext(None, np.random.default_rng(0)))
        assert not model.nodes("Pad")
        counts.append(sum(graph is model.graph for graph in walks))
    assert counts[0] == counts[1]
