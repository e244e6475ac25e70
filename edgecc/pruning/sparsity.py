"""Which weights of a layer become 0: those of the lowest scores, or some of each few that lie beside each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Mask: TypeAlias = npt.NDArray[np.bool_]
Scores: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Pattern:
    """At most so many of each few weights that lie beside each other along the input channels are not 0.

    For the sparse tensor cores of NVIDIA it is 2 of 4 (arXiv 2104.08378): of a Conv's weights at each place of the
    kernel, of a matrix product's along the axis that is summed over.
    """

    keep: int
    of: int

    def groups(self, features: int, taps: int) -> npt.NDArray[np.int64]:
        """Features that lie beside each other: [groups, of].

        Args:
            features: of the layer, channel then place of the kernel; channels are a multiple of `of`.
            taps: places of the kernel.
        """
        return np.arange(features).reshape(-1, self.of, taps).swapaxes(1, 2).reshape(-1, self.of)

    def holds(self, weights: npt.NDArray[np.floating], taps: int) -> bool:
        """Whether a layer's weights, [outputs, features], have it."""
        if weights.shape[1] % (taps * self.of):
            return False
        counted = (weights[:, self.groups(weights.shape[1], taps)] != 0).sum(axis=-1)
        return bool((counted <= self.keep).all())

    def mask(self, scores: Scores, taps: int, keep: int) -> Mask:
        """The weights with the highest scores, `keep` of each group."""
        groups = self.groups(scores.shape[1], taps)
        order = np.argsort(scores[:, groups], axis=-1, kind="stable")
        grouped = np.zeros((len(scores), *groups.shape), bool)
        np.put_along_axis(grouped, order[..., self.of - keep :], values=True, axis=-1)
        mask = np.zeros(scores.shape, bool)
        mask[:, groups.reshape(-1)] = grouped.reshape(len(scores), -1)
        return mask


def smallest_gone(scores: Scores, zeros: int) -> Mask:
    """All but the `zeros` smallest scores of the layer."""
    mask = np.ones(scores.size, bool)
    mask[np.argsort(scores, axis=None, kind="stable")[:zeros]] = False
    return mask.reshape(scores.shape)


def zeros_at(scores: Sequence[Scores], share: float, keep: float) -> list[int]:
    """How many weights each layer loses so that a share of all goes, those with the lowest scores.

    Args:
        scores: of each layer's weights.
        share: of all of them.
        keep: least share of each layer that stays.
    """
    ends = np.cumsum([found.size for found in scores])
    limited = []
    for found in scores:
        ordered = np.sort(found, axis=None)
        # What must stay costs too much to go.
        ordered[found.size - math.ceil(keep * found.size) :] = np.inf
        limited.append(ordered)
    order = np.argsort(np.concatenate(limited), kind="stable")
    most = sum(int(np.isfinite(found).sum()) for found in limited)
    gone = np.searchsorted(ends, order[: min(most, round(share * int(ends[-1])))], side="right")
    return [int(count) for count in np.bincount(gone, minlength=len(scores))]
