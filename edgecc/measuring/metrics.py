"""Formulas of fidelity: how far an output is from its reference. All sums in float64."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

#: Values converted to float64 at a time.
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Fidelity:
    """How far one output is from its reference, over all samples.

    With reference r and difference d = output - reference, over n values:

    Attributes:
        max_abs: max |d|, in the output's unit; NaN if one side has a NaN where the other has none.
        mean_abs: sum |d| / n, in the output's unit.
        relative: max |d| / max |r|: the largest error in units of the largest value; 0 if d is 0 everywhere,
            infinite if only r is.
        sqnr_db: 10 log10(sum r² / sum d²), in decibels; infinite if d is 0 everywhere, -infinite if only r is.
        cosine: sum r·o / sqrt(sum r² · sum o²), without unit; 1 if both are 0 everywhere, 0 if only one is.
        top1: share of samples with the largest class score at the same place (see `class_scores`); None where the
            output is no class scores.
    """

    max_abs: float
    mean_abs: float
    relative: float
    sqnr_db: float
    cosine: float
    top1: float | None = None

    def to_dict(self) -> dict[str, float | str | None]:
        """JSON values; JSON has no infinity and no NaN, so they are text."""
        return {key: _json(value) for key, value in asdict(self).items()}


class FidelityMeter:
    """Collects batches of one output in constant memory."""

    def __init__(self) -> None:
        self._count = 0
        self._max_abs = self._max_reference = 0.0
        self._sum_abs = self._sum_square = 0.0
        self._reference_square = self._output_square = self._product = 0.0
        self._rows = self._agreeing = 0

    def add(self, reference: np.ndarray, output: np.ndarray) -> None:
        """Compare a batch; equal infinities and NaNs at equal places count as equal."""
        if reference.shape != output.shape:
            raise ValueError(f"shapes differ: {reference.shape} and {output.shape}")
        first, second = reference.reshape(-1), output.reshape(-1)
        for start in range(0, first.size, _CHUNK):
            self._add_values(first[start : start + _CHUNK], second[start : start + _CHUNK])
        expected, scores = class_scores(reference), class_scores(output)
        if expected is not None and scores is not None:
            agree = top1(expected) == top1(scores)
            self._rows += agree.size
            self._agreeing += int(agree.sum())

    def _add_values(self, reference: np.ndarray, output: np.ndarray) -> None:
        r, o = reference.astype(np.float64), output.astype(np.float64)
        same = (r == o) | (np.isnan(r) & np.isnan(o))
        odd = same & ~np.isfinite(r)
        if odd.any():
            r, o = np.where(odd, 0.0, r), np.where(odd, 0.0, o)
        with np.errstate(invalid="ignore", over="ignore"):
            difference = np.abs(o - r)
            self._count += r.size
            self._max_abs = _larger(self._max_abs, difference)
            self._max_reference = _larger(self._max_reference, np.abs(r))
            self._sum_abs += float(difference.sum())
            self._sum_square += float(difference @ difference)
            self._reference_square += float(r @ r)
            self._output_square += float(o @ o)
            self._product += float(r @ o)

    def result(self) -> Fidelity:
        """The figures over everything added so far."""
        return Fidelity(
            max_abs=self._max_abs,
            mean_abs=self._sum_abs / self._count if self._count else 0.0,
            relative=_ratio(self._max_abs, self._max_reference),
            sqnr_db=sqnr_db(self._reference_square, self._sum_square),
            cosine=cosine(self._product, self._reference_square, self._output_square),
            top1=self._agreeing / self._rows if self._rows else None,
        )


def fidelity(reference: np.ndarray, output: np.ndarray) -> Fidelity:
    """The figures of `Fidelity` for one pair of arrays."""
    meter = FidelityMeter()
    meter.add(reference, output)
    return meter.result()


def sqnr_db(signal: float, noise: float) -> float:
    """Signal to quantization noise ratio in dB, 10 log10(signal / noise), of two sums of squares."""
    if math.isnan(signal) or math.isnan(noise):
        return math.nan
    if noise == 0.0:
        return math.inf
    if signal == 0.0:
        return -math.inf
    if math.isinf(noise):
        return math.nan if math.isinf(signal) else -math.inf
    return math.inf if math.isinf(signal) else 10.0 * (math.log10(signal) - math.log10(noise))


def cosine(product: float, first_square: float, second_square: float) -> float:
    """Cosine of the angle between two vectors from their sums of products and squares."""
    if first_square == 0.0 and second_square == 0.0:
        return 1.0
    if first_square == 0.0 or second_square == 0.0:
        return 0.0
    value = product / (math.sqrt(first_square) * math.sqrt(second_square))
    return value if math.isnan(value) else max(-1.0, min(1.0, value))


def wilson_interval(share: float, samples: float) -> tuple[float, float]:
    """Where a share that was counted on so many samples lies with a confidence of 95 % (Wilson 1927).

    Args:
        share: from 0 to 1.
        samples: that it was counted on; the interval is all of 0 to 1 without any.
    """
    if samples <= 0:
        return 0.0, 1.0
    square = _NORMAL_95**2 / samples
    centre = (share + square / 2) / (1 + square)
    half = _NORMAL_95 / (1 + square) * math.sqrt(share * (1 - share) / samples + square / (4 * samples))
    return max(0.0, centre - half), min(1.0, centre + half)


#: 97.5 % of a normal distribution lie below.
_NORMAL_95 = 1.959964


def class_scores(values: np.ndarray) -> np.ndarray | None:
    """The output with classes on the last axis: (samples, classes) or (samples, steps, classes).

    Axes of size 1 at the end are dropped, as in (samples, classes, 1, 1). None where that leaves another rank (an
    image is no class scores) or fewer than 2 classes.
    """
    shape = list(values.shape)
    while len(shape) > 2 and shape[-1] == 1:
        shape.pop()
    if len(shape) not in (2, 3) or shape[-1] < 2:
        return None
    return values.reshape(shape)


def top1(scores: np.ndarray) -> np.ndarray:
    """Index of the largest value along the last axis; the first of equal ones."""
    return np.asarray(np.argmax(scores, axis=-1))


def label_problem(labels: np.ndarray, classes: int) -> str:
    """Why they are no labels for scores of so many classes; "" if they are.

    Args:
        labels: one per sample: (samples,) class indices, or (samples, classes) whole numbers, the largest at the class.
        classes: of the output.
    """
    want = f"one whole number from 0 to {classes - 1} per sample is wanted"
    if labels.dtype.kind not in "iub":
        return f"the labels are {labels.dtype}, no class indices: {want}"
    rows = labels.reshape(len(labels), -1)
    if rows.shape[1] > 1:
        return "" if rows.shape[1] == classes else f"the labels are {rows.shape[1]} numbers per sample: {want}"
    wrong = rows[(rows < 0) | (rows >= classes)]
    return f"label {wrong[0]} is no class of the output: {want}" if wrong.size else ""


class AccuracyMeter:
    """Share of samples whose largest score is at the label; constant memory.

    Attributes:
        problem: why the labels were of no use; "" if they were.
    """

    def __init__(self) -> None:
        self.problem = ""
        self._right = self._count = 0

    def add(self, scores: np.ndarray, labels: np.ndarray) -> None:
        """Count a batch.

        Args:
            scores: (samples, classes).
            labels: (samples,) class indices, or (samples, classes) with the largest value at the class.
        """
        classes = labels.reshape(len(labels), -1)
        wanted = top1(classes) if classes.shape[1] > 1 else classes[:, 0]
        self._right += int((top1(scores) == wanted).sum())
        self._count += len(scores)

    def result(self) -> float | None:
        """From 0 to 1; None without samples, or where some had no good label."""
        return self._right / self._count if self._count and not self.problem else None


def score(meter: AccuracyMeter, outputs: Mapping[str, np.ndarray], labels: np.ndarray | None) -> None:
    """Count a batch: labels are about the first output that is class scores; what is wrong with them is remembered."""
    if labels is None:
        return
    for values in outputs.values():
        scores = class_scores(values)
        if scores is not None and scores.ndim == 2 and len(scores) == len(labels):
            meter.problem = meter.problem or label_problem(labels, scores.shape[1])
            if not meter.problem:
                meter.add(scores, labels)
            return


def _larger(so_far: float, values: np.ndarray) -> float:
    """The maximum, NaN if there is one."""
    return float(np.maximum(so_far, values.max())) if values.size else so_far


def _ratio(error: float, scale: float) -> float:
    if error == 0.0:
        return 0.0
    return error / scale if scale else math.inf


def _json(value: Any) -> float | str | None:
    if value is None:
        return None
    return float(value) if math.isfinite(value) else str(float(value))
