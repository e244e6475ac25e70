"""A recipe that leaves to this machine what is faster becomes one that says it.

Passes never know a runner, and an artifact is what its recipe says, byte for byte. So whether a layer is faster in
float is measured between the two: the passes run as asked for, what they made is raced against the float model, and
where it loses, the recipe is written again with those layers excluded. That one is run and recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edgecc.options import build, parse_spec
from edgecc.passes.base import PassContext, Skip
from edgecc.passes.pipeline import PassPipeline
from edgecc.passes.quantize_static import QuantizeStatic
from edgecc.quantization.plan import EXCLUDED
from edgecc.recipe import Recipe, ordered_passes

if TYPE_CHECKING:
    from edgecc.acceptance.gate import Gate
    from edgecc.backend import Backend
    from edgecc.measuring.float_layers import MeasuredChoice
    from edgecc.model import Model
    from edgecc.registry import Registry
    from edgecc.target import Target


def measures(recipe: Recipe, backend: Backend, target: Target) -> bool:
    """Whether the recipe leaves it to this machine: as it says, or where `quantize` is for such machines."""
    if recipe.measure is not None:
        return recipe.measure
    return recipe.quantize == "int8" and backend.is_for_this_machine(target)


def measure(
    pipeline: PassPipeline, gate: Gate, backend: Backend, target: Target, context: PassContext
) -> MeasuredChoice | None:
    """Race what quantize-static made against the float model; None where nothing was quantized.

    Args:
        pipeline: that has run.
        gate: kept the models on both sides of the pass.
        backend: whose runtime runs them.
        target: what they are compiled for.
        context: of that run, with what is known of the data.
    """
    from edgecc.measuring.float_layers import MeasuredChoice, choose_float_layers

    passes = pipeline.made_passes
    quantizing = [place for place, step in enumerate(passes) if step.quantizes]
    steps = [place for place in quantizing if passes[place].name == QuantizeStatic.name]
    if gate.before is None or gate.after is None:
        return None
    if len(steps) != 1 or steps[0] != quantizing[0]:
        names = ", ".join(passes[place].name for place in quantizing)
        return MeasuredChoice(why_not=f"it is where {QuantizeStatic.name} quantizes, once, and here {names} does")
    step, before = passes[steps[0]], gate.before
    assert isinstance(step, QuantizeStatic), "it is one of those"

    def requantize(ignore: tuple[str, ...]) -> Model:
        model = before.clone()
        again = PassContext(target, context.seed, calibration=context.calibration)
        again.statistics = context.statistics
        PassPipeline([step.model_copy(update={"ignore": (*step.ignore, *ignore)})]).run(model, again)
        return model

    behind = passes[steps[0] + 1 :]
    return choose_float_layers(before, gate.after, backend, target, behind, requantize, context.progress)


def settled(recipe: Recipe, ignore: tuple[str, ...], registry: Registry) -> Recipe:
    """The recipe that says what was measured: what `quantize` stands for is written out, and nothing is measured.

    Args:
        recipe: that was measured.
        ignore: patterns of nodes that quantize-static is to keep in float, beside those that it has.
        registry: where its passes are looked up.
    """
    if not ignore:
        return recipe.model_copy(update={"measure": False})
    passes = []
    for spec in ordered_passes(recipe, registry):
        name, options = parse_spec(spec)
        if name == QuantizeStatic.name:
            step = build(QuantizeStatic, "pass", name, options)
            spec = step.model_copy(update={"ignore": (*step.ignore, *ignore)}).spec()
        passes.append(spec)
    written = {"passes": tuple(passes), "prune": None, "low_rank": None, "quantize": None}
    return recipe.model_copy(update={**written, "measure": False})


def explained(skips: Sequence[Skip], earlier: Sequence[Skip]) -> list[Skip]:
    """Say of nodes that were measured to be faster in float that they are, not that somebody excluded them.

    Args:
        skips: of the recipe that `settled` gave.
        earlier: of the one that was measured, with what the user had excluded.
    """
    known = set(earlier)
    return [
        replace(skip, reason="integers are slower here") if skip.reason == EXCLUDED and skip not in known else skip
        for skip in skips
    ]
