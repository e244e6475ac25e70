"""Matrices, Einsum, sampled images and boxes."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from edgecc_tflite.lower import find_unsupported
from edgecc_tflite.lowerings import builtin_rules
from edgecc_tflite.lowerings.einsum import parse_equation
from edgecc_tflite.testing import Case, assert_close, check, f32, ints, lowered, run_onnx, run_tflite, scalar, weights

_BOXES = np.array(
    [[[0, 0, 1, 1], [0, 0.1, 1, 1.1], [1, 0.9, 0, -0.1], [0, 10, 1, 11], [0, 10.1, 1, 11.1], [0, 100, 1, 101]]],
    np.float32,
)
_SCORES = np.array([[[0.9, 0.75, 0.6, 0.95, 0.5, 0.3], [0.2, 0.1, 0.9, 0.05, 0.05, 0.05]]], np.float32)
_ROIS = f32(0, 0, 9, 9, 0, 5, 4, 9, 5, 5, 9, 9, -9, -9, 30, 30).reshape(4, 4)


def _einsum(equation: str, *operands: str | np.ndarray) -> Case:
    return Case("Einsum", operands, {"equation": equation}, label=equation)


#: Average and maximum, and the coordinates from before opset 16.
_ROI_ALIGN = [
    Case(
        "RoiAlign",
        ("f:2,3,10,9", _ROIS, ints(0, 1, 0, 1)),
        {"output_height": 3, "output_width": 4, "sampling_ratio": 2, "spatial_scale": 0.9, **attributes},
        label=label,
        tolerance=1e-5,
    )
    for label, attributes in (
        ("average", {}),
        ("max", {"mode": "max"}),
        ("old", {"coordinate_transformation_mode": "output_half_pixel"}),
    )
]

#: Sample, left, top, right, bottom: inside, partly and wholly outside, upside down.
_ROIS = f32(0, 1, 1, 6, 7, 1, -3, 2, 4, 20, 1, 30, 30, 40, 44, 0, 5, 5, 2, 3, 1, 0, 0, 0, 0).reshape(5, 5)

CASES = [
    *[
        Case("Trilu", ("f:2,4,5", None if k is None else np.array(k)), {"upper": upper}, label=f"{upper}{k}")
        for upper in (0, 1)
        for k in (None, 0, 2, -1, 9)
    ],
    Case("Trilu", ("i64:3,4", "i64:"), label="computed"),
    Case("EyeLike", ("f:3,4",), {"k": 1}),
    *[Case("Det", (f"f:3,{n},{n}",), label=str(n), tolerance=1e-5) for n in (1, 2, 3, 4)],
    _einsum("ij->ji", "f:3,4"),
    _einsum("ij->", "f:3,4"),
    _einsum("ij,jk->ik", "f:3,4", "f:4,5"),
    _einsum("ij,jk", "f:3,4", weights(4, 5)),
    _einsum("bij,bjk->bik", "f:2,3,4", "f:2,4,5"),
    _einsum("...ij,...jk->...ik", "f:2,2,3,4", "f:2,2,4,5"),
    _einsum("bhid,bhjd->bhij", "f:2,2,3,4", "f:2,2,5,4"),
    _einsum("bnd,dhk->bhnk", "f:2,3,4", weights(4, 2, 5)),
    _einsum("i,j->ij", "f:3", "f:4"),
    _einsum("ii->i", "f:3,3"),
    _einsum("bii->b", "f:2,3,3"),
    _einsum("ij,ik,jl->kl", "f:2,3", "f:2,4", "f:3,5"),
    _einsum("ij,kl->", "f:2,3", "f:4,2"),
    Case("Einsum", ("i32:3,4", "i32:4,5"), {"equation": "ij,jk->ik"}, label="int32", span=(-9, 9)),
    *[
        Case(
            "GridSample",
            ("f:2,3,4,5", "f:2,6,7,2"),
            {"mode": mode, "padding_mode": padding, "align_corners": corners},
            label=f"{mode}-{padding}-{corners}",
            span=(-1.8, 1.8),
            tolerance=2e-5,
        )
        for mode in ("linear", "nearest", "cubic")
        for padding in ("zeros", "border", "reflection")
        for corners in (0, 1)
    ],
    Case("GridSample", ("f:1,2,3,4,5", "f:1,2,3,4,3"), label="3d", tolerance=2e-5),
    Case("MaxRoiPool", ("f:2,3,9,8", _ROIS), {"pooled_shape": [3, 2]}, label="whole pixels", tolerance=0),
    Case(
        "MaxRoiPool",
        ("f:2,3,9,8", _ROIS),
        {"pooled_shape": [4, 7], "spatial_scale": 0.5},
        label="scaled",
        tolerance=0,
    ),
    Case("DeformConv", ("f:1,4,6,7", "f:3,4,3,3", "f:1,18,4,5"), label="plain", span=(-1.5, 1.5)),
    Case(
        "DeformConv",
        ("f:2,4,6,7", weights(6, 2, 3, 2), "f:2,24,3,4", weights(6), "f:2,12,3,4"),
        {"group": 2, "offset_group": 2, "strides": [2, 2], "pads": [1, 1, 1, 0], "dilations": [1, 1]},
        label="groups",
        span=(-1.5, 1.5),
    ),
    Case(
        "DeformConv",
        ("f:1,4,6,7", "f:4,2,2,2", "f:1,8,4,5"),
        {"group": 2, "dilations": [2, 2]},
        label="computed weights",
        span=(-1.5, 1.5),
    ),
    *_ROI_ALIGN,
    *[
        Case(
            "NonMaxSuppression",
            (boxes, "f:1,2,6", np.array(most), threshold, score),
            {"center_point_box": int(label == "center")},
            label=label,
            span=(0, 1),
        )
        for label, boxes, most, threshold, score in (
            ("plain", _BOXES, 6, scalar(0.5), scalar(0.1)),
            ("limit", _BOXES, 2, scalar(0.5), scalar(0.0)),
            ("defaults", _BOXES, 2**40, None, None),
            ("center", np.abs(_BOXES) + 0.1, 6, scalar(0.3), None),
            ("computed", "f:1,6,4", 6, "f:", "f:"),
        )
    ],
    Case("NonMaxSuppression", ("f:2,30,4", "f:2,3,30", "i64:", scalar(0.5)), label="computed-limit", span=(3.2, 3.9)),
]


@pytest.mark.parametrize("case", [case for case in CASES if case.op not in ("RoiAlign", "MaxRoiPool")], ids=str)
def test_equals_onnxruntime(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", [case for case in CASES if case.op == "MaxRoiPool"], ids=str)
def test_max_roi_pool(case: Case) -> None:
    """ONNX Runtime knows it only by its first definition, which means the same."""
    model, feeds = case.model(), case.feeds()
    proto = model.to_proto()
    proto.opset_import[0].version = 21
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))
    assert any((values == 0).any() for values in expected.values())
    for xnnpack in (True, False):
        assert_close(run_tflite(lowered(model), feeds, xnnpack=xnnpack), expected, 0)


@pytest.mark.parametrize("case", _ROI_ALIGN, ids=str)
def test_regions_equal_onnxruntime(case: Case) -> None:
    """ONNX Runtime has RoiAlign of opset 16, which is the same."""
    model, feeds = case.model(), case.feeds()
    proto = model.to_proto()
    proto.opset_import[0].version = 16
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = {"y0": session.run(None, feeds)[0]}
    for xnnpack in (True, False):
        assert_close(run_tflite(lowered(model), feeds, xnnpack=xnnpack), expected, case.tolerance)


@pytest.mark.parametrize("least", [0.93, 2.0])
def test_few_boxes_or_none(least: float) -> None:
    case = Case("NonMaxSuppression", ("f:1,6,4", "f:1,2,6", np.array(3), scalar(0.5), "f:"))
    feeds = {"x0": _BOXES, "x1": _SCORES, "x4": np.array(least, np.float32)}
    model = case.model()
    for xnnpack in (True, False):
        assert_close(run_tflite(lowered(model), feeds, xnnpack=xnnpack), run_onnx(model, feeds), 0)


@pytest.mark.parametrize("batch", [1, 3])
def test_an_open_batch(batch: int) -> None:
    for case in (Case("GridSample", ("f:n,3,4,5", "f:n,6,7,2")), _einsum("bij,jk->bik", "f:n,3,4", "f:4,5")):
        model, feeds = case.model(), case.feeds(n=batch)
        for xnnpack in (True, False):
            assert_close(run_tflite(lowered(model), feeds, xnnpack=xnnpack), run_onnx(model, feeds), 1e-5)


def test_ellipses_are_spelled_out_from_the_right() -> None:
    assert parse_equation("...ij,...jk->...ik", [4, 3]) == (["10ij", "0jk"], "10ik")
    assert parse_equation("ba,ac", [2, 2]) == (["ba", "ac"], "bc")


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (Case("NonMaxSuppression", ("f:1,6,4", "f:1,2,6")), "nothing is selected"),
        (Case("NonMaxSuppression", ("f:1,6,4", "f:1,300,6", np.array(3))), "300 classes; up to 256"),
        (Case("RoiAlign", ("f:1,2,8,8", "f:3,4", ints(0, 0, 0))), "sampling_ratio is 0"),
        (Case("GridSample", ("f:1,2,3,4,5", "f:1,2,3,4,3"), {"mode": "cubic"}), "other than two dimensions"),
        (Case("Trilu", ("f:n,3",)), "an open dimension in the last two axes"),
        (Case("Det", ("f:5,5",)), "a determinant of 5 rows"),
        (_einsum("ij,jk->ik", "f:n,m", "f:m,3"), "an open dimension in several axes"),
        (_einsum("abcdef->fedcba", "f:1,2,1,2,1,2"), "more axes than TFLite's kernels take"),
    ],
    ids=str,
)
def test_refusals(case: Case, reason: str) -> None:
    problems = find_unsupported(case.model(), builtin_rules())
    assert reason in " ".join(problem.reason for problem in problems)
