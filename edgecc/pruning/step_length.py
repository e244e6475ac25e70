"""How far weights go in the direction in which a fit moved them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgecc.pruning.batched import is_batched
from edgecc.pruning.output_errors import OutputErrors, Outputs, score_names
from edgecc.pruning.rows import affordable, batches
from edgecc.statistics.observation import Observation

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model
    from edgecc.passes.base import WorkProgress
    from edgecc.pruning.rows import RowTable

#: Multiples of the way, tried in order until the outputs become worse.
_LENGTHS = (0.0, 1.0, 1.15, 1.3, 1.5)
#: About as many multiply-accumulates of the original are spent on one of them, on 64 samples at least.
_WORK = 4e10
#: Samples and outputs of the original are looked at until they take so many bytes.
_MEMORY = 256 << 20


class _Run(NamedTuple):
    """Samples that are run at once.

    Attributes:
        feeds: by name.
        where: what to call them.
        outputs: what the original computes.
    """

    feeds: Mapping[str, np.ndarray]
    where: str
    outputs: Outputs


def best_length(
    original: Model,
    model: Model,
    start: Mapping[str, RowTable],
    end: Mapping[str, RowTable],
    data: CalibrationData,
    progress: WorkProgress,
) -> float:
    """How often the way from one set of weights to another is gone so that the outputs are nearest the original's.

    The direction may come from the errors of all layers, of which there are many numbers; those of the outputs are too
    few to find one by without overfitting, but they do tell its length, which is a single number.

    Args:
        original: says what the outputs should be; not changed.
        model: not changed.
        start: weights by the names of its constants.
        end: others of them.
        data: samples.
        progress: called after each run.

    Returns:
        0 where the outputs become worse on the way, otherwise 1 or a little more.
    """
    names = score_names(original)
    if not names:
        return 1.0
    several = is_batched(original) and is_batched(model)
    runs = _runs(Observation(original, names), several, affordable(original, data, _WORK))
    errors = OutputErrors(original, [run.outputs for run in runs])
    best, least = 1.0, float("inf")
    for done, length in enumerate(_LENGTHS):
        progress("comparing outputs", done, len(_LENGTHS))
        moved = Observation(_with_weights(model, at_length(start, end, length)), names)
        error = errors.total(moved.run(run.feeds, run.where)[0] for run in runs)
        if not error < least:
            break
        best, least = length, error
    return best


def at_length(start: Mapping[str, RowTable], end: Mapping[str, RowTable], length: float) -> dict[str, RowTable]:
    """Weights on the way from one set to another: at 0 the first, at 1 the second, bit for bit."""
    if length == 0:
        return dict(start)
    on = length - 1
    return {name: (end[name] + on * (end[name] - values)).astype(values.dtype) for name, values in start.items()}


def _with_weights(model: Model, weights: Mapping[str, RowTable]) -> Model:
    copy = model.clone()
    for tensor in copy.constants():
        if tensor.name in weights:
            tensor.values = weights[tensor.name]
    return copy


def _runs(original: Observation, several: bool, data: CalibrationData) -> list[_Run]:
    """What the original computes, on as many samples as there is memory for."""
    found, filled = list[_Run](), 0
    for feeds, where, _ in batches(data, several):
        outputs = original.run(feeds, where)[0]
        filled += sum(values.nbytes for values in (*feeds.values(), *outputs.values()))
        if found and filled > _MEMORY:
            break
        found.append(_Run(feeds, where, outputs))
    return found
