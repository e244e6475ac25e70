"""Which labels belong together, and which of them must stay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]


class Ties:
    """Disjoint sets of labels, each perhaps with a reason why it must stay.

    Sets grow while the graph is walked, and what is frozen decides how the walk goes on; so this is a union-find
    (Tarjan 1975) and not a search for components afterwards.
    """

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._reasons: dict[int, str] = {}

    def fresh(self, count: int) -> Labels:
        """New labels, each in a set of its own."""
        start = len(self._parents)
        self._parents.extend(range(start, start + count))
        return np.arange(start, start + count, dtype=np.int64)

    def root(self, label: int) -> int:
        """The label that stands for the set."""
        parents = self._parents
        while parents[label] != label:
            parents[label] = parents[parents[label]]
            label = parents[label]
        return label

    def roots(self, labels: Labels) -> Labels:
        """The roots of several labels, in an array of the same shape."""
        flat = [self.root(int(label)) for label in labels.reshape(-1)]
        return np.array(flat, dtype=np.int64).reshape(labels.shape)

    def unite(self, first: npt.NDArray[Any], second: npt.NDArray[Any]) -> None:
        """Put each label of one array into the set of the label at the same place of the other; they broadcast."""
        one, other = np.broadcast_arrays(first, second)
        for a, b in zip(one.reshape(-1).tolist(), other.reshape(-1).tolist(), strict=True):
            self._unite(a, b)

    def _unite(self, first: int, second: int) -> None:
        kept, gone = sorted((self.root(first), self.root(second)))
        if kept == gone:
            return
        self._parents[gone] = kept
        reason = self._reasons.pop(gone, None)
        if reason is not None:
            self._reasons.setdefault(kept, reason)

    def freeze(self, labels: npt.NDArray[Any] | Iterable[int], reason: str) -> None:
        """Keep the sets of these labels; the first reason counts."""
        for label in np.asarray(labels).reshape(-1).tolist():
            self._reasons.setdefault(self.root(label), reason)

    def reason(self, label: int) -> str | None:
        """Why the label's set must stay; None if it need not."""
        return self._reasons.get(self.root(label))

    def is_frozen(self, labels: Labels) -> bool:
        """Whether all of these labels must stay."""
        return all(self.reason(int(label)) is not None for label in labels.reshape(-1))
