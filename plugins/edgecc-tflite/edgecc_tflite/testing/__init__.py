"""For tests of lowering rules, ours and those of plugins: one `Case` per row, `check` against ONNX Runtime."""

from __future__ import annotations

from edgecc_tflite.testing.case import Case, f32, ints, parse, scalar, to_model, weights
from edgecc_tflite.testing.running import assert_close, check, counts, lowered, run_onnx, run_tflite

__all__ = [
    "Case",
    "assert_close",
    "check",
    "counts",
    "f32",
    "ints",
    "lowered",
    "parse",
    "run_onnx",
    "run_tflite",
    "scalar",
    "to_model",
    "weights",
]
