from __future__ import annotations

import pytest

from edgecc_tensorrt.sdk import availability


@pytest.fixture
def sdk_installed() -> None:
    """Skip where neither TensorRT package can be used."""
    available = availability()
    if not available:
        pytest.skip(available.reason)
