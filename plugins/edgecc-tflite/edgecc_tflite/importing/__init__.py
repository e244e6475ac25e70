"""The TFLite importer: a `.tflite` file becomes a Model, one rule per operator.

file ──flatbuffer, file_graph──▶ IR (`edgecc_tflite.ir`) ──rules──▶ ONNX ──the ONNX importer's checks──▶ Model
"""
