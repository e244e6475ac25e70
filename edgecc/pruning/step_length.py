"""How far weights go in the direction in which a fit moved them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from edgecc.pruning.batched import is_batched
from edgecc.pruning.output_errors import OutputErrors, Outputs
from edgecc.pruning.rows import affordable, batches
from edgecc.statistics.observation import Observation

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model
    from edgecc.passes.base import WorkProgress
    from edgecc.pruning.rows import RowTable

#: Multiples of the way, tried in order until the outputs become worse.
_LENGTHS = (1.0, 1.15, 1.3, 1.5)
#: Most multiply-accumulates of the original for one of them.
_WORK = 4e10


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
        At least 1.
    """
    errors = OutputErrors(original)
    if not errors.names:
        return _LENGTHS[0]
    few = affordable(original, data, _WORK)
    best, least = _LENGTHS[0], float("inf")
    for length in _LENGTHS:
        moved = _with_weights(model, at_length(start, end, length))
        error = errors.total(_outputs(original, moved, errors.names, few, progress))
        if not error < least:
            break
        best, least = length, error
    return best


def at_length(start: Mapping[str, RowTable], end: Mapping[str, RowTable], length: float) -> dict[str, RowTable]:
    """Weights on the way from one set to another: at 0 the first, at 1 the second."""
    return {name: (values + length * (end[name] - values)).astype(values.dtype) for name, values in start.items()}


def _with_weights(model: Model, weights: Mapping[str, RowTable]) -> Model:
    copy = model.clone()
    for tensor in copy.constants():
        if tensor.name in weights:
            tensor.values = weights[tensor.name]
    return copy


def _outputs(
    first: Model, second: Model, names: Sequence[str], data: CalibrationData, progress: WorkProgress
) -> Iterator[tuple[Outputs, Outputs]]:
    """Of two models, run on the same samples."""
    runs, done = [Observation(model, names) for model in (first, second)], 0
    for feeds, where, count in batches(data, is_batched(first) and is_batched(second)):
        before, after = (run.run(feeds, where)[0] for run in runs)
        yield before, after
        done += count
        progress("comparing outputs", done, data.total)
