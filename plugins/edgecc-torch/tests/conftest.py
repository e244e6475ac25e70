"""Files of a small module, made once; without PyTorch every test module skips itself."""

from __future__ import annotations

import io
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def program_bytes() -> bytes:
    """`Small` as PyTorch saves it, with an open batch."""
    import torch

    from edgecc_torch.testing.modules import example, small

    dynamic = [{0: torch.export.Dim("batch")}] * 2
    contents = io.BytesIO()
    torch.export.save(torch.export.export(small(), example(), dynamic_shapes=dynamic), contents)
    return contents.getvalue()


@pytest.fixture
def program_file(program_bytes: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "small.pt2"
    path.write_bytes(program_bytes)
    return path
