"""How much may be lost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgecc.measuring.metrics import wilson_interval

if TYPE_CHECKING:
    from edgecc.measuring.metrics import Fidelity

#: Shares of counted samples are compared up to this many points.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class LossBudget:
    """What the model may lose in all, against the source; both hold where both are given.

    Attributes:
        max_drop: points of top-1 agreement: 2 asks that 98 of 100 samples keep the source's largest class score where
            it is. More points of accuracy than that cannot be lost on the same samples.
        min_sqnr: dB that every output must have.
    """

    max_drop: float | None = None
    min_sqnr: float | None = None

    @property
    def is_given(self) -> bool:
        return self.max_drop is not None or self.min_sqnr is not None

    def samples_needed(self) -> int:
        """So many that one of them alone does not use the budget up; 1 if any will do."""
        return math.ceil(100 / self.max_drop - _ROUNDING) if self.max_drop else 1

    def refusal(self, outputs: Mapping[str, Fidelity], samples: int) -> str:
        """What is beyond the budget; "" if nothing is.

        Args:
            outputs: what was measured of each.
            samples: that it was measured on.
        """
        if self.min_sqnr is not None and outputs:
            name, found = min(outputs.items(), key=lambda item: _rank(item[1].sqnr_db))
            if not found.sqnr_db >= self.min_sqnr:
                return f"output {name!r} has an SQNR of {found.sqnr_db:.1f} dB, and min_sqnr asks for {self.min_sqnr:g}"
        shares = {name: found.top1 for name, found in outputs.items() if found.top1 is not None}
        if self.max_drop is not None and shares:
            name = min(shares, key=shares.__getitem__)
            drop = 100 * (1 - shares[name])
            if drop > self.max_drop + _ROUNDING:
                low, high = wilson_interval(shares[name], samples)
                return (
                    f"{drop:.1f} points of agreement are lost in output {name!r} ({100 - 100 * high:.1f} to "
                    f"{100 - 100 * low:.1f} with 95 % confidence on {samples} samples), and max_drop allows "
                    f"{self.max_drop:g}"
                )
        return ""


def _rank(sqnr_db: float) -> float:
    """NaN is worse than anything."""
    return -math.inf if math.isnan(sqnr_db) else sqnr_db
