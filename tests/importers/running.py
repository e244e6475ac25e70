"""Running protos as they are in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime


def outputs_of(proto: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What ONNX Runtime makes of a model, without optimizing it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    taken = {value.name: feeds[value.name] for value in session.get_inputs()}
    return dict(zip(names, session.run(names, taken), strict=True))


def assert_same(expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray], tolerance: float) -> None:
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name].dtype == values.dtype
        assert found[name].shape == values.shape
        np.testing.assert_allclose(found[name], values, rtol=tolerance, atol=tolerance)
