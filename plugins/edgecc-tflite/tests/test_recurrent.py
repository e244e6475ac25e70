"""LSTM, GRU and RNN against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgecc.model import Model
from edgecc_tflite.lower import find_unsupported
from edgecc_tflite.lowerings import builtin_rules, scanning
from edgecc_tflite.testing import Case, assert_close, check, counts, lowered, run_onnx, run_tflite, weights
from edgecc_tflite.testing.net import Net
from edgecc_tflite.writer import write

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_TOLERANCE = 4e-6


def _case(
    op: str, label: str = "", *, steps: int | str = 5, batch: int | str = 2, outputs: int = 0, **attributes: Any
) -> Case:
    """A layer of 4 units on 3 features with every optional input that is a constant."""
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    inputs, hidden = 3, attributes.setdefault("hidden_size", 4)
    rows = _GATES[op] * hidden
    shape = (batch, steps, inputs) if attributes.get("layout") else (steps, batch, inputs)
    given = attributes.pop("given", {})
    # Large weights make a chaotic recurrence, in which every rounding grows.
    scale = 0.5 if hidden == 4 else 0.1
    operands: list[Any] = [
        "f:" + ",".join(map(str, shape)),
        weights(directions, rows, inputs, seed=1, scale=scale),
        weights(directions, rows, hidden, seed=2, scale=scale),
        weights(directions, 2 * rows, seed=3, scale=scale),
    ]
    if given:
        operands += [given.get(index) for index in range(4, max(given) + 1)]
        for index in range(4):
            operands[index] = given.get(index, operands[index])
    count = outputs or (3 if op == "LSTM" else 2)
    return Case(op, tuple(operands), attributes, count, label=label, tolerance=_TOLERANCE)


_COMMON: list[tuple[str, dict[str, Any]]] = [
    ("plain", {}),
    ("reverse", {"direction": "reverse"}),
    ("bidirectional", {"direction": "bidirectional"}),
    ("loop", {"steps": 101}),
    ("loop-reverse", {"steps": 102, "direction": "reverse"}),
    ("loop-bidirectional", {"steps": 103, "direction": "bidirectional"}),
    ("chunks", {"steps": 1213, "hidden_size": 48}),
    ("chunks-bidirectional", {"steps": 161, "hidden_size": 40, "direction": "bidirectional"}),
    ("one-step", {"steps": 1}),
    ("clip", {"clip": 0.3}),
    ("states", {"given": {5: "f:1,2,4"}}),
    ("states-bidirectional", {"direction": "bidirectional", "given": {5: "f:2,2,4"}}),
    ("states-constant", {"given": {5: weights(1, 2, 4)}, "steps": 121}),
    ("lengths", {"given": {4: np.array([3, 5], np.int32)}}),
    ("lengths-reverse", {"direction": "reverse", "given": {4: np.array([2, 4], np.int32)}}),
    ("lengths-bidirectional", {"direction": "bidirectional", "given": {4: np.array([5, 2], np.int32)}}),
    ("lengths-loop", {"direction": "bidirectional", "steps": 110, "given": {4: np.array([17, 91], np.int32)}}),
    ("lengths-full", {"given": {4: np.array([5, 5], np.int32)}}),
    ("no-bias", {"given": {3: None, 4: None}}),
    ("computed-weights", {"given": {1: "W", 2: "R", 3: "B"}}),
    ("computed-weights-loop", {"steps": 121, "direction": "bidirectional", "given": {1: "W", 2: "R", 3: "B"}}),
]


def _computed(op: str, options: dict[str, Any]) -> dict[str, Any]:
    """Weights that are inputs of the model."""
    directions = 2 if options.get("direction") == "bidirectional" else 1
    rows = _GATES[op] * 4
    shapes = {"W": f"f:{directions},{rows},3", "R": f"f:{directions},{rows},4", "B": f"f:{directions},{2 * rows}"}
    given = {index: shapes.get(v, v) if isinstance(v, str) else v for index, v in options.get("given", {}).items()}
    return {**options, "given": given} if given else dict(options)


_LSTM: list[tuple[str, dict[str, Any]]] = [
    ("cell-state", {"given": {5: "f:1,2,4", 6: "f:1,2,4"}}),
    ("peepholes", {"given": {7: weights(1, 12)}}),
    ("peepholes-bidirectional", {"direction": "bidirectional", "steps": 130, "given": {7: weights(2, 12)}}),
    ("coupled", {"input_forget": 1}),
    ("activations", {"activations": ["HardSigmoid", "Relu", "Softsign"]}),
    (
        "parameters",
        {"activations": ["HardSigmoid", "LeakyRelu", "Tanh"], "activation_alpha": [0.3, 0.1], "activation_beta": [0.4]},
    ),
    (
        "different-directions",
        {"direction": "bidirectional", "activations": ["Sigmoid", "Tanh", "Tanh", "HardSigmoid", "Softsign", "Relu"]},
    ),
]
_GRU: list[tuple[str, dict[str, Any]]] = [
    ("after", {"linear_before_reset": 1}),
    ("after-bidirectional", {"linear_before_reset": 1, "direction": "bidirectional"}),
    ("after-loop", {"linear_before_reset": 1, "direction": "bidirectional", "steps": 133}),
    ("after-lengths", {"linear_before_reset": 1, "given": {4: np.array([3, 5], np.int32)}}),
]
_FUNCTIONS = ("Elu", "HardSigmoid", "LeakyRelu", "Relu", "Sigmoid", "Softplus", "Softsign", "Tanh")
_RNN: list[tuple[str, dict[str, Any]]] = [
    *[(name, {"activations": [name]}) for name in _FUNCTIONS],
    *[(f"{n}-alpha", {"activations": [n], "activation_alpha": [0.5]}) for n in ("Affine", "Elu", "ThresholdedRelu")],
    ("scaled", {"activations": ["ScaledTanh"], "activation_alpha": [0.7], "activation_beta": [1.3]}),
]

CASES = [
    *[_case(op, label, **_computed(op, options)) for op in _GATES for label, options in _COMMON],
    *[_case("LSTM", label, **options) for label, options in _LSTM],
    *[_case("GRU", label, **options) for label, options in _GRU],
    *[_case("RNN", label, **options) for label, options in _RNN],
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_onnxruntime(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("op", _GATES)
@pytest.mark.parametrize("steps", [3, 120])
def test_any_batch(op: str, steps: int) -> None:
    case = _case(op, batch="n", steps=steps, direction="bidirectional")
    model = case.model()
    graph = lowered(model)
    for n in (1, 2, 5):
        feeds = case.feeds(n=n)
        for xnnpack in (True, False):
            assert_close(run_tflite(graph, feeds, xnnpack=xnnpack), run_onnx(model, feeds), _TOLERANCE)


@pytest.mark.parametrize("steps", [3, 120])
def test_nothing_is_kept_between_two_runs(steps: int) -> None:
    from ai_edge_litert.interpreter import Interpreter

    case = _case("LSTM", steps=steps, direction="bidirectional")
    interpreter = Interpreter(model_content=bytes(write(lowered(case.model()))))
    run = interpreter.get_signature_runner("serving_default")
    first = run(**case.feeds(seed=1))
    run(**case.feeds(seed=2))
    again = run(**case.feeds(seed=1))
    for name, values in first.items():
        np.testing.assert_array_equal(again[name], values)


def test_long_sequences_share_one_body() -> None:
    graph = lowered(_case("GRU", steps=400, hidden_size=64).model())
    loops = [op for op in graph.operators if op.builtin == "WHILE"]
    assert len(loops) > 1
    assert len({part for op in loops for part in op.subgraphs}) == 2


def test_short_sequences_are_unrolled() -> None:
    graph = lowered(_case("GRU", steps=scanning.UNROLLED_STEPS).model())
    assert "WHILE" not in counts(graph)


def test_outputs_that_nobody_reads_cost_nothing() -> None:
    net = Net(x="f:140,1,8")
    last = net.op("LSTM", "x", net.random(1, 64, 8), net.random(1, 64, 16), outputs=3, hidden_size=16)[1]
    graph = lowered(net.model(net.op("Relu", last)))
    assert counts(graph)["CONCATENATION"] == 0
    assert all(len(op.outputs) == 4 for op in graph.operators if op.builtin == "WHILE")


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"activations": ["Sin"]}, "activation 'sin' is not one of affine, elu"),
        ({"activations": ["Affine"]}, "activation 'affine' needs parameters that activation_alpha"),
        ({"steps": "t"}, "has an open dimension (tx2x3)"),
    ],
)
def test_reasons(attributes: dict[str, Any], text: str) -> None:
    (problem,) = find_unsupported(_case("RNN", **attributes).model(), builtin_rules())
    assert text in problem.reason


# ------------------------------------------------------------------------------------------------------------- networks


def _layer(net: Net, op: str, x: str, inputs: int, hidden: int, *, both: bool = False, **attributes: Any) -> list[str]:
    rows, directions = _GATES[op] * hidden, 2 if both else 1
    attributes["direction"] = "bidirectional" if both else "forward"
    found = net.op(
        op,
        x,
        net.random(directions, rows, inputs, scale=0.1),
        net.random(directions, rows, hidden, scale=0.1),
        net.random(directions, 2 * rows, scale=0.1),
        outputs=3 if op == "LSTM" else 2,
        hidden_size=hidden,
        **attributes,
    )
    return list(found)


def _bidirectional_classifier() -> Model:
    """Batch first, as PyTorch exports it: both directions side by side, the mean over time, a linear layer."""
    net = Net(x="f:n,50,20")
    y = _layer(net, "LSTM", net.op("Transpose", "x", perm=[1, 0, 2]), 20, 32, both=True)[0]
    y = net.op("Reshape", net.op("Transpose", y, perm=[0, 2, 1, 3]), np.array([50, -1, 64]))
    return net.model(net.linear(net.op("ReduceMean", y, np.array([0]), keepdims=0), 64, 5))


def _keyword_spotter() -> Model:
    net = Net(x="f:n,49,10")
    y = net.op("Transpose", "x", perm=[1, 0, 2])
    y = _layer(net, "GRU", y, 10, 48, linear_before_reset=1)[1]
    return net.model(net.op("Softmax", net.linear(net.op("Squeeze", y, np.array([0])), 48, 12)))


def _stacked() -> Model:
    net = Net(x="f:30,2,16")
    y = net.op("Squeeze", _layer(net, "LSTM", "x", 16, 24)[0], np.array([1]))
    y, _, cell = _layer(net, "LSTM", y, 24, 24)
    return net.model(y, cell)


def _sequence_to_one() -> Model:
    net = Net(x="f:24,n,4")
    y = _layer(net, "RNN", "x", 4, 16, both=True)[0]
    last = net.op("Gather", y, np.array(-1), axis=0)
    return net.model(net.linear(net.op("Flatten", net.op("Transpose", last, perm=[1, 0, 2])), 32, 1))


@pytest.mark.parametrize("build", [_bidirectional_classifier, _keyword_spotter, _stacked, _sequence_to_one])
def test_whole_networks(build: Callable[[], Model]) -> None:
    model = build()
    graph = lowered(model)
    shape = model.inputs[0].shape
    for n in (1, 3):
        sizes = [n if isinstance(dim, str) else dim for dim in shape]
        feeds = {"x": np.random.default_rng(n).standard_normal(sizes).astype(np.float32)}
        for xnnpack in (True, False):
            assert_close(run_tflite(graph, feeds, xnnpack=xnnpack), run_onnx(model, feeds), 1e-5)
