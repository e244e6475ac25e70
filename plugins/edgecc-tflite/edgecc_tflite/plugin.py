"""The entry point: what this distribution brings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecc.hookspecs import hookimpl

if TYPE_CHECKING:
    from edgecc.backend_entry import BackendEntry
    from edgecc.importers.base import Importer
    from edgecc.passes.entry import PassEntry


@hookimpl
def edgecc_backends() -> list[BackendEntry]:
    from edgecc.backend_entry import BackendEntry

    return [BackendEntry("tflite", "edgecc_tflite.backend:TFLiteBackend", (".tflite",))]


@hookimpl
def edgecc_importers() -> list[type[Importer]]:
    from edgecc_tflite.importing.importer import TFLiteImporter

    return [TFLiteImporter]


@hookimpl
def edgecc_passes() -> list[PassEntry]:
    from edgecc.passes.entry import PassEntry

    return [
        PassEntry("compute-float32", "edgecc_tflite.compute_float32:ComputeFloat32"),
        PassEntry("expand-for-tflite", "edgecc_tflite.expand_for_tflite:ExpandForTFLite"),
    ]
