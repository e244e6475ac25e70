"""Answers what passes ask about the data, before they run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgecc.errors import DataError, EdgeccError, PassContractError

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model
    from edgecc.passes.base import Pass, PassContext
    from edgecc.statistics.requests import Request
    from edgecc.statistics.table import StatisticTable


def answer_requests(step: Pass, behind: Sequence[Pass], model: Model, ctx: PassContext) -> None:
    """Put the answers to what the pass asks for into `ctx.statistics`; nothing is done for one that asks for nothing.

    Args:
        step: about to run.
        behind: the passes after it; their requests are answered in the same sweep for as long as each pass before them
            keeps statistics.
        model: that it runs on.
        ctx: holds what is known already, and the data.

    Raises:
        DataError: there is no data, or it does not fit.
        PassContractError: what a pass asks for makes no sense.
    """
    requests = _requests_of(step, model)
    if not requests:
        return
    table = ctx.statistics.seen_from(model)
    open_requests = table.unanswered(requests)
    if not open_requests:
        ctx.statistics = table
        return
    if ctx.calibration is None and not step.needs_statistics():
        ctx.statistics = table
        return
    if ctx.calibration is None:
        raise _no_data(step, open_requests, table)
    for first, second in zip((step, *behind), behind, strict=False):
        if not first.keeps_statistics:
            break
        requests += _requests_of(second, model)
    from edgecc.statistics.sweep import sweep

    try:
        ctx.statistics = sweep(model, requests, ctx.calibration, known=ctx.statistics, progress=ctx.progress)
    except PassContractError as error:
        raise PassContractError(
            f"pass {step.name!r}: {error.what}", where=error.where, why=error.why, hint=error.hint
        ) from error


def _requests_of(step: Pass, model: Model) -> list[Request]:
    try:
        return list(step.statistics(model))
    except EdgeccError:
        raise
    except Exception as error:
        raise PassContractError(
            f"pass {step.name!r} raised {type(error).__name__} in statistics(): {error}",
            hint="this is a bug in the pass: report it to its author (edgecc plugins shows who owns it)",
        ) from error


def samples_of(step: Pass, ctx: PassContext, why: str, *, without: str = "") -> CalibrationData:
    """The samples themselves, for a pass that streams them.

    Args:
        step: the pass.
        ctx: holds them.
        why: it needs them.
        without: options with which it does not.

    Raises:
        DataError: there are none: the user gave no data, or saved statistics.
    """
    if ctx.calibration is None:
        raise DataError(
            f"pass {step.name!r} needs calibration data",
            why=why,
            hint=f"{_ADD_DATA}; {without} does without" if without else _ADD_DATA,
        )
    return ctx.calibration


_ADD_DATA = "add --calibration DATA.npz, one array per input with 100 to 500 samples"


def _no_data(step: Pass, unanswered: Sequence[Request], table: StatisticTable) -> DataError:
    if not table.answers:
        return DataError(
            f"pass {step.name!r} needs calibration data",
            why=f"it asks about {len(unanswered)} tensors, beginning with {unanswered[0].tensor!r}",
            hint=f"{_ADD_DATA}; --calibration random tries it out without any",
        )
    return DataError(
        f"the saved statistics do not answer what pass {step.name!r} asks",
        where=f"{unanswered[0]}, and {len(unanswered) - 1} more",
        why="they were measured for another model or other passes, or are Grams, which are not saved",
        hint="give the data itself: --calibration DATA.npz",
    )
