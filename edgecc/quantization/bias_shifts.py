"""How far the mean of a layer's output moved when the network was quantized."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from edgecc.statistics.observation import Observation
from edgecc.statistics.patches import spread

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model, Node
    from edgecc.quantization.quantized_layers import QuantizedLayer
    from edgecc.statistics.answers import Array

#: What is made of a layer's output before it is read.
Activation: TypeAlias = "Callable[[Array], Array]"

#: Numbers kept of a layer from all samples, float and quantized: 32 MB as float32.
_KEPT = 4_000_000
#: A shift is one if it is larger than so many standard errors of its mean over samples,
_ERRORS = 2.0
#: than this part of the output's size, which rounding in float may be, and than this part of the error.
_FLOAT_NOISE, _WORTHWHILE = 1e-5, 0.01


@dataclass(frozen=True)
class Outputs:
    """A layer's outputs in both models at the same places.

    Attributes:
        expected: float32 [rows, channels], of the float model.
        found: the same of the quantized one.
        means: float64 [samples, channels] of expected - found over all places of each sample.
    """

    expected: Array
    found: Array
    means: Array

    def shift(self) -> Array:
        """Mean of expected - found for each channel; 0 where it is not certain to be one."""
        mean = self.means.mean(axis=0)
        error = self.means.std(axis=0) / np.sqrt(len(self.means))
        size = np.sqrt(np.square(self.expected, dtype=np.float64).mean(axis=0))
        distance = np.sqrt(np.square(self.expected - self.found, dtype=np.float64).mean(axis=0))
        least = np.maximum(np.maximum(_ERRORS * error, _FLOAT_NOISE * size), _WORTHWHILE * distance)
        result: Array = np.where(np.abs(mean) > least, mean, 0.0)
        return result

    def improved(self, change: Array, activation: Activation) -> Array:
        """For each channel, whether the change of its bias brings what is read nearer to the float model."""
        wanted = activation(self.expected)
        before = np.square(wanted - activation(self.found), dtype=np.float64).sum(axis=0)
        after = np.square(wanted - activation(self.found + change.astype(np.float32)), dtype=np.float64).sum(axis=0)
        result: Array = after < before
        return result


def observe(
    layer: QuantizedLayer, holder: Node, reference: Model, model: Model, data: CalibrationData, samples: int
) -> Outputs:
    """Run both models up to the layer.

    Args:
        layer: whose output is compared.
        holder: the node of the quantized model that adds its bias.
        reference: the float model.
        model: the quantized one, as it is by now.
        data: read once.
        samples: calls at most.
    """
    axis, channels = layer.output_axis(), layer.source.outputs
    assert axis is not None, "the caller has seen to it"
    names = layer.source.last.outputs[0].name, holder.outputs[0].name
    first, second = Observation(reference, names[:1]), Observation(model, names[1:])
    limit = max(1, _KEPT // (2 * channels * max(1, samples)))
    kept: list[tuple[Array, Array]] = []
    means = []
    for number, feeds in enumerate(islice(data.samples(), samples)):
        where = f"{data.source}, sample {number}"
        pair = [
            np.moveaxis(observation.run(feeds, where)[0][name], axis, -1).reshape(-1, channels)
            for observation, name in zip((first, second), names, strict=True)
        ]
        means.append((pair[0] - pair[1]).mean(axis=0, dtype=np.float64))
        rows = spread(len(pair[0]), limit)
        kept.append((pair[0][rows], pair[1][rows]))
    expected, found = (np.concatenate([pair[i] for pair in kept]) for i in (0, 1))
    return Outputs(expected, found, np.stack(means))
