"""What a model's groups would lose, before it is decided how much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model
    from edgecc.pruning.groups import Coupling, Group, Unit
    from edgecc.pruning.saliency import Curve
    from edgecc.pruning.shortfall import Frozen


@dataclass(frozen=True)
class Plan:
    """A model's groups, and what each loses with its units.

    Attributes:
        model: that the coupling was found in.
        coupling: of its axes.
        groups: that may lose something.
        frozen: the others.
        curves: one for each group.
        data: that they were measured on; None if they were not.
    """

    model: Model
    coupling: Coupling
    groups: tuple[Group, ...]
    frozen: tuple[Frozen, ...]
    curves: tuple[Curve, ...]
    data: CalibrationData | None

    def units(self, gone: Sequence[int]) -> list[Unit]:
        """Those that go if each group loses so many."""
        parts = zip(self.groups, self.curves, gone, strict=True)
        return [group.units[index] for group, curve, count in parts for index in curve.order[:count]]
