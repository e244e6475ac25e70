"""New weights for layers that read less, or something else, than they did: least squares on what they should compute.

The asymmetric reconstruction of channel pruning (He 2017, arXiv 1707.06168) and OBSPA (arXiv 2403.18955):
rows come from the model as it is by now, targets from the one that it was. Where the result is added to another
tensor, the target is what the sum should be less what the other one has become, and where a Relu follows, what it
sets to 0 anyway is free (Zhang 2015, arXiv 1505.06798).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecc.pruning.features import Linear, Matrix, constant_layer, linear_of
from edgecc.pruning.rows import RowTable, Seen
from edgecc.statistics.patches import rows_of
from edgecc.statistics.requests import Rows

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor

#: Added to the diagonal, as a share of its mean.
_DAMPING = 1e-3
#: Rounds in which what a Relu sets to 0 is set free.
_ROUNDS = 4
#: Most multiply-accumulates of a layer for all rows and rounds, of which there is one at least.
_WORK = 12_000_000_000


@dataclass(frozen=True)
class Site:
    """A layer in both models.

    Attributes:
        first, second: its node in the original and in the model that lost something.
        outputs: mask of those of the original's outputs that are left.
        other: name of the tensor that the result is added to; "" if to none.
        rectified: whether a Relu follows.
    """

    first: Node
    second: Node
    outputs: np.ndarray
    other: str
    rectified: bool

    @property
    def before(self) -> Linear:
        """The layer in the original."""
        return constant_layer(self.first)

    @property
    def after(self) -> Linear:
        """The layer in the model, as it is by now."""
        return constant_layer(self.second)


def site_of(before: Node, after: Node, outputs: np.ndarray, model: Model) -> Site | None:
    """How a layer is repaired; None if it is no matrix.

    Args:
        before: in the original.
        after: the same in the model.
        outputs: mask of those of its outputs that are left.
        model: that `after` is in.
    """
    if linear_of(before) is None or linear_of(after) is None:
        return None
    other, tensor = added_to(after, model)
    readers = model.consumers(tensor)
    rectified = bool(readers) and all(reader.op == "Relu" for reader in readers) and not model.is_output(tensor)
    return Site(before, after, outputs, other, rectified)


def added_to(node: Node, model: Model) -> tuple[str, Tensor]:
    """The name of the tensor that a layer's result is added to, and the sum; "" and the result if to none."""
    tensor = node.outputs[0]
    adder = model.single_consumer(tensor)
    if adder is not None and adder.op == "Add" and not model.is_inner(adder):
        operand = adder.inputs[1] if adder.inputs[0] is tensor else adder.inputs[0]
        if getattr(operand, "values", None) is None and operand is not tensor and operand.shape == tensor.shape:
            return operand.name, adder.outputs[0]
    return "", tensor


@dataclass(frozen=True)
class Target:
    """What a layer should compute.

    Attributes:
        site: the layer.
        values: with what that was added to in the original, [rows, outputs that are left], before the activation.
    """

    site: Site
    values: RowTable


class Gathering:
    """Rows of a layer in both models, as they come.

    Args:
        site: the layer.
    """

    def __init__(self, site: Site) -> None:
        self._site, self._before, self._after = site, site.before, site.after
        self._weights = np.ascontiguousarray(self._before.weights[site.outputs].T, np.float32)
        self._parts: list[tuple[RowTable, RowTable, RowTable]] = []

    def names(self) -> list[str]:
        """Tensors that are asked for."""
        return [self._after.request.tensor, *([self._site.other] if self._site.other else [])]

    def add(self, first: Seen, second: Seen) -> None:
        """Take rows of some samples.

        Args:
            first: tensors of the original.
            second: of the model, on the same samples.
        """
        # As many rows of both: the layer before says how many.
        limit, other = first.share(self._before), self._site.other
        wanted = first.rows(self._before, limit).astype(np.float32) @ self._weights
        rows = second.rows(self._after, limit).astype(np.float32)
        added = np.zeros((len(rows), 1))
        if other:
            was = _values(first.tensors[other], self._before, limit)[:, self._site.outputs]
            added = _values(second.tensors[other], self._after, limit)
            # What is masked by minus infinity has no sum to be fitted: there it is the layer's own result.
            finite = np.isfinite(was) & np.isfinite(added)
            wanted += np.where(finite, was, 0).astype(np.float32)
            added = np.where(finite, added, 0)
        self._parts.append((wanted, rows, added.astype(np.float32)))

    def taken(self) -> tuple[Target, RowTable, RowTable]:
        """The target, rows [n, features + 1] of the model, and what is added to the result [n, 1 or outputs]."""
        wanted, rows, added = (np.concatenate(parts) for parts in zip(*self._parts, strict=True))
        self._parts.clear()
        return Target(self._site, wanted), rows, added


def _values(values: np.ndarray, linear: Linear, limit: int) -> Matrix:
    """One row per position, at the same places at which the layer's rows are read."""
    axis = -1 if isinstance(linear.request.layout, Rows) else 1
    rows: Matrix = rows_of(np.moveaxis(values, axis, -1), Rows(), limit)[0][:, :-1]
    return rows


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
    rounds = min(_ROUNDS, max(1, _WORK // max(1, rows.size * len(start))))
    for _ in range(rounds if rectified else 0):
        now = rows @ weights.T.astype(np.float32) + others
        weights = solved(np.where(targets > 0, targets, np.minimum(now, 0)))
    return weights
