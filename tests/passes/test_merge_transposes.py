from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model
from edgecc.passes.base import PassContext
from edgecc.passes.merge_transposes import MergeTransposes
from edgecc.testing import assert_skipped, check_contract, check_pass

MERGE = MergeTransposes()
NHWC, NCHW = "Transpose<perm = [0, 2, 3, 1]>", "Transpose<perm = [0, 3, 1, 2]>"
IN, OUT = "(float[1,2,3,4] x) => (float[1,2,3,4] y)", "(float[1,2,3,4] x) => (float[1,3,4,2] y)"
CONSTANTS = "float[2] c = {1, 2}, float s = {3}, float[1,3,4,2] w = {" + ", ".join(map(str, range(24))) + "}"


def graph(body: str, signature: str = IN, constants: str = CONSTANTS) -> str:
    return f"g {signature} {f'<{constants}>' if constants else ''} {{ {body} }}"


def merged(step: MergeTransposes, before: str, after: str | None = None) -> Model:
    """Transposes that are left have their reasons, which other tests look at."""
    return check_pass(step, before, after, skips=None)


@pytest.mark.parametrize(
    ("body", "signature", "after"),
    [
        (f"a = {NHWC}(x) b = {NCHW}(a) y = Relu(b)", IN, "y = Relu(x)"),
        (f"r = Relu(x) a = {NHWC}(r) y = {NCHW}(a)", IN, "y = Relu(x)"),
        (
            f"a = {NHWC}(x) y = Transpose<perm = [0, 1, 3, 2]>(a)",
            "(float[1,2,3,4] x) => (float[1,3,2,4] y)",
            "y = Transpose<perm = [0, 2, 1, 3]>(x)",
        ),
        ("a = Transpose(x) b = Transpose(a) y = Relu(b)", IN, "y = Relu(x)"),
        (f"a = {NHWC}(x) y = {NCHW}(a)", IN, "y = Identity(x)"),
        (
            f"a = {NHWC}(x) b = {NCHW}(a) y = Relu(b) z = Relu(a)",
            "(float[1,2,3,4] x) => (float[1,2,3,4] y, float[1,3,4,2] z)",
            f"y = Relu(x) b = Relu(x) z = {NHWC}(b)",
        ),
    ],
    ids=["none", "output", "one", "default order", "input to output", "another reader"],
)
def test_chain(body: str, signature: str, after: str) -> None:
    merged(MERGE, graph(body, signature, ""), None if " z = Relu" in body else graph(after, signature, ""))


@pytest.mark.parametrize(
    ("body", "after"),
    [
        ("r = Relu(a)", "y = Relu(x)"),
        ("h = Neg(a) r = LeakyRelu<alpha = 0.5>(h)", "h = Neg(x) y = LeakyRelu<alpha = 0.5>(h)"),
        ("r = Mul(a, s)", "y = Mul(x, s)"),
        ("r = Clip(a, s)", "y = Clip(x, s)"),
        ("h = Sigmoid(a) r = Mul(a, h)", "h = Sigmoid(x) y = Mul(x, h)"),
        ("h = Greater(a, s) r = Where(h, a, s)", "h = Greater(x, s) y = Where(h, x, s)"),
    ],
    ids=["unary", "two", "scalar", "bounds", "two readers", "where"],
)
def test_meets_again_behind_elementwise(body: str, after: str) -> None:
    merged(MERGE, graph(f"a = {NHWC}(x) {body} y = {NCHW}(r)"), graph(after))


def test_constants_are_transposed_beforehand() -> None:
    merged(
        MERGE,
        graph(f"a = {NHWC}(x) b = Mul(a, c) d = Add(w, b) y = {NCHW}(d)"),
        graph(
            "b = Mul(x, c) y = Add(w, b)",
            constants="float[1,2,1,1] c = {1, 2}, float[1,2,3,4] w = {"
            + ", ".join(map(str, np.arange(24).reshape(1, 3, 4, 2).transpose(0, 3, 1, 2).reshape(-1)))
            + "}",
        ),
    )


def test_shared_constant_is_copied() -> None:
    signature = "(float[1,2,3,4] x, float[5,2] z) => (float[1,2,3,4] y, float[5,2] u)"
    model = merged(MERGE, graph(f"a = {NHWC}(x) b = Mul(a, c) y = {NCHW}(b) u = Mul(z, c)", signature))
    assert sorted(tuple(tensor.shape) for tensor in model.constants()) == [(1, 2, 1, 1), (2,)]


def test_concat_split_and_softmax_change_their_axis() -> None:
    merged(
        MERGE,
        graph(f"a = {NHWC}(x) p, q = Split<axis = -1, num_outputs = 2>(a) d = Concat<axis = 3>(q, p) y = {NCHW}(d)"),
        graph("p, q = Split<axis = 1, num_outputs = 2>(x) y = Concat<axis = 1>(q, p)"),
    )
    swap = "Transpose<perm = [0, 1, 3, 2]>"
    merged(
        MERGE,
        graph(f"a = {swap}(x) d = Softmax<axis = 2>(a) y = {swap}(d)"),
        graph("y = Softmax<axis = 3>(x)"),
    )


def test_softmax_stays_on_the_last_axis() -> None:
    body = f"a = {NHWC}(x) d = Softmax<axis = -1>(a) y = {NCHW}(d)"
    assert_skipped(MERGE, graph(body), reason="would not leave fewer Transposes")


def test_both_operands_transposed() -> None:
    signature = "(float[1,2,3,4] x, float[1,2,3,4] z) => (float[1,3,4,2] y)"
    merged(
        MERGE,
        graph(f"a = {NHWC}(x) b = {NHWC}(z) y = Add(a, b)", signature),
        graph(f"a = Add(x, z) y = {NHWC}(a)", signature),
    )


def test_another_operand_gets_a_transpose_where_it_pays() -> None:
    signature = "(float[1,2,3,4] x, float[1,3,4,2] z) => (float[1,2,3,4] y)"
    merged(
        MERGE,
        graph(f"a = {NHWC}(x) b = Add(a, z) y = {NCHW}(b)", signature),
        graph(f"b = {NCHW}(z) y = Add(x, b)", signature),
    )


def test_another_reader_gets_a_transpose_where_it_pays() -> None:
    signature = "(float[1,2,3,4] x) => (float[1,2,3,4] y, float[1,3,1,2] z)"
    constants = "int64[1] k = {2}"
    merged(
        MERGE,
        graph(f"a = {NHWC}(x) b = Relu(a) y = {NCHW}(b) z = ReduceSum(b, k)", signature, constants),
        graph(f"y = Relu(x) a = {NHWC}(y) z = ReduceSum(a, k)", signature, constants),
    )


def test_part_of_a_chain_moves() -> None:
    """The rest of a long residual stream stays in its layout."""
    signature = "(float[1,2,3,4] x, float[1,3,4,2] z) => (float[1,2,3,4] y, float[1,3,4,2] u)"
    model = merged(
        MERGE,
        graph(
            f"""a = Neg(z) b = Abs(a) u = Relu(b)
            t = {NHWC}(x) d = Relu(t) e = {NCHW}(d) f = {NHWC}(e) g = Add(f, u) y = {NCHW}(g)""",
            signature,
        ),
    )
    assert len(model.nodes("Transpose")) == 1


def test_convnext() -> None:
    """Layer scale and residual between the layouts of LayerNormalization and Conv (torch, both exporters)."""
    signature = "(float[1,2,3,4] x, float[1,3,4,2] z) => (float[1,3,4,2] y)"
    constants = "float[2,1,1] k = {1, 2}, float[2] one = {1, 1}"
    merged(
        MERGE,
        graph(
            f"a = {NCHW}(z) b = Mul(k, a) d = Add(b, x) e = {NHWC}(d) y = LayerNormalization(e, one)",
            signature,
            constants,
        ),
        graph(
            f"b = Mul(k, z) a = {NHWC}(x) d = Add(b, a) y = LayerNormalization(d, one)",
            signature,
            "float[1,1,1,2] k = {1, 2}, float[2] one = {1, 1}",
        ),
    )


@pytest.mark.parametrize(
    ("body", "signature", "reason"),
    [
        (f"a = {NHWC}(x) y = Relu(a)", OUT, "would not leave fewer Transposes"),
        (f"a = {NHWC}(x) y = ReduceSum(a)", "(float[1,2,3,4] x) => (float[1,1,1,1] y)", ""),
        (f"a = {NHWC}(x) b = Relu(a) d = ReduceSum(b) y = Add(b, d)", OUT, "would not leave fewer Transposes"),
        (
            f"a = {NHWC}(x) b = Add(a, v) y = {NCHW}(b)",
            "(float[1,2,3,4] x, float[2] v) => (float[1,2,3,4] y)",
            "",
        ),
    ],
    ids=["one alone", "no elementwise operator", "a reader of both", "a vector that is computed"],
)
def test_left_alone(body: str, signature: str, reason: str) -> None:
    assert_skipped(MERGE, graph(body, signature), reason=reason)


def test_inner_output_keeps_its_layout() -> None:
    signature = "(float[1,2,3,4] x) => (float[1,2,3,4] y, float[1,3,4,2] b)"
    merged(
        MERGE,
        graph(f"a = {NHWC}(x) b = Relu(a) y = {NCHW}(b)", signature),
        graph(f"y = Relu(x) b = {NHWC}(y)", signature),
    )


def test_open_dimensions() -> None:
    signature = "(float[N,2,H,W] x) => (float[N,2,H,W] y)"
    merged(
        MERGE,
        graph(f"a = {NHWC}(x) b = Mul(a, c) y = {NCHW}(b)", signature),
        graph("y = Mul(x, c)", signature, "float[1,2,1,1] c = {1, 2}"),
    )


def test_reader_in_a_subgraph_keeps_its_layout() -> None:
    text = f"""g (bool k, float[1,2,3,4] x) => (float[1,2,3,4] y, float[1,3,4,2] u) {{
        a = {NHWC}(x) b = Relu(a) y = {NCHW}(b) u = If(k)<
            then_branch = t () => (float[1,3,4,2] p) {{ p = Neg(b) }},
            else_branch = e () => (float[1,3,4,2] q) {{ q = Abs(b) }}> }}"""
    model = merged(MERGE, text)
    assert sorted(node.op for node in model.nodes()) == ["If", "Relu", "Transpose"]


def test_origins() -> None:
    model = merged(
        MERGE,
        graph(
            f"[one] a = {NHWC}(x) [two] y = Transpose<perm = [0, 1, 3, 2]>(a)",
            "(float[1,2,3,4] x) => (float[1,3,2,4] y)",
        ),
    )
    assert model.nodes()[0].origins == ("one", "two")


def test_ignored() -> None:
    body = f"[mine] a = {NHWC}(x) b = Relu(a) y = {NCHW}(b)"
    assert_skipped(MergeTransposes(ignore=("mine",)), graph(body), reason="would not leave fewer Transposes")
    body = f"a = {NHWC}(x) [mine] b = Relu(a) y = {NCHW}(b)"
    assert_skipped(MergeTransposes(ignore=("mine",)), graph(body), reason="")


def test_work_is_linear() -> None:
    """One Transpose per layer, and a residual stream through all: every node is looked at a few times."""
    from edgecc.rewriting.layout_region import Region

    counts = []
    for layers in (20, 80):
        calls = 0
        count = Region._count

        def counting(self: Region, *args: object, count: object = count) -> int:
            nonlocal calls
            calls += 1
            return count(self, *args)  # type: ignore[operator]

        lines = " ".join(
            f"a{i} = {NHWC}(x{i}) b{i} = Exp(a{i}) d{i} = ReduceMax<keepdims = 1>(b{i}) "
            f"e{i} = {NCHW}(d{i}) x{i + 1} = Add(x{i}, e{i})"
            for i in range(layers)
        )
        model = Model.from_text(f"g (float[1,2,3,4] x0) => (float[1,2,3,4] x{layers}) {{ {lines} }}")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Region, "_count", counting)
            MERGE.run(model, PassContext(None, np.random.default_rng(0)))
        counts.append(calls)
    assert counts[1] < 5 * counts[0]


@pytest.mark.parametrize("reader", ["Transpose(b)", "Identity(b)", "Transpose(a)", "Identity(a)"])
def test_subgraph_whose_output_is_computed_from_a_moved_tensor(reader: str) -> None:
    """A Transpose in a branch is none that the region could meet; what it writes is nothing outside."""
    shape = "float[2,3]" if reader.startswith("Transpose") else "float[3,2]"
    operand = "x" if reader.startswith("Transpose") else "a"
    model = check_contract(
        MergeTransposes(),
        f"""g (bool c, float[2,3] x) => ({shape} y, float[2,3] z) {{
            a = Transpose(x) b = Relu(a) z = Transpose(b)
            y = If(c)<then_branch = t () => ({shape} o) {{ o = {reader} }},
                else_branch = e () => ({shape} p) {{ p = Neg({operand}) }}> }}""",
    )
    assert sum(node.op == "Transpose" for node in model.nodes()) <= 2
