"""Pass expand-for-tflite: functions that no rule takes."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.model import Model, origins
from edgecc.testing import assert_skipped, check_pass
from edgecc_tflite import expand_for_tflite
from edgecc_tflite.expand_for_tflite import ExpandForTFLite
from edgecc_tflite.lowerings import LoweringRule, RuleTable
from edgecc_tflite.lowerings.constraints import single_output
from edgecc_tflite.testing.running import assert_close, lowered, run_onnx, run_tflite

#: Float32 sums of some ten products, in another order.
ROUNDING = 1e-5

MEAN = """g (float[2,3,4] x, float[4] s) => (float[2,3,4] y, float[2,3,1] mean) {
    [norm] y, mean = LayerNormalization(x, s) }"""


def use(monkeypatch: pytest.MonkeyPatch, without: str, *more: LoweringRule) -> None:
    """Let the pass see all rules but those of one operator, and some more."""
    kept = [rule for rule in expand_for_tflite.installed_rules() if rule.op != without]
    monkeypatch.setattr(expand_for_tflite, "installed_rules", lambda: RuleTable([*kept, *more]))


def test_a_form_that_the_rule_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    one_output = LoweringRule("LayerNormalization", lambda c: None, (), (single_output,), since=17)
    use(monkeypatch, "LayerNormalization", one_output)
    model = check_pass(ExpandForTFLite(), MEAN, tolerance=ROUNDING)
    assert not model.nodes("LayerNormalization")
    assert {origin for node in model.nodes() for origin in origins(node)} == {"norm"}
    feeds = {"x": np.random.default_rng(0).random((2, 3, 4), np.float32), "s": np.array([1, 2, 3, 4], np.float32)}
    assert_close(run_tflite(lowered(model), feeds), run_onnx(Model.from_text(MEAN), feeds), ROUNDING)
    assert_skipped(ExpandForTFLite(), MEAN.replace(", mean =", " =").replace(", float[2,3,1] mean", ""), reason="")


def test_what_a_rule_takes_stays_whole() -> None:
    text = "g (float[2,4] x, float[4] s) => (float[2,4] y) { t = LayerNormalization(x, s) y = Softplus(t) }"
    assert_skipped(ExpandForTFLite(), text, reason="")


def test_functions_in_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The body of SoftmaxCrossEntropyLoss holds LogSoftmax, which has a rule, and NegativeLogLikelihoodLoss."""
    text = """g (float[4,3] x, int64[4] t) => (float l) { [loss] l = SoftmaxCrossEntropyLoss<reduction="sum">(x, t) }"""
    feeds = {"x": np.random.default_rng(0).random((4, 3), np.float32), "t": np.array([0, 2, 1, 2])}
    use(monkeypatch, "SoftmaxCrossEntropyLoss")
    model = check_pass(ExpandForTFLite(), text, tolerance=ROUNDING, feeds=feeds)
    assert not model.nodes("SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss")
    assert model.nodes("LogSoftmax")


def test_a_body_that_is_refused_too() -> None:
    text = "g (double[2,4] x, double[4] s) => (double[2,4] y) { y = LayerNormalization(x, s) }"
    assert_skipped(ExpandForTFLite(), text, reason="no rule takes it, and its body neither")


def test_ignored_nodes_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "LayerNormalization")
    assert_skipped(ExpandForTFLite(ignore=("norm",)), MEAN, reason="")


def test_operators_without_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "Mish")
    # The body holds Softplus, itself a function, and that has a rule.
    model = check_pass(ExpandForTFLite(), "g (float[2,4] x) => (float[2,4] y) { y = Mish(x) }", tolerance=ROUNDING)
    assert [node.op for node in model.nodes()] == ["Softplus", "Tanh", "Mul"]


def test_what_becomes_an_identity_needs_no_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """The body splits off the part that is not rotated, which has no elements where all of it is."""
    use(monkeypatch, "RotaryEmbedding")
    text = """g (float[1,2,3,8] x, float[1,3,4] c, float[1,3,4] s) => (float[1,2,3,8] y) {
        y = RotaryEmbedding(x, c, s) }"""
    check_pass(ExpandForTFLite(), text, tolerance=ROUNDING)


def test_a_plugins_rule_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule for an operator keeps it whole, whoever brings the rule."""
    text = "g (float[2,4] x) => (float[2,4] y) { y = Celu<alpha=2.0>(x) }"
    use(monkeypatch, "Celu")
    check_pass(ExpandForTFLite(), text, tolerance=ROUNDING)
    use(monkeypatch, "Celu", LoweringRule("Celu", lambda c: None, (), owner="somebody"))
    assert_skipped(ExpandForTFLite(), text, reason="")
