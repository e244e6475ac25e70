"""Constants that two matches and another node read: both match, and check_pass sees to the other reader's values."""

from __future__ import annotations

import re

import numpy as np
import pytest

from edgecc.model import Model
from edgecc.passes.base import Pass
from edgecc.passes.eliminate_nan_guard import EliminateNanGuard
from edgecc.passes.eliminate_neutral_arithmetic import EliminateNeutralArithmetic
from edgecc.passes.eliminate_quantization_pairs import EliminateQuantizationPairs
from edgecc.passes.eliminate_slice_concat import EliminateSliceConcat
from edgecc.passes.eliminate_zero_states import EliminateZeroStates
from edgecc.passes.fuse_clip import FuseClip
from edgecc.passes.fuse_global_average_pool import FuseGlobalAveragePool
from edgecc.passes.fuse_hard_sigmoid import FuseHardSigmoid
from edgecc.passes.fuse_hard_swish import FuseHardSwish
from edgecc.passes.fuse_mish import FuseMish
from edgecc.passes.fuse_reshape_gemm import FuseReshapeGemm
from edgecc.passes.fuse_sigmoid import FuseSigmoid
from edgecc.passes.fuse_softmax import FuseSoftmax
from edgecc.passes.merge_keepdims import MergeKeepdims
from edgecc.passes.merge_slices import MergeSlices
from edgecc.testing import check_pass

#: Sums of at most 8 float32 values, and functions of ONNX Runtime's own.
ROUNDING = 1e-5
RNG = np.random.default_rng(0)


def scalar(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def places(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


WEIGHTS = {
    "zero": scalar(0),
    "one": scalar(1),
    "three": scalar(3),
    "six": scalar(6),
    "byte": np.array(128, np.uint8),
    "w": RNG.normal(size=(8, 8)).astype(np.float32),
    "bias": RNG.normal(size=8).astype(np.float32),
    "flat": places(8, 8),
    "cube": places(2, 4, 8),
    "i0": places(0),
    "i2": places(2),
    "i4": places(4),
    "i8": places(8),
    "last": places(-1),
    "space": places(2, 3),
    "taps": np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1),
    "gates": RNG.normal(size=(1, 12, 3)).astype(np.float32),
    "recurrent": RNG.normal(size=(1, 12, 4)).astype(np.float32),
    "state": np.zeros((1, 2, 4), np.float32),
}
ROWS = "float[8,8] x", "float[8,8] y"
CUBE = "float[2,4,8] x", "float[2,4,8] y"

#: The pass; input and output; the nodes, once for x and y and once for x2 and y2; another reader of a constant.
CASES: list[tuple[Pass, tuple[str, str], str, str]] = [
    (FuseClip(), ROWS, "a = Max(x, zero) y = Min(a, six)", "Add(x, six)"),
    (FuseHardSigmoid(), ROWS, "a = Add(x, three) b = Clip(a, zero, six) y = Div(b, six)", "Add(x, six)"),
    (
        FuseHardSwish(),
        ROWS,
        "a = Add(x, three) b = Clip(a, zero, six) c = Mul(x, b) y = Div(c, six)",
        "Mul(x, six)",
    ),
    (FuseMish(), ROWS, "e = Exp(x) a = Add(e, one) l = Log(a) t = Tanh(l) y = Mul(x, t)", "Add(x, one)"),
    (FuseSigmoid(), ROWS, "n = Neg(x) e = Exp(n) a = Add(e, one) y = Div(x, a)", "Add(x, one)"),
    (
        FuseSoftmax(),
        ROWS,
        "m = ReduceMax(x, last) d = Sub(x, m) e = Exp(d) s = ReduceSum(e, last) y = Div(e, s)",
        "ReduceMin(x, last)",
    ),
    (
        EliminateNanGuard(),
        ROWS,
        "a = MatMul(x, w) s = Softmax(a) n = IsNaN(s) y = Where(n, zero, s)",
        "Add(x, zero)",
    ),
    (EliminateNeutralArithmetic(), ROWS, "r = Relu(x) a = Add(r, zero) y = Exp(a)", "Max(x, zero)"),
    (
        FuseGlobalAveragePool(),
        ("float[2,3,4,5] x", "float[2,3,1,1] y"),
        "c = Conv(x, taps) y = ReduceMean(c, space)",
        "ReduceMax(x, space)",
    ),
    (FuseReshapeGemm(), CUBE, "r = Reshape(x, flat) p = Gemm(r, w, bias) y = Reshape(p, cube)", "MatMul(x, w)"),
    (
        MergeKeepdims(),
        ("float[8,8] x", "float[8,1] y"),
        "a = ReduceMax<keepdims = 0>(x, last) y = Unsqueeze(a, last)",
        "ReduceMin(x, last)",
    ),
    (
        MergeSlices(),
        ("float[8,8] x", "float[2,8] y"),
        "a = Slice(x, i2, i8, i0) y = Slice(a, i0, i2, i0)",
        "Slice(x, i0, i2, i0)",
    ),
    (
        EliminateSliceConcat(),
        ROWS,
        "a = Slice(x, i0, i4, i0) b = Slice(x, i4, i8, i0) c = Concat<axis = 0>(a, b) y = Neg(c)",
        "Slice(x, i4, i8, i0)",
    ),
    (
        EliminateQuantizationPairs(),
        ("uint8[8,8] x", "float[8,8] y"),
        """a = DequantizeLinear(x, three, byte) b = QuantizeLinear(a, three, byte)
        y = DequantizeLinear(b, three, byte)""",
        "DequantizeLinear(x, three, byte)",
    ),
    (
        EliminateZeroStates(),
        ("float[5,2,3] x", "float[5,1,2,4] y"),
        "y = GRU<hidden_size = 4>(x, gates, recurrent, , , state)",
        "Add(k, state)",
    ),
]


@pytest.mark.parametrize(("step", "signature", "body", "other"), CASES, ids=lambda item: getattr(item, "name", None))
def test_shared_constants(step: Pass, signature: tuple[str, str], body: str, other: str) -> None:
    source, result = signature
    again = re.sub(r"\b([a-z])\b(?= =|[,)])", lambda found: _second(found, body), body)
    inputs = f"{source}, {source}2" + (", float[1,2,4] k" if "(k" in other else "")
    text = f"g ({inputs}) => ({result}, {result}2, float[A,B] z) {{ {body} {again} o = {other} z = Flatten(o) }}"
    words = set(re.findall(r"\w+", text))
    used = {name: values for name, values in WEIGHTS.items() if name in words}
    tolerance = None if step.loss.value == "exact" else ROUNDING
    model = check_pass(step, Model.from_text(text, used), tolerance=tolerance, skips=None)
    first, second = ([node.op for node in _behind(model, index)] for index in (0, 1))
    assert first == second


def _second(found: re.Match[str], body: str) -> str:
    """The name of a tensor that the nodes write, or of their input, in the second copy; constants keep theirs."""
    name = found.group(1)
    return f"{name}2" if name == "x" or f"{name} =" in body else name


def _behind(model: Model, index: int) -> list[object]:
    """The nodes that one output is computed from."""
    pending, nodes = [model.outputs[index]], []
    while pending:
        for node in pending.pop().inputs:
            nodes.append(node)
            pending += node.inputs
    return nodes
