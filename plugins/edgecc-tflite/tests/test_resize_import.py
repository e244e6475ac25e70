"""RESIZE_NEAREST_NEIGHBOR from the elements' centres: through ONNX and back it takes the elements that LiteRT takes."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc_tflite.testing import counts, lowered, run_tflite
from edgecc_tflite.testing.operator_file import In, OpCase, imported, run_litert
from edgecc_tflite.testing.running import assert_close, run_onnx

#: Up, down, both at once, halves (where roundings part) and single elements.
_SIZES = [((3, 5), (7, 9)), ((7, 9), (3, 5)), ((4, 6), (8, 3)), ((6, 5), (2, 3)), ((5, 3), (1, 1)), ((1, 2), (4, 10))]


@pytest.mark.parametrize(("before", "after"), _SIZES)
def test_nearest_from_centres(before: tuple[int, int], after: tuple[int, int]) -> None:
    x = np.random.default_rng(0).standard_normal((1, *before, 2)).astype(np.float32)
    case = OpCase(
        "RESIZE_NEAREST_NEIGHBOR",
        (In(x), np.array(after, np.int32)),
        (("float32", (1, *after, 2)),),
        {"halfPixelCenters": True},
    )
    contents, feeds = case.contents(), case.feeds()
    expected = run_litert(contents, feeds)
    model = imported(contents)
    [resize] = model.nodes("Resize")
    assert resize.attrs["coordinate_transformation_mode"] == "half_pixel"
    assert_close(run_onnx(model, feeds), expected, 0.0)
    graph = lowered(model)
    assert counts(graph)["RESIZE_NEAREST_NEIGHBOR"] == 1
    for xnnpack in (True, False):
        assert_close(run_tflite(graph, feeds, xnnpack=xnnpack), expected, 0.0)
