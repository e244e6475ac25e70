"""Layers of several precisions in one TFLite file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgecc
from edgecc.model import Model
from edgecc.passes.quantize_static import QuantizeStatic
from edgecc.reference_session import reference_session

RNG = np.random.default_rng(0)
CONSTANTS = {
    "w": RNG.standard_normal((4, 3, 3, 3)).astype(np.float32),
    "v": RNG.standard_normal((4, 4, 3, 3)).astype(np.float32),
    "b": RNG.standard_normal(4).astype(np.float32),
}
SAMPLES = RNG.standard_normal((32, 3, 8, 8)).astype(np.float32)
MIXED = """g (float[1,3,8,8] x) => (float[1,4,4,4] y) {
    a = Conv(x, w, b)  r = Relu(a)  c = Conv<pads=[1,1,1,1]>(r, v)  s = Add(r, c)
    y = MaxPool<kernel_shape=[3,3]>(s) }"""


@pytest.mark.parametrize(
    ("layers", "changes"),
    [
        # What is int16 reads what is int8 through QUANTIZE, and the other way round.
        (("Conv_2:int16",), 2),
        (("Conv_0:int16",), 1),
        (("Conv_0:int16", "Conv_2:int16", "Add_3:int16"), 0),
        (("Add_3:int16",), 2),
    ],
)
def test_layers_of_both_integer_types(layers: tuple[str, ...], changes: int, tmp_path: Path) -> None:
    model = Model.from_text(MIXED, CONSTANTS)
    result = edgecc.compile(
        model, "tflite", tmp_path / "m.tflite", passes=[QuantizeStatic(layers=layers)], calibration={"x": SAMPLES}
    )
    known = {t.name: str(t.dtype) for t in result.model.tensors()}
    between = [
        node
        for node in result.model.nodes("QuantizeLinear")
        if (writer := result.model.producer(node.inputs[0])) is not None and writer.op == "DequantizeLinear"
    ]
    assert len(between) == changes
    assert all(known[n.inputs[0].inputs[0].inputs[0].name] != known[n.outputs[0].name] for n in between)
    feeds = {"x": SAMPLES[:1]}
    with edgecc.runner(result.path) as runner:
        found = runner.infer(feeds)["y"]
    expected = reference_session(result.model.to_proto()).run(None, feeds)[0]
    step = max(match["scale"] for match in result.artifact.report["correspondence"] if match["scale"])
    # Two steps of the coarsest tensor: kernels round products with scales, and sums twice.
    np.testing.assert_allclose(found, expected, atol=2 * step, rtol=0)


def test_weights_in_float16_are_stored_so(tmp_path: Path) -> None:
    sizes = {}
    for layers in ((), ("Conv_0:float16",), ("Conv_0:float32",)):
        constants = {**CONSTANTS, "w": np.resize(CONSTANTS["w"], (64, 3, 3, 3)), "v": CONSTANTS["v"]}
        model = Model.from_text("g (float[1,3,8,8] x) => (float[1,64,6,6] y) { y = Conv(x, w) }", constants)
        result = edgecc.compile(
            model, "tflite", tmp_path / "m.tflite", passes=[QuantizeStatic(layers=layers)], calibration={"x": SAMPLES}
        )
        sizes[layers] = result.path.stat().st_size
    small, half, full = sizes.values()
    assert full - half > 0.8 * 2 * 64 * 27
    assert half - small < 64 * 27
