"""How often the float model and the quantized one are right, where the data has labels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from edgecc.measuring.metrics import AccuracyMeter, score
from edgecc.reference_session import reference_session

if TYPE_CHECKING:
    import numpy as np

    from edgecc.data.calibration import CalibrationData
    from edgecc.data.feeds import Feeds
    from edgecc.model import Model
    from edgecc.passes.base import WorkProgress

#: Most calls that are measured: a point of accuracy is 5 samples of them.
MOST_LABELLED = 512


@dataclass(frozen=True)
class Accuracy:
    """Share of samples whose top-1 is the label, from 0 to 1.

    Attributes:
        samples: that have been looked at.
        source: of the float model.
        quantized: of the quantized one.
    """

    samples: int
    source: float
    quantized: float


def measure_accuracy(
    before: Model, after: Model, data: CalibrationData | None, progress: WorkProgress
) -> Accuracy | str | None:
    """Run both on labelled samples; None where there are none, or no output is class scores.

    What is no label of the output is said in a sentence instead: wrong labels would give a number that means nothing.

    Args:
        before: float.
        after: quantized.
        data: with labels or without.
        progress: called after each call.
    """
    from edgecc.data.calibration import labelled

    batches = labelled(data) if data is not None else None
    if batches is None or data is None:
        return None
    sessions = [reference_session(model.to_proto()) for model in (before, after)]
    names = [tensor.name for tensor in before.outputs]
    meters = [AccuracyMeter(), AccuracyMeter()]
    count = calls = 0
    for feeds, labels in islice(batches, MOST_LABELLED):
        for session, meter in zip(sessions, meters, strict=True):
            score(meter, _outputs(session, names, feeds), labels)
        if meters[0].problem:
            return f"no accuracy: {meters[0].problem}"
        calls, count = calls + 1, count + len(labels)
        progress("measuring accuracy", calls, min(data.total, MOST_LABELLED))
    source, quantized = (meter.result() for meter in meters)
    return None if source is None or quantized is None else Accuracy(count, source, quantized)


def _outputs(session: object, names: list[str], feeds: Feeds) -> dict[str, np.ndarray]:
    import onnxruntime as ort

    assert isinstance(session, ort.InferenceSession)
    taken = {info.name for info in session.get_inputs()}
    given = {name: values for name, values in feeds.items() if name in taken}
    return dict(zip(names, session.run(names, given), strict=True))
