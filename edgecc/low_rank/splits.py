"""The ways in which one linear layer becomes two in a row, and what each of them costs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgecc.inspection import macs

if TYPE_CHECKING:
    from edgecc.model import Node

Indices = npt.NDArray[np.int64]

#: Names of the kinds of splits.
CHANNEL, SPATIAL, TUCKER = "channel", "spatial", "tucker"


@dataclass(frozen=True)
class Split:
    """A layer's kernel shared out between two layers: some of its axes go to the first, the others to the second.

    All of them to the first is a convolution to few channels and a 1x1 one (Zhang 2015, arXiv 1505.06798), one each is
    a k x 1 and a 1 x k one (Jaderberg 2014, arXiv 1405.3866), none of them is the input side of Tucker-2 (Kim 2015,
    arXiv 1511.06530), whose second layer is then split by its outputs again.

    Attributes:
        kind: CHANNEL, SPATIAL or TUCKER.
        axes: of the kernel that the first layer has; the rest have size 1 there.
        kernel: the layer's; empty for a matrix product.
        taps: features that the first layer reads for each place of the second one's kernel [places, features].
        inputs, outputs: channels.
        itemsize: bytes of a weight.
        first_positions, positions: places at which the first layer and the second one are computed.
    """

    kind: str
    axes: tuple[int, ...]
    kernel: tuple[int, ...]
    taps: Indices
    inputs: int
    outputs: int
    itemsize: int
    first_positions: int
    positions: int

    @property
    def places(self) -> int:
        return int(self.taps.shape[0])

    def first_kernel(self) -> tuple[int, ...]:
        return tuple(size if axis in self.axes else 1 for axis, size in enumerate(self.kernel))

    def second_kernel(self) -> tuple[int, ...]:
        return tuple(1 if axis in self.axes else size for axis, size in enumerate(self.kernel))

    def params(self, rank: int, inner: int = 0) -> int:
        """Weights at a rank, and at that of what comes out of the second layer (0: it is not split again)."""
        first = rank * int(self.taps.shape[1])
        if not inner:
            return first + self.outputs * rank * self.places
        return first + inner * rank * self.places + self.outputs * inner

    def macs(self, rank: int, inner: int = 0) -> int:
        """Multiply-accumulates; the same arguments."""
        first = rank * int(self.taps.shape[1]) * self.first_positions
        return first + (self.params(rank, inner) - rank * int(self.taps.shape[1])) * self.positions

    def full_params(self) -> int:
        """Weights of the layer as it is."""
        return int(self.taps.size) * self.outputs

    def full_macs(self) -> int:
        """Multiply-accumulates of the layer as it is."""
        return self.full_params() * self.positions

    def most(self) -> int:
        """Rank from which on nothing is lost."""
        return min(int(self.taps.shape[1]), self.outputs * self.places)

    def spread(self, first: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """What the second layer reads, from what the whole layer read: [rank * places, features] for [rank, ...]."""
        rank = len(first)
        result = np.zeros((rank, self.places, int(self.taps.size)))
        for place, features in enumerate(self.taps):
            result[:, place, features] = first
        return result.reshape(rank * self.places, -1)


def splits_of(node: Node, inputs: int, outputs: int, kinds: Sequence[str]) -> list[Split]:
    """All splits of those kinds.

    Args:
        node: Conv of one group, Gemm or MatMul, with known shapes of its weights.
        inputs: its channels.
        outputs: likewise.
        kinds: CHANNEL, SPATIAL and TUCKER; a matrix product and a kernel of size 1 have the first only.
    """
    kernel = tuple(int(size) for size in node.inputs[1].shape[2:]) if node.op == "Conv" else ()
    wide = [axis for axis, size in enumerate(kernel) if size > 1]
    features = np.arange(inputs * math.prod(kernel), dtype=np.int64).reshape(inputs, *kernel)
    itemsize = int(np.dtype(node.inputs[1].dtype).itemsize)
    positions = macs(node) // max(1, features.size * outputs)
    found = []
    for count in range(len(wide), -1, -1):
        for axes in itertools.combinations(wide, count):
            kind = CHANNEL if count == len(wide) else SPATIAL if count else TUCKER
            if kind not in kinds:
                continue
            others = [axis for axis in range(len(kernel)) if axis not in axes]
            order = [1 + axis for axis in others] + [0] + [1 + axis for axis in axes]
            places = math.prod(kernel[axis] for axis in others)
            taps = features.transpose(order).reshape(places, -1)
            first = _first_positions(node, others, positions)
            found.append(Split(kind, axes, kernel, taps, inputs, outputs, itemsize, first, positions))
    return found


def _first_positions(node: Node, others: Sequence[int], positions: int) -> int:
    """Places of the first layer: as many as the layer has, but all of its input's along the axes left to the second."""
    before, after = node.inputs[0].shape, node.outputs[0].shape
    if before is None or after is None:
        return positions
    for axis in others:
        size, left = before[2 + axis], after[2 + axis]
        if isinstance(size, int) and isinstance(left, int) and left:
            positions = positions * size // left
    return positions
