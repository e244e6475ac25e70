"""A factor must not push float16 weights below 6e-5, from where on they have fewer digits than their type."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model
from edgecc.passes.base import Pass
from edgecc.passes.fold_batchnorm import FoldBatchNorm
from edgecc.passes.fold_distant_scale import FoldDistantScale
from edgecc.passes.fold_leading_affine import FoldLeadingAffine
from edgecc.passes.fuse_matmul_add import FuseMatMulAdd
from edgecc.passes.merge_constant_arithmetic import MergeConstantArithmetic
from edgecc.testing import assert_skipped, check_pass

SIGNATURE = "({}[8,8] x) => ({}[8,8] y)"
CASES = [
    (FoldBatchNorm(), "a = MatMul(x, w) y = Mul(a, small)"),
    (FoldLeadingAffine(), "a = Mul(x, small) y = MatMul(a, w)"),
    (FoldDistantScale(), "a = MatMul(x, w) t = Transpose(a) y = Mul(t, small)"),
    (FoldDistantScale(), "r = Mul(x, small) t = Transpose(r) y = Mul(t, small)"),
    (FuseMatMulAdd(), "y = Gemm<alpha = 0.0005>(x, w)"),
    (MergeConstantArithmetic(), "a = Mul(x, small) y = Mul(a, small)"),
]


def model(body: str, dtype: type, small: float = 5e-4) -> Model:
    name = np.dtype(dtype).name.replace("float32", "float")
    weights = {"w": np.full((8, 8), 2e-3, dtype), "small": np.array(small, dtype)}
    return Model.from_text(f"g {SIGNATURE.format(name, name)} {{ {body} }}", weights)


@pytest.mark.parametrize(("step", "body"), CASES)
def test_float16_refuses(step: Pass, body: str) -> None:
    assert_skipped(step, model(body, np.float16), reason="would be too small")


@pytest.mark.parametrize(("step", "body"), CASES)
def test_float32_has_room(step: Pass, body: str) -> None:
    check_pass(step, model(body, np.float32), tolerance=1e-6)


@pytest.mark.parametrize("step", [FoldBatchNorm(), FoldDistantScale()])
def test_zero_is_no_small_number(step: Pass) -> None:
    body = "a = MatMul(x, w) y = Mul(a, small)"
    if isinstance(step, FoldDistantScale):
        body = "a = MatMul(x, w) t = Transpose(a) y = Mul(t, small)"
    check_pass(step, model(body, np.float16, small=0), tolerance=0.0)
