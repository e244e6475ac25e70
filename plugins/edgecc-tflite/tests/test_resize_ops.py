"""Resize in every mode, at constant and at computed scales and sizes, against ONNX Runtime."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from edgecc_tflite.lower import find_unsupported
from edgecc_tflite.lowerings import builtin_rules
from edgecc_tflite.testing import Case, check, counts, f32, ints, lowered, run_onnx, run_tflite

_X = "f:1,2,5,6"
_PLACES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric")
#: Doubled, halved and by fractions; what align_corners means by fractions that give no whole sizes is disputed.
_SCALES = {"double": (1, 1, 2, 2), "fraction": (1, 1, 1.7, 1.3), "shrink": (1, 1, 0.6, 0.7)}
_WHOLE = {"double": (1, 1, 2, 2), "shrink": (1, 1, 0.6, 0.5)}


def _modes() -> list[Case]:
    cases = []
    for place in _PLACES:
        for name, scales in (_WHOLE if place == "align_corners" else _SCALES).items():
            for mode, extra in (
                ("nearest", {"nearest_mode": "ceil"}),
                ("nearest", {"nearest_mode": "round_prefer_ceil"}),
                ("linear", {}),
                ("cubic", {}),
                ("cubic", {"cubic_coeff_a": -0.5, "exclude_outside": 1}),
            ):
                attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": place, **extra}
                label = "-".join([mode, place, name, *map(str, extra.values())])
                cases.append(Case("Resize", (_X, None, f32(*scales)), attributes, label=label, tolerance=1e-5))
    return cases


def _computed(label: str, roi: Any, scales: Any, sizes: Any, out: str, **attributes: Any) -> Case:
    """Scales, sizes and regions are inputs of the model."""
    kinds: list[Any] = [_X, None, None, None]
    values: dict[int, np.ndarray] = {}
    for index, kind, given in ((1, "f", roi), (2, "f", scales), (3, "i64", sizes)):
        if given is not None:
            values[index] = np.array(given, np.float32 if kind == "f" else np.int64)
            kinds[index] = f"{kind}:{len(given)}"
    return Case("Resize", tuple(kinds), attributes, label=label, tolerance=1e-5, values=values, results=(out,))


CASES = [
    *_modes(),
    *[
        Case("Resize", (_X, None, f32(1, 1, 0.5, 0.4)), {"mode": mode, "antialias": 1, **extra}, label=label)
        for label, mode, extra in (
            ("antialias", "linear", {}),
            ("antialias-cubic", "cubic", {}),
            ("antialias-cubic-inside", "cubic", {"exclude_outside": 1}),
        )
    ],
    Case("Resize", ("f:2,3,4", None, f32(2, 1, 1.5)), {"mode": "linear"}, label="outer-axes"),
    Case("Resize", ("f:1,2,3,4,5", None, f32(1, 1, 2, 2, 2)), {"mode": "linear"}, label="3d"),
    Case("Resize", ("i32:1,2,3,4", None, f32(1, 1, 2, 2)), label="int32", span=(-9, 9)),
    Case(
        "Resize",
        (_X, f32(0.2, 0.1, 0.8, 1.2), None, ints(4, 3)),
        {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize", "axes": [2, 3]}
        | {"extrapolation_value": 7.0},
        label="crop",
    ),
    Case(
        "Resize",
        (_X, None, None, ints(9, 9)),
        {"axes": [2, 3], "keep_aspect_ratio_policy": "not_larger", "mode": "nearest"},
        label="ratio",
    ),
    _computed("linear-scales", None, (1, 1, 1.7, 0.6), None, "f:1,2,8,3", mode="linear"),
    _computed("cubic-scales", None, (1, 1, 1.7, 0.6), None, "f:1,2,8,3", mode="cubic"),
    _computed("cubic-antialias", None, (1, 1, 0.5, 0.5), None, "f:1,2,2,3", mode="cubic", antialias=1),
    _computed("nearest-scales", None, (1, 1, 1.7, 0.6), None, "f:1,2,8,3", mode="nearest"),
    _computed("linear-sizes", None, None, (1, 2, 7, 3), "f:1,2,7,3", mode="linear"),
    _computed(
        "crop-computed",
        (0.2, 0.1, 0.8, 1.2),
        None,
        (4, 3),
        "f:1,2,4,3",
        mode="linear",
        axes=[2, 3],
        coordinate_transformation_mode="tf_crop_and_resize",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_onnxruntime(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("place", ["half_pixel", "asymmetric"])
def test_sizes_that_scales_give(mode: str, place: str) -> None:
    """ONNX Runtime multiplies in float32, where 5 * 1.4 is 7; onnx says 6."""
    attributes = {"mode": mode, "coordinate_transformation_mode": place}
    for size, scale in ((5, 1.4), (5, 2.2), (7, 10 / 7), (10, 0.7), (10, 1.7), (3, 1 / 3), (6, 5 / 3), (5, 1.3)):
        for computed in (False, True):
            scales = np.array([1, 1, 1.5, scale], np.float32)
            kinds = (f"f:1,2,6,{size}", None, "f:4" if computed else scales)
            model = Case("Resize", kinds, attributes).model()
            x = np.random.default_rng(0).standard_normal((1, 2, 6, size)).astype(np.float32)
            feeds = {"x0": x} | ({"x2": scales} if computed else {})
            if computed:
                model.outputs[0].shape = [1, 2, 9, int(np.float32(size) * scales[3])]
            expected = run_onnx(model, feeds)["y0"]
            found = run_tflite(lowered(model), feeds)["y0"]
            assert found.shape == expected.shape
            np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=f"{size} {scale} {computed}")


@pytest.mark.parametrize(("mode", "builtin"), [("linear", "RESIZE_BILINEAR"), ("nearest", "RESIZE_NEAREST_NEIGHBOR")])
def test_open_sizes_take_the_kernel(mode: str, builtin: str) -> None:
    model = Case("Resize", ("f:1,2,h,w", None, f32(1, 1, 2, 3)), {"mode": mode}).model()
    graph = lowered(model)
    assert counts(graph)[builtin] == 1
    for height, width in ((3, 4), (1, 7), (6, 2)):
        feeds = {"x0": np.random.default_rng(0).standard_normal((1, 2, height, width)).astype(np.float32)}
        expected = run_onnx(model, feeds)["y0"]
        for xnnpack in (True, False):
            np.testing.assert_allclose(run_tflite(graph, feeds, xnnpack=xnnpack)["y0"], expected, atol=1e-6)


@pytest.mark.parametrize("rounding", ["floor", "ceil"])
def test_symmetric_pixels_are_right_or_refused(rounding: str) -> None:
    attributes = {"coordinate_transformation_mode": "half_pixel_symmetric", "nearest_mode": rounding}
    refused = 0
    for before, after in itertools.product(range(1, 8), range(1, 8)):
        case = Case("Resize", (f"f:1,1,2,{before}", None, None, ints(1, 1, 2, after)), attributes)
        if find_unsupported(case.model(), builtin_rules()):
            refused += 1
            continue
        check(case)
    assert (refused > 0) == (rounding == "floor")
    assert refused < 25


@pytest.mark.parametrize("mode", ["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"])
@pytest.mark.parametrize("kind", ["linear", "nearest"])
def test_open_sizes_from_an_input(mode: str, kind: str) -> None:
    attributes = {"mode": kind, "coordinate_transformation_mode": mode, "axes": [2, 3]}
    model = Case("Resize", ("f:1,2,h,w", None, None, "i64:2"), attributes).model()
    graph = lowered(model)
    for shape, sizes in (((3, 4), (7, 5)), ((5, 5), (1, 9)), ((4, 2), (4, 1))):
        x = np.random.default_rng(0).standard_normal((1, 2, *shape)).astype(np.float32)
        feeds = {"x0": x, "x3": np.array(sizes, np.int64)}
        expected = run_onnx(model, feeds)["y0"]
        for xnnpack in (True, False):
            np.testing.assert_allclose(run_tflite(graph, feeds, xnnpack=xnnpack)["y0"], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (
            Case("Resize", ("f:1,2,h,w", None, f32(1, 1, 2, 2)), {"mode": "cubic"}),
            "mode='cubic' over an open dimension",
        ),
        (
            Case("Resize", ("f:1,2,h,w", None, f32(1, 1, 1.5, 2)), {"mode": "linear"}),
            "by scales that are not whole numbers over an open dimension",
        ),
        (
            Case("Resize", (_X, None, f32(1, 1, 1.5, 2)), {"coordinate_transformation_mode": "align_corners"}),
            "align_corners with a scale of 1.5 that turns 5 into 7; give sizes instead",
        ),
        (
            Case(
                "Resize",
                ("f:1,2,6,6", None, None, ints(1, 2, 2, 4)),
                {"coordinate_transformation_mode": "half_pixel_symmetric", "nearest_mode": "floor"},
            ),
            "half_pixel_symmetric that turns 6 into 2 reads at whole numbers, where rounding errors decide what floor",
        ),
    ],
    ids=["cubic", "fraction", "corners", "undecided"],
)
def test_refused(case: Case, reason: str) -> None:
    problems = find_unsupported(case.model(), builtin_rules())
    assert [reason in problem.reason for problem in problems] == [True]
