"""New weights for layers that read less, or something else, than they did: least squares on what they should compute.

The asymmetric reconstruction of channel pruning (He 2017, arXiv 1707.06168) and OBSPA (arXiv 2403.18955):
rows come from the model as it is by now, targets from the one that it was. Where the result is added to another
tensor, the target is what the sum should be less what the other one has become, and where a Relu follows, what it
sets to 0 anyway is free (Zhang 2015, arXiv 1505.06798).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecc.pruning.features import Linear, Matrix, linear_of, set_linear
from edgecc.pruning.rows import RowTable, observed
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


@dataclass(frozen=True)
class Target:
    """What a layer should compute: at some positions, and what that was added to in the original.

    Attributes:
        site: the layer.
        values: [rows, outputs that are left], before the activation.
    """

    site: Site
    values: RowTable


def targets_of(original: Model, sites: Sequence[Site], data: CalibrationData, progress: WorkProgress) -> list[Target]:
    """What each layer should compute, from one run of the original over the data.

    Args:
        original: not changed.
        sites: layers to be fitted.
        data: samples.
        progress: called after each run.
    """
    names = {name for site in sites for name in _names(site, site.before)}
    parts: list[list[RowTable]] = [[] for _ in sites]
    for seen in observed(original, names, data, "what layers compute", progress):
        for site, values in zip(sites, parts, strict=True):
            linear, limit = site.before, seen.share(site.before)
            wanted = seen.rows(linear, limit) @ linear.weights[site.outputs].T
            if site.other:
                wanted += _values(seen.tensors[site.other], linear, limit)[:, site.outputs]
            values.append(wanted.astype(np.float32))
    return [Target(site, np.concatenate(values)) for site, values in zip(sites, parts, strict=True)]


def repair(model: Model, targets: Sequence[Target], data: CalibrationData, progress: WorkProgress) -> None:
    """Fit the weights of some layers of the model, from one run over the data.

    Args:
        model: changed.
        targets: of layers that do not lie behind one another, or hardly.
        data: the samples that the targets are of.
        progress: called after each run.
    """
    tables = gather_rows(model, targets, data, progress)
    for target, (rows, others) in zip(targets, tables, strict=True):
        set_linear(model, target.site.after.node, _fit(target.site, rows, target.values, others))


def gather_rows(
    model: Model, targets: Sequence[Target], data: CalibrationData, progress: WorkProgress
) -> list[tuple[RowTable, RowTable]]:
    """For each target the rows [n, features + 1] that its layer reads by now, and what is added: [n, 1 or outputs].

    Args:
        model: not changed.
        targets: of its layers.
        data: the samples that the targets are of.
        progress: called after each run.
    """
    names = {name for target in targets for name in _names(target.site, target.site.after)}
    gathered: list[list[tuple[RowTable, RowTable]]] = [[] for _ in targets]
    for seen in observed(model, names, data, "repairing layers", progress):
        for target, parts in zip(targets, gathered, strict=True):
            # As many rows as there are targets: the layer before says how many.
            linear, limit = target.site.after, seen.share(target.site.before)
            rows = seen.rows(linear, limit).astype(np.float32)
            other = target.site.other
            added = _values(seen.tensors[other], linear, limit) if other else np.zeros((len(rows), 1))
            parts.append((rows, added.astype(np.float32)))
    return [_stacked(parts) for parts in gathered]


def _stacked(parts: list[tuple[RowTable, RowTable]]) -> tuple[RowTable, RowTable]:
    rows, others = zip(*parts, strict=True)
    return np.concatenate(rows), np.concatenate(others)


def _names(site: Site, linear: Linear) -> list[str]:
    return [linear.request.tensor, *([site.other] if site.other else [])]


def _values(values: np.ndarray, linear: Linear, limit: int) -> Matrix:
    """One row per position, at the same places at which the layer's rows are read."""
    axis = -1 if isinstance(linear.request.layout, Rows) else 1
    rows: Matrix = rows_of(np.moveaxis(values, axis, -1), Rows(), limit)[0][:, :-1]
    return rows


def _fit(site: Site, rows: RowTable, targets: RowTable, others: RowTable) -> Matrix:
    """The layer's weights, [outputs, features + 1]."""
    if site.after.node.op != "MatMul":
        return fit(site.after.weights, rows, targets, others, held=rows.shape[1] - 1, rectified=site.rectified)
    start, used = site.after.weights[:, :-1], rows[:, :-1]
    weights = fit(start, used, targets, others, held=used.shape[1], rectified=site.rectified)
    return np.concatenate([weights, np.zeros((len(weights), 1))], axis=1)


def fit(start: Matrix, rows: RowTable, targets: RowTable, others: RowTable, *, held: int, rectified: bool) -> Matrix:
    """Ridge regression towards the weights that there are.

    Args:
        start: [outputs, features].
        rows: [n, features].
        targets: [n, outputs]: what should come out.
        others: what is added to it; [n, outputs], or [n, 1] for all of them.
        held: how many features, the first ones, are drawn towards `start`; a bias should not be.
        rectified: whether a Relu follows, so that one number below 0 is as good as another.
    """
    gram = (rows.T @ rows).astype(np.float64)
    ridge = _DAMPING * float(np.trace(gram)) / len(gram)
    # Where all that is read is 0, weights stay.
    gram[np.arange(held), np.arange(held)] += max(ridge, float(np.finfo(np.float32).tiny))
    factor = np.linalg.inv(gram)
    before = rows @ start.T.astype(np.float32) + others

    def solved(wanted: RowTable) -> Matrix:
        return start + (factor @ (rows.T @ (wanted - before)).astype(np.float64)).T

    weights = solved(targets)
    for _ in range(_ROUNDS if rectified else 0):
        now = rows @ weights.T.astype(np.float32) + others
        weights = solved(np.where(targets > 0, targets, np.minimum(now, 0)))
    return weights
