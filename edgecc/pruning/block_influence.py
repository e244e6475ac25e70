"""What a model's outputs lose without a residual block, measured by leaving it out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgecc.pruning.rows import observed
from edgecc.rewriting.reading import is_floating

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model
    from edgecc.passes.base import WorkProgress
    from edgecc.pruning.residual_blocks import Block

_TINY = float(np.finfo(np.float32).tiny)


def leave_out(model: Model, block: Block) -> None:
    """Let the shortcut pass instead of the sum, which keeps its name; what only the branch needed is dropped."""
    model.replace(block.adder, "Identity", [block.shortcut])
    model.cleanup(types_known=True)


def outputs_of(model: Model, data: CalibrationData, progress: WorkProgress) -> list[np.ndarray]:
    """The floating point outputs on all samples, each [calls, values].

    Args:
        model: not changed.
        data: samples.
        progress: called after each run.
    """
    names = [tensor.name for tensor in model.outputs if is_floating(tensor.dtype)]
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    if names:
        for seen in observed(model, names, data, "measuring blocks", progress):
            for name in names:
                parts[name].append(np.asarray(seen.tensors[name], np.float64).reshape(seen.count, -1))
    return [np.concatenate(found) for found in parts.values()]


def error_of(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> float:
    """Square error that no shift and scale of single values would mend, as a share of each output's variance.

    What goes with a branch on average, or in proportion, the layers behind make good when they are fitted.

    Args:
        found: of each output [calls, values].
        wanted: likewise.
    """
    total = 0.0
    for now, then in zip(found, wanted, strict=True):
        known = np.isfinite(then).all(axis=0)
        if not np.isfinite(now[:, known]).all():
            return float("inf")
        first, second = (values[:, known] - values[:, known].mean(axis=0) for values in (now, then))
        power, spread = np.square(first).sum(axis=0), np.square(second).sum(axis=0)
        explained = np.square((first * second).sum(axis=0)) / np.maximum(power, _TINY)
        total += float((spread - explained).sum()) / max(float(spread.sum()), _TINY)
    return total
