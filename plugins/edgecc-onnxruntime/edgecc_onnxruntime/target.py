"""The target `onnxruntime`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator

from edgecc.opset import INTERNAL_OPSET
from edgecc.target import RuntimeOptions, Target

if TYPE_CHECKING:
    from edgecc.quantization.scheme import QuantizationScheme

#: Oldest opset that is written: ONNX Runtime 1.8 and later load it.
OLDEST_OPSET = 13

Optimize = Literal["none", "basic", "extended", "all"]


class OnnxRuntimeTarget(Target):
    """ONNX Runtime: a portable .onnx file, or an .ort file for its small builds.

    The operator set is labelled with the oldest version in which every node means the same, so that the runtimes of
    older device images load the file.
    """

    name: ClassVar[str] = "onnxruntime"
    suffixes: ClassVar[tuple[str, ...]] = (".onnx", ".ort")
    # Measured on processors against what ONNX Runtime itself makes of the written out form when it loads a model. What
    # is missing has no kernel of its own (GroupNormalization), a slow one (Softplus, Softmax along another axis than
    # the last) or one that gains nothing (Attention).
    fused: ClassVar[frozenset[str]] = frozenset(
        {"Gelu", "GlobalAveragePool", "HardSwish", "LogSoftmax", "Mish"}
        | {"InstanceNormalization", "LayerNormalization", "RMSNormalization"}
    )

    format: Literal["onnx", "ort"] = Field("onnx", description="kind of file; follows the output's suffix")
    opset: int | None = Field(
        None,
        ge=OLDEST_OPSET,
        le=INTERNAL_OPSET,
        description="operator set to write; the oldest one that fits, 13 or later, if not given",
    )
    optimize: Optimize | None = Field(
        None,
        description="graph optimizations of ONNX Runtime written into the file: by default none in .onnx and "
        "extended in .ort; all depends on the processor that compiles",
    )
    provider: str = Field("cpu", description="execution provider that the file is meant for: cpu, cuda, coreml ...")

    def quantization_scheme(self) -> QuantizationScheme:
        from dataclasses import replace

        from edgecc_onnxruntime.scheme import SCHEME

        # Other providers' kernels (CUDA's, TensorRT's) take int8 alone.
        return SCHEME if self.provider == "cpu" else replace(SCHEME, unsigned=False)

    def for_suffix(self, suffix: str) -> OnnxRuntimeTarget:
        """The same options for an `.onnx` or `.ort` file."""
        return self.model_copy(update={"format": suffix.removeprefix(".")})


class OnnxRuntimeOptions(RuntimeOptions):
    """ONNX Runtime on this machine."""

    provider: str = Field("cpu", description="execution provider, with or without that word: cpu, cuda, coreml ...")
    optimize: Optimize = Field("all", description="graph optimizations when the file is loaded")

    @field_validator("provider")
    @classmethod
    def _check_provider(cls, name: str) -> str:
        """A provider of any ONNX Runtime; whether this one has it is found out when it is loaded."""
        import difflib

        import onnxruntime

        known = [p.lower().removesuffix("executionprovider") for p in onnxruntime.get_all_providers()]
        wanted = name.lower().removesuffix("executionprovider")
        if wanted in known:
            return name
        near = difflib.get_close_matches(wanted, known, n=1)
        raise ValueError(
            f"no such provider; did you mean {near[0]!r}?" if near else f"no such provider; known: {known}"
        )
