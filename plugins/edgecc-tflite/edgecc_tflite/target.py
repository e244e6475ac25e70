"""What to compile for: TFLite (LiteRT)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from edgecc.target import RuntimeOptions, Target


class TFLiteTarget(Target):
    """A `.tflite` file for LiteRT (formerly TensorFlow Lite) on phones, Raspberry Pi and other Arm or x86 machines."""

    name: ClassVar[str] = "tflite"
    suffixes: ClassVar[tuple[str, ...]] = (".tflite",)
    fused: ClassVar[frozenset[str]] = frozenset(
        {"Gelu", "HardSwish", "Mish"}
        | {"GroupNormalization", "InstanceNormalization", "LayerNormalization", "RMSNormalization"}
    )

    io_layout: Literal["keep", "nhwc"] = Field(
        default="keep", description="layout of rank-4 inputs and outputs: as in the source, or channels-last"
    )
    weights: Literal["keep", "float16", "int8", "int4"] = Field(
        default="keep",
        description="store large float32 weights in float16, or in int8 or int4 with inputs quantized at run time",
    )


class TFLiteRuntime(RuntimeOptions):
    """LiteRT on this machine."""

    xnnpack: bool = Field(default=True, description="run what it can with XNNPACK; built-in kernels if not")
