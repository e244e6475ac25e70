"""New weights for layers that read less, or something else, than they did: least squares on what they should compute.

The asymmetric reconstruction of channel pruning (He 2017, arXiv 1707.06168) and thinner networks (arXiv 2403.18955): rows
come from the model as it is by now, targets from the one that it was. Where the result is added to another tensor, the
target is what the sum should be less what the other one has become, and where a Relu follows, what it sets to 0
anyway is free (Zhang 2015, arXiv 1505.06798).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecc.pruning.features import Linear, Matrix, linear_of, set_linear
from edgecc.pruning.rows import rows_per_sample
from edgecc.statistics.observation import Observation
from edgecc.statistics.patches import rows_of
from edgecc.statistics.requests import Rows

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model, Node
    from edgecc.passes.base import WorkProgress

#: Added to the diagonal, as a share of its mean.
_DAMPING = 1e-3
#: Rounds in which what a Relu sets to 0 is set free.
_ROUNDS = 4


@dataclass(frozen=True)
class Site:
    """A layer in both models.

    Attributes:
        before, after: of the original model and of the one that lost something.
        outputs: of the original's that are left.
        other: name of the tensor that the result is added to; "" if to none.
        rectified: whether a Relu follows.
    """

    before: Linear
    after: Linear
    outputs: np.ndarray
    other: str
    rectified: bool


def site_of(before: Node, after: Node, outputs: np.ndarray, model: Model) -> Site | None:
    """How a layer is repaired; None if it is no matrix.

    Args:
        before: in the original.
        after: the same in the model.
        outputs: mask of those of its outputs that are left.
        model: that `after` is in.
    """
    first, second = linear_of(before), linear_of(after)
    if first is None or second is None:
        return None
    other, tensor = "", after.outputs[0]
    adder = model.single_consumer(tensor)
    if adder is not None and adder.op == "Add" and not model.is_inner(adder):
        operand = adder.inputs[1] if adder.inputs[0] is tensor else adder.inputs[0]
        if getattr(operand, "values", None) is None and operand is not tensor and operand.shape == tensor.shape:
            other, tensor = operand.name, adder.outputs[0]
    readers = model.consumers(tensor)
    rectified = bool(readers) and all(reader.op == "Relu" for reader in readers) and not model.is_output(tensor)
    return Site(first, second, outputs, other, rectified)


def repair(
    original: Model, model: Model, sites: Sequence[Site], data: CalibrationData, progress: WorkProgress
) -> None:
    """Fit the weights of some layers of the model, from one sweep over the data.

    Args:
        original: not changed.
        model: changed.
        sites: layers that do not lie behind one another, or hardly.
        data: samples.
        progress: called after each sample.
    """
    first = Observation(original, sorted({name for site in sites for name in _names(site, site.before)}))
    second = Observation(model, sorted({name for site in sites for name in _names(site, site.after)}))
    gathered: list[list[tuple[Matrix, ...]]] = [[] for _ in sites]
    for number, feeds in enumerate(data.samples()):
        where = f"{data.source}, sample {number}"
        (reference, _), (found, _) = first.run(feeds, where), second.run(feeds, where)
        for site, parts in zip(sites, gathered, strict=True):
            parts.append(_rows(site, reference, found, data.total))
        progress("repairing layers", number + 1, data.total)
    for site, parts in zip(sites, gathered, strict=True):
        rows, targets, others = (np.concatenate(part) for part in zip(*parts, strict=True))
        set_linear(model, site.after.node, _fit(site, rows, targets, others))


def _names(site: Site, linear: Linear) -> list[str]:
    return [linear.request.tensor, *([site.other] if site.other else [])]


def _rows(
    site: Site, reference: dict[str, np.ndarray], found: dict[str, np.ndarray], samples: int
) -> tuple[Matrix, ...]:
    """Rows [n, features + 1], what should come of them [n, outputs], and what is added to it."""
    limit = rows_per_sample(site.before.weights.shape[1], samples)
    old, new = site.before, site.after
    x = rows_of(reference[old.request.tensor], old.request.layout, limit)[0]
    rows = rows_of(found[new.request.tensor], new.request.layout, limit)[0]
    targets = x @ old.weights[site.outputs].T
    others = np.zeros_like(targets)
    if site.other:
        axis = -1 if isinstance(old.request.layout, Rows) else 1
        others = _values(found[site.other], axis, limit)
        targets += _values(reference[site.other], axis, limit)[:, site.outputs]
    return rows.astype(np.float32), targets.astype(np.float32), others.astype(np.float32)


def _values(values: np.ndarray, axis: int, limit: int) -> Matrix:
    """One row per position, at the same places at which a layer's rows are read."""
    return rows_of(np.moveaxis(values, axis, -1), Rows(), limit)[0][:, :-1]


def _fit(site: Site, rows: Matrix, targets: Matrix, others: Matrix) -> Matrix:
    """Ridge regression towards the weights that the layer has now."""
    has_bias = site.after.node.op != "MatMul"
    used = rows if has_bias else rows[:, :-1]
    start = site.after.weights if has_bias else site.after.weights[:, :-1]
    gram = (used.T @ used).astype(np.float64)
    features = len(gram) - int(has_bias)
    gram[np.arange(features), np.arange(features)] += _DAMPING * float(np.trace(gram)) / len(gram)
    factor = np.linalg.inv(gram)
    before = used @ start.T.astype(np.float32) + others

    def solved(wanted: Matrix) -> Matrix:
        return start + (factor @ (used.T @ (wanted - before)).astype(np.float64)).T

    weights = solved(targets)
    for _ in range(_ROUNDS if site.rectified else 0):
        now = used @ weights.T.astype(np.float32) + others
        weights = solved(np.where(targets > 0, targets, np.minimum(now, 0)))
    if has_bias:
        return weights
    return np.concatenate([weights, np.zeros((len(weights), 1))], axis=1)
