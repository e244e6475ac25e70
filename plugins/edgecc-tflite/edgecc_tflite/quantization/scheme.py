"""What `quantize-static` has to know of TFLite: every tensor is int8 or int16, data asymmetric, weights around 0.

`kernels` has the operators of TFLite; these are the ONNX operators that become them.
"""

from __future__ import annotations

from edgecc.quantization.grids import Grid
from edgecc.quantization.scheme import MOVING, UNIT, QuantizationScheme, Role, rules

SCHEME = QuantizationScheme(
    operators={
        **rules(Role.WEIGHTED, "Conv ConvTranspose Gemm MatMul"),
        **rules(Role.COMPUTE, "Add Sub Mul PRelu", (0, 1)),
        **rules(
            Role.COMPUTE, "LeakyRelu HardSwish Gelu Elu Exp Tanh ReduceMean ReduceSum GlobalAveragePool AveragePool"
        ),
        **rules(Role.SAME, f"{MOVING} MaxPool GlobalMaxPool ReduceMax ReduceMin Pad Resize Split"),
        **rules(Role.SAME, "SpaceToDepth DepthToSpace"),
        **rules(Role.SAME, "Concat", None),
        **rules(Role.SAME, "Max Min", (0, 1)),
        **rules(Role.SAME, "Where", (1, 2)),
        **rules(Role.CLAMP, "Relu Clip"),
        **rules(Role.FIXED, "Softmax Sigmoid"),
    },
    activations=("int8", "int16"),
    # A float32 scale and a zero point of 64 bits, for the weights and again for the bias.
    channel_bytes=24,
    fixed={
        ("Softmax", "int8"): UNIT,
        ("Sigmoid", "int8"): UNIT,
        ("Sigmoid", "int16"): Grid("int16", 1 / 32768, 0),
    },
    int8_only=frozenset({"DepthToSpace", "Elu", "Exp", "Gelu", "HardSwish", "PRelu", "SpaceToDepth", "Tanh"}),
    clamps_alone=True,
    dynamic="pairs",
    dynamic_operators=frozenset({"Conv", "Gemm", "MatMul"}),
)
