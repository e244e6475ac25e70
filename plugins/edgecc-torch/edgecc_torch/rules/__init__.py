"""ONNX operators as PyTorch calls: one row or one small function each, a table for each family."""
