"""Recurrent layers. ONNX stacks gates as i o f c and z r h, PyTorch as i f g o and r z n."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edgecc_torch.rules.base import NodeView, RefusalError, Rule

if TYPE_CHECKING:
    from torch.fx import Proxy

#: Places in ONNX's order of PyTorch's gates, and the activations that PyTorch's layers have.
_GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
_ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
_FUNCTIONS: dict[str, Any] = {"LSTM": torch.lstm, "GRU": torch.gru, "RNN": torch.rnn_tanh}


def _recurrent(n: NodeView) -> tuple[Proxy, ...]:
    """Outputs: all states [steps, directions, batch, hidden], the last one, and of an LSTM its cell."""
    direction = str(n.attribute("direction", "forward"))
    _check(n, direction)
    hidden, directions = int(n.attribute("hidden_size")), 2 if direction == "bidirectional" else 1
    x = torch.flip(n[0], [0]) if direction == "reverse" else n[0]
    states = [_state(n, index, x, directions, hidden) for index in ((5, 6) if n.op == "LSTM" else (5,))]
    weights = [weight for which in range(directions) for weight in _weights(n, which, hidden)]
    initial: Any = tuple(states) if n.op == "LSTM" else states[0]
    found = n.call(_FUNCTIONS[n.op], x, initial, weights, True, 1, 0.0, False, directions == 2, False)
    # PyTorch puts the directions side by side.
    sequence = torch.transpose(torch.unflatten(found[0], -1, (directions, hidden)), 1, 2)
    if direction == "reverse":
        sequence = torch.flip(sequence, [0])
    return (sequence, *(found[1 + index] for index in range(len(states))))


def _check(n: NodeView, direction: str) -> None:
    activations = _ACTIVATIONS[n.op] * (2 if direction == "bidirectional" else 1)
    given = [str(name) for name in n.attribute("activations") or activations]
    if given != activations:
        raise RefusalError(f"PyTorch's has activations {', '.join(activations)}, this one {', '.join(given)}")
    if n.attribute("clip") or n.attribute("input_forget", 0) or n.attribute("layout", 0):
        raise RefusalError("PyTorch's has no clip, no coupled gates and no layout 1")
    if n.op == "GRU" and not n.attribute("linear_before_reset", 0):
        raise RefusalError("PyTorch's applies the reset gate behind the product (linear_before_reset=1)")
    if n.has(7):
        raise RefusalError("PyTorch's has no peepholes")
    if n.has(4) and not _is_whole_sequence(n):
        raise RefusalError("sequences have lengths of their own")


def _is_whole_sequence(n: NodeView) -> bool:
    return n.is_constant(4) and all(length == n.shape()[0] for length in n.numbers(4))


def _state(n: NodeView, index: int, x: Proxy, directions: int, hidden: int) -> Proxy:
    return n[index] if n.has(index) else x.new_zeros((directions, x.size(1), hidden))


def _weights(n: NodeView, which: int, hidden: int) -> list[Proxy]:
    """Weights of input and state and their biases, of one direction."""
    weights = [n.value(index)[which] for index in (1, 2)]
    biases = n.value(3)[which] if n.has(3) else np.zeros(2 * hidden * len(_GATES[n.op]), weights[0].dtype)
    found = []
    for values, kind in zip(
        (*weights, *np.split(biases, 2)), ("weight_ih", "weight_hh", "bias_ih", "bias_hh"), strict=True
    ):
        gates = np.split(values, len(_GATES[n.op]))
        ordered = np.concatenate([gates[place] for place in _GATES[n.op]])
        name = f"{str(n.node.name).replace('.', '_')}.{kind}_l0{'_reverse' * which}"
        found.append(n.stored(name, ordered, trainable=True))
    return found


RULES: dict[str, Rule] = {"GRU": _recurrent, "LSTM": _recurrent, "RNN": _recurrent}
