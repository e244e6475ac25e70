"""A small module with inputs, and edits of the archives that it is saved in."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping

import torch


class Small(torch.nn.Module):  # type: ignore[misc]
    """A convolution with its normalization and two named outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)
        self.head = torch.nn.Linear(4, 2)

    def forward(self, image: torch.Tensor, gain: torch.Tensor) -> dict[str, torch.Tensor]:
        features = torch.relu(self.norm(self.conv(image))).mean((2, 3))
        return {"scores": self.head(features) * gain, "features": features}


def small() -> Small:
    torch.manual_seed(0)
    module = Small()
    module.norm.running_mean.normal_()
    module.eval()
    return module


EXAMPLE_SHAPES = {"image": (2, 3, 8, 8), "gain": (2, 2)}


def example(batch: int = 2) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn((batch, *shape[1:]), generator=generator) for shape in EXAMPLE_SHAPES.values())


Edit = Callable[[bytes], bytes]


def _same(data: bytes) -> bytes:
    return data


def edited(contents: bytes, edits: Mapping[str, Edit | None], more: Mapping[str, bytes] | None = None) -> bytes:
    """An archive with records changed, dropped (None) or added; names are without the archive's folder."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(contents)) as old, zipfile.ZipFile(result, "w") as new:
        root = old.namelist()[0].partition("/")[0]
        for name in old.namelist():
            edit = edits.get(name.partition("/")[2], _same)
            if edit is not None:
                new.writestr(name, edit(old.read(name)))
        for name, data in (more or {}).items():
            new.writestr(f"{root}/{name}", data)
    return result.getvalue()
