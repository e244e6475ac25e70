"""Bytes of the constants, and how they become fewer with units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgecc.inspection import stored_bytes
from edgecc.pruning.allocation import Work, per_unit

if TYPE_CHECKING:
    from edgecc.model import Model
    from edgecc.pruning.groups import Coupling, Group


def stored_works(model: Model, coupling: Coupling, groups: Sequence[Group]) -> list[Work]:
    """Every constant of the model as bytes that go with units; of those of more than two axes that may, two count.

    Args:
        model: that the coupling was found in.
        coupling: with the labels of the constants' axes.
        groups: those that may lose something.
    """
    owner = {unit.root: index for index, group in enumerate(groups) for unit in group.units}
    sizes = [len(group.units) for group in groups]
    works = []
    for tensor in model.constants():
        axes = [labels for _, labels in sorted(coupling.tracker.of(tensor).items())][:2]
        shares = [per_unit(labels, coupling, owner, sizes) for labels in axes]
        writes, reads = [*shares, {}, {}][:2]
        outputs, inputs = [*map(len, axes), 1, 1][:2]
        works.append(Work(stored_bytes(tensor), reads, writes, inputs, outputs))
    return works
