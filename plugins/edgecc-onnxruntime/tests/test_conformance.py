"""The ONNX Runtime backend keeps the contract of every backend."""

from __future__ import annotations

from edgecc.testing import BackendConformance
from edgecc_onnxruntime.backend import OnnxRuntimeBackend


class TestConformance(BackendConformance):
    backend = OnnxRuntimeBackend()
    tolerance = 1e-6
