"""What passes of -O1 look for, with an If whose branches hold copies of its nodes or hand on its results.

Nodes of subgraphs are among the readers of a tensor, and look like what passes look for; what they write is known in
their branch alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from edgecc.builtin import edgecc_passes
from edgecc.data.feeds import random_feeds
from edgecc.model import Model, Node
from edgecc.passes.base import PassContext
from edgecc.passes.pipeline import PassPipeline, Rounds
from edgecc.passes.verification import compare, run
from edgecc.presets import BUILTIN, DEFAULT

#: Far above what folding a few operators of float32 moves, far below what a wrong graph gives.
ROUNDING = 1e-4
IMAGE = "(float[1,4,4,4] x) => (float[1,4,4,4] y)"
ROWS = "(float[2,8] x) => (float[2,8] y)"
GRAPHS = {
    "transposes": f"{IMAGE} {{ a = Transpose<perm = [0,2,3,1]>(x) b = Relu(a) y = Transpose<perm = [0,3,1,2]>(b) }}",
    "two transposes": f"{IMAGE} {{ a = Transpose<perm = [0,2,3,1]>(x) b = Transpose<perm = [0,3,1,2]>(a) y = Exp(b) }}",
    "reshapes": f"{ROWS} <int64[1] m = {{16}}, int64[2] n = {{2,8}}> {{ a = Reshape(x, m) b = Relu(a) "
    "c = Reshape(b, n) y = Exp(c) }",
    "squeezes": f"{ROWS} <int64[1] m = {{1}}> {{ a = Unsqueeze(x, m) b = Relu(a) c = Squeeze(b, m) y = Exp(c) }}",
    "slices": f"{ROWS} <int64[2] h = {{3,5}}> {{ a, b = Split<axis = 1>(x, h) c = Concat<axis = 1>(a, b) y = Exp(c) }}",
    "slice of slice": "(float[2,8] x) => (float[2,3] y) <int64[1] n0 = {1}, int64[1] n1 = {4}, int64[1] n7 = {7}> "
    "{ a = Slice(x, n0, n7, n0) b = Slice(a, n0, n1, n0) y = Exp(b) }",
    "concats": "(float[2,4] x) => (float[2,12] y) { a = Concat<axis = 1>(x, x) b = Concat<axis = 1>(a, x) y = Exp(b) }",
    # Not through another floating type: ONNX Runtime itself loses such a Cast that only a branch reads.
    "casts": f"{ROWS} {{ a = Floor(x) b = Cast<to = 6>(a) c = Cast<to = 7>(b) y = Cast<to = 1>(c) }}",
    "same twice": f"{ROWS} {{ a = Relu(x) b = Relu(x) c = Add(a, b) y = Exp(c) }}",
    "identities": f"{ROWS} {{ a = Identity(x) b = Relu(a) c = Relu(b) d = Neg(c) y = Neg(d) }}",
    "keepdims": "(float[2,8] x) => (float[2] y) <int64[1] m = {1}> { a = ReduceMean(x, m) b = Squeeze(a, m) "
    "y = Exp(b) }",
    "expand": f"{ROWS} <int64[2] n = {{2,8}}> {{ a = Expand(x, n) b = Expand(a, n) y = Exp(b) }}",
    "clip": f"{ROWS} <float lo = {{0}}, float hi = {{6}}> {{ a = Max(x, lo) b = Min(a, hi) y = Exp(b) }}",
    "gelu": f"{ROWS} <float r = {{1.4142135}}, float one = {{1}}, float half = {{0.5}}> {{ a = Div(x, r) b = Erf(a) "
    "c = Add(b, one) d = Mul(x, c) y = Mul(d, half) }",
    "hard swish": f"{ROWS} <float three = {{3}}, float lo = {{0}}, float six = {{6}}> {{ a = Add(x, three) "
    "b = Clip(a, lo, six) c = Div(b, six) y = Mul(x, c) }",
    "mish": f"{ROWS} {{ a = Softplus(x) b = Tanh(a) y = Mul(x, b) }}",
    "softplus": f"{ROWS} <float one = {{1}}> {{ a = Exp(x) b = Add(a, one) y = Log(b) }}",
    "sigmoid": f"{ROWS} <float one = {{1}}> {{ a = Neg(x) b = Exp(a) c = Add(b, one) y = Div(one, c) }}",
    "softmax": f"{ROWS} <int64[1] m = {{1}}> {{ a = ReduceMax(x, m) b = Sub(x, a) c = Exp(b) d = ReduceSum(c, m) "
    "y = Div(c, d) }",
    "layer normalization": f"{ROWS} <int64[1] m = {{1}}, float two = {{2}}, float e = {{0.00001}}> "
    "{ a = ReduceMean(x, m) b = Sub(x, a) c = Pow(b, two) d = ReduceMean(c, m) f = Add(d, e) g = Sqrt(f) "
    "y = Div(b, g) }",
    "pooling": "(float[1,4,4,4] x) => (float[1,4,1,1] y) <float[4,4,1,1] w, int64[2] m = {2,3}> "
    "{ c = Conv(x, w) a = ReduceMean(c, m) y = Exp(a) }",
    "convolution": f"{IMAGE} <float[4,4,1,1] w, float[4] s, float[4,1,1] k> {{ a = Mul(x, k) b = Conv(a, w) "
    "c = BatchNormalization(b, s, s, s, s) d = Mul(c, k) e = Conv(d, w) y = Add(e, k) }",
    "padding": "(float[1,4,4,4] x) => (float[1,4,6,6] y) <float[4,4,1,1] w, int64[8] p = {0,0,1,1,0,0,1,1}> "
    "{ a = Pad(x, p) y = Conv(a, w) }",
    "matmul": f"{ROWS} <float[8,8] w8, float[8] b8> {{ a = MatMul(x, w8) b = Add(a, b8) c = MatMul(b, w8) "
    "y = Mul(c, b8) }",
    "arithmetic": f"{ROWS} <float two = {{2}}> {{ a = Mul(x, two) b = Mul(a, two) c = Add(b, two) d = Add(c, two) "
    "y = Exp(d) }",
    "quantization": f"{ROWS} <float s = {{0.5}}, int8 z = {{0}}> {{ a = QuantizeLinear(x, s, z) "
    "b = DequantizeLinear(a, s, z) c = QuantizeLinear(b, s, z) y = DequantizeLinear(c, s, z) }",
}


def cases(name: str) -> Iterator[Model]:
    """The graph with an If for each of its nodes: it hands on the node's result, or computes it again."""
    for index in range(len(parsed(name).nodes())):
        for copies in (False, True):
            model = parsed(name)
            add_if(model, model.nodes()[index], copies)
            model.cleanup()
            yield model


def parsed(name: str) -> Model:
    rng = np.random.default_rng(0)
    shapes = {"w": (4, 4, 1, 1), "s": (4,), "k": (4, 1, 1), "w8": (8, 8), "b8": (8,)}
    text = GRAPHS[name]
    for key, shape in shapes.items():
        dims = ",".join(map(str, shape))
        values = ", ".join(f"{value:.3f}" for value in rng.uniform(0.5, 1, np.prod(shape)))
        text = text.replace(f"float[{dims}] {key}", f"float[{dims}] {key} = {{{values}}}")
    model = Model.from_text(f"g {text}")
    model.cleanup()
    return model


def add_if(model: Model, node: Node, copies: bool) -> None:
    result = node.outputs[0]
    bodies = {}
    for branch in ("then_branch", "else_branch"):
        inner = model.variable(f"{branch}_result", result.dtype, result.shape)
        body = gs.Graph([], [], [inner], name=branch, opset=model.graph.opset)
        made = Model(body)
        if copies and len(node.outputs) == 1:
            made.add(node.op, list(node.inputs), [inner], attributes=node.attrs, name=f"{branch}_node")
        else:
            made.add("Identity", [result], [inner], name=f"{branch}_node")
        bodies[branch] = body
    flag = gs.Variable("flag", np.dtype(np.bool_), [])
    model.graph.inputs.append(flag)
    output = model.variable("chosen", result.dtype, result.shape)
    model.add("If", [flag], [output], attributes=bodies)
    model.graph.outputs.append(output)


def optimize(model: Model) -> bool:
    """Run the passes of -O1 in rounds; whether one of them changed something."""
    known = {entry.name: entry.load() for entry in edgecc_passes()}
    preset = next(preset for preset in BUILTIN if preset.name == DEFAULT)
    pipeline = PassPipeline([Rounds(tuple(known[step]() for step in preset.passes))])
    result = pipeline.run(model, PassContext(None, np.random.default_rng(0)))
    return any(record.changed for record in result.records)


@pytest.mark.parametrize("name", GRAPHS)
def test_passes_beside_a_subgraph(name: str) -> None:
    for original in cases(name):
        model = original.clone()
        optimize(model)
        feeds = random_feeds(original.signature, 0)
        for chosen in (True, False):
            feeds["flag"] = np.array(chosen)
            expected, actual = run(original, feeds), run(model, feeds)
            for key, value in expected.items():
                assert not compare(value, actual[key], ROUNDING), model.to_text()


@pytest.mark.parametrize("name", GRAPHS)
def test_passes_find_something_there(name: str) -> None:
    """Without the subgraph they change every one of the graphs: the test above is about something."""
    assert optimize(parsed(name))
