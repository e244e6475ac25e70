from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from edgecc.model import Model
from edgecc.passes.base import PassContext
from edgecc.passes.eliminate_common_subexpressions import EliminateCommonSubexpressions
from edgecc.testing import assert_skipped, check_pass

CSE = EliminateCommonSubexpressions()


def graph(body: str, signature: str = "(float[2,3] x, float[2,3] z) => (float[2,3] y)", constants: str = "") -> str:
    held = f"<{constants}>" if constants else ""
    return f"g {signature} {held} {{ {body} }}"


@pytest.mark.parametrize(
    ("body", "after"),
    [
        ("a = Relu(x) b = Relu(x) y = Sub(a, b)", "a = Relu(x) y = Sub(a, a)"),
        ("a = Add(x, z) b = Add(z, x) y = Sub(a, b)", "a = Add(x, z) y = Sub(a, a)"),
        ("a = Relu(x) b = Relu(x) c = Neg(a) d = Neg(b) y = Sub(c, d)", "a = Relu(x) c = Neg(a) y = Sub(c, c)"),
        (
            "a = LeakyRelu<alpha=0.5>(x) b = LeakyRelu<alpha=0.5>(x) y = Sub(a, b)",
            "a = LeakyRelu<alpha=0.5>(x) y = Sub(a, a)",
        ),
        (
            "a, i = TopK<axis=1>(x, k) b, j = TopK<axis=1>(x, k) y = Sub(a, b)",
            "a, i = TopK<axis=1>(x, k) y = Sub(a, a)",
        ),
        ("a = Clip(x, , m) b = Clip(x, , m) y = Sub(a, b)", "a = Clip(x, , m) y = Sub(a, a)"),
    ],
    ids=["unary", "commutative", "chain", "attributes", "several outputs", "left-out input"],
)
def test_equal_nodes_become_one(body: str, after: str) -> None:
    constants = "int64[1] k = {3}, float m = {1}"
    check_pass(CSE, graph(body, constants=constants), graph(after, constants=constants))


@pytest.mark.parametrize(
    "body",
    [
        "a = LeakyRelu<alpha=0.5>(x) b = LeakyRelu<alpha=0.25>(x) y = Sub(a, b)",
        "a = Sub(x, z) b = Sub(z, x) y = Add(a, b)",
        # The maximum of 0 and -0 is either.
        "a = Max(x, z) b = Max(z, x) y = Sub(a, b)",
        "a = Clip(x, m) b = Clip(x, , m) y = Sub(a, b)",
        "a = Cast<to=1>(x) b = Cast<to=11>(x) c = Cast<to=1>(b) y = Sub(a, c)",
        "a = Sum(x, z, z) b = Sum(z, x, z) y = Sub(a, b)",
    ],
    ids=["attribute", "order", "signed zeros", "place of an input", "type", "order of a sum"],
)
def test_different_nodes_stay(body: str) -> None:
    assert_skipped(CSE, graph(body, constants="float m = {1}"), reason="")


def test_the_first_takes_the_name_of_an_output() -> None:
    check_pass(
        CSE,
        graph(
            "a = Relu(x) c = Neg(a) y = Relu(x) d = Neg(y) w = Sub(c, d)", "(float[2] x) => (float[2] y, float[2] w)"
        ),
        graph("y = Relu(x) c = Neg(y) w = Sub(c, c)", "(float[2] x) => (float[2] y, float[2] w)"),
    )


def test_two_outputs_keep_their_names() -> None:
    assert_skipped(
        CSE,
        graph("y = Relu(x) w = Relu(x)", "(float[2] x) => (float[2] y, float[2] w)"),
        reason="the outputs 'y' and 'w' must both keep their names",
    )


def test_random_nodes_stay() -> None:
    body = "a = RandomNormalLike(x) b = RandomNormalLike(x) y = Sub(a, b)"
    assert_skipped(CSE, graph(body), reason="both are random")


def test_quantization_stays() -> None:
    body = """q = QuantizeLinear(x, s, p) a = DequantizeLinear(q, s, p) b = DequantizeLinear(q, s, p)
        y = Sub(a, b)"""
    assert_skipped(CSE, graph(body, constants="float s = {0.5}, int8 p = {0}"), reason="precision is said for each")


def test_custom_operators_stay() -> None:
    text = """<ir_version: 10, opset_import: ["" : 23, "mine" : 1]>
        g (float[2] x) => (float[2] y) { a = mine.Roll(x) b = mine.Roll(x) y = Sub(a, b) }"""
    model = Model.from_text(text)
    assert not CSE.run(model, PassContext(None, np.random.default_rng(0)))


def test_subgraphs_stay() -> None:
    branch = """<then_branch = t () => (float[2] {0}) {{ {0} = Relu(x) }},
        else_branch = e () => (float[2] {1}) {{ {1} = Neg(x) }}>"""
    text = f"""g (bool c, float[2] x) => (float[2] y) {{
        a = If(c){branch.format("p", "q")} b = If(c){branch.format("r", "s")} y = Sub(a, b) }}"""
    assert_skipped(CSE, text, reason="")


def test_reader_in_a_subgraph_reads_the_first() -> None:
    def text(body: str, read: str) -> str:
        return f"""g (bool c, float[2] x) => (float[2] y, float[2] w) {{ {body} w = Neg(a) y = If(c)<
            then_branch = t () => (float[2] p) {{ p = Neg({read}) }},
            else_branch = e () => (float[2] q) {{ q = Abs({read}) }}> }}"""

    check_pass(CSE, text("a = Relu(x) b = Relu(x)", "b"), text("a = Relu(x)", "a"))


def test_open_dimensions() -> None:
    signature = "(float[N,M] x) => (float[N,M] y)"
    check_pass(
        CSE, graph("a = Relu(x) b = Relu(x) y = Sub(a, b)", signature), graph("a = Relu(x) y = Sub(a, a)", signature)
    )


def test_origins_of_both() -> None:
    model = check_pass(CSE, graph("[one] a = Relu(x) [two] b = Relu(x) [end] y = Sub(a, b)"))
    assert model.nodes()[0].name == "one"
    assert model.nodes()[0].origins == ("one", "two")


def test_ignored() -> None:
    assert_skipped(
        EliminateCommonSubexpressions(ignore=("two",)),
        graph("[one] a = Relu(x) [two] b = Relu(x) y = Sub(a, b)"),
        reason="",
    )


# ------------------------------------------------------------------------------------------------------- constants


def constants_after(first: np.ndarray, second: np.ndarray) -> int:
    text = "g (float[2] x) => (float[2] y, float[2] w) { y = Add(x, a) w = Sub(x, b) }"
    model = Model.from_text(text, {"a": first, "b": second})
    CSE.run(model, PassContext(None, np.random.default_rng(0)))
    return len(model.constants())


def test_equal_constants_become_one() -> None:
    model = check_pass(
        CSE,
        graph("a = Add(x, c) y = Mul(a, d)", constants="float[3] c = {1, 2, 3}, float[3] d = {1, 2, 3}"),
        graph("a = Add(x, c) y = Mul(a, c)", constants="float[3] c = {1, 2, 3}"),
    )
    assert len(model.constants()) == 1


@pytest.mark.parametrize(
    ("first", "second", "left"),
    [
        (np.zeros(2, np.float32), np.zeros(2, np.float32), 1),
        (np.zeros(2, np.float32), -np.zeros(2, np.float32), 2),
        (np.zeros((1, 2), np.float32), np.zeros(2, np.float32), 2),
        (np.zeros(2, np.float32), np.zeros(2, np.int32), 2),
        (np.full(2, np.nan, np.float32), np.full(2, np.nan, np.float32), 1),
        (np.ones(2, ml_dtypes.bfloat16), np.ones(2, ml_dtypes.bfloat16), 1),
        (np.array(1, np.float32), np.array(1, np.float32), 1),
        (np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32), 1),
        (np.arange(1000), np.where(np.arange(1000) == 700, 0, np.arange(1000)), 2),
        (np.arange(1000).reshape(20, 50).T, np.ascontiguousarray(np.arange(1000).reshape(20, 50).T), 1),
        (np.array(["a", "b"], object), np.array(["a", "b"], object), 2),
    ],
    ids=["equal", "signed zero", "shape", "type", "nan", "bfloat16", "scalar", "empty", "middle", "strides", "text"],
)
def test_bytes_decide(first: np.ndarray, second: np.ndarray, left: int) -> None:
    assert constants_after(first, second) == left


def test_large_constants_are_not_read_where_nothing_is_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgecc.passes import eliminate_common_subexpressions as module

    read = []
    digest = module._digest
    monkeypatch.setattr(module, "_digest", lambda tensor: read.append(tensor) or digest(tensor))
    rng = np.random.default_rng(0)
    assert constants_after(rng.normal(size=1000), rng.normal(size=1000)) == 2
    assert not read


def test_constant_that_is_an_output_stays() -> None:
    text = "g (float[2] x) => (float[2] y, float[2] d) <float[2] c = {1, 2}, float[2] d = {1, 2}> { y = Add(x, c) }"
    model = Model.from_text(text)
    model.cleanup()
    CSE.run(model, PassContext(None, np.random.default_rng(0)))
    assert [tensor.name for tensor in model.outputs] == ["y", "d"]


def test_one_walk_is_enough() -> None:
    lines = " ".join(f"a{i} = Relu(x{i}) b{i} = Relu(x{i}) x{i + 1} = Add(a{i}, b{i})" for i in range(200))
    model = check_pass(CSE, f"g (float[2] x0) => (float[2] x200) {{ {lines} }}")
    assert len(model.nodes()) == 400
