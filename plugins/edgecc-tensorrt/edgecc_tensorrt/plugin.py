"""What the entry point `tensorrt` brings to edgecc."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecc.hookspecs import hookimpl

if TYPE_CHECKING:
    from edgecc.backend import Backend
    from edgecc.passes.base import Pass


@hookimpl
def edgecc_backends() -> list[type[Backend]]:
    from edgecc_tensorrt.backend import TensorRTBackend

    return [TensorRTBackend]


@hookimpl
def edgecc_passes() -> list[type[Pass]]:
    from edgecc_tensorrt.expand_for_tensorrt import ExpandForTensorRT
    from edgecc_tensorrt.scale_resizes import ScaleResizes

    return [ExpandForTensorRT, ScaleResizes]
