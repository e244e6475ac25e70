"""Constants that a channel lies above, moved into the next bias (arXiv 1906.04721, section 4.1.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc.rewriting.linear import Linear, linear_of
from edgecc.rewriting.reading import is_op, text

if TYPE_CHECKING:
    from edgecc.model import Model
    from edgecc.rewriting.channel_regions import Region
    from edgecc.statistics.answers import Array, MomentsStatistic

#: Deviations below the mean that nearly all values lie above.
_DEVIATIONS = 3.0
#: Of a deviation; what is less is no gain.
_WORTHWHILE = 0.01


def absorbable(region: Region, model: Model) -> bool:
    """Whether a constant per channel can pass from the only source of a region to all its readers.

    Its activation must be Relu, which leaves what is positive alone; on the way there may be no padding, whose zeros
    the constant would have to be taken from too.
    """
    if region.refused or len(region.sources) != 1 or region.clips:
        return False
    source = region.sources[0]
    if not isinstance(source, Linear) or not source.takes_bias():
        return False
    if not all(is_op(node, "Relu") for node in model.consumers(source.last.outputs[0])):
        return False
    return all(reader.channels.keeps_constants and _takes_constants(reader.linear) for reader in region.readers)


def _takes_constants(linear: Linear) -> bool:
    if linear.node.op == "ConvTranspose" or not linear.takes_bias():
        return False
    padded = any(linear.node.attrs.get("pads") or ()) or text(linear.node, "auto_pad", "NOTSET").startswith("SAME")
    return not padded


def certain(moments: MomentsStatistic) -> Array:
    """What nearly all values of each channel lie above; 0 where that is negative or hardly more."""
    deviation = np.sqrt(moments.variance)
    found: Array = moments.mean - _DEVIATIONS * deviation
    return np.where(found > _WORTHWHILE * deviation, np.maximum(found, 0.0), 0.0)


def absorb(region: Region, constants: Array, model: Model) -> bool:
    """Take the constants from the source's bias, and give what readers make of them to theirs; whether that fits."""
    source = _now(region.sources[0].node, model)
    bias = source.bias()
    changes = [(source, -constants if bias is None else bias - constants)]
    for reader in region.readers:
        linear = _now(reader.linear.node, model)
        more, old = linear.of_constant(constants[reader.channels.index]), linear.bias()
        changes.append((linear, more if old is None else old + more))
    rounded = [(linear, linear.rounded(values)) for linear, values in changes]
    if any(linear.refuses(None, values) is not None for linear, values in rounded):
        return False
    for linear, values in rounded:
        linear.update(model, None, values)
    return True


def _now(node: object, model: Model) -> Linear:
    """The linear node as it is after other edits."""
    found = linear_of(node, model)
    assert isinstance(found, Linear), "it was one when the region was found"
    return found
