"""Operators that only move values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from edgecc_torch.rules.base import NodeView, RefusalError, Rule, Size, is_number

if TYPE_CHECKING:
    from torch.fx import Proxy


def _reshape(n: NodeView) -> Proxy:
    sizes = n.sizes(1)
    if not n.attribute("allowzero", 0):
        sizes = [_size(n, axis) if is_number(size, 0) else size for axis, size in enumerate(sizes)]
    return torch.reshape(n[0], sizes)


def _size(n: NodeView, axis: int) -> Size:
    """A size of the first input: a number where it is known."""
    size = n.shape()[axis]
    return size if isinstance(size, int) else n[0].size(axis)


def _flatten(n: NodeView) -> Proxy:
    axis = n.axis(1)
    if axis == 1:
        return torch.flatten(n[0], 1)
    if axis == 0:
        return torch.reshape(n[0], [1, -1])
    return torch.flatten(torch.flatten(n[0], 0, axis - 1), 1) if axis < n.rank() else torch.reshape(n[0], [-1, 1])


def _transpose(n: NodeView) -> Proxy:
    return torch.permute(n[0], list(n.attribute("perm") or reversed(range(n.rank()))))


def _squeeze(n: NodeView) -> Proxy:
    if n.has(1):
        return torch.squeeze(n[0], n.numbers(1))
    return torch.squeeze(n[0])


def _unsqueeze(n: NodeView) -> Proxy:
    x, axes = n[0], n.numbers(1)
    rank = n.rank() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = torch.unsqueeze(x, axis)
    return x


def _split(n: NodeView) -> list[Proxy]:
    axis = n.axis()
    if n.has(1):
        parts = torch.split(n[0], n.numbers(1), axis)
    else:
        count = len(n.node.outputs)
        size = n.shape()[axis]
        if isinstance(size, str):
            raise RefusalError("it splits an axis whose size is not known into equal parts")
        parts = torch.split(n[0], -(-size // count), axis)
    return [parts[index] for index in range(len(n.node.outputs))]


def _slice(n: NodeView) -> Proxy:
    """Python's own slices; where a step is negative, the axis is turned around."""
    rank = n.rank()
    starts, ends = n.sizes(1), n.sizes(2)
    axes = [axis % rank for axis in n.numbers(3)] if n.has(3) else list(range(len(starts)))
    steps = n.numbers(4) if n.has(4) else [1] * len(starts)
    x, slices = n[0], [slice(None)] * rank
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step > 0:
            slices[axis] = slice(start, end, step)
            continue
        size = n.shape()[axis]
        if not isinstance(size, int) or not isinstance(start, int) or not isinstance(end, int):
            raise RefusalError("it goes backwards along an axis whose size is not known")
        chosen = range(size)[slice(start, end if end >= -size else None, step)]
        x = torch.flip(x, [axis])
        slices[axis] = slice(size - 1 - chosen.start, size - chosen[-1] if len(chosen) else 0, -step)
    return x[tuple(slices)] if any(part != slice(None) for part in slices) else x


def _expand(n: NodeView) -> Proxy:
    """Sizes of 1 leave an axis as it is, and so do those that it has already."""
    sizes = n.sizes(1)
    rank = n.rank()
    sizes = [1] * (rank - len(sizes)) + sizes
    new = len(sizes) - rank
    own, output = n.shape(), (n.output_shape() or [""] * len(sizes))[new:]
    kept = [is_number(size, 1) or dim == out for size, dim, out in zip(sizes[new:], own, output, strict=True)]
    return n[0].expand([*sizes[:new], *(-1 if keep else size for keep, size in zip(kept, sizes[new:], strict=True))])


def _pad(n: NodeView) -> Proxy:
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}[
        str(n.attribute("mode", "constant"))
    ]
    rank, given = n.rank(), n.numbers(1)
    axes = [axis % rank for axis in n.numbers(3)] if n.has(3) else list(range(rank))
    pads = dict(zip(axes, zip(given[: len(axes)], given[len(axes) :], strict=True), strict=True))
    first = min((axis for axis, sides in pads.items() if any(sides)), default=rank)
    flat = [size for axis in reversed(range(first, rank)) for size in pads.get(axis, (0, 0))]
    if not flat:
        return n[0]
    if mode == "constant":
        value = n.value(2).item() if n.has(2) else 0
        return functional.pad(n[0], flat, value=value)
    if first < 2 or rank > 5:
        raise RefusalError(f"PyTorch pads only the last axes with mode {mode}, behind batch and channels")
    full = [size for axis in reversed(range(2, rank)) for size in pads.get(axis, (0, 0))]
    return functional.pad(n[0], full, mode=mode)


def _blocks(n: NodeView) -> tuple[int, int, int, int]:
    """Block size, channels, height and width."""
    sizes = n.shape()[1:]
    if any(isinstance(size, str) for size in sizes):
        raise RefusalError("it regroups axes whose sizes are not known", "fix them with --shape")
    channels, height, width = (int(size) for size in sizes)
    return int(n.attribute("blocksize")), channels, height, width


def _depth_to_space(n: NodeView) -> Proxy:
    if str(n.attribute("mode", "DCR")) == "CRD":
        return functional.pixel_shuffle(n[0], n.attribute("blocksize"))
    block, channels, height, width = _blocks(n)
    depth = channels // block**2
    x = torch.reshape(n[0], [-1, block, block, depth, height, width])
    return torch.reshape(torch.permute(x, [0, 3, 4, 1, 5, 2]), [-1, depth, height * block, width * block])


def _space_to_depth(n: NodeView) -> Proxy:
    block, channels, height, width = _blocks(n)
    x = torch.reshape(n[0], [-1, channels, height // block, block, width // block, block])
    shape = [-1, channels * block**2, height // block, width // block]
    return torch.reshape(torch.permute(x, [0, 3, 5, 1, 2, 4]), shape)


RULES: dict[str, Rule] = {
    "Concat": lambda n: torch.cat(n.inputs, n.axis()),
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _flatten,
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": lambda n: n[0].repeat(n.sizes(1)),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
