"""A recipe with budgets of time becomes one with budgets of work; layers that factors make slower are named in it.

Passes never know a device. As for integers (`edgecc.measured_recipe`), the device is asked between recipe and artifact:
what a pass would make is timed in the shapes that it would have, and the recipe is written again with what was found.
That one runs and is recorded.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from edgecc.errors import RunnerError, UnavailableError
from edgecc.options import build, parse_spec
from edgecc.passes.base import Loss, Pass, PassContext
from edgecc.passes.pipeline import PassPipeline
from edgecc.passes.shaping import ShapingPass
from edgecc.recipe import SMALLER_PASSES, Recipe

if TYPE_CHECKING:
    from edgecc.measuring.shaping_times import ShapingChoice, ShapingClock
    from edgecc.model import Model
    from edgecc.pass_run import Setting
    from edgecc.passes.shaping import Shapes


def settle_shapes(recipe: Recipe, setting: Setting, source: Model) -> tuple[Recipe, list[ShapingChoice]]:
    """Time each pass that the recipe leaves to the target's runtime, in order, behind those in front of it.

    Args:
        recipe: what is asked for.
        setting: where it runs.
        source: not changed.

    Returns:
        The recipe that says what was found, and what was measured for each of those passes.

    Raises:
        UnavailableError: there is a budget of time, and the target does not run here.
    """
    choices: list[ShapingChoice] = []
    steps = setting.build(recipe).steps
    for place in range(len(steps)):
        step = steps[place]
        if not isinstance(step, ShapingPass) or not _is_timed(step, recipe, setting):
            continue
        front = setting.run(recipe, PassPipeline(steps[:place], asked=()), source.clone()).model
        behind = [one for one in steps[place + 1 :] if isinstance(one, Pass) and one.loses() is not Loss.LOSSY]
        chosen, choice = _timed(step, front, behind, recipe, setting)
        recipe = _rewritten(recipe, step, chosen)
        choices.append(choice)
        # Those in front of the next one have what was found for them.
        steps = setting.build(recipe).steps
    return recipe, choices


def _is_timed(step: ShapingPass, recipe: Recipe, setting: Setting) -> bool:
    return step.wanted_latency() is not None or _times_layers(step, recipe, setting)


def _times_layers(step: ShapingPass, recipe: Recipe, setting: Setting) -> bool:
    """Whether layers are timed alone: as the recipe says, or where `low_rank` is for machines like this one."""
    if step.leaving(()) is None:
        return False
    if recipe.measure is not None:
        return recipe.measure
    return recipe.low_rank is not None and setting.backend.is_for_this_machine(setting.target)


def _timed(
    step: ShapingPass, model: Model, behind: list[Pass], recipe: Recipe, setting: Setting
) -> tuple[ShapingPass, ShapingChoice]:
    """The pass as it is to run on the model."""
    from edgecc.measuring.shaping_times import ShapingChoice, ShapingClock

    wanted, available = step.wanted_latency(), setting.backend.can_run()
    choice = ShapingChoice(step.spec(), step.spec(), wanted=wanted)
    if not available and wanted is not None:
        raise UnavailableError(
            f"latency={wanted:g} of pass {step.name!r} is measured on the target's runtime, which does not run here",
            why=available.reason,
            hint=f"macs={wanted:g} leaves that share of the multiply-accumulates; {available.hint}".rstrip("; "),
        )
    if not available:
        return step, replace(choice, why_not=available.reason)
    at = step.shapes(
        model, PassContext(setting.target, recipe.seed, calibration=setting.seen, progress=setting.progress)
    )
    clock = ShapingClock(model, setting.backend, setting.target, behind, setting.progress)
    if wanted is not None:
        step, choice = _within(wanted, step, at, clock, choice)
    if _times_layers(step, recipe, setting):
        whole = step

        def shaped(patterns: tuple[str, ...]) -> Model:
            left = whole.leaving(patterns)
            assert left is not None, "it leaves layers alone"
            return at(left)

        try:
            machine, layers, time = clock.slower_layers(shaped)
        except RunnerError as error:
            return step, replace(choice, chosen=step.spec(), why_not=error.what)
        choice = replace(choice, machine=machine, layers=layers, time=time)
        step = step.leaving(choice.slower) or step
    return step, replace(choice, chosen=step.spec())


def _within(
    wanted: float, step: ShapingPass, at: Shapes, clock: ShapingClock, choice: ShapingChoice
) -> tuple[ShapingPass, ShapingChoice]:
    """The pass that leaves most within the time: as it is, or with the multiples that kernels like."""
    machine, tried = clock.find_macs(wanted, step, at)
    choice = replace(choice, machine=machine, tried=tried)
    rounded, best = step.rounded(), choice.best
    assert best is not None, "something was tried"
    if rounded is not None:
        _, more = clock.find_macs(wanted, rounded, at, best.macs)
        choice = replace(choice, tried=(*tried, *more))
        best = choice.best or best
    variants = [one.with_macs(best.macs) for one in (step, rounded) if one is not None]
    return next(one for one in variants if one.spec() == best.step), choice


def _rewritten(recipe: Recipe, step: ShapingPass, chosen: ShapingPass) -> Recipe:
    """The recipe with one of its passes, in the words in which it was given."""
    for key, name in SMALLER_PASSES.items():
        if getattr(recipe, key) is not None and name == step.name:
            return recipe.model_copy(update={key: chosen.spec().partition(":")[2]})
    passes = list(recipe.passes)
    for place, spec in enumerate(passes):
        name, options = parse_spec(spec)
        if name == step.name and build(type(step), "pass", name, options) == step:
            passes[place] = chosen.spec()
            break
    return recipe.model_copy(update={"passes": tuple(passes)})
