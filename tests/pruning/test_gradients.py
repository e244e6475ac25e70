"""Gradients against differences of the error itself."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgecc.model import Model
from edgecc.pruning.gradients import Tape, add_gradients
from edgecc.reference_session import reference_session

from .test_coupling import with_weights

#: Of a difference quotient of float32 sums, relative to the largest gradient.
TOLERANCE = 2e-3
_STEP = 1e-2

CASES = {
    "convolutions": """g (float[2,3,7,6] x) => (float[2,2,4,3] y)
        <float[4,3,3,3] w, float[4] b, float[2,4,1,1] v>
        { a = Conv<pads = [1, 1, 1, 1]>(x, w, b) c = Relu(a) y = Conv<strides = [2, 2]>(c, v) }""",
    "strides that leave a rest": """g (float[2,3,8,8] x) => (float[2,2,3,3] y)
        <float[4,3,1,1] w, float[2,4,3,3] v>
        { a = Conv(x, w) y = Conv<strides = [2, 2]>(a, v) }""",
    "same padding": """g (float[2,3,7,8] x) => (float[2,2,4,4] y) <float[4,3,1,1] w, float[2,4,3,3] v>
        { a = Conv(x, w) y = Conv<strides = [2, 2], auto_pad = "SAME_UPPER">(a, v) }""",
    "dilations": """g (float[2,3,9,9] x) => (float[2,2,5,5] y) <float[4,3,1,1] w, float[2,4,3,3] v>
        { a = Conv(x, w) y = Conv<dilations = [2, 2]>(a, v) }""",
    "depthwise": """g (float[2,3,7,7] x) => (float[2,2,3,3] y)
        <float[4,3,1,1] w, float[4,1,3,3] v, float[4] b, float[2,4,1,1] u>
        { a = Conv(x, w) c = Conv<group = 4, strides = [2, 2]>(a, v, b) y = Conv(c, u) }""",
    "residual": """g (float[2,3,5,5] x) => (float[2,4,5,5] y)
        <float[4,3,1,1] w, float[4,4,3,3] v>
        { a = Conv(x, w) b = Conv<pads = [1, 1, 1, 1]>(a, v) c = Add(a, b) y = Relu(c) }""",
    "pooled and flattened": """g (float[2,3,5,5] x) => (float[2,3] y)
        <float[4,3,1,1] w, float[4,5] v, float[5] b, float[3,5] u, float[3] s>
        { a = Conv(x, w) c = GlobalAveragePool(a) d = Flatten(c) e = Gemm(d, v, b) y = Gemm<transB = 1>(e, u, s) }""",
    "average pool over everything": """g (float[2,3,4,4] x) => (float[2,4,1,1] y) <float[4,3,1,1] w>
        { a = Conv(x, w) y = AveragePool<kernel_shape = [4, 4]>(a) }""",
    "matrix products": """g (float[2,3,5] x) => (float[3,2,2] y) <float[5,4] w, float[4,2] v>
        { a = MatMul(x, w) b = Relu(a) c = MatMul(b, v) y = Transpose<perm = [1, 0, 2]>(c) }""",
    "reshaped": """g (float[2,3,4,4] x) => (float[2,5] y) <float[2,3,3,3] w, float[8,5] v>
        { a = Conv(x, w) s = Constant<value_ints = [0, 8]>() b = Reshape(a, s) y = MatMul(b, v) }""",
}


@pytest.mark.parametrize("case", CASES)
def test_against_difference_quotients(case: str) -> None:
    model = with_weights(CASES[case])
    x = np.random.default_rng(1).standard_normal([int(n) for n in model.inputs[0].shape]).astype(np.float32)

    def error(changed: Model) -> float:
        output = reference_session(changed.to_proto()).run(None, {"x": x})[0]
        return float((output.astype(np.float64) ** 2).sum()) / 2

    graph = model.clone()
    nodes = graph.nodes()
    names = {id(t): t.name for n in nodes for t in n.inputs if getattr(t, "values", None) is not None}
    # Half the sum of the squares has the output itself as its gradient.
    gradients = add_gradients(Tape(graph), nodes, {"y": graph.outputs[0]})
    found = {names[key]: tensor.name for key, tensor in gradients.items() if key in names}
    floats = {t.name for t in model.constants() if t.values.dtype == np.float32}
    assert set(found) == floats
    proto = graph.to_proto()
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in found.values())
    values = dict(zip(found, reference_session(proto).run(list(found.values()), {"x": x}), strict=True))
    rng = np.random.default_rng(2)
    for name, gradient in values.items():
        direction = rng.standard_normal(gradient.shape).astype(np.float32)
        ends = []
        for sign in (1, -1):
            moved = model.clone()
            (tensor,) = (t for t in moved.constants() if t.name == name)
            assert tensor.values.shape == gradient.shape
            tensor.values = tensor.values + np.float32(sign * _STEP) * direction
            ends.append(error(moved))
        slope = (ends[0] - ends[1]) / (2 * _STEP)
        expected = float((gradient.astype(np.float64) * direction).sum())
        assert slope == pytest.approx(
            expected, abs=TOLERANCE * float(np.linalg.norm(gradient) * np.linalg.norm(direction))
        )


def test_ends_at_an_operator_without_a_rule() -> None:
    model = with_weights("""g (float[2,5] x) => (float[2,3] y) <float[5,4] w, float[4,3] v>
        { a = MatMul(x, w) b = Erf(a) y = MatMul(b, v) }""")
    nodes = model.nodes()
    names = {id(t): t.name for n in nodes for t in n.inputs}
    found = add_gradients(Tape(model), nodes, {"y": model.outputs[0]})
    assert {"v", "w"} & {names.get(key) for key in found} == {"v"}
