"""Pass fuse-group-normalization: what exporters write through InstanceNormalization."""

from __future__ import annotations

import numpy as np

from edgecc.testing import assert_skipped, check_pass
from edgecc_tflite.fuse_group_normalization import FuseGroupNormalization
from edgecc_tflite.testing import assert_close, counts, lowered, run_onnx, run_tflite

TEXT = """g (float[n,8,6,5] x) => (float[n,8,6,5] y)
    <int64[3] merged = {0, 4, -1}, int64[4] apart = {0, 8, 6, 5},
     float[4] s = {1, 2, 0.5, 1}, float[4] b = {0, 1, 2, 3}> {
    m = Reshape(x, merged) [norm] i = InstanceNormalization<epsilon = 0.001>(m, s, b) y = Reshape(i, apart) }"""


def test_the_idiom_of_the_exporters() -> None:
    model = check_pass(FuseGroupNormalization(), TEXT, tolerance=1e-5)
    assert [node.op for node in model.nodes()] == ["GroupNormalization"]
    feeds = {"x": np.random.default_rng(0).standard_normal((3, 8, 6, 5), np.float32)}
    found = run_tflite(lowered(model), feeds)
    assert_close(found, run_onnx(model, feeds), 1e-5)
    assert counts(lowered(model))["TRANSPOSE"] == 0


def test_other_merges_stay() -> None:
    text = TEXT.replace("{0, 4, -1}", "{4, -1, 60}")
    assert_skipped(FuseGroupNormalization(), text, reason="the Reshapes around it do not merge groups")


def test_a_computed_scale_stays() -> None:
    text = TEXT.replace("5] x)", "5] x, float[4] s)").replace("float[4] s = {1, 2, 0.5, 1}, ", "")
    assert_skipped(FuseGroupNormalization(), text, reason="its scale or bias is computed")
