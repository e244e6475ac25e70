"""Models run bit by bit over samples."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.data.calibration import CalibrationData, open_calibration
from edgecc.model import Model
from edgecc.passes.base import no_progress
from edgecc.passes.verification import run
from edgecc.pruning import staged_samples
from edgecc.pruning.staged_samples import StagedSamples, cut_of

from .test_coupling import with_weights

TEXT = """g (float[N,3,8,8] x) => (float[N,2] y)
<float[4,3,1,1] w, float[4,4,3,3] v, float[4,4,1,1] u, float[4,4] t, float[4,2] s>
{ a = Conv(x, w) b = Relu(a) c = Conv<pads = [1, 1, 1, 1]>(b, v) d = Relu(c) e = Conv(d, u) f = Add(b, e) h = Relu(f)
  i = GlobalAveragePool(h) j = Flatten(i) k = MatMul(j, t) y = MatMul(k, s) }"""
#: The layers in front of which the models stop, what their fits depend on, and where the cut is.
STAGES = [
    (["Conv_0", "Conv_2", "Conv_4", "MatMul_9", "MatMul_10"], ["x"], ["x"]),
    (["Conv_2", "Conv_4", "MatMul_9", "MatMul_10"], ["b"], ["b"]),
    (["Conv_4", "MatMul_9", "MatMul_10"], ["d", "b"], ["b", "d"]),
    (["MatMul_9", "MatMul_10"], ["j"], ["j"]),
    (["MatMul_10"], ["k"], ["k"]),
]


def data_of(model: Model, values: np.ndarray) -> CalibrationData:
    data = open_calibration({"x": values}, model.signature)
    assert isinstance(data, CalibrationData)
    return data


def samples(count: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, 3, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("memory", [400 << 20, 60_000, 1])
def test_tensors_are_those_of_the_models_by_then(memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staged_samples, "_MEMORY", memory)
    original, values = with_weights(TEXT), samples(64)
    model = original.clone()
    staged = StagedSamples((original, model), data_of(model, values), no_progress)
    counts = []
    for number, (layers, wanted, cut) in enumerate(STAGES):
        assert cut_of(model, layers, wanted) == cut
        asked = {name for _, names, _ in STAGES[number:] for name in names}
        found = list(staged.at(layers, asked, wanted, "test"))
        counts.append(sum(first.count for first, _ in found))
        assert all(first.total == counts[-1] for first, _ in found)
        for network, index in ((original, 0), (model, 1)):
            seen = {name: np.concatenate([pair[index].tensors[name] for pair in found]) for name in wanted}
            part = network.clone()
            part.graph.outputs = [tensor for tensor in part.tensors() if tensor.name in wanted]
            expected = run(part, {"x": values}) if wanted != ["x"] else {"x": values}
            for name in wanted:
                rows = {row.tobytes() for row in np.round(expected[name], 3)}
                assert len(seen[name]) == counts[-1]
                found_rows = [row.tobytes() for row in np.round(seen[name], 3)]
                assert set(found_rows) <= rows
                assert len(set(found_rows)) == len(found_rows), "a sample is run twice"
        # What is behind may change in between.
        for node in model.nodes("Conv", "MatMul"):
            if node.name == layers[0]:
                model.set_input(node, 1, model.constant("new", node.inputs[1].values * np.float32(0.5)))
    # Those that there was no room for come back behind a cut where tensors are small.
    assert counts == {400 << 20: [64] * 5, 60_000: [64, 16, 16, 16, 64], 1: [16] * 5}[memory]


def test_what_is_added_is_computed_through_layers_that_are_still_to_change() -> None:
    original = with_weights(TEXT)
    staged = StagedSamples((original, original.clone()), data_of(original, samples(16)), no_progress)
    layers = STAGES[1][0]
    ((first, second),) = staged.at(layers, ["b", "e"], ["b", "e"], "test")
    np.testing.assert_array_equal(first.tensors["e"], second.tensors["e"])
    assert cut_of(original, layers, ["b", "e"]) == ["b"]
