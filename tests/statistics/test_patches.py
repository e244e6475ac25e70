from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgecc.model import Model
from edgecc.reference_session import reference_session
from edgecc.statistics import Gram, Patches, Rows
from edgecc.statistics.layers import gram_of
from edgecc.statistics.patches import rows_of, spread

CONVOLUTIONS = [
    ("float[2,3,9,8] x", (5, 3, 3, 3), "strides = [1, 1]"),
    ("float[1,3,9,8] x", (5, 3, 3, 2), "strides = [2, 3], pads = [1, 0, 2, 1]"),
    ("float[1,4,9,9] x", (6, 2, 3, 3), "group = 2, dilations = [2, 1]"),
    ("float[1,4,7,7] x", (4, 1, 3, 3), "group = 4, pads = [1, 1, 1, 1]"),
    ("float[1,3,8,7] x", (2, 3, 3, 3), 'auto_pad = "SAME_UPPER", strides = [2, 2]'),
    ("float[1,3,8,7] x", (2, 3, 3, 3), 'auto_pad = "SAME_LOWER", strides = [2, 2]'),
    ("float[1,3,8,7] x", (2, 3, 3, 3), 'auto_pad = "VALID", strides = [3, 1]'),
    ("float[2,3,9,8] x", (5, 3, 1, 1), "strides = [2, 3]"),
    ("float[2,3,11] x", (2, 3, 4), "strides = [2], pads = [1, 2]"),
    ("float[1,2,5,4,6] x", (3, 2, 2, 3, 2), "strides = [1, 1, 2]"),
]


@pytest.mark.parametrize(("given", "shape", "attributes"), CONVOLUTIONS)
def test_weight_times_patches_is_the_convolution(given: str, shape: tuple[int, ...], attributes: str) -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal(shape).astype(np.float32)
    model = Model.from_text(
        f"g ({given}) => (float[N,C,{','.join('abc'[: len(shape) - 2])}] y) {{ y = Conv<{attributes}>(x, w) }}",
        {"w": weight},
    )
    values = rng.standard_normal(model.inputs[0].shape).astype(np.float32)
    request = gram_of(model.nodes("Conv")[0])
    assert request is not None
    assert isinstance(request.layout, Patches)
    rows = rows_of(values, request.layout, 10**6)
    groups = request.layout.group
    assert (rows[..., -1] == 1).all()
    products = [
        rows[g, :, :-1] @ weight.reshape(groups, shape[0] // groups, -1)[g].T.astype(np.float64) for g in range(groups)
    ]
    expected = reference_session(model.to_proto()).run(None, {"x": values})[0]
    expected = np.moveaxis(expected, 1, -1).reshape(-1, shape[0])
    # float32 sums of up to 27 products of normal numbers against float64 ones
    np.testing.assert_allclose(np.concatenate(products, axis=-1), expected, atol=1e-5)


def test_rows_of_products() -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    rows = rows_of(values, Rows(), 100)
    assert rows.shape == (1, 6, 5)
    assert rows[0, :, :4].tolist() == values.reshape(6, 4).tolist()
    assert rows_of(values[0], Rows(0), 100)[0, :, :3].tolist() == values[0].T.tolist()


def test_few_rows_are_spread_and_always_the_same() -> None:
    places = spread(10_000, 256)
    assert len(set(places.tolist())) == 256
    assert places.tolist() == spread(10_000, 256).tolist()
    parts = np.bincount(places * 16 // 10_000, minlength=16)
    assert parts.tolist() == [16] * 16
    # Every column of an image of 100 x 100 has its turn about as often: no stripes.
    assert np.bincount(places % 100 // 10, minlength=10).min() >= 15
    assert spread(5, 256).tolist() == [0, 1, 2, 3, 4]


def test_kernel_larger_than_the_image_has_no_rows() -> None:
    layout = Patches((3, 3), (1, 1), (1, 1), (0, 0, 0, 0))
    assert rows_of(np.zeros((1, 2, 2, 2), np.float32), layout, 10).shape == (1, 0, 19)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("y = MatMul(x, w)", Gram("x", Rows())),
        ("y = Gemm<transA = 1>(x, w)", Gram("x", Rows(0))),
        ("y = Gemm(x, w)", Gram("x", Rows())),
        ("y = MatMul(w, x)", None),
        ("y = Add(x, w)", None),
    ],
)
def test_layers_of_products(text: str, expected: Gram | None) -> None:
    model = Model.from_text(f"g (float[4,4] x) => (float[4,4] y) {{ {text} }}", {"w": np.ones((4, 4), np.float32)})
    assert gram_of(model.nodes()[0]) == expected


def test_a_kernel_that_is_not_known() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 23]> g (float[1,2,5,5] x, float w) => (float y) { y = Conv(x, w) }'
    )
    proto.graph.input[1].type.tensor_type.ClearField("shape")
    model = Model.from_proto(proto)
    model.nodes()[0].name = "c"
    assert gram_of(model.nodes("Conv")[0]) is None


def test_rows_must_be_some() -> None:
    with pytest.raises(ValueError, match="rows must be at least 1, got 0"):
        Gram("x", rows=0)
