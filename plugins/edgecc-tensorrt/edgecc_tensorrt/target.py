"""The target `tensorrt`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator

from edgecc.target import RuntimeOptions, Target

if TYPE_CHECKING:
    from edgecc.quantization.scheme import QuantizationScheme

#: Fewest, usual and most elements of an open dimension.
Range3 = tuple[int, int, int]
_CAPABILITY = re.compile(r"\d{1,2}\.\d")
_DIMENSION = re.compile(r"(?P<name>[^:]+):(?P<min>\d+):(?P<opt>\d+):(?P<max>\d+)")

# `compute_capabilities=[8.6,12.0]` reads as numbers on the command line.
Capability = Annotated[str, BeforeValidator(str)]


class TensorRTTarget(Target):
    """NVIDIA GPUs: a TensorRT engine, with the typed ONNX that it was built from beside it."""

    name: ClassVar[str] = "tensorrt"
    suffixes: ClassVar[tuple[str, ...]] = (".engine",)
    # What the parser has layers or fused kernels for; not Attention, which TensorRT-RTX crashes on.
    fused: ClassVar[frozenset[str]] = frozenset(
        {"Gelu", "GlobalAveragePool", "HardSwish", "LogSoftmax", "Mish", "Softmax", "Softplus"}
        | {"GroupNormalization", "InstanceNormalization", "LayerNormalization", "RMSNormalization"}
    )

    precision: Literal["float32", "float16"] = Field(
        default="float32", description="float16 runs the pass convert-float16"
    )
    batch: Range3 | None = Field(
        default=None, description="fewest, usual and most samples, for inputs with an open first axis"
    )
    dims: tuple[str, ...] = Field(default=(), description="other open dimensions, each NAME:MIN:OPT:MAX")
    compute_capabilities: tuple[Capability, ...] = Field(
        default=(), description="GPUs to build for, such as 8.6 (TensorRT-RTX only); every one it supports if empty"
    )
    workspace: int | None = Field(default=None, gt=0, description="bytes of scratch memory that a layer may use")
    optimization_level: int | None = Field(default=None, ge=0, le=5, description="0 builds fastest, 5 searches longest")

    @field_validator("batch")
    @classmethod
    def _ordered(cls, value: Range3 | None) -> Range3 | None:
        if value is not None and not 1 <= value[0] <= value[1] <= value[2]:
            raise ValueError(f"{list(value)} is not [min,opt,max] with 1 <= min <= opt <= max")
        return value

    @field_validator("dims")
    @classmethod
    def _readable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for item in value:
            found = _DIMENSION.fullmatch(item)
            if found is None or not int(found["min"]) <= int(found["opt"]) <= int(found["max"]):
                raise ValueError(f"{item!r} is not NAME:MIN:OPT:MAX, such as sequence:1:128:512")
        return value

    @field_validator("compute_capabilities")
    @classmethod
    def _capabilities(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for item in value:
            if not _CAPABILITY.fullmatch(item):
                raise ValueError(f"{item!r} is not a compute capability, such as 8.6")
        return value

    def quantization_scheme(self) -> QuantizationScheme:
        from edgecc_tensorrt.scheme import SCHEME

        return SCHEME

    def range_of(self, dimension: str, *, first: bool) -> Range3 | None:
        """What an open dimension may be; None if the options do not say.

        Args:
            dimension: its name in the model.
            first: whether it is an input's first axis.
        """
        for item in self.dims:
            found = _DIMENSION.fullmatch(item)
            if found is not None and found["name"] == dimension:
                return int(found["min"]), int(found["opt"]), int(found["max"])
        return self.batch if first else None


class TensorRTRuntime(RuntimeOptions):
    """TensorRT on this machine."""

    device: int = Field(0, ge=0, description="number of the GPU")
