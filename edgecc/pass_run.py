"""Passes run on a model, with the data that they ask about, samples that are held out from them, and the gate."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from edgecc.passes.base import PassContext
from edgecc.passes.pipeline import PassPipeline, PipelineResult

if TYPE_CHECKING:
    from edgecc.acceptance.gate import Gate
    from edgecc.acceptance.losses import Losses
    from edgecc.backend import Backend
    from edgecc.data.calibration import CalibrationData
    from edgecc.measuring.float_layers import MeasuredChoice
    from edgecc.measuring.shaping_times import ShapingChoice
    from edgecc.model import Model
    from edgecc.passes.base import WorkProgress
    from edgecc.recipe import Recipe
    from edgecc.registry import Registry
    from edgecc.statistics.table import StatisticTable
    from edgecc.target import Target


class PassRun(NamedTuple):
    """Passes that have run.

    Attributes:
        pipeline: the passes.
        model: what they made.
        context: what they were given and recorded.
        result: what they did.
        gate: that lossy passes went through; None if none is lossy.
    """

    pipeline: PassPipeline
    model: Model
    context: PassContext
    result: PipelineResult
    gate: Gate | None = None

    def losses(self) -> Losses | None:
        """What lossy passes cost; None if no pass lost anything."""
        return None if self.gate is None else self.gate.losses()

    @property
    def notes(self) -> tuple[str, ...]:
        """Of the gate."""
        return () if self.gate is None else tuple(self.gate.notes)


class Setting(NamedTuple):
    """What stays the same, however often the passes run.

    Attributes:
        build: makes the pipeline of a recipe.
        registry, backend, target: of the compilation.
        data: that passes ask about; None if there is none.
        held_out: samples that only what is lost is measured on; a part of `data` if None.
        progress: called during long steps.
    """

    build: Callable[[Recipe], PassPipeline]
    registry: Registry
    backend: Backend
    target: Target
    data: CalibrationData | StatisticTable | None
    held_out: CalibrationData | None
    progress: WorkProgress

    def run(self, recipe: Recipe, pipeline: PassPipeline, model: Model, known: StatisticTable | None = None) -> PassRun:
        """Run the passes on the model, in place; where some are lossy, with samples held out and a gate.

        Args:
            recipe: gives the seed, and how much may be lost.
            pipeline: the passes.
            model: changed.
            known: what was measured before.
        """
        context = self._context(recipe.seed)
        if known is not None:
            context.statistics = known
        if not pipeline.loses:
            return PassRun(pipeline, model, context, pipeline.run(model, context))
        from edgecc.acceptance.budget import LossBudget
        from edgecc.acceptance.gate import Gate
        from edgecc.data.split import Part

        held_out, data = self.held_out, context.calibration
        if held_out is None and data is not None:
            held_out = Part(data, held_out=True)
        context.calibration = self.seen
        budget = LossBudget(recipe.max_drop, recipe.min_sqnr)
        pipeline.gate = Gate(budget, held_out, context.calibration, context.progress)
        return PassRun(pipeline, model, context, pipeline.run(model, context), pipeline.gate)

    @property
    def seen(self) -> CalibrationData | None:
        """The samples that lossy passes see."""
        from edgecc.data.split import Part
        from edgecc.statistics.table import StatisticTable

        if self.data is None or isinstance(self.data, StatisticTable):
            return None
        return self.data if self.held_out is not None else Part(self.data, held_out=False)

    def shaped(
        self, recipe: Recipe, pipeline: PassPipeline, source: Model
    ) -> tuple[Recipe, PassPipeline, list[ShapingChoice]]:
        """Find how small passes make layers where that is left to the target's runtime.

        Args:
            recipe: that is asked for.
            pipeline: of it.
            source: not changed.

        Returns:
            The recipe that says what was found, its pipeline, and what was measured.
        """
        from edgecc.passes.base import Loss

        lossy = [step for step in pipeline.made_passes if step.loss is Loss.LOSSY]
        if not lossy:
            return recipe, pipeline, []  # without importing what shapes layers
        from edgecc.passes.shaping import ShapingPass

        if not any(isinstance(step, ShapingPass) for step in lossy):
            return recipe, pipeline, []
        from edgecc.shaped_recipe import settle_shapes

        found, choices = settle_shapes(recipe, self, source)
        return found, pipeline if found == recipe else self.build(found), choices

    def measures(self, recipe: Recipe) -> bool:
        from edgecc.measured_recipe import measures

        return measures(recipe, self.backend, self.target)

    def measured(self, recipe: Recipe, run: PassRun, source: Model) -> tuple[Recipe, PassRun, MeasuredChoice | None]:
        """Find the layers that integers make slower here, and run again with them in float.

        Args:
            recipe: that was run.
            run: of it, with passes that quantize.
            source: not changed.
        """
        from edgecc.measured_recipe import explained, measure, settled

        assert run.gate is not None, "some of its passes quantize"
        choice = measure(run.pipeline, run.gate, self.backend, self.target, run.context)
        recipe = settled(recipe, choice.ignore if choice is not None else (), self.registry)
        if choice is None or not choice.ignore:
            return recipe, run, choice
        again = self.run(recipe, self.build(recipe), source.clone(), run.context.statistics)
        again.result.skips = explained(again.result.skips, run.result.skips)
        return recipe, again, choice

    def _context(self, seed: int) -> PassContext:
        context = PassContext(self.target, seed, progress=self.progress)
        if self.data is None:
            return context
        from edgecc.statistics.table import StatisticTable

        if isinstance(self.data, StatisticTable):
            context.statistics = self.data
        else:
            context.calibration = self.data
        return context
