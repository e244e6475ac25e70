"""The models that the zoo tests compile: written here, shipped with onnx, and trained ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from .architectures import ARCHITECTURES

ROOT = Path(__file__).resolve().parents[2]
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
MLPERF_TINY = ROOT.parent / "shared" / "data" / "mlperf_tiny"

#: Over 100 MB once their weights, which the files hold as one value and a shape, are written out.
LARGE = {"light_bvlc_alexnet", "light_vgg19", "light_zfnet512"}
LIGHT_NAMES = (
    "light_bvlc_alexnet",
    "light_densenet121",
    "light_inception_v1",
    "light_inception_v2",
    "light_resnet50",
    "light_shufflenet",
    "light_squeezenet",
    "light_vgg19",
    "light_zfnet512",
)
TINY_NAMES = ("ad01_fp32", "kws_float", "pretrainedResnet", "pretrainedResnet_large_float", "vww_96_float")

Load = Callable[[], onnx.ModelProto]


def _loader(path: Path) -> Load:
    return lambda: onnx.load(path)


def _trained_like(path: Path) -> Load:
    """The light model with random weights: with its own, all equal, every output is the same whatever the input."""

    def load() -> onnx.ModelProto:
        model, random = onnx.load(path), np.random.default_rng(0)
        shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        for node in [node for node in model.graph.node if node.op_type == "ConstantOfShape"]:
            shape = shapes[node.input[0]]
            weights = random.uniform(0.7, 1.3, shape)
            if len(shape) > 1:
                weights = random.standard_normal(shape) * (2 / np.prod(shape[1:])) ** 0.5
            model.graph.initializer.append(numpy_helper.from_array(weights.astype(np.float32), node.output[0]))
            model.graph.node.remove(node)
        return model

    return load


def all_sources() -> list[object]:
    """A pytest parameter for every model."""
    sources = [pytest.param(build, id=name) for name, build in ARCHITECTURES.items()]
    sources.append(pytest.param(_loader(ROOT / "examples" / "digits" / "digits.onnx"), id="digits"))
    for name in LIGHT_NAMES:
        marks = [pytest.mark.slow] if name in LARGE else []
        sources.append(pytest.param(_loader(LIGHT / f"{name}.onnx"), id=name, marks=marks))
        if name not in LARGE:
            sources.append(pytest.param(_trained_like(LIGHT / f"{name}.onnx"), id=f"{name}-random"))
    for name in TINY_NAMES:
        sources.append(pytest.param(_loader(MLPERF_TINY / f"{name}.onnx"), id=name, marks=[pytest.mark.shared_data]))
    return sources
