"""Pass fuse-layer-normalization."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model
from edgecc.passes.fuse_layer_normalization import FuseLayerNormalization
from edgecc.target import Target
from edgecc.testing import assert_skipped, check_pass

#: Means of 8 values and a division, in float32 in another order.
ROUNDING = 2e-6
#: float16 has 11 bits.
HALF_ROUNDING = 4e-3

WEIGHT = np.linspace(0.5, 1.5, 8, dtype=np.float32)
OFFSET = np.linspace(-1, 1, 8, dtype=np.float32)
CONSTANTS = """<int64[1] last = {-1}, int64[3] kept = {2, 3, 1}, float two = {2}, float one = {1}, float zero = {0},
    float eight = {8}, float eps = {0.001}, float minus = {-0.5}, float half = {0.5}>"""
SIGNATURE = "(float[2,3,8] x) => (float[2,3,8] y)"
TWO_INPUTS = "(float[2,3,8] x, float z) => (float[2,3,8] y)"
TWO_OUTPUTS = "(float[2,3,8] x) => (float[2,3,8] y, float[2,3,8] {})"
FORMULA = """m = ReduceMean(x, last) d = Sub(x, m) q = Pow(d, two) v = ReduceMean(q, last) e = Add(v, eps) s = Sqrt(e)
    n = Div(d, s)"""


def graph(body: str, signature: str = SIGNATURE, constants: str = CONSTANTS, **weights: np.ndarray) -> Model:
    return Model.from_text(
        f"g {signature} {constants} {{ {body} }}",
        {"scale": WEIGHT, "bias": OFFSET, "ones": np.ones(8, np.float32), **weights},
    )


def after(attributes: str = "axis = -1, epsilon = 0.001, stash_type = 1", inputs: str = "x, scale, bias") -> Model:
    return graph(f"y = LayerNormalization<{attributes}>({inputs})", constants="")


def layer(model: Model) -> list[np.ndarray]:
    """Scale and bias of the only node."""
    (node,) = model.nodes()
    assert node.op == "LayerNormalization"
    return [tensor.values for tensor in node.inputs[1:]]


@pytest.mark.parametrize(
    "body",
    [
        FORMULA + " w = Mul(n, scale) y = Add(w, bias)",
        """m = ReduceMean(x, last) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, last) e = Add(v, eps) s = Sqrt(e)
            n = Div(d, s) w = Mul(n, scale) y = Add(w, bias)""",
        """m = ReduceMean(x, last) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, last) e = Add(v, eps) s = Sqrt(e)
            r = Reciprocal(s) n = Mul(d, r) w = Mul(n, scale) y = Add(w, bias)""",
        """m = ReduceMean(x, last) d = Sub(x, m) c = Sub(x, m) q = Pow(c, two) v = ReduceMean(q, last) e = Add(eps, v)
            s = Sqrt(e) n = Div(d, s) w = Mul(scale, n) y = Add(bias, w)""",
        """m = ReduceMean(x, last) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, last) e = Add(v, eps) s = Sqrt(e)
            r = Reciprocal(s) f = Mul(r, scale) p = Mul(x, f) t = Mul(m, f) o = Sub(bias, t) y = Add(p, o)""",
        """m = ReduceMean(x, last) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, last) e = Add(v, eps) s = Sqrt(e)
            r = Reciprocal(s) f = Mul(r, scale) k = Neg(m) t = Mul(k, f) o = Add(t, bias) p = Mul(x, f)
            y = Add(p, o)""",
        """t = ReduceSum(x, last) m = Div(t, eight) d = Sub(x, m) z = Mul(x, x) u = ReduceSum(z, last) a = Div(u, eight)
            b = Mul(m, m) c = Sub(a, b) v = Max(zero, c) e = Add(v, eps) s = Sqrt(e) r = Div(one, s) f = Mul(r, scale)
            n = Mul(d, f) y = Add(n, bias)""",
        """m = ReduceMean<keepdims = 0>(x, last) k = Unsqueeze(m, last) d = Sub(x, k) q = Pow(d, two)
            v = ReduceMean<keepdims = 0>(q, last) l = Unsqueeze(v, last) e = Add(l, eps) r = Pow(e, minus)
            n = Mul(d, r) w = Mul(n, scale) y = Add(w, bias)""",
        """m = ReduceMean(x, last) d = Sub(x, m) q = Pow(d, two) v = ReduceMean(q, last) e = Add(v, eps)
            s = Pow(e, half) n = Div(d, s) w = Mul(n, scale) y = Add(w, bias)""",
        """m = ReduceMean(x, last) d = Sub(x, m) q = Mul(d, d) v = ReduceMean<keepdims = 0>(q, last)
            k = Reshape(v, kept) t = ReduceSum<keepdims = 0>(x, last) l = Reshape(t, kept) a = Div(l, eight)
            b = Sub(x, a) e = Add(k, eps) s = Sqrt(e) r = Reciprocal(s) n = Mul(b, r) w = Mul(n, scale)
            y = Add(w, bias)""",
    ],
    ids=[
        "torch script",
        "torch dynamo",
        "reciprocal",
        "two subtractions",
        "tf2onnx",
        "keras 3",
        "flax",
        "axes put back",
        "half power",
        "var_mean of torch dynamo",
    ],
)
def test_forms(body: str) -> None:
    model = check_pass(FuseLayerNormalization(), before=graph(body), after=after(), tolerance=ROUNDING)
    scale, bias = layer(model)
    np.testing.assert_allclose(scale, WEIGHT)
    np.testing.assert_allclose(bias, OFFSET)


def test_without_scale() -> None:
    before = graph(FORMULA.replace("n =", "y ="))
    model = check_pass(FuseLayerNormalization(), before, after(inputs="x, ones"), tolerance=ROUNDING)
    (scale,) = layer(model)
    assert scale.dtype == np.float32
    assert (scale == 1).all()


def test_two_last_axes() -> None:
    both = CONSTANTS.replace("int64[1] last = {-1}", "int64[2] last = {2, -2}")
    weights = np.random.default_rng(0).uniform(0.5, 1, (3, 8)).astype(np.float32)
    before = graph(FORMULA + " w = Mul(n, scale) y = Add(w, bias)", constants=both, scale=weights)
    model = check_pass(FuseLayerNormalization(), before, tolerance=ROUNDING)
    scale, bias = layer(model)
    assert model.nodes()[0].attrs["axis"] == -2
    np.testing.assert_allclose(scale, weights)
    np.testing.assert_allclose(bias, np.broadcast_to(OFFSET, (3, 8)))


def test_open_dimensions() -> None:
    signature = "(float[N,S,8] x) => (float[N,S,8] y)"
    check_pass(FuseLayerNormalization(), graph(FORMULA.replace("n =", "y ="), signature), tolerance=ROUNDING)


def test_open_normalized_axis() -> None:
    signature = "(float[2,3,C] x) => (float[2,3,C] y)"
    before = graph(FORMULA.replace("n =", "y ="), signature)
    assert_skipped(FuseLayerNormalization(), before, reason="the sizes of the normalized axes of 'x' are not known")


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("w = Mul(n, k)", [WEIGHT * 2, OFFSET * 2]),
        ("w = Mul(k, n)", [WEIGHT * 2, OFFSET * 2]),
        ("w = Div(n, k)", [WEIGHT / 2, OFFSET / 2]),
        ("w = Add(n, k)", [WEIGHT, OFFSET + 2]),
        ("w = Sub(n, k)", [WEIGHT, OFFSET - 2]),
    ],
    ids=["Mul", "Mul, other order", "Div", "Add", "Sub"],
)
def test_absorbs(op: str, expected: list[np.ndarray]) -> None:
    body = f"n = LayerNormalization<epsilon = 0.001>(x, scale, bias) {op.replace('w =', 'y =')}"
    for k in (np.float32([2]), np.full((1, 1, 8), 2, np.float32), np.full(8, 2, np.float32)):
        model = check_pass(FuseLayerNormalization(), graph(body, k=k), tolerance=ROUNDING)
        for found, wanted in zip(layer(model), expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ("body", "signature", "weights", "reason"),
    [
        ("y = Mul(n, k)", SIGNATURE, np.ones((3, 1), np.float32), "'k' does not broadcast like the scale of"),
        (
            "y = Mul(n, k)",
            "(float[2,3,8] x) => (float[1,2,3,8] y)",
            np.ones((1, 1, 1, 1), np.float32),
            "'k' does not broadcast like the scale of",
        ),
        ("y = Mul(n, k)", SIGNATURE, np.full(8, 1e38, np.float32), "would not be finite in float32"),
        ("y = Sub(k, n)", SIGNATURE, np.ones(8, np.float32), "is computed by"),
        (
            "y = Add(n, k) z = Neg(n)",
            TWO_OUTPUTS.format("z"),
            np.ones(8, np.float32),
            "'n' is read by",
        ),
        (
            "y = Add(n, k)",
            TWO_OUTPUTS.format("n"),
            np.ones(8, np.float32),
            "is an output",
        ),
    ],
    ids=["along tokens", "another rank", "overflow", "subtracted from", "read twice", "output"],
)
def test_does_not_absorb(body: str, signature: str, weights: np.ndarray, reason: str) -> None:
    scale = np.full(8, 10, np.float32)
    before = graph(f"n = LayerNormalization(x, scale, bias) {body}", signature, k=weights, scale=scale)
    assert_skipped(FuseLayerNormalization(), before, reason=reason)


def test_does_not_absorb_into_a_computed_scale() -> None:
    before = graph("n = LayerNormalization(x, s) y = Mul(n, scale)", "(float[2,3,8] x, float[8] s) => (float[2,3,8] y)")
    assert_skipped(FuseLayerNormalization(), before, reason="the scale or bias of LayerNormalization_0 (LayerNormali")


def test_its_other_outputs_are_read() -> None:
    before = graph(
        "n, m = LayerNormalization(x, scale) y = Mul(n, bias)",
        "(float[2,3,8] x) => (float[2,3,8] y, float[2,3,1] m)",
    )
    assert_skipped(FuseLayerNormalization(), before, reason="'m' is an output of the model")


def test_shared_scale_is_copied() -> None:
    body = """a = LayerNormalization(x, scale, bias) b = Mul(a, k) c = LayerNormalization(b, scale, bias)
        y = Relu(c)"""
    before = graph(body, k=np.full(8, 2, np.float32))
    model = check_pass(FuseLayerNormalization(), before, tolerance=ROUNDING)
    first, second = model.nodes("LayerNormalization")
    np.testing.assert_allclose(first.inputs[1].values, WEIGHT * 2)
    np.testing.assert_allclose(second.inputs[1].values, WEIGHT)


@pytest.mark.parametrize(
    ("body", "signature", "reason"),
    [
        (
            FORMULA.replace("ReduceMean(q, last)", "ReduceMean(q, first)") + " y = Relu(n)",
            None,
            "does not reduce the axes",
        ),
        (FORMULA.replace("last", "first") + " y = Relu(n)", None, "[1], which are not the last ones"),
        (
            FORMULA.replace("Add(v, eps)", "Add(v, z)") + " y = Relu(n)",
            TWO_INPUTS,
            "",
        ),
        (FORMULA + " y = Relu(n)", TWO_OUTPUTS.format("d"), "'d' is an output"),
        (
            FORMULA + " y = Relu(n) z = Relu(m)",
            "(float[2,3,8] x) => (float[2,3,8] y, float[2,3,1] z)",
            "'m' is read by",
        ),
        (
            FORMULA.replace("Sub(x, m)", "Sub(x, z)") + " y = Relu(n)",
            TWO_INPUTS,
            "",
        ),
        ("s = Sqrt(x) y = Relu(s)", None, "behind it ends the pattern"),
        (
            """t = ReduceSum(x, last) m = Div(t, half) d = Sub(x, m) q = Pow(d, two) v = ReduceMean(q, last)
            e = Add(v, eps) s = Sqrt(e) n = Div(d, s) y = Relu(n)""",
            None,
            "not divided by the number of elements",
        ),
        (
            FORMULA.replace("Add(v, eps)", "Div(v, two) f = Add(e, eps)").replace("Sqrt(e)", "Sqrt(f)")
            + " y = Relu(n)",
            None,
            "",
        ),
    ],
    ids=[
        "other axes",
        "inner axis",
        "computed epsilon",
        "inner output",
        "inner reader",
        "no mean",
        "no formula",
        "another count",
        "divided once more",
    ],
)
def test_left_alone(body: str, signature: str | None, reason: str) -> None:
    constants = CONSTANTS.replace("<", "<int64[1] first = {1}, ")
    before = graph(body, signature or SIGNATURE, constants)
    model = assert_skipped(FuseLayerNormalization(), before, reason=reason or "seen from")
    assert not model.nodes("LayerNormalization")


def test_float64_is_left_alone() -> None:
    constants = CONSTANTS.replace("float ", "double ")
    before = graph(FORMULA.replace("n =", "y ="), SIGNATURE.replace("float", "double"), constants)
    assert_skipped(FuseLayerNormalization(), before, reason="computes float64 in float32")


def test_float16() -> None:
    before = graph(
        FORMULA.replace("n =", "y ="),
        SIGNATURE.replace("float", "float16"),
        "<int64[1] last = {-1}>",
        eps=np.array(0.001, np.float16),
        two=np.array(2, np.float16),
    )
    model = check_pass(FuseLayerNormalization(), before, tolerance=HALF_ROUNDING)
    (scale,) = layer(model)
    assert scale.dtype == np.float16


CAST = "c = Cast<to = 1>(x) n = LayerNormalization(c, scale, bias) y = Cast<to = 10>(n)"
HALVES = SIGNATURE.replace("float", "float16")


def test_casts_around_it() -> None:
    before = graph(CAST, HALVES, scale=np.full(8, 0.5, np.float32), bias=np.zeros(8, np.float32))
    model = check_pass(FuseLayerNormalization(), before, tolerance=HALF_ROUNDING)
    assert [values.dtype for values in layer(model)] == [np.float16, np.float16]


@pytest.mark.parametrize(
    ("body", "signature", "reason"),
    [
        (CAST, HALVES, "'scale' is more precise than float16"),
        (
            CAST.replace("to = 10", "to = 11"),
            "(float16[2,3,8] x) => (double[2,3,8] y)",
            "the Casts around",
        ),
        (CAST + " z = Relu(c)", HALVES.replace("y)", "y, float[2,3,8] z)"), "'c' is read by"),
    ],
    ids=["precise scale", "another type", "another reader"],
)
def test_casts_stay(body: str, signature: str, reason: str) -> None:
    assert_skipped(FuseLayerNormalization(), graph(body, signature), reason=reason)


def test_space_of_channels_is_an_instance_normalization() -> None:
    constants = CONSTANTS.replace("int64[1] last = {-1}", "int64[2] last = {2, 3}")
    before = graph(FORMULA.replace("n =", "y ="), "(float[2,3,4,8] x) => (float[2,3,4,8] y)", constants)
    assert_skipped(FuseLayerNormalization(), before, reason="InstanceNormalization")


def test_constants_of_the_space_make_it_a_layer() -> None:
    constants = CONSTANTS.replace("int64[1] last = {-1}", "int64[2] last = {2, 3}")
    signature = "(float[2,3,4,8] x) => (float[2,3,4,8] y)"
    before = graph(FORMULA + " y = Mul(n, scale)", signature, constants)
    model = check_pass(FuseLayerNormalization(), before, tolerance=ROUNDING)
    assert [values.shape for values in layer(model)] == [(4, 8)]


def test_target_without_it() -> None:
    class Small(Target):
        name = "small"
        suffixes = (".small",)

    before = graph(FORMULA.replace("n =", "y ="))
    assert_skipped(FuseLayerNormalization(), before, reason="gains nothing", target=Small())


def test_ignored_and_subgraphs() -> None:
    before = graph(FORMULA.replace("s = Sqrt", "[mine] s = Sqrt").replace("n =", "y ="))
    assert_skipped(FuseLayerNormalization(ignore=("mine",)), before, reason="")
    inner = FORMULA.replace("n =", "r =")
    text = f"""y = If(k)< then_branch = p () => (float[2,3,8] r) {{ {inner} }},
        else_branch = q () => (float[2,3,8] s2) {{ s2 = Identity(x) }}>"""
    assert_skipped(FuseLayerNormalization(), graph(text, "(bool k, float[2,3,8] x) => (float[2,3,8] y)"), reason="")


def test_reader_in_a_subgraph() -> None:
    text = f"""{FORMULA} y = Relu(n) z = If(k)< then_branch = p () => (float[2,3,8] r) {{ r = Neg(d) }},
        else_branch = q () => (float[2,3,8] s2) {{ s2 = Identity(x) }}>"""
    signature = "(bool k, float[2,3,8] x) => (float[2,3,8] y, float[2,3,8] z)"
    assert_skipped(FuseLayerNormalization(), graph(text, signature), reason="'d' is read by")


def test_a_mean_that_is_turned_belongs_to_other_rows() -> None:
    """Of a square tensor: the mean keeps its axes, and a Reshape makes one row of that column."""
    signature = "(float[8,8] x) => (float[8,8] y)"
    body = FORMULA.replace("d = Sub(x, m)", "t = Reshape(m, row) d = Sub(x, t)").replace("n =", "y =")
    before = graph(body, signature, row=np.array([1, 8]))
    assert_skipped(FuseLayerNormalization(), before, reason="does not put back the axes that were reduced")
