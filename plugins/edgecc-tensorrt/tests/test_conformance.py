"""The TensorRT backend keeps the contract of every backend."""

from __future__ import annotations

from edgecc.testing import BackendConformance
from edgecc_tensorrt.backend import TensorRTBackend


class TestConformance(BackendConformance):
    backend = TensorRTBackend()
    tolerance = 1e-3
    refused = {"open_batch": "dimension 'batch' of input 'x' is open"}
