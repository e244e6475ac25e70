"""Operators rewritten for XNNPACK: fewer slow ones, and the same numbers from both sets of kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgecc
from edgecc.model import Model
from edgecc_tflite.fast_kernels import use_fast_kernels
from edgecc_tflite.fast_kernels.depthwise import _symmetric_groups
from edgecc_tflite.ir import Graph
from edgecc_tflite.testing import assert_close, counts, lowered, run_onnx, run_tflite
from edgecc_tflite.testing.net import Net
from edgecc_tflite.verify import verify

#: Sums in another order.
TOLERANCE = 2e-6


def rewritten(model: Model, *sizes: int, **feeds: np.ndarray) -> Graph:
    """The graph with its rewrites, after comparing it with ONNX Runtime on random inputs of these sizes."""
    graph = lowered(model)
    use_fast_kernels(graph)
    assert not verify(graph)
    spec = model.signature.inputs[0]
    shape = [dim if isinstance(dim, int) else sizes[0] for dim in spec.shape]
    feeds = feeds or {spec.name: np.random.default_rng(0).standard_normal(shape, dtype=np.float32)}
    expected = run_onnx(model, feeds)
    for xnnpack in (True, False):
        assert_close(run_tflite(graph, feeds, xnnpack=xnnpack), expected, TOLERANCE)
    return graph


@pytest.mark.parametrize(
    ("kernel", "options", "convolutions"),
    [
        ((7, 7), {}, 3),
        ((5, 5), {}, 1),
        ((7, 3), {}, 1),
        ((3, 9), {}, 2),
        ((9, 9), {}, 5),
        ((1, 31), {}, 2),
        ((6, 6), {}, 2),
        ((7, 7), {"dilations": [2, 2], "pads": [6, 6, 6, 6]}, 3),
        ((7, 7), {"strides": [2, 2]}, 3),
    ],
)
@pytest.mark.parametrize("size", [(13, 17), (16, 16)])
def test_depthwise_with_many_taps(
    kernel: tuple[int, int], options: dict[str, list[int]], convolutions: int, size: tuple[int, int]
) -> None:
    net = Net(x=f"f:2,8,{size[0]},{size[1]}")
    weights, bias = net.random(8, 1, *kernel), net.random(8)
    pads = {} if "pads" in options else {"auto_pad": "SAME_UPPER"}
    y = net.op("Relu", net.op("Conv", "x", weights, bias, group=8, **pads, **options))
    found = counts(rewritten(net.model(y)))
    # SAME pads strided windows by less, so that the parts may need padding that they do not have.
    allowed = {convolutions, 1} if "strides" in options else {convolutions}
    assert found["DEPTHWISE_CONV_2D"] in allowed
    assert found["ADD"] == found["DEPTHWISE_CONV_2D"] - 1


def test_depthwise_of_open_sizes() -> None:
    net = Net(x="f:n,8,n,12")
    graph = lowered(net.model(net.op("Conv", "x", net.random(8, 1, 7, 7), net.random(8), group=8, pads=[3, 3, 3, 3])))
    use_fast_kernels(graph)
    assert counts(graph)["DEPTHWISE_CONV_2D"] == 3


@pytest.mark.parametrize("lines", range(1, 40))
@pytest.mark.parametrize("most", [1, 2, 3, 5, 25])
def test_groups_of_taps(lines: int, most: int) -> None:
    groups = _symmetric_groups(lines, most)
    if not groups:
        assert most == 1
        return
    assert sorted(line for group in groups for line in group) == list(range(lines))
    assert all(len(group) <= most and group[0] + group[-1] == lines - 1 for group in groups)


@pytest.mark.parametrize(
    ("dilation", "size", "is_split"),
    [((12, 12), (16, 16), True), ((12, 1), (14, 20), True), ((5, 7), (9, 8), True), ((1, 1), (4, 4), False)],
)
@pytest.mark.parametrize("batch", [2, "n"])
def test_taps_that_meet_padding(
    dilation: tuple[int, int], size: tuple[int, int], is_split: bool, batch: int | str
) -> None:
    net = Net(x=f"f:{batch},48,{size[0]},{size[1]}")
    weights, bias = net.random(64, 48, 3, 3), net.random(64)
    pads = [*dilation, *dilation]
    y = net.op("Relu", net.op("Conv", "x", weights, bias, dilations=list(dilation), pads=pads))
    found = counts(rewritten(net.model(y), 3))
    assert found["CONV_2D"] == (9 if is_split else 1)
    assert found["ADD"] == (8 if is_split else 0)
    assert found["RELU"] == 0


def test_taps_that_mostly_meet_the_input() -> None:
    net = Net(x="f:1,48,60,60")
    y = net.op("Conv", "x", net.random(64, 48, 3, 3), net.random(64), dilations=[2, 2], pads=[2] * 4)
    assert counts(rewritten(net.model(y)))["CONV_2D"] == 1


def test_operators_for_other_delegates_stay(tmp_path: Path) -> None:
    net = Net(x="f:1,8,16,16")
    net.model(net.op("Conv", "x", net.random(8, 1, 7, 7), net.random(8), group=8, pads=[3] * 4)).save(
        tmp_path / "m.onnx"
    )
    for kernels, count in (("xnnpack", 3), ("any", 1)):
        result = edgecc.compile(tmp_path / "m.onnx", target=f"tflite:kernels={kernels}", output=tmp_path / "m.tflite")
        assert result.artifact.report["details"]["operators"]["DEPTHWISE_CONV_2D"] == count


@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize("first", [0, 2])
def test_slices_with_steps(axis: int, first: int) -> None:
    net = Net(x="f:2,6,9,12")
    y = net.op("Slice", "x", np.array([first]), np.array([2**31 - 1]), np.array([axis]), np.array([3]))
    found = counts(rewritten(net.model(y)))
    assert found["SLICE"] == 1
    assert found["STRIDED_SLICE"] == 0


def test_slices_that_stay() -> None:
    for begin, end, step in ((0, 2**31 - 1, 4), (1, 7, 3), (-1, -(2**31), -1)):
        net = Net(x="f:2,6,9")
        y = net.op("Slice", "x", np.array([begin]), np.array([end]), np.array([2]), np.array([step]))
        assert counts(rewritten(net.model(y)))["SLICE"] == 0


def test_slices_share_what_they_read() -> None:
    net = Net(x="f:n,8,8,4")
    halves = [net.op("Slice", "x", np.array([n]), np.array([2**31 - 1]), np.array([1]), np.array([2])) for n in (0, 1)]
    found = counts(rewritten(net.model(net.op("Concat", *halves, axis=3)), 3))
    assert (found["SLICE"], found["STRIDED_SLICE"]) == (2, 0)


@pytest.mark.parametrize(
    ("kernel", "options", "convolutions"),
    [
        ((2, 2), {"strides": [2, 2]}, 1),
        ((4, 4), {"strides": [2, 2], "pads": [1, 1, 1, 1]}, 4),
        ((3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}, 4),
        ((3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}, 4),
        ((3, 4), {"strides": [2, 2]}, 4),
        ((5, 6), {"strides": [3, 3], "pads": [1, 2, 1, 1]}, 9),
        ((2, 2), {"strides": [3, 3]}, 0),
        ((4, 4), {"strides": [2, 1]}, 0),
        ((3, 3), {}, 0),
    ],
)
@pytest.mark.parametrize("batch", [2, "n"])
def test_transposed_convolutions(
    kernel: tuple[int, int], options: dict[str, list[int]], convolutions: int, batch: int | str
) -> None:
    net = Net(x=f"f:{batch},6,5,7")
    y = net.op("ConvTranspose", "x", net.random(6, 4, *kernel), net.random(4), **options)
    found = counts(rewritten(net.model(net.op("Relu", y)), 3))
    assert found["CONV_2D"] == convolutions
    assert found["TRANSPOSE_CONV"] == (0 if convolutions else 1)


def test_scale_and_shift() -> None:
    net = Net(x="f:2,8,5,6")
    scaled = net.op("Mul", "x", net.random(8, 1, 1))
    y = net.op("Relu", net.op("Add", scaled, net.random(8, 1, 1)))
    found = counts(rewritten(net.model(net.conv(y, 4))))
    assert found["DEPTHWISE_CONV_2D"] == 1
    assert found["MUL"] == found["ADD"] == found["RELU"] == 0


def test_scale_and_shift_of_which_the_middle_is_needed() -> None:
    net = Net(x="f:2,8,5,6")
    scaled = net.op("Mul", "x", net.random(8, 1, 1))
    y = net.op("Add", scaled, net.random(8, 1, 1))
    found = counts(rewritten(net.model(net.conv(y, 4), net.conv(scaled, 4))))
    assert found["DEPTHWISE_CONV_2D"] == 0
    assert found["MUL"] == found["ADD"] == 1
