"""What a graph must keep to: one function per rule, `edgecc_tflite.verify` runs them all."""
