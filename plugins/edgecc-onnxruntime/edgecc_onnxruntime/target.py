"""The target `onnxruntime`."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from edgecc.opset import INTERNAL_OPSET
from edgecc.target import Target

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

    def for_suffix(self, suffix: str) -> OnnxRuntimeTarget:
        """The same options for an `.onnx` or `.ort` file."""
        return self.model_copy(update={"format": suffix.removeprefix(".")})
