"""Weights without their zeros: the same values in smaller files, on both kernel sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgecc
from edgecc.errors import InvalidModelError
from edgecc.model import Model
from edgecc_tflite.sparse_weights import store_sparse
from edgecc_tflite.testing import counts, lowered, run_tflite
from edgecc_tflite.verify import verify
from edgecc_tflite.writer import write

RNG = np.random.default_rng(0)


def weights(shape: tuple[int, ...], zeros: float) -> np.ndarray:
    values = RNG.standard_normal(shape).astype(np.float32)
    values[RNG.random(shape) < zeros] = 0
    return values


def network(zeros: float, width: int = 40) -> Model:
    """Convolutions of size 3 and 1 and a product; widths beyond 255 need longer indices."""
    text = """g (float[1,8,9,9] x) => (float[1,24] y)
    { a = Conv<pads = [1, 1, 1, 1]>(x, w) b = Relu(a) c = Conv(b, v) d = Relu(c) p = GlobalAveragePool(d)
      f = Flatten(p) y = Gemm<transB = 1>(f, u, t) }"""
    constants = {
        "w": weights((width, 8, 3, 3), zeros),
        "v": weights((width, width, 1, 1), zeros),
        "u": weights((24, width), zeros),
        "t": weights((24,), 0),
    }
    model = Model.from_text(text, constants)
    model.cleanup()
    return model


@pytest.mark.parametrize("xnnpack", [True, False])
@pytest.mark.parametrize("width", [64, 300])
@pytest.mark.parametrize("zeros", [0.5, 0.9])
def test_same_values_in_fewer_bytes(zeros: float, width: int, xnnpack: bool) -> None:
    model = network(zeros, width)
    dense, sparse = lowered(model), lowered(model)
    store_sparse(sparse)
    assert not verify(sparse)
    assert counts(sparse)["DENSIFY"] == 3
    assert len(write(sparse)) < (0.85 if zeros == 0.5 else 0.35) * len(write(dense))
    feeds = {"x": RNG.standard_normal((1, 8, 9, 9)).astype(np.float32)}
    (wanted,) = run_tflite(dense, feeds, xnnpack=xnnpack).values()
    for _ in range(2):
        (found,) = run_tflite(sparse, feeds, xnnpack=xnnpack).values()
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("zeros", [0.05, 1.0])
def test_weights_that_stay_dense(zeros: float) -> None:
    """Of nothing but zeros nothing would be stored, and DENSIFY takes that for no constant."""
    graph = lowered(network(zeros))
    store_sparse(graph)
    assert "DENSIFY" not in counts(graph)


def test_weights_of_two_operators_are_unpacked_once() -> None:
    values = weights((64, 64), 0.8)
    text = "g (float[2,64] x) => (float[2,64] y) { a = Gemm<transB = 1>(x, w) b = Relu(a) y = Gemm<transB = 1>(b, w) }"
    graph = lowered(Model.from_text(text, {"w": values}))
    store_sparse(graph)
    assert counts(graph)["DENSIFY"] == 1
    assert not verify(graph)


@pytest.mark.parametrize(
    "text",
    [
        # Added too, and an output: both need it with its zeros.
        "{ a = Gemm<transB = 1>(x, w) y = Add(a, w) }",
        "{ y = Gemm<transB = 1>(x, w) z = Identity(w) }",
    ],
)
def test_a_constant_that_is_in_the_file_anyway_is_stored_once(text: str) -> None:
    outputs = "float[64,64] y, float[64,64] z" if "z =" in text else "float[64,64] y"
    graph = lowered(Model.from_text(f"g (float[64,64] x) => ({outputs}) {text}", {"w": weights((64, 64), 0.8)}))
    before = len(write(graph))
    store_sparse(graph)
    assert len(write(graph)) <= before
    assert "DENSIFY" not in counts(graph)


def test_a_constant_of_several_subgraphs_becomes_sparse_where_its_tables_are_smaller_than_it_is() -> None:
    text = """g (float[4,64] x, bool c) => (float[4,64] y) {{ y = If(c)
      <then_branch = t () => (float[4,64] p) {{ p = MatMul(x, w) }},
       else_branch = e () => (float[4,64] q) {{ r = MatMul(x, w) q = {op}(r) }}> }}"""
    for zeros, densified in ((0.3, 0), (0.9, 2)):
        graph = lowered(Model.from_text(text.format(op="Relu"), {"w": weights((64, 64), zeros)}))
        before = len(write(graph))
        store_sparse(graph)
        assert len(write(graph)) <= before
        found = [operator.builtin for part in graph.nested() for operator in part.operators]
        assert found.count("DENSIFY") == densified


def test_option_of_the_target(tmp_path: Path) -> None:
    sizes = {}
    for spec in ("tflite", "tflite:sparse=true"):
        result = edgecc.compile(network(0.9), spec, tmp_path / f"{len(sizes)}.tflite")
        sizes[spec] = result.path.stat().st_size
    assert sizes["tflite:sparse=true"] < 0.5 * sizes["tflite"]
    with pytest.raises(InvalidModelError, match="has sparse weights, which edgecc does not read"):
        edgecc.load(tmp_path / "1.tflite")
