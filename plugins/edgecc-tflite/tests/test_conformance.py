"""The TFLite backend keeps the contract of every backend."""

from __future__ import annotations

from edgecc.testing import BackendConformance
from edgecc_tflite.backend import TFLiteBackend


class TestConformance(BackendConformance):
    backend = TFLiteBackend()
    tolerance = 1e-5
