"""What `quantize-static` has to know of TensorRT: explicit quantization of what operators with weights and residual
additions read, around 0; TensorRT itself decides where values are rounded in between. A bias stays float: its parser
refuses an int32 DequantizeLinear.
"""

from __future__ import annotations

from edgecc.quantization.scheme import QuantizationScheme, Role, rules

SCHEME = QuantizationScheme(
    operators={
        **rules(Role.WEIGHTED, "Conv ConvTranspose Gemm MatMul"),
        **rules(Role.COMPUTE, "Add", (0, 1)),
        **rules(Role.CLAMP, "Relu Clip"),
    },
    symmetric=True,
    rounds_results=False,
    integer_bias=False,
    needs_weights=True,
    integer_rows=False,
    dynamic="",
)
