"""What depends on constants alone is computed once, and what must stay stays."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from edgecc import folding
from edgecc.model import Model, value_of


def clean(text: str, **constants: np.ndarray) -> Model:
    model = Model.from_text(text, constants)
    model.cleanup()
    model.verify()
    return model


def ops(model: Model) -> list[str]:
    return [node.op for node in model.nodes()]


def test_chain_of_constants_becomes_one() -> None:
    model = clean(
        "g (float[2] x) => (float[2] y) <float[2] a = {1,2}, float[2] b = {3,4}>"
        "{ s = Add(a, b) m = Mul(s, s) y = Add(x, m) }"
    )
    assert ops(model) == ["Add"]
    np.testing.assert_array_equal(value_of(model.nodes()[0].inputs[1]), [16, 36])
    assert model.nodes()[0].inputs[1].name == "m"


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        ("value = float[2] {1, 2}", np.array([1, 2], np.float32)),
        ("value_float = 1.5", np.array(1.5, np.float32)),
        ("value_floats = [1.5, 2.0]", np.array([1.5, 2], np.float32)),
        ("value_int = 3", np.array(3)),
        ("value_ints = [3, 4]", np.array([3, 4])),
    ],
)
def test_constant_nodes(attribute: str, expected: np.ndarray) -> None:
    kind = "float" if expected.dtype == np.float32 else "int64"
    model = clean(f"g ({kind}[2] x) => ({kind}[2] y) {{ c = Constant<{attribute}>() y = Add(x, c) }}")
    found = value_of(model.nodes("Add")[0].inputs[1])
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    assert ops(model) == ["Add"]


def test_constant_node_that_is_an_output_stays() -> None:
    assert ops(clean("g () => (float[2] y) { y = Constant<value = float[2] {1, 2}>() }")) == ["Constant"]


def test_shapes_of_static_tensors() -> None:
    model = clean(
        "g (float[2,3,4] x) => (int64[2] y, int64[4] z)"
        "{ s = Shape<start=1>(x) n = Size(x) k = Constant<value_ints=[1,0,2,-1]>() y = Identity(s) z = Mul(k, n) }"
    )
    assert set(ops(model)) == {"Identity", "Mul"}
    values = {n.op: [value_of(t) for t in n.inputs] for n in model.nodes()}
    np.testing.assert_array_equal(values["Identity"][0], [3, 4])
    np.testing.assert_array_equal(values["Mul"][1], 24)


def test_static_part_of_an_open_shape() -> None:
    model = clean("g (float[N,3,4] x) => (int64[1] y) { s = Shape<start=-2, end=-1>(x) y = Neg(s) }")
    assert ops(model) == ["Neg"]
    assert ops(clean("g (float[N,3,4] x) => (int64[2] y) { s = Shape<end=2>(x) y = Neg(s) }")) == ["Shape", "Neg"]


def test_model_outputs_stay_computed() -> None:
    assert ops(clean("g () => (float[2] y) <float[2] a = {1,2}> { t = Neg(a) y = Abs(t) }")) == ["Abs"]


def test_constants_read_by_subgraphs_fold_too() -> None:
    model = clean("""g (bool c, float[2] x) => (float[2] y) <float[2] a = {1,2}> { k = Neg(a) y = If(c)<
        then_branch = p () => (float[2] r) { r = Add(x, k) },
        else_branch = q () => (float[2] s) { s = Mul(x, k) }> }""")
    assert sorted(n.op for n in model.all_nodes()) == ["Add", "If", "Mul"]


def test_random_and_custom_operators_stay() -> None:
    assert ops(clean("g () => (float[2] y) { t = RandomNormal<shape=[2]>() y = Relu(t) }")) == ["RandomNormal", "Relu"]
    header = '<ir_version: 10, opset_import: ["": 23, "my": 1]>'
    model = clean(f"{header} g () => (float[2] y) <float[2] a = {{1,2}}> {{ t = my.Thing(a) y = Relu(t) }}")
    assert ops(model) == ["Thing", "Relu"]


def test_quantized_weights_stay_quantized() -> None:
    text = """g (float[1,8] x) => (float[1,8] y) <float s = {0.5}, int8 z = {0}> {
        w = DequantizeLinear(q, s, z) y = MatMul(x, w) }"""
    assert ops(clean(text, q=np.ones((8, 8), np.int8))) == ["DequantizeLinear", "MatMul"]


def test_half_precision_weights_stay_half() -> None:
    text = "g (float[1,16] x) => (float[1,16] y) { w = Cast<to=1>(h) y = MatMul(x, w) }"
    assert ops(clean(text, h=np.ones((16, 16), np.float16))) == ["Cast", "MatMul"]
    small = "g (float[4] x) => (float[4] y) { w = Cast<to=1>(h) y = Add(x, w) }"
    assert ops(clean(small, h=np.ones(4, np.float16))) == ["Add"]


def test_types_that_the_runtime_does_not_give_stay_and_hinder_nothing() -> None:
    text = """g (float[600] x) => (float[600] y) <float[2] a = {1,2}> {
        w = Cast<to=1>(h) v = Mul(x, w)
        t = Neg(a) u = Concat<axis=0>(t, t) n = Size(u) m = Cast<to=1>(n) y = Mul(v, m) }"""
    model = clean(text, h=np.ones(600, ml_dtypes.bfloat16))
    assert ops(model) == ["Cast", "Mul", "Mul"]


def test_large_results_stay_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "MAX_GROWTH", 1000)
    model = Model.from_text(
        "g (float[1000] x) => (float[1000] y) <int64[1] n = {1000}> { [big] t = ConstantOfShape(n) y = Add(x, t) }"
    )
    (note,) = model.cleanup()
    assert note == "big (ConstantOfShape) depends on constants alone and was not folded: it adds 3992 bytes"
    assert ops(model) == ["ConstantOfShape", "Add"]


def test_what_the_runtime_refuses_is_noted() -> None:
    text = """g (float[2] x) => (float[2] y) <float[3] a = {1,2,3}, int64[1] i = {7}> {
        [bad] t = Gather(a, i) y = Add(x, t) }"""
    model = Model.from_text(text)
    (note,) = model.cleanup()
    assert note.startswith("constants not folded at bad (Gather): ")
    assert ops(model) == ["Gather", "Add"]


def test_large_weights_that_a_compact_file_computes_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "MAX_GROWTH", 1000)
    text = """g (float[1,30] x) => (float[1,40] y) <int64[2] n = {40,30}> {
        t = ConstantOfShape(n) u = Transpose(t) y = MatMul(x, u) }"""
    assert ops(clean(text)) == ["MatMul"]
    monkeypatch.setattr(folding, "MAX_TOTAL_GROWTH", 4000)
    assert ops(clean(text)) == ["ConstantOfShape", "Transpose", "MatMul"]


def test_growth_has_a_limit_for_all_nodes_and_passes_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "MAX_TOTAL_GROWTH", 1000)
    model = Model.from_text("""g (float[100] x) => (float[100] y) <int64[1] n = {100}> {
        a = ConstantOfShape<value = float[1] {1}>(n) b = ConstantOfShape<value = float[1] {2}>(n)
        c = ConstantOfShape<value = float[1] {3}>(n) d = Add(x, a) e = Add(d, b) y = Add(e, c) }""")
    model.cleanup()
    assert ops(model) == ["ConstantOfShape", "Add", "Add", "Add"]
    model.clone().cleanup()
    model.cleanup()
    assert ops(model) == ["ConstantOfShape", "Add", "Add", "Add"]


def test_sizes_that_values_decide() -> None:
    model = clean("""g (float[1] x) => (float[N] y) <float[4] a = {0,1,0,2}> {
        i = NonZero(a) f = Cast<to=1>(i) k = Constant<value_ints=[-1]>() r = Reshape(f, k) y = Add(x, r) }""")
    assert ops(model) == ["Add"]
    np.testing.assert_array_equal(value_of(model.nodes()[0].inputs[1]), [1, 3])


def test_a_node_that_the_runtime_refuses_hinders_no_other() -> None:
    model = Model.from_text("""g (float[1] x) => (float[1] y)
        <float[3] a = {1,2,3}, int64[1] i = {7}, int64[1] k = {1}> { b = Neg(a) [bad] t = Gather(b, i) u = Abs(t)
        c = Gather(b, k) d = Neg(c) s = Add(x, u) y = Add(s, d) }""")
    (note,) = model.cleanup()
    assert note.startswith("constants not folded at bad (Gather): ")
    assert ops(model) == ["Gather", "Abs", "Add", "Add"]


def test_large_weights_reach_the_runtime() -> None:
    weights = np.arange(600 * 2, dtype=np.float32).reshape(600, 2)
    model = clean(
        "g (float[1,600] x) => (float[1,2] y) { t = Transpose(w) u = Transpose(t) y = MatMul(x, u) }", w=weights
    )
    np.testing.assert_array_equal(value_of(model.nodes("MatMul")[0].inputs[1]), weights)


def test_strings_fold() -> None:
    model = clean('g () => (string[4] y) <string[2] a = {"p", "q"}> { t = Concat<axis=0>(a, a) y = Identity(t) }')
    assert value_of(model.nodes()[0].inputs[0]).tolist() == ["p", "q", "p", "q"]
