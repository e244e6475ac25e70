"""What a model's outputs lose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from edgecc.model import Model

#: By name.
Outputs: TypeAlias = "Mapping[str, np.ndarray]"

#: Error of outputs that are not finite and were: what is made of errors are differences, so that it is a number.
_WORST = 1e30


class OutputErrors:
    """Compares what a model computes with what it should.

    Args:
        model: with the outputs; indices are none that have errors of a size.
    """

    def __init__(self, model: Model) -> None:
        outputs = [tensor for tensor in model.outputs if np.dtype(tensor.dtype).kind == "f"]
        self.names = [tensor.name for tensor in outputs]
        self._classes = {
            tensor.name: int(node.attrs.get("axis", -1))
            for tensor in outputs
            if (node := model.producer(tensor)) is not None and node.op == "Softmax"
        }

    def total(self, runs: Iterable[tuple[Outputs, Outputs]]) -> float:
        """Of all runs, summed over the outputs.

        Args:
            runs: what was computed, and what now is.

        Returns:
            Of class probabilities the mean Kullback-Leibler divergence, of other outputs the squared error relative to
            the variance.
        """
        sums = np.zeros((len(self.names), 2))
        for before, after in runs:
            sums += self.of_run(before, after)
        return float(self.relative(sums[:, 0], sums[:, 1]).sum())

    def of_run(self, before: Outputs, after: Outputs) -> np.ndarray:
        """For each output [lost, size]: infinite if it is no longer finite, and what that is relative to."""
        return np.array([self._compared(name, before[name], after[name]) for name in self.names]).reshape(-1, 2)

    @staticmethod
    def relative(lost: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Errors from sums over runs.

        Args:
            lost: [..., outputs].
            sizes: [outputs].
        """
        found: np.ndarray = np.minimum(np.maximum(lost, 0) / (sizes + np.finfo(np.float32).tiny), _WORST)
        return found

    def _compared(self, name: str, before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
        first, second = before.astype(np.float64), after.astype(np.float64)
        whole = np.isfinite(first)  # scores of what is masked may be infinite
        if not np.isfinite(second[whole]).all():
            return np.inf, 0.0
        if name in self._classes:
            return _divergence(first, second), first.size / first.shape[self._classes[name]]
        first, second = first[whole], second[whole]
        size = float(((first - first.mean()) ** 2).sum()) if first.size else 0.0
        return float(((second - first) ** 2).sum()), size


def _divergence(first: np.ndarray, second: np.ndarray) -> float:
    least = float(np.finfo(np.float32).eps)
    return float((first * (np.log(first + least) - np.log(second + least))).sum())
