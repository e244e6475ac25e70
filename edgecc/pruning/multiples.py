"""Counts of channels that kernels like, group by group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgecc.passes.shaping import KERNEL_MULTIPLE

if TYPE_CHECKING:
    from edgecc.pruning.groups import Group

#: Steps that a group of channels has at least if it goes in what kernels like without being asked to: of smaller groups
#: a step would be so large a part that it costs accuracy.
_STEPS = 12


def multiples_of(groups: Sequence[Group], wanted: int | None) -> tuple[list[int], list[Group]]:
    """What the number of units that are left of each group is divided by, and groups that have too few for it.

    Args:
        groups: that may lose something.
        wanted: what the number of channels is divided by; None for what kernels like, of groups that are large
            enough and go through depthwise convolutions.
    """
    found, small = [], []
    for group in groups:
        units, size = units_per(group, wanted or KERNEL_MULTIPLE), len(group.units)
        if wanted is None:
            units = units if size >= _STEPS * units and is_depthwise(group) else 1
        elif units >= size:
            small.append(group)
            units = 1
        found.append(units)
    return found, small


def is_depthwise(group: Group) -> bool:
    """Whether a convolution looks at its channels one by one: of these, kernels compute blocks or nothing fast."""
    readers = (node for place in group.units[0].places for node in place.constant.outputs)
    return any(node.op == "Conv" and node.attrs.get("group", 1) > 1 for node in readers)


def units_per(group: Group, multiple: int) -> int:
    """How many units are a multiple of channels on every axis; heads and the like are several channels each."""
    counts = {len(place.indices) for place in group.units[0].places}
    return math.lcm(*(multiple // math.gcd(count, multiple) for count in counts))
