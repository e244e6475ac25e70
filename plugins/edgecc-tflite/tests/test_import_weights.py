"""Files with small weights: what the file stores is what the model stores, and what is written again."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model
from edgecc_tflite.ir import Graph, Tensor
from edgecc_tflite.lower import find_unsupported
from edgecc_tflite.lowerings import builtin_rules
from edgecc_tflite.quantization import store_weights, stored_by_origin
from edgecc_tflite.testing import lowered, run_tflite
from edgecc_tflite.testing.importing import imported
from edgecc_tflite.testing.net import Net
from edgecc_tflite.testing.quantized import run_exactly


def network() -> Model:
    net = Net(x="f:1,16,12,12")
    x = net.depthwise(net.conv("x", 320, 3, act="Relu"))
    return net.model(net.head(net.conv(x, 64, act="Relu"), 20))


def small(weights: str) -> Graph:
    model = network()
    graph = lowered(model)
    store_weights(graph, stored_by_origin(model), weights)
    return graph


def again(model: Model) -> Graph:
    assert not find_unsupported(model, builtin_rules())
    graph = lowered(model)
    store_weights(graph, stored_by_origin(model))
    return graph


def constants(graph: Graph) -> list[Tensor]:
    """Large constants that are not float32, in order."""
    found = {t: None for op in graph.operators for t in op.inputs if t is not None and t.data is not None}
    return [t for t in found if t.dtype != np.float32 and t.data is not None and t.data.size > 300]


def feeds(model: Model) -> dict[str, np.ndarray]:
    spec = model.signature.inputs[0]
    return {spec.name: np.random.default_rng(1).standard_normal(spec.shape).astype(np.float32)}


@pytest.mark.parametrize("weights", ["float16", "int8", "int4"])
def test_the_same_constants_with_the_same_scales(weights: str) -> None:
    graph = small(weights)
    model = imported(graph)
    assert model is not None
    wanted, after = constants(graph), constants(again(model))
    assert len(wanted) >= 3
    for old, new in zip(wanted, after, strict=True):
        assert old.dtype == new.dtype
        np.testing.assert_array_equal(np.asarray(old.data, np.float32), np.asarray(new.data, np.float32))
        assert (old.quantization is None, old.blocks is None) == (new.quantization is None, new.blocks is None)
        if old.quantization is not None and new.quantization is not None:
            np.testing.assert_array_equal(old.quantization.scale, new.quantization.scale)


def test_float16_computes_what_the_file_does() -> None:
    graph = small("float16")
    model = imported(graph)
    assert model is not None
    values = feeds(model)
    found, expected = run_exactly(model, values), run_tflite(graph, values)
    for name, wanted in expected.items():
        np.testing.assert_allclose(found[name], wanted, atol=2e-6 * np.abs(wanted).max())


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_dynamic_ranges_stay_dynamic(weights: str) -> None:
    """Data is rounded at run time as the file says it; LiteRT and ONNX differ in where exactly the steps lie."""
    graph = small(weights)
    model = imported(graph)
    assert model is not None
    assert len(model.nodes("DynamicQuantizeLinear")) == 4
    values = feeds(model)
    found, dynamic = run_exactly(model, values), run_tflite(graph, values)
    written = run_tflite(again(model), values)
    for name, wanted in dynamic.items():
        np.testing.assert_array_equal(written[name], wanted)
        np.testing.assert_allclose(found[name], wanted, atol=1e-2 * np.abs(wanted).max())


def test_a_scale_for_each_run_of_a_row() -> None:
    model = imported(small("int4"))
    assert model is not None
    blocks = [node for node in model.nodes("DequantizeLinear") if node.attrs.get("block_size")]
    assert [node.attrs["block_size"] for node in blocks] == [32]
    assert blocks[0].inputs[0].values.dtype.name == "int4"
