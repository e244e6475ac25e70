"""What `quantize-static` has to know of ONNX Runtime's CPU kernels: complete units of DequantizeLinear, operator and
QuantizeLinear, which it fuses when it loads the model.
"""

from __future__ import annotations

from edgecc.quantization.scheme import MOVING, QuantizationScheme, Role, rules

SCHEME = QuantizationScheme(
    operators={
        **rules(Role.WEIGHTED, "Conv Gemm MatMul"),
        **rules(Role.COMPUTE, "Add Mul", (0, 1)),
        **rules(Role.COMPUTE, "Concat", None),
        **rules(Role.COMPUTE, "AveragePool GlobalAveragePool LeakyRelu"),
        **rules(Role.SAME, f"{MOVING} MaxPool"),
        **rules(Role.CLAMP, "Relu Clip"),
        **rules(Role.FIXED, "Softmax Sigmoid"),
    },
    # With uint8 every convolution of a residual net is fused and takes less than half the time of int8 (x86-64, VNNI,
    # ONNX Runtime 1.31); on Arm both are served alike.
    unsigned=True,
    float_results=frozenset({"MatMul"}),
    needs_weights=True,
)
