"""Convolutions and pools beyond the plain two-dimensional ones: other ranks, dilations, computed weights, indices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgecc_tflite.testing import Case, check, lowered, run_tflite, weights

_X = "f:2,4,5,6,7"
_WINDOWS: dict[str, dict[str, Any]] = {
    "plain": {},
    "pads": {"pads": [1, 0, 1, 0, 1, 1], "strides": [2, 1, 2]},
    "dilated": {"dilations": [2, 1, 2]},
    "dilated-pads": {"dilations": [2, 2, 1], "pads": [1, 1, 1, 1, 1, 1], "strides": [1, 2, 3]},
    "ceil": {"strides": [2, 2, 3], "ceil_mode": 1},
    "ceil-dilated": {"strides": [2, 2, 3], "ceil_mode": 1, "dilations": [2, 2, 2]},
}


def _pools(op: str, **more: Any) -> list[Case]:
    """One case for each kind of window in three dimensions, and dilated ones in one and two."""
    kernel = {"kernel_shape": [2, 3, 2], **more}
    label = "-".join(map(str, more.values()))
    return [
        *[
            Case(op, (_X,), kernel | window, label=f"{name}{label}", tolerance=4e-6)
            for name, window in _WINDOWS.items()
        ],
        Case(
            op,
            ("f:1,3,9,9",),
            {**more, "kernel_shape": [3, 2], "dilations": [2, 3], "pads": [2, 1, 0, 1]},
            label=f"2d{label}",
        ),
        Case(op, ("f:1,3,9",), {**more, "kernel_shape": [3], "dilations": [2], "strides": [2]}, label=f"1d{label}"),
    ]


CASES = [
    Case("Conv", (_X, weights(6, 4, 2, 3, 2), weights(6)), label="3d"),
    Case("Conv", (_X, weights(6, 4, 3, 3, 3)), {"pads": [1] * 6}, label="3d-same"),
    Case("Conv", (_X, weights(6, 4, 3, 3, 3)), {"pads": [1, 0, 2, 1, 1, 0], "strides": [2, 1, 2]}, label="3d-pads"),
    Case("Conv", (_X, weights(6, 2, 2, 2, 2), weights(6)), {"group": 2, "dilations": [2, 1, 2]}, label="3d-groups"),
    Case("Conv", (_X, "f:6,2,2,2,2", "f:6"), {"group": 2}, label="3d-computed"),
    Case("Conv", ("f:1,4,8,8", "f:6,4,3,3", "f:6"), {"pads": [1] * 4}, label="computed"),
    Case("Conv", ("f:1,4,8,8", "f:6,2,3,3"), {"group": 2, "strides": [2, 2]}, label="computed-groups"),
    Case("Conv", ("f:1,4,8,8", "f:8,1,3,3"), {"group": 4}, label="computed-depthwise"),
    Case("Conv", ("f:1,4,9", "f:8,4,3"), label="computed-1d"),
    *[
        Case("ConvTranspose", ("f:1,4,3,4,5", weights(4, 3, 2, 3, 3), weights(3)), window, label=f"3d-{label}")
        for label, window in (
            ("plain", {}),
            ("strided", {"strides": [2, 2, 1], "pads": [1, 0, 1, 0, 1, 1], "output_padding": [1, 1, 0]}),
            ("dilated", {"strides": [2, 1, 2], "dilations": [1, 2, 2]}),
        )
    ],
    Case(
        "ConvTranspose", ("f:1,4,3,4,5", weights(4, 3, 2, 2, 2)), {"group": 2, "strides": [2, 2, 2]}, label="3d-groups"
    ),
    Case("ConvTranspose", ("f:1,4,3,4,5", "f:4,3,2,2,2", "f:3"), {"strides": [2, 2, 2]}, label="3d-computed"),
    Case("ConvTranspose", ("f:1,4,5,5", "f:4,3,3,3", "f:3"), {"strides": [2, 2], "pads": [1] * 4}, label="computed"),
    Case("ConvTranspose", ("f:1,4,5,5", "f:4,3,3,3"), {"group": 2, "dilations": [2, 1]}, label="computed-groups"),
    *_pools("MaxPool"),
    *_pools("AveragePool"),
    *_pools("AveragePool", count_include_pad=1),
    *[case for p in (1, 2, 3) for case in _pools("LpPool", p=p)],
    *[
        Case("MaxPool", (x,), {"kernel_shape": kernel, **window}, outputs=2, label=f"indices-{label}")
        for label, x, kernel, window in (
            ("1d", "f:2,3,9", [3], {"strides": [2]}),
            ("2d", "f:2,3,7,6", [3, 2], {"pads": [1, 0, 1, 1], "strides": [2, 1]}),
            ("columns", "f:2,3,7,6", [3, 2], {"storage_order": 1}),
            ("dilated", "f:2,3,7,6", [2, 2], {"dilations": [2, 3], "ceil_mode": 1}),
            ("3d", "f:2,3,4,5,6", [2, 2, 2], {"strides": [2, 2, 2]}),
        )
    ],
    Case("MaxPool", ("u8:1,2,6,6",), {"kernel_shape": [3, 3], "pads": [1] * 4}, label="uint8", span=(0, 255)),
    Case("GlobalLpPool", ("f:2,3,4,5",), {"p": 2}),
    Case("GlobalLpPool", ("f:2,3,4,5",), {"p": 3}, label="p3"),
    Case("GlobalMaxPool", ("f:2,3,4,5,6",), label="3d"),
]


@pytest.mark.parametrize("case", [case for case in CASES if case.op != "GlobalLpPool"], ids=str)
def test_equals_onnxruntime(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", [case for case in CASES if case.op == "GlobalLpPool"], ids=str)
def test_global_lp_pool(case: Case) -> None:
    """ONNX Runtime has not got this version of it."""
    feeds = case.feeds()
    power = case.attributes["p"]
    expected = np.sum(np.abs(feeds["x0"]) ** power, axis=(2, 3), keepdims=True) ** (1 / power)
    np.testing.assert_allclose(run_tflite(lowered(case.model()), feeds)["y0"], expected, rtol=1e-5)
