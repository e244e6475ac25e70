from __future__ import annotations

import pytest

from edgecc.passes.merge_reshapes import MergeReshapes
from edgecc.testing import assert_skipped, check_pass

MERGE = MergeReshapes()
CONSTANTS = """<int64[2] flat = {2, 12}, int64[3] three = {2, 3, 4}, int64[1] one = {1}, int64[1] zero = {0},
    int64[2] both = {0, 1}, int64[4] open = {0, 1, 3, 4}, float s = {2}, float[4] v = {1, 2, 3, 4},
    float[1,2,1,1] w = {1, 2}, float[3,1] k = {1, 2, 3}, float[1,3,1] k3 = {1, 2, 3}>"""


def graph(body: str, signature: str = "(float[2,3,4] x) => (float[2,12] y)", constants: str = CONSTANTS) -> str:
    return f"g {signature} {constants} {{ {body} }}"


@pytest.mark.parametrize(
    ("body", "signature"),
    [
        ("a = Unsqueeze(x, one) y = Flatten(a)", "(float[2,3,4] x) => (float[2,12] y)"),
        ("a = Reshape(x, flat) y = Reshape(a, three)", "(float[2,3,4] x) => (float[2,3,4] y)"),
        (
            "a = Unsqueeze(x, one) b = Squeeze(a, one) c = Unsqueeze(b, both) y = Flatten<axis = 3>(c)",
            "(float[2,3,4] x) => (float[2,12] y)",
        ),
    ],
)
def test_chain(body: str, signature: str) -> None:
    model = check_pass(MERGE, graph(body, signature))
    assert [node.op for node in model.nodes()] == ["Reshape"]


def test_open_dimension_that_stays_in_its_place() -> None:
    signature = "(float[N,3,4] x) => (float[N,12] y)"
    check_pass(
        MERGE,
        graph("a = Unsqueeze(x, one) y = Flatten(a)", signature),
        graph("y = Reshape(x, t)", signature, "<int64[2] t = {0, 12}>"),
    )


def test_open_dimension_that_would_lose_its_name() -> None:
    signature = "(float[N,3,4] x) => (float[1,N,12] y)"
    assert_skipped(
        MERGE, graph("a = Flatten(x) y = Unsqueeze(a, zero)", signature), reason="cannot be said as one Reshape of 'x'"
    )


def test_the_first_one_stays_for_its_other_readers() -> None:
    signature = "(float[2,3,4] x) => (float[2,12] y, float[2,1,3,4] z)"
    check_pass(
        MERGE,
        graph("a = Unsqueeze(x, one) z = Relu(a) y = Flatten(a)", signature),
        graph("a = Unsqueeze(x, one) z = Relu(a) y = Reshape(x, flat)", signature),
    )


@pytest.mark.parametrize(
    ("body", "after"),
    [
        ("b = Relu(a)", "b = Relu(x)"),
        ("c = Mul(a, s) b = Tanh(c)", "c = Mul(x, s) b = Tanh(c)"),
        ("b = Mul(v, a)", "b = Mul(v, x)"),
        ("b = Add(a, k)", "b = Add(x, k3)"),
        ("b = Softmax<axis = 3>(a)", "b = Softmax<axis = -1>(x)"),
        ("b = LayerNormalization<axis = 3>(a, v)", "b = LayerNormalization<axis = -1>(x, v)"),
    ],
    ids=["unary", "two", "row", "axes that stay", "softmax", "layer norm"],
)
def test_through_what_works_on_elements_or_rows(body: str, after: str) -> None:
    check_pass(MERGE, graph(f"a = Unsqueeze(x, one) {body} y = Flatten(b)"), graph(f"{after} y = Reshape(b, flat)"))


def test_there_and_back() -> None:
    """Swin's mask: [64, 3, 49, 49] gets an axis for a constant that has one."""
    signature = "(float[2,3,4] x) => (float[2,3,4] y)"
    constants = CONSTANTS.replace("float s", "float[1,2,1,1] m = {1, 2}, float s")
    model = check_pass(
        MERGE,
        graph("a = Unsqueeze(x, zero) b = Add(a, m) c = Reshape(b, three) y = Relu(c)", signature, constants),
        graph(
            "b = Add(x, n) c = Reshape(b, three) y = Relu(c)",
            signature,
            "<float[2,1,1] n = {1, 2}, int64[3] three = {2, 3, 4}>",
        ),
    )
    assert len(model.constants()) == 2


def test_through_a_matrix_product() -> None:
    signature = "(float[1,5,2] x) => (float[5,3,1] y)"
    constants = "<int64[3] a = {5, 1, 2}, int64[3] b = {5, 3, 1}, float[2,3] w = {1, 2, 3, 4, 5, 6}>"
    check_pass(
        MERGE,
        graph("r = Reshape(x, a) m = MatMul(r, w) y = Reshape(m, b)", signature, constants),
        graph("m = MatMul(x, w) y = Reshape(m, b)", signature, constants),
    )


@pytest.mark.parametrize(
    "body",
    [
        "t = Transpose<perm = [1, 0, 2]>(x) y = Flatten(t)",
        "r = Unsqueeze(x, zero) y = Transpose<perm = [2, 1, 0, 3]>(r)",
        "t = Transpose<perm = [1, 0, 2]>(x) a = Relu(t) y = Flatten(a)",
    ],
    ids=["before", "behind", "through"],
)
def test_transpose_of_axes_of_size_one_merges(body: str) -> None:
    signature = f"(float[1,3,4] x) => ({'float[3,1,1,4] y' if 'r =' in body else 'float[3,4] y'})"
    model = check_pass(MERGE, graph(body, signature))
    assert [node.op for node in model.nodes() if node.op != "Relu"] == ["Reshape"]


def test_transpose_of_axes_of_size_one_alone_stays() -> None:
    """It says more about the layout than a Reshape does."""
    signature = "(float[1,3,4] x) => (float[3,1,4] y)"
    assert_skipped(MERGE, graph("t = Transpose<perm = [1, 0, 2]>(x) y = Relu(t)", signature), reason="")


def test_vit() -> None:
    """torch's attention for [L, N, E] with a batch of one (both exporters)."""
    signature = "(float[5,1,6] x) => (float[3,5,1,2] y)"
    constants = "<int64[4] a = {5, 1, 3, 2}, int64[1] zero = {0}, int64[1] three = {3}>"
    model = check_pass(
        MERGE,
        graph(
            """r = Reshape(x, a) u = Unsqueeze(r, zero) t = Transpose<perm = [3, 1, 2, 0, 4]>(u)
            y = Squeeze(t, three)""",
            signature,
            constants,
        ),
    )
    assert [node.op for node in model.nodes()] == ["Reshape", "Transpose"]


@pytest.mark.parametrize(
    ("body", "signature", "after"),
    [
        (
            "r = Reshape(x, a) t = Transpose<perm = [1, 0, 2]>(r) y = Unsqueeze(t, zero)",
            "(float[5,6] x) => (float[1,3,5,2] y)",
            ["Reshape", "Transpose"],
        ),
        (
            "r = Unsqueeze(x, zero) t = Transpose<perm = [0, 2, 1]>(r) y = Flatten<axis = 0>(t)",
            "(float[5,6] x) => (float[1,30] y)",
            ["Transpose", "Reshape"],
        ),
        (
            "r = Unsqueeze(x, zero) t = Transpose<perm = [0, 2, 1]>(r) y = Squeeze(t, zero)",
            "(float[5,6] x) => (float[6,5] y)",
            ["Transpose", "Reshape"],
        ),
    ],
    ids=["last into first", "first into last", "both"],
)
def test_around_a_transpose(body: str, signature: str, after: list[str]) -> None:
    constants = "<int64[3] a = {5, 3, 2}, int64[1] zero = {0}>"
    model = check_pass(MERGE, graph(body, signature, constants))
    assert [node.op for node in model.nodes()] == after


@pytest.mark.parametrize(
    ("body", "signature", "reason"),
    [
        (
            "a = Flatten(x) b = Add(a, z) y = Reshape(b, three)",
            "(float[2,3,4] x, float[2,12] z) => (float[2,3,4] y)",
            "",
        ),
        (
            "a = Flatten(x) b = Softmax(a) y = Reshape(b, three)",
            "(float[2,3,4] x) => (float[2,3,4] y)",
            "works on rows, and the first Reshape does not keep those",
        ),
        (
            "a = Reshape(x, six) b = Mul(a, v6) y = Flatten(b)",
            "(float[2,3,4] x) => (float[2,12] y)",
            "a constant of one value per element or axis",
        ),
        (
            "a = Flatten(x) b = Relu(a) y = Reshape(b, three)",
            "(float[2,1,3,1,4] x) => (float[2,3,4] y)",
            "would work on 5 axes",
        ),
        ("a = Flatten(x) y = Relu(a) z = Reshape(y, three)", "(float[2,3,4] x) => (float[2,12] y, float[2,3,4] z)", ""),
    ],
    ids=["another operand", "softmax of the whole", "constant", "many axes", "inner output"],
)
def test_left_alone(body: str, signature: str, reason: str) -> None:
    constants = CONSTANTS.replace("float s", "int64[3] six = {2, 2, 6}, float[6] v6 = {1, 2, 3, 4, 5, 6}, float s")
    assert_skipped(MERGE, graph(body, signature, constants), reason=reason)


def test_shared_constant_stays_for_others() -> None:
    signature = "(float[2,3,4] x, float[1,2,3,4] z) => (float[2,12] y, float[1,2,3,4] u)"
    model = check_pass(
        MERGE, graph("a = Unsqueeze(x, zero) b = Mul(a, w) y = Reshape(b, flat) u = Add(z, w)", signature)
    )
    assert [2, 1, 1] in [list(tensor.shape) for tensor in model.constants()]
    assert [1, 2, 1, 1] in [list(tensor.shape) for tensor in model.constants()]


def test_reader_in_a_subgraph() -> None:
    text = f"""g (bool c, float[2,3,4] x) => (float[2,12] y, float[2,12] z) {CONSTANTS} {{
        a = Unsqueeze(x, one) b = Relu(a) y = Flatten(b) z = If(c)<
            then_branch = t () => (float[2,12] p) {{ p = Flatten(b) }},
            else_branch = e () => (float[2,12] q) {{ q = Flatten(b) }}> }}"""
    assert_skipped(MERGE, text, reason="")


def test_origins_and_ignored() -> None:
    text = graph("[one] a = Unsqueeze(x, one) [two] y = Flatten(a)")
    (node,) = check_pass(MERGE, text).nodes()
    assert (node.name, node.origins) == ("two", ("one", "two"))
    assert_skipped(MergeReshapes(ignore=("one",)), text, reason="")
