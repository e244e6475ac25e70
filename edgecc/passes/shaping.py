"""Passes whose result's shapes are known before anything is fitted, so that they can be timed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from edgecc.errors import OptionError
from edgecc.passes.base import Pass, PassContext

if TYPE_CHECKING:
    from edgecc.model import Model

#: A model as a variant of the pass would shape it; its weights are of no use.
Shapes: TypeAlias = "Callable[[ShapingPass], Model]"


class ShapingPass(Pass):
    """A pass that makes layers smaller, to a budget that may be a time.

    It never knows a device: who compiles looks for the share of multiply-accumulates that takes as long as the budget
    says, and the pass runs with that.
    """

    @abstractmethod
    def wanted_latency(self) -> float | None:
        """Share of the time that may be left; None if the budget is another one."""

    @abstractmethod
    def with_macs(self, share: float) -> ShapingPass:
        """The same pass, which leaves a share of the multiply-accumulates in place of a share of the time."""

    def leaving(self, patterns: tuple[str, ...]) -> ShapingPass | None:
        """The same pass, which leaves layers of these names as they are; None if it looks at no layer alone."""
        del patterns
        return None

    @abstractmethod
    def shapes(self, model: Model, ctx: PassContext) -> Shapes:
        """Look at a model, which is not changed, once for all variants of this pass.

        Args:
            model: as it is in front of the pass.
            ctx: with the data.
        """

    def refuse_latency(self) -> None:
        """Raise OptionError if nobody has measured what the budget of time is in multiply-accumulates."""
        wanted = self.wanted_latency()
        if wanted is not None:
            raise OptionError(
                f"latency={wanted:g} is a budget for edgecc compile, which measures",
                where=f"pass {self.name}",
                hint=f"{self.name}:macs={wanted:g} leaves that share of the multiply-accumulates",
            )


def one_budget(step: Pass, keys: tuple[str, ...], *, optional: bool = False) -> None:
    """Raise OptionError unless one of these options is given.

    Args:
        step: whose options they are.
        keys: their names.
        optional: whether none is right too.
    """
    given = [key for key in keys if getattr(step, key) is not None]
    if len(given) == 1 or (optional and not given):
        return
    known = f"{', '.join(keys[:-1])} and {keys[-1]}"
    found = f"{' and '.join(given)} {'are' if given else 'is'}" if given else "none is"
    raise OptionError(
        f"{step.name} takes one of {known}, and {found} given",
        where=f"pass {step.name}",
        hint=f"{step.name}:macs=0.5 leaves half of the multiply-accumulates",
    )
