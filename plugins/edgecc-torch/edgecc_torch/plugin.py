"""What the entry point `torch` brings to edgecc."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecc.hookspecs import hookimpl

if TYPE_CHECKING:
    from edgecc.backend_entry import BackendEntry
    from edgecc.importers.base import Importer


@hookimpl
def edgecc_backends() -> list[BackendEntry]:
    from edgecc.backend_entry import BackendEntry

    return [BackendEntry("torch", "edgecc_torch.backend:TorchBackend", (".pt2",))]


@hookimpl
def edgecc_importers() -> list[type[Importer]]:
    from edgecc_torch.importer import TorchImporter

    return [TorchImporter]
