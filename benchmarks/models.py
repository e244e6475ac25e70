"""The models that are compiled: the zoo's architectures at full width, and chains of any length."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx

# tests/ is no package: every plugin has one of that name.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from zoo.architectures import mobilenet_v2, resnet50
from zoo.builder import GraphBuilder

__all__ = ["convolution_chain", "elementwise_chain", "mobilenet_v2", "resnet50"]


def elementwise_chain(nodes: int) -> onnx.ModelProto:
    """Add, Tanh, Add, Tanh ..."""
    g = GraphBuilder(1, 8, 4, 4)
    x, bias = g.input, g.constant(0.1)
    for _ in range(nodes // 2):
        x = g.op("Tanh", g.op("Add", x, bias))
    return g.model(x)


def convolution_chain(nodes: int) -> onnx.ModelProto:
    """Residual blocks of Conv, BatchNormalization, Relu and Add."""
    g = GraphBuilder(1, 8, 4, 4)
    x = g.input
    for _ in range(nodes // 4):
        x = g.op("Add", x, g.conv_bn(x, 8, 1))
        g.power[x] = 1.0
    return g.model(x)
