"""The one opset that passes and backends see."""

from __future__ import annotations

#: Every imported model is brought to this version of the ai.onnx operator set. 23 is the first with Attention,
#: RMSNormalization and RotaryEmbedding, and onnx 1.18, TensorRT-RTX and ONNX Runtime 1.23 know it.
INTERNAL_OPSET = 23
#: IR version of opset 23 (onnx 1.18).
INTERNAL_IR_VERSION = 11
