"""Resizing of images."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgecc_tflite.importing.base import ImportRule
from edgecc_tflite.importing.context import Import


def _bilinear(c: Import) -> None:
    c.give_first(_resize(c, "linear", {}))


def _nearest(c: Import) -> None:
    """The element at or in front of the place, or the nearest one with corners aligned.

    RESIZE_NEAREST_NEIGHBOR with half-pixel centres counts from the element's centre and does not shift back: the
    floor of that is round_prefer_ceil of ONNX's half_pixel.
    """
    rounds = c.option("alignCorners") or c.option("halfPixelCenters")
    c.give_first(_resize(c, "nearest", {"nearest_mode": "round_prefer_ceil" if rounds else "floor"}))


def _resize(c: Import, mode: str, attributes: dict[str, Any]) -> str:
    if c.option("alignCorners"):
        places = "align_corners"
    elif c.option("halfPixelCenters"):
        places = "half_pixel"
    else:
        places = "asymmetric"
    sizes, axes = _sizes(c)
    inputs = [c.first(), "", "", sizes]
    return c.add("Resize", inputs, mode=mode, coordinate_transformation_mode=places, **axes, **attributes)


def _sizes(c: Import) -> tuple[str, dict[str, Any]]:
    """The sizes of all axes where they are known; else of two, which not everything understands as well."""
    values, (batch, *_, channels) = c.value(1), c.shape()
    if values is None or min(batch, channels) < 0:
        return c.int64(1), {"axes": [2, 3]}
    return c.constant(np.array([batch, channels, *values.reshape(-1)], np.int64), "sizes"), {}


RULES = (
    ImportRule("RESIZE_BILINEAR", _bilinear, ("Resize", "Transpose")),
    ImportRule("RESIZE_NEAREST_NEIGHBOR", _nearest, ("Resize", "Transpose")),
)
