"""Pools and what else works on windows of an image."""

from __future__ import annotations

import math

from edgecc_tflite.enums import Activation
from edgecc_tflite.importing.base import ImportRule
from edgecc_tflite.importing.context import Import, channels_first, channels_last
from edgecc_tflite.importing.rules.windows import padding, strides, window
from edgecc_tflite.quantization.grid import Grid
from edgecc_tflite.quantization.pools import HALVES_AWAY, MOST_VALUES, STEPS


def _pool(c: Import, op: str, x: str) -> str:
    kernel, steps = window(c), strides(c)
    pads = padding(c, c.shape()[1:3], kernel, steps, [1, 1])
    return c.add(op, [x], kernel_shape=kernel, strides=steps, **pads)


def _max_pool(c: Import) -> None:
    c.give_first(_pool(c, "MaxPool", c.first()))


def _average_pool(c: Import) -> None:
    """Elements beyond the border do not count, as in ONNX."""
    if not _meets_halves(c):
        c.give_first(_pool(c, "AveragePool", c.first()))
        return
    # The mean of the stored numbers is exact in float32, so that a half is seen as one (see `quantization.pools`).
    source, out = c.tensor(), c.out()
    moved = c.transpose(c.stored(), channels_first(source.rank))
    mean = _pool(c, "AveragePool", c.graph.dequantized(moved, source, c.origin, quantization=STEPS))
    rounded = c.quantized(mean, out, HALVES_AWAY)
    c.give_stored(c.transpose(rounded, channels_last(out.rank)))


def _meets_halves(c: Import) -> bool:
    """Whether means of stored numbers may lie halfway between two of them, where kernels round away from zero."""
    grid, most = Grid.of(c.tensor()), math.prod(window(c))
    is_plain = c.option("fusedActivationFunction") == Activation.NONE and c.tensor().rank == 4
    return grid is not None and grid == Grid.of(c.out()) and grid.dtype == "int8" and is_plain and most <= MOST_VALUES


def _l2_pool(c: Import) -> None:
    x = c.first()
    c.give_first(c.add("Sqrt", [_pool(c, "AveragePool", c.add("Mul", [x, x]))]))


def _local_response(c: Import) -> None:
    """ONNX divides alpha by the number of channels that it sums up."""
    size = 2 * int(c.option("radius")) + 1
    factors = {
        "alpha": float(c.option("alpha")) * size,
        "beta": float(c.option("beta")),
        "bias": float(c.option("bias")),
    }
    c.give_first(c.add("LRN", [c.first()], size=size, **factors))


def _space_to_depth(c: Import) -> None:
    c.give_first(c.add("SpaceToDepth", [c.first()], blocksize=int(c.option("blockSize"))))


def _depth_to_space(c: Import) -> None:
    c.give_first(c.add("DepthToSpace", [c.first()], blocksize=int(c.option("blockSize")), mode="DCR"))


RULES = (
    ImportRule("MAX_POOL_2D", _max_pool, ("MaxPool", "Transpose")),
    ImportRule(
        "AVERAGE_POOL_2D",
        _average_pool,
        ("AveragePool", "Transpose"),
        "Of 8 bits: of the stored integers, with a scale that rounds halves as TFLite's kernels do.",
    ),
    ImportRule("L2_POOL_2D", _l2_pool, ("AveragePool", "Mul", "Sqrt", "Transpose")),
    ImportRule("LOCAL_RESPONSE_NORMALIZATION", _local_response, ("LRN", "Transpose")),
    ImportRule("SPACE_TO_DEPTH", _space_to_depth, ("SpaceToDepth", "Transpose")),
    ImportRule("DEPTH_TO_SPACE", _depth_to_space, ("DepthToSpace", "Transpose")),
)
