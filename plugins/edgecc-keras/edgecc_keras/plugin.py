"""What the entry point `keras` brings to edgecc."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecc.hookspecs import hookimpl

if TYPE_CHECKING:
    from edgecc.importers.base import Importer


@hookimpl
def edgecc_importers() -> list[type[Importer]]:
    from edgecc_keras.importer import KerasImporter

    return [KerasImporter]
