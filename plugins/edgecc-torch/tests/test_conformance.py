"""The PyTorch backend keeps the contract of every backend."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from edgecc.testing import BackendConformance
from edgecc_torch.backend import TorchBackend


class TestConformance(BackendConformance):
    backend = TorchBackend()
    tolerance = 1e-5
