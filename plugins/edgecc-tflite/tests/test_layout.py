"""The layout solver: exact where it says so, right on everything, no TRANSPOSE where none is needed."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecc.compiler import arrange
from edgecc.model import Model
from edgecc.passes.base import PassContext
from edgecc.passes.pipeline import PassPipeline
from edgecc_tflite.backend import TFLiteBackend
from edgecc_tflite.ir import Graph, Operator, Tensor
from edgecc_tflite.layout import solve
from edgecc_tflite.layout.behaviours import is_rigid
from edgecc_tflite.layout.min_cut import FlowNetwork
from edgecc_tflite.layout.orders import reordered, through_reshape, through_transpose
from edgecc_tflite.layout.problem import SINK, SOURCE, Cut, Problem, Proposal, cost_of
from edgecc_tflite.lower import lower
from edgecc_tflite.lowerings import builtin_rules
from edgecc_tflite.target import TFLiteTarget
from edgecc_tflite.testing import assert_close, counts, lowered, run_onnx, run_tflite
from edgecc_tflite.testing.net import Net


def feeds_for(model: Model) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {s.name: generator.standard_normal(s.shape).astype(s.dtype) for s in model.signature.inputs}


def transposes(net: Net, *outputs: str, io_layout: str = "keep") -> int:
    """How many are left; the result is compared with ONNX Runtime on the way."""
    model = net.model(*outputs)
    feeds = feeds_for(model)
    graph = lowered(model, io_layout=io_layout)
    if io_layout == "keep":
        assert_close(run_tflite(graph, feeds), run_onnx(model, feeds), 1e-5)
    return counts(graph)["TRANSPOSE"]


# ------------------------------------------------------------------------------------------------------- foundations


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_minimum_cut_equals_trying_everything(seed: int) -> None:
    generator = random.Random(seed)
    nodes = 2 + generator.randint(1, 6)
    edges = [(generator.randrange(nodes), generator.randrange(nodes), generator.randint(1, 9)) for _ in range(14)]
    edges = [(a, b, c) for a, b, c in edges if a != b and a != FlowNetwork.SINK and b != FlowNetwork.SOURCE]

    def cost(side: tuple[bool, ...]) -> int:
        return sum(c for a, b, c in edges if side[a] and not side[b])

    best = min(cost((True, False, *rest)) for rest in itertools.product((True, False), repeat=nodes - 2))
    for largest in (True, False):
        network = FlowNetwork()
        for _ in range(nodes - 2):
            network.node()
        for edge in edges:
            network.edge(*edge)
        assert cost(tuple(network.source_side(largest=largest))) == best


@given(st.integers(0, 10_000))
@settings(max_examples=200, deadline=None)
def test_an_order_through_a_reshape_holds_the_same_bytes(seed: int) -> None:
    generator = random.Random(seed)
    factors = [generator.choice((1, 2, 3)) for _ in range(6)]

    def grouping() -> tuple[int, ...]:
        cuts = sorted(generator.sample(range(1, 6), generator.randint(1, 4)))
        parts = [factors[a:b] for a, b in itertools.pairwise([0, *cuts, 6])]
        return tuple(int(np.prod(p)) for p in parts)

    shape, into = grouping(), grouping()
    order = tuple(generator.sample(range(len(shape)), len(shape)))
    found = through_reshape(shape, order, into)
    if found is None:
        return
    assert sorted(found) == list(range(len(into)))
    values = np.arange(np.prod(shape)).reshape(shape)
    expected = values.reshape(into).transpose(found)
    assert expected.shape == reordered(into, found)
    assert np.array_equal(values.transpose(order).ravel(), expected.ravel())


def test_orders_that_tear_a_block_apart_do_not_go_through() -> None:
    assert through_reshape((2, 3, 4, 5), (0, 2, 3, 1), (2, 60)) is None
    assert through_reshape((2, 6, 4, 5), (0, 2, 3, 1), (2, 2, 3, 4, 5)) == (0, 3, 4, 1, 2)
    assert through_reshape((-1, 6, 1, 1), (0, 2, 3, 1), (-1, 6)) == (0, 1)
    assert through_reshape((-1, 6, 8), (0, 2, 1), (-1, 6, 1, 8)) == (0, 2, 3, 1)


def test_an_order_through_a_transpose() -> None:
    assert through_transpose((0, 1, 2, 3), (0, 3, 1, 2)) == (0, 2, 3, 1)


# ------------------------------------------------------------------------------------------------------- exactness


def random_net(seed: int) -> tuple[Net, str]:
    """Convolutions, elementwise operators, concatenations and transposes in any order."""
    generator = random.Random(seed)
    net = Net(seed, x="f:1,4,6,6")
    ready = ["x"]
    for _ in range(generator.randint(3, 8)):
        x = generator.choice(ready[-3:])
        kind = generator.choice(
            ("conv", "unary", "add", "transpose", "reduce", "softmax", "pad", "normalize", "shuffle")
        )
        match kind:
            case "conv":
                y = net.conv(x, 4, 3, channels=4)
            case "unary":
                y = net.op(generator.choice(("Tanh", "Sigmoid", "Relu")), x)
            case "add":
                y = net.op("Add", x, generator.choice([*ready, net.random(4, 1, 1), net.random(1, 4, 6, 6)]))
            case "transpose":
                y = net.op("Transpose", net.op("Tanh", net.op("Transpose", x, perm=[0, 2, 3, 1])), perm=[0, 3, 1, 2])
            case "reduce":
                axis = generator.randint(1, 3)
                y = net.op("Mul", x, net.op("ReduceMean", x, np.array([axis])))
            case "softmax":
                y = net.op("Softmax", x, axis=generator.randint(1, 3))
            case "pad":
                y = net.op("Slice", net.op("Pad", x, np.array([0, 1, 1, 0, 0, 0, 0, 2])), np.array([1, 0, 1]),
                           np.array([5, 6, 7]), np.array([1, 2, 3]))  # fmt: skip
            case "normalize":
                y = net.op("InstanceNormalization", x, net.random(4), net.random(4))
            case _:
                net._channels[x] = 4
                y = net.shuffle(x, 2, 6, 6)
        ready.append(y)
    return net, ready[-1]


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_layout_changes_no_value(seed: int) -> None:
    net, out = random_net(seed)
    model = net.model(out)
    feeds = feeds_for(model)
    assert_close(run_tflite(lowered(model), feeds, xnnpack=False), run_onnx(model, feeds), 2e-5)


def test_one_reader_takes_shuffled_channels_as_they_lie_and_another_wants_them_in_order() -> None:
    net = Net(x="f:1,4,6,6")
    shuffled = net.shuffle(net.conv("x", 4, 3), 2, 6, 6)
    mean = net.op("ReduceMean", shuffled, np.array([2]))
    model = net.model(net.conv(net.op("Mul", shuffled, mean), 4, 3, channels=4))
    feeds = feeds_for(model)
    assert_close(run_tflite(lowered(model), feeds), run_onnx(model, feeds), 2e-5)


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_the_first_move_is_optimal(seed: int) -> None:
    """No combination of operators that take the channels-last proposal costs less than what the cut chose."""
    net, out = random_net(seed)
    problem = Problem.of(lower(net.model(out), builtin_rules()))
    ends = (SOURCE, SINK)
    rigid = [op for op in problem.operators if is_rigid(op.builtin) and op.builtin not in ends]
    proposal = Proposal.spreading(problem, rigid)
    free = [op for op, config in proposal.config.items() if config != problem.config[op]]
    if len(free) > 10:
        return
    start = dict(problem.config)

    def cost(taking: list[Operator]) -> int:
        problem.config = start | {op: proposal.config[op] for op in taking}
        return cost_of(problem)

    chosen = cost(
        Cut(Problem(problem.operators, start, problem.producer, problem.readers), proposal, eager=True).taking()
    )
    every = itertools.chain.from_iterable(itertools.combinations(free, n) for n in range(len(free) + 1))
    assert chosen == min(cost(list(subset)) for subset in every)


def test_a_long_ambiguous_chain() -> None:
    """16,000 operators between a channels-first input and a pool; the transpose may go anywhere between them."""
    image = Tensor("x", (1, 4, 6, 6), np.dtype(np.float32), source="x")
    graph, x = Graph("g", [image]), image
    for number in range(16_000):
        result = Tensor(f"t{number}", image.shape, image.dtype)
        graph.operators.append(Operator("TANH", [x], [result]))
        x = result
    perm = np.array([0, 2, 3, 1], np.int32)
    last, pooled = (Tensor(name, (1, 6, 6, 4), image.dtype) for name in ("y", "z"))
    graph.operators.append(Operator("TRANSPOSE", [x, Tensor("p", (4,), perm.dtype, data=perm)], [last]))
    graph.operators.append(Operator("MAX_POOL_2D", [last], [pooled]))
    graph.outputs = [pooled]
    solve(graph)
    assert [op.builtin for op in graph.operators[:2]] == ["TRANSPOSE", "TANH"]
    assert counts(graph) == {"TRANSPOSE": 1, "TANH": 16_000, "MAX_POOL_2D": 1}


# -------------------------------------------------------------------------------------------------- what must vanish


def test_a_channels_last_source_keeps_its_order() -> None:
    """As tf2onnx writes it: NHWC input, transposes around the convolutions."""
    net = Net(x="f:1,8,8,3")
    x = net.op("Transpose", "x", perm=[0, 3, 1, 2])
    y = net.conv(net.op("Relu", net.conv(x, 4, 3, channels=3)), 4, 3)
    assert transposes(net, net.op("Transpose", y, perm=[0, 2, 3, 1])) == 0


def test_an_input_read_in_two_orders_is_transposed_once() -> None:
    net = Net(x="f:1,3,8,8")
    both = net.op("Add", net.conv("x", 3, 3), net.conv("x", 3))
    assert transposes(net, net.op("Softmax", both, axis=3)) <= 2


def test_io_layout_nhwc_takes_inputs_and_outputs_channels_last() -> None:
    net = Net(x="f:1,3,8,8")
    model = net.model(net.op("Tanh", net.conv("x", 4, 3)))
    graph = lowered(model, io_layout="nhwc")
    assert graph.inputs[0].shape == (1, 8, 8, 3)
    assert graph.inputs[0].layout == (0, 2, 3, 1)
    assert graph.outputs[0].shape == (1, 8, 8, 4)
    assert counts(graph)["TRANSPOSE"] == 0
    image = feeds_for(model)["x"]
    found = run_tflite(graph, {"x": image.transpose(0, 2, 3, 1)})
    (name, expected), *_ = run_onnx(model, {"x": image}).items()
    assert_close(found, {name: expected.transpose(0, 2, 3, 1)}, 1e-5)


def test_io_layouts_are_for_single_inputs_and_outputs() -> None:
    net = Net(x="f:1,4,8,8", y="f:1,4,8,8")
    model = net.model(net.op("Add", net.conv("x", 6, 3), net.conv("y", 6, 3)))
    output = model.outputs[0].name
    for default, exceptions in (("keep", {"x": "nhwc"}), ("nhwc", {"y": "keep", output: "keep"})):
        graph = lowered(model, io_layout=default, io_layouts=exceptions)
        assert [t.shape for t in (*graph.inputs, *graph.outputs)] == [(1, 8, 8, 4), (1, 4, 8, 8), (1, 6, 8, 8)]
        feeds = {name: np.random.default_rng(0).standard_normal((1, 4, 8, 8), dtype=np.float32) for name in "xy"}
        expected = run_onnx(model, feeds)
        assert_close(run_tflite(graph, {**feeds, "x": feeds["x"].transpose(0, 2, 3, 1)}), expected, 1e-5)


def test_io_layout_nhwc_leaves_other_tensors_alone() -> None:
    net = Net(x="f:2,3,4,5")
    graph = lowered(net.model(net.op("Tanh", "x")), io_layout="nhwc")
    assert graph.inputs[0].shape == (2, 3, 4, 5)


def test_attention_keeps_four_transposes() -> None:
    net = Net(x="f:2,6,16")

    def heads(order: list[int]) -> str:
        y = net.op("Add", net.op("MatMul", "x", net.random(16, 16)), net.random(16))
        return str(net.op("Transpose", net.op("Reshape", y, np.array([2, 6, 4, 4])), perm=order))

    scores = net.op("Softmax", net.op("MatMul", heads([0, 2, 1, 3]), heads([0, 2, 3, 1])), axis=-1)
    mixed = net.op("Transpose", net.op("MatMul", scores, heads([0, 2, 1, 3])), perm=[0, 2, 1, 3])
    flat = net.op("Reshape", mixed, np.array([2, 6, 16]))
    assert transposes(net, net.op("Add", net.op("MatMul", flat, net.random(16, 16)), "x")) <= 4


def test_transposes_that_undo_each_other_vanish_without_a_convolution() -> None:
    net = Net(x="f:2,3,4,5")
    y = net.op("Tanh", net.op("Transpose", "x", perm=[0, 2, 3, 1]))
    assert transposes(net, net.op("Transpose", net.op("Exp", y), perm=[0, 3, 1, 2])) == 0


def test_a_shuffle_whose_reader_wants_order_stays_right() -> None:
    net = Net(x="f:1,32,6,6")
    y = net.shuffle(net.conv("x", 32, 3), 4, 6, 6)
    model = net.model(net.op("CumSum", y, np.array(1)))
    feeds = feeds_for(model)
    assert_close(run_tflite(lowered(model), feeds), run_onnx(model, feeds), 1e-5)


@pytest.mark.parametrize("groups", [2, 4])
def test_a_grouped_convolution_reads_a_shuffle(groups: int) -> None:
    net = Net(x="f:1,16,6,6")
    y = net.depthwise(net.shuffle(net.conv("x", 16, groups=groups, act="Relu"), groups, 6, 6))
    assert transposes(net, net.head(net.conv(y, 16, groups=groups))) == 1


def test_an_output_may_be_an_input_or_a_constant() -> None:
    net = Net(x="f:2,3")
    model = net.model(net.op("Identity", "x"), net.op("Tanh", "x"), net.op("Shape", "x"))
    feeds = feeds_for(model)
    assert_close(run_tflite(lowered(model), feeds), run_onnx(model, feeds), 1e-6)


def test_groups_of_channels_need_no_transpose() -> None:
    """What exporters merge for a normalization of groups is taken apart again, so that channels can be last."""
    text = """g (float[3,8,6,5] x) => (float[3,4,6,5] y)
        <int64[3] merged = {0, 4, -1}, int64[4] apart = {0, 8, 6, 5},
         float[4] s = {1, 2, 0.5, 1}, float[4] b = {0, 1, 2, 3}> {
        first = Conv(x, w) m = Reshape(first, merged) i = InstanceNormalization<epsilon = 0.001>(m, s, b)
        r = Reshape(i, apart) y = Conv(r, v) }"""
    generator = np.random.default_rng(0)
    weights = {"w": generator.standard_normal((8, 8, 1, 1), np.float32)}
    model = Model.from_text(text, {**weights, "v": generator.standard_normal((4, 8, 1, 1), np.float32)})
    feeds = feeds_for(model)
    expected = run_onnx(model, feeds)
    backend, target = TFLiteBackend(), TFLiteTarget()
    PassPipeline(arrange((), backend, target)).run(model, PassContext(target, generator))
    assert [node.op for node in model.nodes()] == ["Conv", "GroupNormalization", "Conv"]
    graph = lowered(model)
    assert_close(run_tflite(graph, feeds), expected, 1e-5)
    # One at each end, for inputs and outputs with channels first.
    assert counts(graph)["TRANSPOSE"] == 2
