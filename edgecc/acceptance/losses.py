"""What lossy passes cost: the model behind each of them and the source, on samples that nothing was fitted to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from edgecc.acceptance.budget import LossBudget
from edgecc.errors import VerificationError
from edgecc.measuring.metrics import AccuracyMeter, Fidelity, FidelityMeter, score, wilson_interval

if TYPE_CHECKING:
    import numpy as np

    from edgecc.data.calibration import CalibrationData
    from edgecc.data.feeds import Feeds
    from edgecc.model import Model
    from edgecc.passes.base import WorkProgress
    from edgecc.quantization.losses import QuantizationLosses

#: Most calls that a model is measured on, unless a budget asks for more.
MOST_CALLS = 512
#: Outputs of the source take at most so many bytes.
_KEPT = 64 << 20


@dataclass(frozen=True)
class StepLoss:
    """What is lost when a pass has run, with all before it.

    Attributes:
        step: the pass with its options.
        macs: multiply-accumulates of the model then.
        weight_bytes: of its constants as they are stored.
        samples: that were measured; 0 if there are none.
        outputs: floating point ones, by name; in ONNX Runtime, its optimizations off.
        accuracy: share of samples whose top-1 is the label, where the data has labels.
        taken_back: why the model is as before the pass; "" if what the pass did is kept.
    """

    step: str
    macs: int
    weight_bytes: int
    samples: int = 0
    outputs: dict[str, Fidelity] = field(default_factory=dict)
    accuracy: float | None = None
    taken_back: str = ""

    def agreement(self) -> tuple[float, float, float] | None:
        """Share of samples with the source's top-1 and its 95 % interval, of the output that keeps least.

        Outputs of several steps have several top-1 per sample, which are not independent: the interval is that of the
        number of samples.
        """
        shares = [found.top1 for found in self.outputs.values() if found.top1 is not None]
        return (min(shares), *wilson_interval(min(shares), self.samples)) if shares else None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        agreement = self.agreement()
        interval = {} if agreement is None else dict(zip(("share", "low", "high"), agreement, strict=True))
        outputs = {name: found.to_dict() for name, found in self.outputs.items()}
        return {**vars(self), "outputs": outputs, "agreement": interval}


@dataclass(frozen=True)
class Losses:
    """What all lossy passes cost.

    Attributes:
        samples: that were measured; 0 if only statistics were given, or nothing.
        held_out: whether nothing was fitted to them; there are none of such where there are few samples.
        macs, weight_bytes: of the source, after what keeps its values.
        steps: passes that lost something, in order, those that were taken back among them.
        budget: how much may be lost.
        accuracy: of the source, where the data has labels.
        why_no_accuracy: what is wrong with the labels; "" if nothing is, or there are none.
        quantization: which layers compute with integers, and how exactly; None if nothing was quantized.
    """

    samples: int
    held_out: bool
    macs: int
    weight_bytes: int
    steps: tuple[StepLoss, ...]
    budget: LossBudget
    accuracy: float | None = None
    why_no_accuracy: str = ""
    quantization: QuantizationLosses | None = None

    @property
    def kept(self) -> StepLoss | None:
        """The last pass that was not taken back: what the artifact is."""
        return next((step for step in reversed(self.steps) if not step.taken_back), None)

    def to_dict(self) -> dict[str, Any]:
        """JSON values; what quantization says stands apart in the report."""
        values = {key: value for key, value in vars(self).items() if key != "quantization"}
        return {**values, "budget": vars(self.budget), "steps": [step.to_dict() for step in self.steps]}


@dataclass(frozen=True)
class Measured:
    """Two models on the same samples.

    Attributes:
        samples: that they saw.
        outputs: of the second against the first.
        source, accuracy: top-1 on labels, of the first and of the second; None without labels.
        problem: what is wrong with the labels; "" if nothing is.
    """

    samples: int
    outputs: dict[str, Fidelity]
    source: float | None
    accuracy: float | None
    problem: str


class Reference:
    """What models are compared with: its outputs are kept for the next one, as far as they are small.

    Args:
        model: not changed.
    """

    def __init__(self, model: Model) -> None:
        self.names = [tensor.name for tensor in model.outputs]
        self._session = Session(model, self.names)
        self._kept: dict[bytes, dict[str, np.ndarray]] = {}
        self._bytes = 0
        self._seen: set[bytes] = set()

    @property
    def distinct(self) -> int:
        """How many different feeds it was run on."""
        return len(self._seen)

    def run(self, feeds: Feeds) -> dict[str, np.ndarray]:
        """Outputs by name. Known by the feeds' values: a function may yield others when it is called again."""
        digest = hashlib.blake2b(digest_size=16)
        for name in sorted(feeds):
            digest.update(name.encode())
            digest.update(feeds[name].tobytes())
        key = digest.digest()
        self._seen.add(key)
        if key in self._kept:
            return self._kept[key]
        found = self._session.run(feeds)
        size = sum(values.nbytes for values in found.values())
        if self._bytes + size <= _KEPT:
            self._kept[key] = found
            self._bytes += size
        return found


def measure(
    source: Reference, model: Model, data: CalibrationData, progress: WorkProgress, most: int = MOST_CALLS
) -> Measured:
    """Run both on the data.

    Args:
        source: what the model is compared with.
        model: with the same inputs and outputs.
        data: samples, with labels or without.
        progress: called after each call.
        most: calls.

    Raises:
        DataError: the data does not fit the model.
        VerificationError: one of them does not run in ONNX Runtime.
    """
    names, session = source.names, Session(model, source.names)
    meters = {name: FidelityMeter() for name in names}
    scores = [AccuracyMeter(), AccuracyMeter()]
    floats: dict[str, bool] = dict.fromkeys(names, True)
    calls = 0
    for feeds, labels in islice(_calls(data), most):
        expected, found = source.run(feeds), session.run(feeds)
        for name, meter in meters.items():
            floats[name] = expected[name].dtype.kind == "f"
            if floats[name]:
                meter.add(expected[name], found[name])
        for outputs, meter_of_labels in zip((expected, found), scores, strict=True):
            score(meter_of_labels, outputs, labels)
        calls += 1
        progress("measuring what was lost", calls, min(data.total, most))
    results = {name: meter.result() for name, meter in meters.items() if calls and floats[name]}
    accuracy_of_source, accuracy = (meter.result() for meter in scores)
    problem = f"no accuracy: {scores[0].problem}" if scores[0].problem else ""
    return Measured(calls * data.per_call, results, accuracy_of_source, accuracy, problem)


def has_class_scores(source: Reference, data: CalibrationData) -> bool:
    """Whether an output is class scores, by its first call."""
    from edgecc.measuring.metrics import class_scores

    feeds = next(iter(data.samples()), None)
    if feeds is None:
        return False
    return any(v.dtype.kind == "f" and class_scores(v) is not None for v in source.run(feeds).values())


def _calls(data: CalibrationData) -> Iterator[tuple[Feeds, np.ndarray | None]]:
    from edgecc.data.calibration import labelled

    pairs = labelled(data)
    if pairs is None:
        yield from ((feeds, None) for feeds in data.samples())
    else:
        yield from pairs


class Session:
    """A model in ONNX Runtime, node by node as it says."""

    def __init__(self, model: Model, names: list[str]) -> None:
        from edgecc.reference_session import reference_session

        self._names = names
        try:
            self._session = reference_session(model.to_proto())
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise _does_not_run(error) from error
        self._taken = {info.name for info in self._session.get_inputs()}

    def run(self, feeds: Feeds) -> dict[str, np.ndarray]:
        given = {name: values for name, values in feeds.items() if name in self._taken}
        try:
            return dict(zip(self._names, self._session.run(self._names, given), strict=True))
        except Exception as error:  # likewise
            raise _does_not_run(error) from error


def _does_not_run(error: Exception) -> VerificationError:
    return VerificationError(
        "what is lost cannot be measured: ONNX Runtime does not run the model", why=str(error).splitlines()[0]
    )
