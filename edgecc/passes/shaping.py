"""Passes whose result's shapes are known before anything is fitted, so that they can be timed."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from edgecc.errors import OptionError
from edgecc.passes.base import Pass, PassContext

if TYPE_CHECKING:
    from edgecc.model import Model

#: Channels that the kernels of most runtimes compute at once.
KERNEL_MULTIPLE = 8
#: What budgets count, in words.
BUDGETS = {"macs": "multiply-accumulates", "params": "layers' weights", "bytes": "bytes of the weights"}
#: Most that a hint asks another pass to take: what would have to take more than that takes the model apart.
_MOST = 0.9
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

    def rounded(self) -> ShapingPass | None:
        """The same pass, leaving multiples of what most kernels like; None if it is to leave multiples already."""
        return None

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


def one_budget(step: Pass, keys: tuple[str, ...], *, optional: bool = False, hint: str = "") -> None:
    """Raise OptionError unless one of these options is given.

    Args:
        step: whose options they are.
        keys: their names.
        optional: whether none is right too.
        hint: what to type instead; a budget of multiply-accumulates if empty.
    """
    given = [key for key in keys if getattr(step, key) is not None]
    if len(given) == 1 or (optional and not given):
        return
    known = f"{', '.join(keys[:-1])} and {keys[-1]}"
    found = f"{' and '.join(given)} {'are' if given else 'is'}" if given else "none is"
    raise OptionError(
        f"{step.name} takes one of {known}, and {found} given",
        where=f"pass {step.name}",
        hint=hint or f"{step.name}:macs=0.5 leaves half of the multiply-accumulates",
    )


def refuse_idle(step: Pass, keys: Sequence[str], why: str, hint: str) -> None:
    """Raise OptionError where the user gave options that another one leaves without a meaning; defaults may stand.

    Args:
        step: whose options they are.
        keys: names of those options.
        why: they mean nothing.
        hint: what to type instead.
    """
    given = [key for key in keys if key in step.model_fields_set]
    if given:
        raise OptionError(
            f"{' and '.join(given)} of {step.name} {'means' if len(given) == 1 else 'mean'} nothing here: {why}",
            where=f"pass {step.name}, option {' and '.join(given)}",
            hint=hint,
        )


def how_far(counted: str, left: float, share: float) -> str:
    """What is left where a budget is not met, in as many digits as it takes to see the difference.

    Args:
        counted: what the budget counts, a key of `BUDGETS`.
        left: share that is left.
        share: that was to be left, which is less.
    """
    digits = next((count for count in range(3) if f"{left:.{count}%}" != f"{share:.{count}%}"), 3)
    return f"{left:.{digits}%} of the {BUDGETS[counted]} are left, not {share:.{digits}%}"


def hint_to_take(flag: str, counted: str, left: float, share: float) -> str:
    """What to type to ask another pass for the rest, or what to ask for if no pass could.

    Args:
        flag: of the other pass, such as `--prune`.
        counted: what the budget counts, a key of `BUDGETS`.
        left: share that is left.
        share: that was to be left, which is less.
    """
    needed = share / max(left, 1e-9)
    if needed < 1 - _MOST:
        return f"a larger {counted}, since no pass takes so much"
    # Rounded so that what is left is within the budget; an amount of the whole is a share of what is left.
    value = f"{math.ceil(100 * (1 - needed) - 1e-6) / 100:.2f}" if counted == "macs" else ""
    value = value or f"{counted}={max(0.01, math.floor(100 * needed + 1e-6) / 100):.2f}"
    return f"{flag} {value} asks for the rest"
