"""The options of the target."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgecc
from edgecc.errors import OptionError, UnknownNameError
from edgecc_tflite.testing.net import Net


def _network(folder: Path) -> Path:
    net = Net(image="f:1,4,8,8")
    net.model(net.conv("image", 6, 3)).save(folder / "m.onnx")
    return folder / "m.onnx"


def test_layout_of_a_single_input(tmp_path: Path) -> None:
    edgecc.compile(_network(tmp_path), target="tflite:io_layouts=[image:nhwc]", output=tmp_path / "m.tflite")
    with edgecc.runner(tmp_path / "m.tflite") as runner:
        assert [spec.shape for spec in runner.inputs] == [(1, 8, 8, 4)]
        assert [spec.shape for spec in runner.outputs] == [(1, 6, 8, 8)]


def test_layout_of_an_input_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError) as caught:
        edgecc.compile(_network(tmp_path), target="tflite:io_layouts=[imege:nhwc]", output=tmp_path / "m.tflite")
    assert str(caught.value) == (
        "unknown input or output 'imege'\n  where: option 'io_layouts' of target 'tflite'\n  try: did you mean 'image'?"
    )


def test_a_layout_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="'image:nchw' is not NAME:keep or NAME:nhwc, such as image:nhwc"):
        edgecc.compile(_network(tmp_path), target="tflite:io_layouts=[image:nchw]", output=tmp_path / "m.tflite")
