"""Normalizations in every form, Fourier transforms and windows."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc_tflite.testing import Case, check, f32, ints, lowered, run_tflite, weights

CASES = [
    *[
        Case(
            "LayerNormalization",
            ("f:2,3,4,5", weights(*shape)),
            {"axis": axis},
            outputs=3,
            label=str(axis),
            tolerance=1e-5,
        )
        for axis, shape in ((0, (2, 3, 4, 5)), (1, (3, 4, 5)), (-2, (4, 5)), (-1, (5,)))
    ],
    Case("GroupNormalization", ("f:2,6,9", weights(6), weights(6)), {"num_groups": 2}, label="1d", tolerance=1e-5),
    Case("GroupNormalization", ("f:2,6,4,5", "f:6", "f:6"), {"num_groups": 3}, label="computed", tolerance=1e-5),
    Case("MeanVarianceNormalization", ("f:2,3,4",), {"axes": [-1]}, label="axes", tolerance=1e-5),
    Case("LRN", ("f:1,8,4,5",), {"size": 4, "alpha": 0.1}, label="even", tolerance=1e-5),
    Case("LRN", ("f:1,8,9",), {"size": 3, "alpha": 0.1}, label="1d", tolerance=1e-5),
    *[
        Case("DFT", ("f:2,10,6,2", None, np.array(axis)), attributes, label=f"{label}{axis}", tolerance=1e-5)
        for axis in (1, -2)
        for label, attributes in (("forward", {}), ("inverse", {"inverse": 1}))
    ],
    Case("DFT", ("f:2,10,1", None, np.array(1)), {"onesided": 1}, label="real", tolerance=1e-5),
    Case("DFT", ("f:2,10,2", np.array(16), np.array(1)), label="longer", tolerance=1e-5),
    Case("DFT", ("f:2,10,2", np.array(7), np.array(1)), label="shorter", tolerance=1e-5),
    Case("STFT", ("f:2,64,1", np.array(8), None, np.array(16)), {"onesided": 1}, label="frames", tolerance=1e-5),
    Case("STFT", ("f:2,64,1", np.array(8), weights(16)), {"onesided": 0}, label="window", tolerance=1e-5),
    *[
        Case(op, (np.array(9),), {"periodic": p}, label=f"{p}")
        for op in ("HannWindow", "HammingWindow")
        for p in (0, 1)
    ],
    Case("BlackmanWindow", (np.array(9),)),
    Case("HannWindow", ("i64:",), values={0: np.array(9)}, results=("f:n",), label="computed", tolerance=1e-5),
    Case("ReduceMax", ("f:2,3", ints(1)), label="plain"),
    Case("Dropout", ("f:2,3",), outputs=2, label="mask"),
    Case("BatchNormalization", ("f:2,3,4", weights(3), weights(3), weights(3), f32(1, 2, 3)), label="1d"),
]


@pytest.mark.parametrize("case", [case for case in CASES if case.op != "LRN"], ids=str)
def test_equals_onnxruntime(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", [case for case in CASES if case.op == "LRN"], ids=str)
def test_local_response_normalization(case: Case) -> None:
    """ONNX Runtime takes odd windows over images only."""
    feeds = case.feeds()
    x, size = feeds["x0"].astype(np.float64), case.attributes["size"]
    front = (size - 1) // 2
    squares = np.pad(x**2, [(0, 0), (front, size - 1 - front)] + [(0, 0)] * (x.ndim - 2))
    total = sum(squares[:, first : first + x.shape[1]] for first in range(size))
    expected = x / (1 + case.attributes["alpha"] / size * total) ** 0.75
    for xnnpack in (True, False):
        found = run_tflite(lowered(case.model()), feeds, xnnpack=xnnpack)["y0"]
        np.testing.assert_allclose(found, expected, rtol=1e-5)
