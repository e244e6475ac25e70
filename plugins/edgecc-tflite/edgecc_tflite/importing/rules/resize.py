"""Resizing of images."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgecc_tflite.importing.base import ImportRule
from edgecc_tflite.importing.context import Import


def _bilinear(c: Import) -> None:
    c.give_first(_resize(c, "linear", {}))


def _nearest(c: Import) -> None:
    """The element at or in front of the place, or the nearest one with corners aligned."""
    aligned = bool(c.option("alignCorners"))
    c.give_first(_resize(c, "nearest", {"nearest_mode": "round_prefer_ceil" if aligned else "floor"}))


def _resize(c: Import, mode: str, attributes: dict[str, Any]) -> str:
    if c.option("alignCorners"):
        places = "align_corners"
    elif c.option("halfPixelCenters"):
        # RESIZE_NEAREST_NEIGHBOR counts from the element's centre and does not shift back.
        places = "half_pixel" if mode == "linear" else "tf_half_pixel_for_nn"
    else:
        places = "asymmetric"
    return c.add(
        "Resize",
        [c.first(), "", "", _sizes(c)],
        mode=mode,
        coordinate_transformation_mode=places,
        axes=[2, 3],
        **attributes,
    )


def _sizes(c: Import) -> str:
    values = c.value(1)
    return c.int64(1) if values is None else c.constant(values.reshape(-1).astype(np.int64), "sizes")


RULES = (
    ImportRule("RESIZE_BILINEAR", _bilinear, ("Resize", "Transpose")),
    ImportRule("RESIZE_NEAREST_NEIGHBOR", _nearest, ("Resize", "Transpose")),
)
