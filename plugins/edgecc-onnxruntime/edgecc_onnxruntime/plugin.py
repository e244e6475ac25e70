"""What the entry point `onnxruntime` brings to edgecc."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecc.hookspecs import hookimpl

if TYPE_CHECKING:
    from edgecc.backend_entry import BackendEntry
    from edgecc.passes.entry import PassEntry


@hookimpl
def edgecc_backends() -> list[BackendEntry]:
    from edgecc.backend_entry import BackendEntry

    return [BackendEntry("onnxruntime", "edgecc_onnxruntime.backend:OnnxRuntimeBackend", (".onnx", ".ort"))]


@hookimpl
def edgecc_passes() -> list[PassEntry]:
    from edgecc.passes.entry import PassEntry

    return [
        PassEntry("separate-bias", "edgecc_onnxruntime.separate_bias:SeparateBias", needs="MatMul"),
        PassEntry("store-unsigned", "edgecc_onnxruntime.store_unsigned:StoreUnsigned", needs="DequantizeLinear"),
    ]
