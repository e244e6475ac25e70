"""What to compile for: TFLite (LiteRT)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from edgecc.target import Target


class TFLiteTarget(Target):
    """A `.tflite` file for LiteRT (formerly TensorFlow Lite) on phones, Raspberry Pi and other Arm or x86 machines."""

    name: ClassVar[str] = "tflite"
    suffixes: ClassVar[tuple[str, ...]] = (".tflite",)

    io_layout: Literal["keep", "nhwc"] = Field(
        default="keep", description="layout of rank-4 inputs and outputs: as in the source, or channels-last"
    )
