"""Quantized models: from Q/DQ in the source to TFLite's integer kernels.

Every rule lowers as if the model were float; QuantizeLinear and DequantizeLinear become QUANTIZE and DEQUANTIZE. Then
`integer` walks over the graph once and lets each operator work on stored integers where its kernel can (`kernels` says
which) and where that gives what the source means. What it leaves in float stands between DEQUANTIZE and QUANTIZE.
"""

from __future__ import annotations

from edgecc_tflite.quantization.integer import use_integer_kernels
from edgecc_tflite.quantization.pool_scales import with_pool_scales
from edgecc_tflite.quantization.storage import store_weights
from edgecc_tflite.quantization.stored import Stored, stored_by_origin, with_float_constants

__all__ = [
    "Stored",
    "store_weights",
    "stored_by_origin",
    "use_integer_kernels",
    "with_float_constants",
    "with_pool_scales",
]
