"""How recurrent operators carry labels: hidden units are free, the same ones in both directions and in every gate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc.pruning.tracking import Layer, Tracker
from edgecc.rewriting.reading import constant, has_operand

if TYPE_CHECKING:
    from edgecc.model import Node

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(node: Node, tracker: Tracker) -> None:
    """W is [directions, gates x hidden, inputs], R [directions, gates x hidden, hidden]."""
    gates = _GATES[node.op]
    if constant(node, 1) is None or constant(node, 2) is None or node.attrs.get("layout", 0):
        return
    hidden = tracker.fresh(node.inputs[2], 2)
    tracker.tie(node.inputs[2], 1, np.tile(hidden, gates))
    tracker.tie(node.inputs[1], 1, np.tile(hidden, gates))
    for place in ((2, 2), (2, 1), (1, 1)):
        tracker.handle(node, *place)
    reads = tracker.of(node.inputs[0]).get(2)
    if reads is not None:
        tracker.tie(node.inputs[1], 2, reads)
        tracker.handle(node, 1, 2)
        tracker.handle(node, 0, 2)
    # Bias [directions, 2 x gates x hidden], states [directions, batch, hidden], peepholes [directions, 3 x hidden].
    for index, axis, copies in ((3, 1, 2 * gates), (5, 2, 1), (6, 2, 1), (7, 1, 3)):
        if not has_operand(node, index):
            continue
        operand = node.inputs[index]
        if getattr(operand, "values", None) is None and axis not in tracker.of(operand):
            tracker.ties.freeze(hidden, f"{operand.name!r} keeps all of axis {axis}")
            continue
        tracker.tie(operand, axis, np.tile(hidden, copies))
        tracker.handle(node, index, axis)
    # [length, directions, batch, hidden], and the last states [directions, batch, hidden].
    for output, axis in zip(node.outputs, (3, 2, 2), strict=False):
        if not output.is_empty() and output.shape is not None:
            tracker.tie(output, axis, hidden)
    tracker.layers.append(Layer(node, reads, hidden))
