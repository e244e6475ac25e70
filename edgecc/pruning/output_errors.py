"""What a model's outputs lose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from edgecc.pruning.spread import Spread
from edgecc.rewriting.reading import is_floating

if TYPE_CHECKING:
    from edgecc.model import Model

#: By name.
Outputs: TypeAlias = "Mapping[str, np.ndarray]"

#: Error of outputs that are not finite and were: what is made of errors are differences, so that it is a number.
_WORST = 1e30


def score_names(model: Model) -> list[str]:
    """Names of the outputs whose errors have a size: indices have none."""
    return [tensor.name for tensor in model.outputs if is_floating(tensor.dtype)]


class OutputErrors:
    """Compares what a model computes with what it should.

    Args:
        model: with the outputs.
        expected: what it should compute on samples, for each run of it.
    """

    def __init__(self, model: Model, expected: Sequence[Outputs]) -> None:
        self._names = score_names(model)
        self._expected = expected
        self._classes = {
            tensor.name: int(node.attrs.get("axis", -1))
            for tensor in model.outputs
            if (node := model.producer(tensor)) is not None and node.op == "Softmax"
        }
        self._sizes = np.array([self._size(name) for name in self._names])

    def total(self, found: Iterable[Outputs]) -> float:
        """Summed over the outputs.

        Args:
            found: for each run what is computed now.

        Returns:
            Of class probabilities the mean Kullback-Leibler divergence, of other outputs the squared error relative to
            the variance.
        """
        lost = sum((self.lost(number, after) for number, after in enumerate(found)), np.zeros(len(self._names)))
        return float(self.relative(lost))

    def lost(self, number: int, found: Outputs) -> np.ndarray:
        """What each output of one run has lost [outputs]: infinite if it is no longer finite.

        Args:
            number: of the run.
            found: what it computes now.
        """
        before = self._expected[number]
        return np.array([self._compared(name, before[name], found[name]) for name in self._names], np.float64)

    def relative(self, lost: np.ndarray) -> np.ndarray:
        """Errors, summed over the outputs [...], from what all runs together lost [..., outputs]."""
        shares = np.minimum(np.maximum(lost, 0) / np.maximum(self._sizes, np.finfo(np.float32).tiny), _WORST)
        return np.asarray(shares.sum(axis=-1))

    def _size(self, name: str) -> float:
        """What the losses of an output are relative to: how many distributions there are, or how far values spread."""
        found = [run[name].astype(np.float64) for run in self._expected]
        finite = [values[np.isfinite(values)] for values in found]
        if name in self._classes:
            axis = self._classes[name]
            return float(sum(kept.size / values.shape[axis] for kept, values in zip(finite, found, strict=True)))
        spread = Spread()
        for values in finite:
            spread.add(values, 1)
        return spread.variance() * spread.values

    def _compared(self, name: str, before: np.ndarray, after: np.ndarray) -> float:
        first, second = before.astype(np.float64), after.astype(np.float64)
        whole = np.isfinite(first)  # scores of what is masked may be infinite
        first, second = first[whole], second[whole]
        if not np.isfinite(second).all():
            return np.inf
        if name in self._classes:
            return _divergence(first, second)
        return float(((second - first) ** 2).sum())


def _divergence(first: np.ndarray, second: np.ndarray) -> float:
    least = float(np.finfo(np.float32).eps)
    return float((first * (np.log(first + least) - np.log(second + least))).sum())
