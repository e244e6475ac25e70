"""The TensorRT backend of edgecc."""
