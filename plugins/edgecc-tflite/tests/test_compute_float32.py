from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model
from edgecc.passes.convert_float16 import ConvertFloat16
from edgecc.testing import assert_skipped, check_pass
from edgecc_tflite.compute_float32 import ComputeFloat32

#: Float16 has 11 bits, and the pass no longer rounds to them in between.
HALF = 5e-3


def weights(*shape: int) -> np.ndarray:
    return (np.random.default_rng(0).standard_normal(shape) * 0.3).astype(np.float16)


def test_inside() -> None:
    before = (
        "g (float[3,8] x) => (float[3,8] y) { h = Cast<to=10>(x) m = MatMul(h, w) r = Add(m, b) y = Cast<to=1>(r) }"
    )
    after = "g (float[3,8] x) => (float[3,8] y) { v = Cast<to=1>(w) m = MatMul(x, v) y = Add(m, b) }"
    w, b = weights(8, 8), weights(8)
    check_pass(
        ComputeFloat32(),
        Model.from_text(before, {"w": w, "b": b}),
        Model.from_text(after, {"w": w, "b": b.astype(np.float32)}),
        tolerance=HALF,
    )


def test_ends_keep_their_type() -> None:
    check_pass(
        ComputeFloat32(),
        "g (float16[3,8] x) => (float16[3,8] y, float16[3,8] z) { y = Relu(x) z = Exp(y) }",
        "g (float16[3,8] x) => (float16[3,8] y, float16[3,8] z)"
        " { a = Cast<to=1>(x) b = Relu(a) y = Cast<to=10>(b) c = Exp(b) z = Cast<to=10>(c) }",
        tolerance=HALF,
    )


def test_undoes_convert_float16() -> None:
    model = Model.from_text(
        "g (float[3,8] x) => (float[3,8] y) { m = MatMul(x, w) r = Relu(m) y = MatMul(r, w) }",
        {"w": weights(8, 8).astype(np.float32)},
    )
    from edgecc.passes.base import PassContext

    ConvertFloat16().run(model, PassContext(None, np.random.default_rng(0)))
    model.cleanup()
    result = check_pass(ComputeFloat32(), model, tolerance=HALF)
    assert sorted(node.op for node in result.nodes()) == ["Cast", "MatMul", "MatMul", "Relu"]


@pytest.mark.parametrize(
    "text",
    [
        "g (float[3,8] x) => (float[3,8] y) { y = Relu(x) }",
        "g (float16[3,8] x) => (float[3,8] y) { y = Cast<to=1>(x) }",
        "g (float[3,8] x) => (float16[3,8] y) { y = Cast<to=10>(x) }",
    ],
)
def test_nothing_to_do(text: str) -> None:
    assert_skipped(ComputeFloat32(), text, "")


def test_subgraphs() -> None:
    branch = (
        "<then_branch = t () => (float16[2] a) { a = Relu(x) }, else_branch = e () => (float16[2] b) { b = Neg(x) }>"
    )
    text = f"g (bool c, float16[2] x) => (float16[2] y) {{ h = If{branch}(c) y = Relu(h) }}"
    assert_skipped(ComputeFloat32(), text, "its subgraphs may compute in float16 too")
