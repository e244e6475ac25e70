"""Patterns on small graphs: what matches, in which order of operands, and the reason where nothing does."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model
from edgecc.rewriting.matching import Match, Mismatch, match
from edgecc.rewriting.patterns import AnyOf, Number, Op, Pattern, Product, Rest, Total, Value, Weight, root_ops
from edgecc.testing.work import calls_of

X = Value()


def model_of(body: str, constants: str = "", outputs: str = "float[2] y") -> Model:
    return Model.from_text(f"g (float[2] x, float[2] z) => ({outputs}) {constants} {{ {body} }}")


def attempt(pattern: Pattern, model: Model, output: str = "y") -> Match | Mismatch:
    node = next(node for node in model.nodes() if node.outputs[0].name == output)
    return match(pattern, node, model)


def found(pattern: Pattern, model: Model) -> Match:
    result = attempt(pattern, model)
    assert isinstance(result, Match), result
    return result


def reason(pattern: Pattern, model: Model) -> str:
    result = attempt(pattern, model)
    assert isinstance(result, Mismatch)
    return result.reason


def test_nodes_and_tensors() -> None:
    inner = Op("Relu", X)
    result = found(Op("Neg", inner), model_of("[a] t = Relu(x) [b] y = Neg(t)"))
    assert [node.name for node in result.nodes] == ["b", "a"]
    assert result.root.name == "b"
    assert result.output.name == "y"
    assert result.tensor(X).name == "x"
    assert result.node(inner).name == "a"


@pytest.mark.parametrize("body", ["t = Relu(x) y = Add(t, z)", "t = Relu(x) y = Add(z, t)"])
def test_commutative_operands_in_either_order(body: str) -> None:
    other = Value()
    result = found(Op("Add", other, Op("Relu", X)), model_of(body))
    assert (result.tensor(X).name, result.tensor(other).name) == ("x", "z")


def test_other_operands_in_their_order() -> None:
    assert reason(Op("Sub", Value(), Op("Relu", X)), model_of("t = Relu(x) y = Sub(t, z)")) == (
        "'z' comes from an input or constant, not from Relu"
    )


def test_a_pattern_that_occurs_twice_is_one_tensor() -> None:
    square = Op("Mul", X, X)
    assert found(square, model_of("y = Mul(x, x)")).tensor(X).name == "x"
    assert reason(square, model_of("y = Mul(x, z)")) == "'x' and 'z' should be the same tensor"
    shared = Op("Relu", X)
    assert len(found(Op("Sub", shared, Op("Neg", shared)), model_of("t = Relu(x) u = Neg(t) y = Sub(t, u)")).nodes) == 3


def test_an_order_that_fails_further_on_is_taken_back() -> None:
    """The first Add matches the first operand; only the second one leaves the right one for the rest."""
    a, b = Value(), Value()
    pattern = Op("Sub", Op("Add", a, b), Op("Neg", a))
    result = found(pattern, model_of("s = Add(x, z) n = Neg(z) y = Sub(s, n)"))
    assert (result.tensor(a).name, result.tensor(b).name) == ("z", "x")


def test_constants() -> None:
    model = model_of("y = Mul(x, c)", "<float c = {0.70710677}>")
    weight = Weight()
    assert found(Op("Mul", X, weight), model).constant(weight) == pytest.approx(0.70710677)
    assert isinstance(attempt(Op("Mul", X, Number(0.5**0.5)), model), Match)
    assert reason(Op("Mul", X, 0.5), model) == "the constant 'c' is not 0.5"
    assert "'z' is computed by" in reason(Op("Mul", X, weight), model_of("y = Mul(x, z)"))


def test_half_precision_constants() -> None:
    text = "g (float16[2] x) => (float16[2] y) { y = Mul(x, c) }"
    model = Model.from_text(text, {"c": np.array(0.70710678, np.float16)})
    assert isinstance(attempt(Op("Mul", X, 0.5**0.5), model), Match)
    assert isinstance(attempt(Op("Mul", X, 0.71), model), Mismatch)


def test_any_of() -> None:
    square, power = Op("Mul", X, X), Op("Pow", X, 2)
    either = AnyOf(power, square)
    result = found(Op("Neg", either), model_of("t = Mul(x, x) y = Neg(t)"))
    assert result.has(square)
    assert not result.has(power)
    assert result.tensor(either).name == "t"


def test_rest() -> None:
    rest = Rest()
    result = found(Op("Concat", X, rest), model_of("y = Concat<axis=0>(x, z, x)", outputs="float[6] y"))
    assert [tensor.name for tensor in result.rest(rest)] == ["z", "x"]
    assert found(Op("Concat", X, rest), model_of("y = Concat<axis=0>(x)")).rest(rest) == ()


def test_number_of_operands() -> None:
    assert "has 2 inputs, not 1" in reason(Op("Concat", X), model_of("y = Concat<axis=0>(x, z)", outputs="float[4] y"))


CONSTANTS = "<float half = {0.5}, float two = {2}, float three = {3}, float ten = {10}>"


@pytest.mark.parametrize(
    "body",
    [
        "t = Mul(x, z) y = Mul(t, half)",
        "t = Mul(half, x) y = Mul(z, t)",
        "t = Div(x, two) y = Mul(z, t)",
        "t = Div(x, ten) u = Mul(t, z) v = Div(u, two) y = Mul(ten, v)",
    ],
)
def test_products_in_any_nesting(body: str) -> None:
    a = Value()
    other = Value()
    result = found(Product(a, other, scale=0.5), model_of(body, CONSTANTS))
    assert {result.tensor(a).name, result.tensor(other).name} == {"x", "z"}


def test_products_that_differ() -> None:
    other = Value()
    pattern = Product(X, other, scale=0.5)
    doubled = model_of("t = Mul(x, z) y = Mul(t, two)", CONSTANTS)
    assert reason(pattern, doubled) == "the constants of 'y' make 2, not 0.5"
    assert reason(pattern, model_of("y = Mul(x, half)", CONSTANTS)) == "'y' has 1 factors, not 2"
    assert isinstance(attempt(Product(X, scale=1), model_of("y = Div(x, z)", CONSTANTS)), Mismatch)


def test_a_product_that_others_read_is_one_factor() -> None:
    body = "t = Mul(x, z) n = Neg(t) y = Mul(t, half)"
    result = found(Product(X, scale=0.5), model_of(body, CONSTANTS, "float[2] y, float[2] n"))
    assert result.tensor(X).name == "t"


@pytest.mark.parametrize(
    "body",
    [
        "t = Add(x, z) y = Add(t, three)",
        "t = Sub(x, two) u = Add(t, z) v = Add(u, ten) w = Sub(v, two) y = Sub(w, three)",
    ],
)
def test_sums_in_any_nesting(body: str) -> None:
    assert isinstance(attempt(Total(Value(), Value(), constant=3), model_of(body, CONSTANTS)), Match)


def test_inner_nodes_that_are_needed_elsewhere() -> None:
    pattern = Op("Neg", Op("Relu", X))
    read = model_of("[r] t = Relu(x) y = Neg(t) [e] u = Exp(t)", outputs="float[2] y, float[2] u")
    assert reason(pattern, read) == "'t' is read by e (Exp) too"
    given = model_of("t = Relu(x) y = Neg(t)", outputs="float[2] y, float[2] t")
    assert reason(pattern, given) == "'t' is an output of the model"


def test_reader_in_a_subgraph() -> None:
    text = """g (bool c, float[2] x) => (float[2] y, float[2] u) { t = Relu(x) y = Neg(t) u = If(c)<
        then_branch = p () => (float[2] r) { [inner] r = Exp(t) },
        else_branch = q () => (float[2] s) { s = Identity(x) }> }"""
    assert reason(Op("Neg", Op("Relu", X)), Model.from_text(text)) == "'t' is read by inner (Exp) too"


def test_operators_of_other_domains_do_not_match() -> None:
    text = """<ir_version: 10, opset_import: ["": 23, "com.example": 1]>
        g (float[2] x) => (float[2] y) { y = com.example.Relu(x) }"""
    assert "not from Relu" in reason(Op("Relu", X), Model.from_text(text))


def test_last_operators() -> None:
    assert root_ops(AnyOf(Op("Relu", X), Product(X, X), Total(X, X))) == {"Relu", "Mul", "Div", "Add", "Sub", "Sum"}
    with pytest.raises(TypeError, match="would match every tensor"):
        root_ops(X)


def test_work_does_not_grow_with_the_graph() -> None:
    pattern = Product(X, Total(Op("Erf", Product(X, scale=0.5)), constant=1.0), scale=0.5)

    def work_on(length: int) -> int:
        body = " ".join(f"t{i + 1} = Mul(t{i}, t{i})" for i in range(length))
        model = Model.from_text(f"g (float[2] t0) => (float[2] t{length}) {{ {body} }}")
        last = model.nodes()[-1]
        return calls_of(lambda: match(pattern, last, model))

    assert work_on(800) == work_on(50)
