"""Types and shapes are derived afresh, without the weights."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model
from edgecc.shape_inference import open_dimensions


def shapes(model: Model) -> dict[str, object]:
    return {t.name: t.shape for t in model.tensors()}


def test_inner_tensors() -> None:
    model = Model.from_text("g (float16[N,3,8] x) => (float16[N,b] y) { t = Flatten(x) i = Shape(t) y = Relu(t) }")
    assert shapes(model)["t"] == ["N", 24]
    assert {t.name: t.dtype for t in model.tensors()}["i"] == np.int64
    assert model.signature.outputs[0].shape == ("N", 24)


def test_what_a_pass_left_behind_is_corrected() -> None:
    model = Model.from_text("g (float[2,3] x) => (float[3,2] y) { t = Relu(x) y = Transpose(t) }")
    tensor = model.nodes()[0].outputs[0]
    tensor.shape, tensor.dtype = [9, 9], np.dtype(np.float16)
    model.infer_shapes()
    assert tensor.shape == [2, 3]
    assert tensor.dtype == np.float32


def test_shape_follows_the_inputs() -> None:
    model = Model.from_text("g (float[N,3] x) => (float[N,6] y) { t = Relu(x) y = Concat<axis=1>(t, x) }")
    model.inputs[0].shape = [4, 3]
    model.outputs[0].shape = None
    model.infer_shapes()
    assert shapes(model) == {"x": [4, 3], "t": [4, 3], "y": [4, 6]}


def test_large_weights_take_part_by_their_shape() -> None:
    model = Model.from_text(
        "g (float[N,600] x) => (float[N,b] y) { y = MatMul(x, w) }", {"w": np.ones((600, 7), np.float32)}
    )
    assert model.signature.outputs[0].shape == ("N", 7)


def test_small_values_decide_shapes() -> None:
    model = Model.from_text("g (float[2,12] x) => (float[a,b,c] y) <int64[3] s = {0,3,-1}> { y = Reshape(x, s) }")
    assert model.outputs[0].shape == [2, 3, 4]


def test_unknown_operators_keep_what_they_have() -> None:
    header = '<ir_version: 10, opset_import: ["": 23, "my": 1]>'
    text = "g (bool c, float[2] x) => (float[7,2] y) <float[7,1] t> { t = my.Thing(x) y = Add(t, x) }"
    model = Model.from_text(f"{header} {text}")
    assert shapes(model)["t"] == [7, 1]
    assert shapes(model)["y"] == [7, 2]


def test_unknown_operators_of_subgraphs_keep_what_they_have() -> None:
    header = '<ir_version: 10, opset_import: ["": 23, "my": 1]>'
    text = """g (bool c, float[2] x) => (float[7,2] y) { y = If(c)<
        then_branch = p () => (float[7,2] r) <float[7,1] t> { t = my.Thing(x) r = Add(t, x) },
        else_branch = q () => (float[7,2] s) <float[7,1] u> { u = NobodyKnows(x) s = Mul(u, x) }> }"""
    model = Model.from_text(f"{header} {text}")
    for name in ("then_branch", "else_branch"):
        first, second = model.nodes()[0].attrs[name].nodes
        assert first.outputs[0].shape == [7, 1]
        assert second.outputs[0].shape == [7, 2]


def test_tensors_of_subgraphs() -> None:
    text = """g (int64 n, bool c, float[2] x) => (float[2] y, float[k,2] z) { y, z = Loop(n, c, x)<body =
        l (int64 i, bool a, float[2] s) => (bool b, float[2] r, float[2] u) {
            b = Identity(a) v = Unsqueeze(s, i) r = Relu(s) u = Neg(r) }> }"""
    model = Model.from_text(text)
    body = model.nodes("Loop")[0].attrs["body"]
    inferred = {t.name: (t.dtype, t.shape) for n in body.nodes for t in n.outputs}
    assert inferred["r"] == (np.float32, [2])
    assert inferred["b"][0] == np.bool_
    assert model.outputs[1].shape[1:] == [2]


def test_dimensions_that_nothing_says_get_a_name() -> None:
    model = Model.from_text("g (float[2] x) => (int64[r,n] y) { y = NonZero(x) }")
    model.outputs[0].shape = None
    model.infer_shapes()
    assert model.outputs[0].shape[0] == 1
    assert isinstance(model.outputs[0].shape[1], str)


def test_open_dimensions() -> None:
    model = Model.from_text("g (float[N,3] x, float[2] z) => (float[N,3] y) { y = Relu(x) }")
    assert [t.name for t in open_dimensions(model)] == ["x"]
    model.inputs[1].shape = None
    assert [t.name for t in open_dimensions(model)] == ["x", "z"]


_LOOP = """g (int64 n, float[2,3] x) => (float[a,b] y) { t = Loop(n, , x)<
    body = b (int64 i, bool go, float v) => (bool keep, float w) { keep = Identity(go) %s }> y = Relu(t) }"""


def _undeclared(step: str) -> Model:
    """A loop whose body does not tell the shape of its state, as exporters write them."""
    model = Model.from_text(_LOOP % step)
    body = model.nodes("Loop")[0].attrs["body"]
    for tensor in (body.inputs[2], body.outputs[1], *(t for node in body.nodes for t in node.outputs)):
        tensor.shape = None
    model.nodes("Loop")[0].outputs[0].shape = None
    model.infer_shapes()
    return model


def test_the_state_of_a_loop_has_the_shape_of_its_start() -> None:
    model = _undeclared("w = Mul(v, x)")
    assert shapes(model)["t"] == [2, 3]
    assert model.nodes("Loop")[0].attrs["body"].inputs[2].shape == [2, 3]


def test_a_state_that_begins_with_a_constant_has_its_shape() -> None:
    text = """g (int64 n) => (float[a] y) { t = Loop(n, , s)<
        body = b (int64 i, bool go, float[2] v) => (bool keep, float[2] w) { keep = Identity(go) w = Neg(v) }>
        y = Relu(t) }"""
    model = Model.from_text(text, {"s": np.ones(2, np.float32)})
    assert shapes(model)["t"] == [2]


def test_a_loop_may_begin_with_what_another_ends_with() -> None:
    """The first one begins with a constant, whose shape is a tuple."""
    body = "(int64 i, bool go, float {v}) => (bool keep{w}, float {w}) {{ keep{w} = Identity(go) {w} = Neg({v}) }}"
    first, second = body.format(v="v", w="w"), body.format(v="p", w="q")
    text = f"g (int64 n) => (float[a] y) {{ t = Loop(n, , s)<body = b {first}> u = Loop(n, , t)<body = c {second}>"
    model = Model.from_text(f"{text} y = Relu(u) }}", {"s": np.ones(2, np.float32)})
    for node in model.nodes("Loop"):
        inner = node.attrs["body"]
        for tensor in (inner.inputs[2], inner.outputs[1], *node.outputs):
            tensor.shape = None
    model.infer_shapes()
    assert shapes(model)["u"] == [2]


def test_a_state_that_grows_has_no_shape() -> None:
    model = _undeclared("u = Neg(v) w = Concat<axis=0>(u, x)")
    body = model.nodes("Loop")[0].attrs["body"]
    assert body.inputs[2].shape is None
    assert body.nodes[1].outputs[0].shape is None


def test_operators_that_onnx_leaves_out() -> None:
    model = Model.from_text(
        "g (float[N,4,3] x, float[4] s) => (float[N,4,3] y) { a = GroupNormalization<num_groups = 2>(x, s, s)"
        " b = MeanVarianceNormalization<axes = [0]>(a) y = GroupNormalization<num_groups = 2>(b, s, s) }"
    )
    model.infer_shapes()
    assert [t.shape for node in model.nodes() for t in node.outputs] == [["N", 4, 3]] * 3


def test_dimensions_without_a_name_are_called_after_where_they_come_up() -> None:
    text = """g (float[unk__0,M,4] x) => (float[A,B,4] y) <int64[3] s = {0, -1, 4}> {
        r = Reshape(x, s) n = Neg(r) y = Relu(n) }"""
    model = Model.from_text(text)
    first, second, _ = (node.outputs[0] for node in model.nodes())
    assert first.shape == second.shape == ["unk__0", "r_1", 4]


BODY = "(int64 i, bool c, float[2] s) => (bool d, float[2] t, float[2] r)"


@pytest.mark.parametrize(("ends", "known"), [
    ("d = Identity(c)", True),
    ("d = Constant<value = bool {1}>()", True),
    ("e = Identity(c) d = Identity(e)", True),
    ("m = ReduceMax<keepdims = 0>(s) d = Less(m, m)", False),
    ("d = Constant<value = bool {0}>()", False),
])  # fmt: skip
def test_slices_of_loops_that_nothing_ends_early(ends: str, known: bool) -> None:
    text = (
        "g (float[2] x) => (float[2] y, float[N,2] z) {"
        f" y, z = Loop<body = b {BODY} {{ {ends} t = Tanh(s) r = Neg(s) }}>(limit, go, x) }}"
    )
    model = Model.from_text(text, {"limit": np.array(5), "go": np.array(True)})
    model.cleanup()
    assert (model.outputs[1].shape[0] == 5) is known
