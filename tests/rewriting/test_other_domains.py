"""Operators of other domains may have the name of a standard one: no pass may take them for it."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model
from edgecc.opset import INTERNAL_OPSET
from edgecc.passes.base import Pass, PassContext
from edgecc.passes.eliminate_expand import EliminateExpand
from edgecc.passes.eliminate_identity import EliminateIdentity
from edgecc.passes.eliminate_nan_guard import EliminateNanGuard
from edgecc.passes.fold_batchnorm import FoldBatchNorm
from edgecc.passes.fold_distant_scale import FoldDistantScale
from edgecc.passes.fold_leading_affine import FoldLeadingAffine
from edgecc.passes.fuse_clip import FuseClip
from edgecc.passes.fuse_consecutive_linear import FuseConsecutiveLinear
from edgecc.passes.fuse_hard_sigmoid import FuseHardSigmoid
from edgecc.passes.fuse_matmul_add import FuseMatMulAdd
from edgecc.passes.fuse_pad import FusePad
from edgecc.passes.fuse_reshape_gemm import FuseReshapeGemm
from edgecc.passes.fuse_softplus import FuseSoftplus

HEADER = f'<ir_version: 10, opset_import: ["": {INTERNAL_OPSET}, "my": 1]>\n'
ROWS = "(float[8,8] x) => (float[8,8] y)"
TWO = "(float[8,8] x, float[8,8] z) => (float[8,8] y)"
#: A MatMul of three axes keeps its bias in an Add behind it.
STACK = "(float[8,8,8] x) => (float[8,8,8] y)"
WEIGHTS = {
    "w": np.ones((8, 8), np.float32),
    "up": np.ones((8, 64), np.float32),
    "down": np.ones((64, 8), np.float32),
    "bias": np.ones(64, np.float32),
    "column": np.full(8, 2, np.float32),
    "rows": np.full((8, 1), 2, np.float32),
    "zero": np.array(0, np.float32),
    "two": np.array(2, np.float32),
    "six": np.array(6, np.float32),
    "twenty": np.array(20, np.float32),
    "whole": np.array([8, 8, 8], np.int64),
    "flat": np.array([64, 8], np.int64),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
}


@pytest.mark.parametrize(
    ("step", "signature", "body"),
    [
        (FuseMatMulAdd(), ROWS, "a = MatMul(x, w) y = my.Add(a, column)"),
        (FoldBatchNorm(), STACK, "a = MatMul(x, w) b = my.Add(a, column) y = Mul(b, column)"),
        (FoldBatchNorm(), ROWS, "a = MatMul(x, w) b = my.Transpose(a) y = Mul(b, rows)"),
        (FoldLeadingAffine(), STACK, "a = Add(x, column) b = MatMul(a, w) y = my.Add(b, column)"),
        (
            FuseConsecutiveLinear(),
            STACK,
            "a = MatMul(x, up) b = my.Add(a, bias) c = MatMul(b, down) y = Add(c, column)",
        ),
        (FoldDistantScale(), TWO, "a = Mul(x, two) b = my.Mul(z, two) y = MatMul(a, b)"),
        (FoldDistantScale(), TWO, "a = Mul(x, two) b = Mul(z, two) y = my.MatMul(a, b)"),
        (FoldDistantScale(), TWO, "a = Mul(x, two) b = Mul(z, two) c = my.Transpose(b) y = MatMul(a, c)"),
        (FuseHardSigmoid(), ROWS, "a = my.Add(x, two) b = Clip(a, zero, six) y = Div(b, six)"),
        (FuseHardSigmoid(), ROWS, "a = Add(x, two) b = Clip(a, zero, six) y = my.Div(b, six)"),
        (FuseClip(), ROWS, "t = my.LessOrEqual(x, zero) y = Where(t, zero, x)"),
        (
            EliminateExpand(),
            "(float[1,8,8] x, float[8,8,8] z) => (float[8,8,8] y)",
            "a = Expand(x, whole) y = my.MatMul(a, z)",
        ),
        (EliminateNanGuard(), ROWS, "a = my.MatMul(x, w) s = Softmax(a) n = IsNaN(s) y = Where(n, zero, s)"),
        (
            EliminateNanGuard(),
            ROWS,
            "a = MatMul(x, w) b = my.Mul(a, two) s = Softmax(b) n = IsNaN(s) y = Where(n, zero, s)",
        ),
        (EliminateIdentity(), ROWS, "a = my.Neg(x) b = Neg(a) y = Relu(b)"),
        (EliminateIdentity(), ROWS, "a = my.Abs(x) b = Abs(a) y = Neg(b)"),
        (
            FusePad(),
            "(float[1,1,8,8] x) => (float[1,1,8,8] y)",
            "a = my.Relu(x) p = Pad(a, pads) y = MaxPool<kernel_shape = [3, 3]>(p)",
        ),
        (FuseReshapeGemm(), STACK, "r = Reshape(x, flat) a = Gemm(r, w) y = my.Reshape(a, whole)"),
        (
            FuseSoftplus(),
            ROWS,
            "a = my.Mul(x, two) p = Softplus(a) d = Div(p, two) g = Greater(a, twenty) y = Where(g, x, d)",
        ),
        (FuseSoftplus(), ROWS, "a = my.Relu(x) b = Add(a, x) e = Equal(x, x) n = Not(e) y = Where(n, x, b)"),
    ],
)
def test_an_operator_of_that_name_is_left_alone(step: Pass, signature: str, body: str) -> None:
    model = _model(signature, body)
    before = model.digest()
    assert not step.run(model, PassContext(None, np.random.default_rng(0)))
    assert model.digest() == before
    # With the standard operator, the pass does change it: else the test would hold for any graph.
    assert step.run(_model(signature, body.replace("my.", "")), PassContext(None, np.random.default_rng(0)))


def _model(signature: str, body: str) -> Model:
    model = Model.from_text(f"{HEADER}g {signature} {{ {body} }}", WEIGHTS)
    for node in model.nodes():
        for tensor in node.outputs:
            if tensor.shape is None:
                tensor.dtype, tensor.shape = np.dtype(np.float32), model.inputs[0].shape
            # What onnx infers behind an operator that it does not know.
            tensor.dtype = tensor.dtype or np.dtype(np.bool_ if node.op in ("IsNaN", "LessOrEqual") else np.float32)
    return model
