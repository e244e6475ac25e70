"""The gate that every lossy pass goes through: what it cost is measured, and beyond the budget it is taken back."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from edgecc.acceptance.budget import LossBudget
from edgecc.acceptance.losses import MOST_CALLS, Losses, Measured, Reference, StepLoss, has_class_scores, measure
from edgecc.errors import DataError, OptionError, VerificationError
from edgecc.passes.base import no_progress

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model
    from edgecc.passes.base import Pass, WorkProgress


class Gate:
    """Measures the model behind each lossy pass against what it was in front of the first of them.

    A pass whose result is beyond the budget is taken back, unless the next pass mends what it cost
    (`Pass.needs_float_model`): then the result of both is looked at, and both go or stay.

    Args:
        budget: how much may be lost; nothing is taken back if it is empty.
        held_out: samples that nothing is fitted to.
        seen: those that passes see, measured on where no others are and there is no budget.
        progress: called after each sample.

    Attributes:
        source: in front of the first lossy pass; None before that.
        before, after: around those passes that quantize and were kept; None if none was.
        notes: sentences that the user should read.
    """

    def __init__(
        self,
        budget: LossBudget | None = None,
        held_out: CalibrationData | None = None,
        seen: CalibrationData | None = None,
        progress: WorkProgress = no_progress,
    ) -> None:
        self.budget = budget or LossBudget()
        self.source: Model | None = None
        self.before: Model | None = None
        self.after: Model | None = None
        self.notes: list[str] = []
        self._data, self._held_out = _chosen(held_out, seen)
        self._progress = progress
        # A call has at least one sample.
        self._most_calls = max(MOST_CALLS, self.budget.samples_needed())
        self._steps: list[StepLoss] = []
        self._good: Model | None = None
        self._open: list[StepLoss] = []
        self._quantized = False
        self._last: Measured | None = None
        self._reference: Reference | None = None

    @property
    def is_open(self) -> bool:
        """Whether a pass was let through that the next one is to mend."""
        return bool(self._open)

    def enter(self, step: Pass, model: Model) -> None:
        """Called in front of a lossy pass.

        Raises:
            DataError: there is a budget, and too few samples were held out to tell whether it is met.
            OptionError: the budget is about something that the model does not have.
        """
        if self.source is None:
            self.source = model.clone()
            self._check()
        if not self._open:
            self._good = model.clone()
            self._quantized = False
        if step.quantizes:
            self._quantized = True
            if self.before is None:
                self.before = model.clone()

    def judge(self, step: Pass, model: Model, *, changed: bool, mended: bool) -> Model | None:
        """Called behind a lossy pass.

        Args:
            step: the pass.
            model: as it is now.
            changed: whether the pass changed it.
            mended: whether the next pass mends what this one cost.

        Returns:
            What the model is to be again; None if it stays.
        """
        if changed:
            self._open.append(self._measured(step, model))
        if not self._open:
            self._forget_quantization()
            return None
        last = self._open[-1]
        why = self.budget.refusal(last.outputs, last.samples) if self.budget.is_given else ""
        if why and mended:
            return None
        if why:
            self._steps += [replace(loss, taken_back=why) for loss in self._open]
            names = " and ".join(loss.step for loss in self._open)
            self.notes.append(f"{names} {'was' if len(self._open) == 1 else 'were'} taken back: {why}")
            self._open = []
            self._forget_quantization()
            return self._good
        self._steps += self._open
        self._open = []
        if self._quantized or (self.after is not None and step.needs_float_model):
            self.after = model.clone()
        return None

    def losses(self) -> Losses | None:
        """What was lost; None if no pass lost anything."""
        if self.source is None or not self._steps:
            return None
        from edgecc.inspection import inspect_model

        facts, quantization = inspect_model(self.source), None
        if self.before is not None and self.after is not None:
            from edgecc.quantization.losses import measure as measure_layers

            quantization = measure_layers(self.before, self.after, self._data, self._progress)
        last = self._last or Measured(0, {}, None, None, "")
        held_out = self._held_out and last.samples > 0
        steps = tuple(self._steps)
        return Losses(
            *(last.samples, held_out, facts.macs, facts.parameter_bytes, steps, self.budget),
            *(last.source, last.problem, quantization),
        )

    def _measured(self, step: Pass, model: Model) -> StepLoss:
        from edgecc.inspection import inspect_model

        facts = inspect_model(model)
        loss = StepLoss(step.spec(), facts.macs, facts.parameter_bytes)
        if self._data is None:
            return loss
        try:
            found = measure(self._opened(), model, self._data, self._progress, self._most_calls)
        except VerificationError as error:
            if self.budget.is_given:
                raise
            self.notes.append(f"{step.spec()}: {error.what} ({error.why})")
            return loss
        if self._last is None and self._data.per_call == 1:
            self._say_if_alike(found.samples)
        self._last = found
        return replace(loss, samples=found.samples, outputs=found.outputs, accuracy=found.accuracy)

    def _say_if_alike(self, samples: int) -> None:
        if samples > 1 and self._opened().distinct == 1:
            self.notes.append(
                f"all {samples} samples that losses are measured on are the same: "
                "the figures say nothing about others, and what was fitted may be far off"
            )

    def _opened(self) -> Reference:
        """The source in ONNX Runtime."""
        if self._reference is None:
            assert self.source is not None, "a pass was entered"
            self._reference = Reference(self.source)
        return self._reference

    def _forget_quantization(self) -> None:
        """What quantized was taken back, or changed nothing."""
        if self.after is None:
            self.before = None

    def _check(self) -> None:
        """Whether the budget can be looked at."""
        if not self.budget.is_given:
            return
        asked = "max_drop" if self.budget.max_drop is not None else "min_sqnr"
        if self._data is None:
            raise DataError(
                f"{asked} needs samples that what is lost is measured on",
                hint="add --calibration DATA.npz, of which every eighth sample is held out, or --held-out DATA.npz",
            )
        count = sum(1 for _ in islice(self._data.samples(), self._most_calls)) * self._data.per_call
        needed = self.budget.samples_needed()
        if not self._held_out or count < needed:
            found = "none is" if not self._held_out else f"there {'is' if count == 1 else 'are'} {count}"
            why = f"one sample of {count} is {100 / count:.2g} points; max_drop=2 allows 2 of 100" if count else ""
            raise DataError(
                f"{asked}={getattr(self.budget, asked):g} needs {needed} samples that are held out, and {found}",
                why=why if self._held_out else "of fewer than eight samples of calibration data none is held out",
                hint=f"give {8 * needed} samples with --calibration, or {needed} others with --held-out DATA.npz",
            )
        assert self.source is not None, "it was entered"
        if not any(tensor.dtype is not None and np.dtype(tensor.dtype).kind == "f" for tensor in self.source.outputs):
            raise OptionError(
                f"{asked} is about floating point outputs, and the model has none",
                hint="leave it out: edgecc compare says what the artifact lost",
            )
        if self.budget.max_drop is not None and not has_class_scores(self._opened(), self._data):
            raise OptionError(
                "max_drop is about the largest class score, and no output of the model is class scores",
                hint="--min-sqnr 20 asks that errors of every output are a tenth of its values",
            )


def _chosen(held_out: CalibrationData | None, seen: CalibrationData | None) -> tuple[CalibrationData | None, bool]:
    """What is measured on, and whether nothing was fitted to it."""
    for data, is_held_out in ((held_out, True), (seen, False)):
        if data is not None and next(iter(data.samples()), None) is not None:
            return data, is_held_out
    return None, False
