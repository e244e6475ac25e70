"""ONNX Runtime backend for edgecc."""
