"""What the entry point `torch` brings to edgecc."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecc.hookspecs import hookimpl

if TYPE_CHECKING:
    from edgecc.backend import Backend
    from edgecc.importers.base import Importer


@hookimpl
def edgecc_backends() -> list[type[Backend]]:
    from edgecc_torch.backend import TorchBackend

    return [TorchBackend]


@hookimpl
def edgecc_importers() -> list[type[Importer]]:
    from edgecc_torch.importer import TorchImporter

    return [TorchImporter]
