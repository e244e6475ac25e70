"""What the entry point `tensorrt` brings to edgecc."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecc.hookspecs import hookimpl

if TYPE_CHECKING:
    from edgecc.backend_entry import BackendEntry
    from edgecc.passes.entry import PassEntry


@hookimpl
def edgecc_backends() -> list[BackendEntry]:
    from edgecc.backend_entry import BackendEntry

    return [BackendEntry("tensorrt", "edgecc_tensorrt.backend:TensorRTBackend", (".engine",))]


@hookimpl
def edgecc_passes() -> list[PassEntry]:
    from edgecc.passes.entry import PassEntry

    return [
        PassEntry("expand-for-tensorrt", "edgecc_tensorrt.expand_for_tensorrt:ExpandForTensorRT"),
        PassEntry("scale-resizes", "edgecc_tensorrt.scale_resizes:ScaleResizes", needs="Resize"),
    ]
