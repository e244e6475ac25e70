"""What to compile for: TFLite (LiteRT)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator

from edgecc.target import RuntimeOptions, Target

if TYPE_CHECKING:
    from edgecc.quantization.scheme import QuantizationScheme


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
    io_layouts: tuple[str, ...] = Field(
        default=(), description="layouts of single inputs and outputs, each NAME:keep or NAME:nhwc"
    )
    kernels: Literal["xnnpack", "any"] = Field(
        default="xnnpack",
        description="rewrite operators that XNNPACK, the default on CPUs, is slow at, or keep them for other delegates",
    )
    weights: Literal["keep", "float16", "int8", "int4"] = Field(
        default="keep",
        description="store large float32 weights in float16, or in int8 or int4 with inputs quantized at run time",
    )

    sparse: bool = Field(
        default=False,
        description="store float32 weights of which many are 0 without the zeros: smaller files that are no faster",
    )

    @field_validator("io_layouts")
    @classmethod
    def _readable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for item in value:
            name, _, layout = item.rpartition(":")
            if not name or layout not in ("keep", "nhwc"):
                raise ValueError(f"{item!r} is not NAME:keep or NAME:nhwc, such as image:nhwc")
        return value

    def quantization_scheme(self) -> QuantizationScheme:
        from edgecc_tflite.quantization.scheme import SCHEME

        return SCHEME

    def layout_by_name(self) -> dict[str, str]:
        """The layouts of single inputs and outputs."""
        pairs = (item.rpartition(":") for item in self.io_layouts)
        return {name: layout for name, _, layout in pairs}


class TFLiteRuntime(RuntimeOptions):
    """LiteRT on this machine."""

    xnnpack: bool = Field(default=True, description="run what it can with XNNPACK; built-in kernels if not")
