"""Recurrent layers. A file keeps their states from run to run; here each run begins with what the file begins with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgecc_tflite.enums import Activation
from edgecc_tflite.importing.base import ImportRule, Refusal
from edgecc_tflite.importing.context import Import
from edgecc_tflite.importing.graph_import import is_quantized

#: ONNX's functions by the schema's number.
_FUNCTIONS = {Activation.NONE: "Affine", Activation.RELU: "Relu", 4: "Tanh"}
#: ONNX's order of gates (input, output, forget, cell) in the file's (input, forget, cell, output).
_GATES = (0, 3, 1, 2)
_LAYERED = "it normalizes its gates (layer_norm_coefficients)"


@dataclass(frozen=True)
class _Places:
    """Where an LSTM's inputs begin.

    Attributes:
        weights: of the input, then those of the state, of the cell (3) and the biases follow.
        state: the first value of the state; that of the cell follows.
        normalization: coefficients of the gates; -1 where there are none.
    """

    weights: int
    state: int
    normalization: int = -1


def _sequence_lstm(c: Import) -> None:
    y = _lstm(c, _Places(1, 18, 20), bool(c.option("timeMajor")), "forward")
    c.give(y)


def _bidirectional_lstm(c: Import) -> None:
    if c.has(39):
        raise Refusal("it takes an auxiliary input")
    is_time_major = bool(c.option("timeMajor"))
    forward = _lstm(c, _Places(1, 35), is_time_major, "forward")
    backward = _lstm(c, _Places(18, 37), is_time_major, "reverse")
    _give_both(c, forward, backward)


def _give_both(c: Import, forward: str, backward: str) -> None:
    if c.option("mergeOutputs"):
        c.give(c.add("Concat", [forward, backward], axis=2))
        return
    c.give(forward)
    c.give(backward, 1)


def _lstm(c: Import, places: _Places, is_time_major: bool, direction: str) -> str:
    """The result of one direction, axes as the operator has them."""
    _check_lstm(c, places, is_time_major)
    first = places.weights
    has_input_gate = c.has(first)
    # Without an input gate it is 1 - forget = sigmoid(-what the forget gate sees).
    gates = [gate if has_input_gate or gate else 1 for gate in _GATES]
    signs = [-1.0 if not has_input_gate and gate == 0 else 1.0 for gate in _GATES]
    inputs = [_floats(c, first + gate) * sign for gate, sign in zip(gates, signs, strict=True)]
    states = [_floats(c, first + 4 + gate) * sign for gate, sign in zip(gates, signs, strict=True)]
    units = inputs[1].shape[0]
    biases = [_bias(c, first + 11 + gate, gate + first, units) * sign for gate, sign in zip(gates, signs, strict=True)]
    bias = np.concatenate([*biases, np.zeros(4 * units, np.float32)])
    peepholes = _peepholes(c, first + 8, units)
    operands = [
        _time_first(c, is_time_major),
        c.constant(np.concatenate(inputs)[None], "W"),
        c.constant(np.concatenate(states)[None], "R"),
        c.constant(bias[None].astype(np.float32), "B"),
        "",
        _state(c, places.state),
        _state(c, places.state + 1),
        *([] if peepholes is None else [c.constant(peepholes, "P")]),
    ]
    function = _function(c)
    activations = {} if function == "Tanh" else {"activations": ["Sigmoid", function, function]}
    y = c.add("LSTM", operands, hidden_size=units, direction=direction, **activations)
    return _time_back(c, y, is_time_major)


def _check_lstm(c: Import, places: _Places, is_time_major: bool) -> None:
    first = places.weights
    if c.has(first + 15):
        raise Refusal("it projects its state (projection_weights)")
    if places.normalization >= 0 and any(c.has(places.normalization + gate) for gate in range(4)):
        raise Refusal(_LAYERED)
    # A cell gains at most 1 in a step: up to so many, it is never cut off.
    limit, steps = float(c.option("cellClip")), c.shape()[0 if is_time_major else 1] if c.rank() == 3 else -1
    if limit > 0 and not 0 <= steps <= limit:
        raise Refusal(f"it cuts its cell off at {limit:g}, which {steps if steps >= 0 else 'many'} steps may reach")
    if c.rank() != 3:
        raise Refusal(f"its data has {c.rank()} axes")


def _peepholes(c: Import, first: int, units: int) -> np.ndarray | None:
    """What the gates see of the cell, in ONNX's order: input, output, forget."""
    if not any(c.has(first + gate) for gate in range(3)):
        return None
    found = [_floats(c, first + gate) if c.has(first + gate) else np.zeros(units, np.float32) for gate in (0, 2, 1)]
    if not c.has(first):
        found[0] = -found[2]
    return np.concatenate(found)[None]


def _sequence_rnn(c: Import) -> None:
    c.give(_rnn(c, (1, 2, 3, 4), bool(c.option("timeMajor")), "forward"))


def _bidirectional_rnn(c: Import) -> None:
    if c.has(9):
        raise Refusal("it takes an auxiliary input")
    is_time_major = bool(c.option("timeMajor"))
    forward = _rnn(c, (1, 2, 3, 4), is_time_major, "forward")
    backward = _rnn(c, (5, 6, 7, 8), is_time_major, "reverse")
    _give_both(c, forward, backward)


def _rnn(c: Import, places: tuple[int, int, int, int], is_time_major: bool, direction: str) -> str:
    weights, recurrent = _floats(c, places[0]), _floats(c, places[1])
    units = weights.shape[0]
    bias = np.concatenate([_bias(c, places[2], places[0], units), np.zeros(units, np.float32)])
    operands = [
        _time_first(c, is_time_major),
        c.constant(weights[None], "W"),
        c.constant(recurrent[None], "R"),
        c.constant(bias[None].astype(np.float32), "B"),
        "",
        _state(c, places[3]),
    ]
    function = _function(c)
    details = {"activation_alpha": [1.0], "activation_beta": [0.0]} if function == "Affine" else {}
    y = c.add("RNN", operands, hidden_size=units, direction=direction, activations=[function], **details)
    return _time_back(c, y, is_time_major)


def _function(c: Import) -> str:
    function = _FUNCTIONS.get(int(c.option("fusedActivationFunction")))
    if function is None:
        raise Refusal(f"its activation is number {c.option('fusedActivationFunction')}")
    return function


def _time_first(c: Import, is_time_major: bool) -> str:
    return c.x() if is_time_major else c.add("Transpose", [c.x()], perm=[1, 0, 2])


def _time_back(c: Import, y: str, is_time_major: bool) -> str:
    """From (time, 1, batch, units) to three axes."""
    squeezed = c.add("Squeeze", [y, c.constant([1], "directions")])
    return squeezed if is_time_major else c.add("Transpose", [squeezed], perm=[1, 0, 2])


def _state(c: Import, index: int) -> str:
    """A first value, (1, batch, units); nothing for the zeros that a state of the file begins with."""
    if not c.has(index) or c.tensor(index) in c.graph.shared.variables:
        if c.has(index):
            c.graph.shared.states.append(c.tensor(index).name)
        return ""
    return c.add("Unsqueeze", [c.x(index), c.constant([0], "directions")])


def _floats(c: Import, index: int) -> np.ndarray:
    """A constant's real values."""
    constant = c.graph.unpacked(c.tensor(index))
    if constant is None or constant.data is None or constant.blocks is not None:
        raise Refusal("its weights are computed")
    values = constant.data.astype(np.float32)
    quantization = constant.quantization
    if quantization is None or not is_quantized(constant):
        return values
    shape = [-1 if axis == quantization.axis else 1 for axis in range(values.ndim)]
    scale, zero_point = (part.reshape(shape) for part in (quantization.scale, quantization.zero_point))
    real: np.ndarray = ((values - zero_point) * scale).astype(np.float32)
    return real


def _bias(c: Import, index: int, weights: int, units: int) -> np.ndarray:
    if not c.has(index):
        return np.zeros(units, np.float32)
    tensor, data, factor = c.tensor(index), c.tensor(0), c.tensor(weights)
    if tensor.dtype.name not in ("int32", "int64"):
        return _floats(c, index)
    if tensor.data is None or data.quantization is None or factor.quantization is None:
        raise Refusal("its biases are computed")
    scale = data.quantization.scale * factor.quantization.scale
    scaled: np.ndarray = (tensor.data * scale.astype(np.float64)).astype(np.float32)
    return scaled


_NOTE = "Every run begins with the states that the file begins with."
_GIVES = ("Transpose", "Squeeze")

RULES = (
    ImportRule("UNIDIRECTIONAL_SEQUENCE_LSTM", _sequence_lstm, ("LSTM", *_GIVES), _NOTE),
    ImportRule("BIDIRECTIONAL_SEQUENCE_LSTM", _bidirectional_lstm, ("LSTM", "Concat", *_GIVES), _NOTE),
    ImportRule("UNIDIRECTIONAL_SEQUENCE_RNN", _sequence_rnn, ("RNN", *_GIVES), _NOTE),
    ImportRule("BIDIRECTIONAL_SEQUENCE_RNN", _bidirectional_rnn, ("RNN", "Concat", *_GIVES), _NOTE),
)
