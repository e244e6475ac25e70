from __future__ import annotations

import numpy as np
import pytest

from edgecc.errors import UnknownNameError
from edgecc.importers.functions import has_body
from edgecc.model import Model, origins
from edgecc.opset import INTERNAL_OPSET
from edgecc.passes.base import PassContext
from edgecc.passes.expand_functions import ExpandFunctions, expand
from edgecc.passes.pipeline import PassPipeline
from edgecc.testing import assert_skipped, check_pass

#: Sums of at most 64 products in float32, in another order.
ROUNDING = 1e-5


def step(*operators: str) -> ExpandFunctions:
    return ExpandFunctions(operators=operators)


def test_it_fires() -> None:
    check_pass(
        step("Softsign"),
        before="g (float[2,3] x) => (float[2,3] y) { y = Softsign(x) }",
        after="g (float[2,3] x) => (float[2,3] y) <float one = {1}> { a = Abs(x) b = Add(one, a) y = Div(x, b) }",
        tolerance=ROUNDING,
    )


#: One node of each function that its runtime executes; what it is made of is onnx's business.
FORMS = {
    "AffineGrid": """g (float[2,2,3] x) => (float[2,3,4,2] y) {
        n = Constant<value_ints=[2,5,3,4]>() y = AffineGrid(x, n) }""",
    "Attention": """g (float[2,4,3,8] x, float[2,2,6,8] k, float[2,2,6,8] v) => (float[2,4,3,8] y) {
        y = Attention<is_causal=1>(x, k, v) }""",
    "Attention_past": """g (float[2,3,32] x, float[2,3,32] k, float[2,3,32] v, float[3,5] m, float[2,4,2,8] pk,
        float[2,4,2,8] pv) => (float[2,3,32] y, float[2,4,5,8] nk, float[2,4,5,8] nv) {
        y, nk, nv = Attention<q_num_heads=4, kv_num_heads=4, softcap=2.0>(x, k, v, m, pk, pv) }""",
    "CastLike": "g (float[2,3] x, int32[1] t) => (int32[2,3] y) { y = CastLike(x, t) }",
    "Celu": "g (float[2,3] x) => (float[2,3] y) { y = Celu<alpha=2.0>(x) }",
    "CenterCropPad": """g (float[4,5,3] x) => (float[4,3,9] y) {
        n = Constant<value_ints=[3, 9]>() y = CenterCropPad<axes=[1, 2]>(x, n) }""",
    "Clip": "g (float[2,3] x, float high) => (float[2,3] y) { y = Clip(x, , high) }",
    "DynamicQuantizeLinear": """g (float[2,3] x) => (uint8[2,3] y, float s, uint8 z) {
        y, s, z = DynamicQuantizeLinear(x) }""",
    "Elu": "g (float[2,3] x) => (float[2,3] y) { y = Elu<alpha=0.5>(x) }",
    "Gelu": "g (float[2,3] x) => (float[2,3] y) { y = Gelu(x) }",
    "Gelu_tanh": 'g (float[2,3] x) => (float[2,3] y) { y = Gelu<approximate="tanh">(x) }',
    "GroupNormalization": """g (float[2,4,3,3] x, float[4] s, float[4] b) => (float[2,4,3,3] y) {
        y = GroupNormalization<num_groups=2>(x, s, b) }""",
    "HardSwish": "g (float[2,3] x) => (float[2,3] y) { y = HardSwish(x) }",
    "LayerNormalization": """g (float[2,3,4] x, float[3,4] s) => (float[2,3,4] y, float[2,1,1] mean) {
        y, mean = LayerNormalization<axis=1>(x, s) }""",
    "LogSoftmax": "g (float[2,3] x) => (float[2,3] y) { y = LogSoftmax<axis=0>(x) }",
    "MeanVarianceNormalization": "g (float[2,3,4,4] x) => (float[2,3,4,4] y) { y = MeanVarianceNormalization(x) }",
    "Mish": "g (float[2,3] x) => (float[2,3] y) { y = Mish(x) }",
    "PRelu": "g (float[2,3] x, float[3] s) => (float[2,3] y) { y = PRelu(x, s) }",
    "RMSNormalization": "g (float[2,3] x, float[3] s) => (float[2,3] y) { y = RMSNormalization(x, s) }",
    "ReduceL1": "g (float[2,3] x) => (float[2] y) { a = Constant<value_ints=[1]>() y = ReduceL1<keepdims=0>(x, a) }",
    "ReduceLogSumExp": "g (float[2,3] x) => (float[1,1] y) { y = ReduceLogSumExp(x) }",
    "RotaryEmbedding": """g (float[2,4,3,8] x, float[2,3,4] c, float[2,3,4] s) => (float[2,4,3,8] y) {
        y = RotaryEmbedding(x, c, s) }""",
    "RotaryEmbedding_part": """g (float[2,4,3,8] x, float[2,3,2] c, float[2,3,2] s) => (float[2,4,3,8] y) {
        y = RotaryEmbedding<rotary_embedding_dim=4, interleaved=1>(x, c, s) }""",
    "Shrink": "g (float[2,3] x) => (float[2,3] y) { y = Shrink<bias=0.1, lambd=0.2>(x) }",
    "Softmax": "g (float[2,3] x) => (float[2,3] y) { y = Softmax(x) }",
    "Softplus": "g (float[2,3] x) => (float[2,3] y) { y = Softplus(x) }",
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_keeps_its_values(form: str) -> None:
    operator = form.split("_")[0]
    model = check_pass(step(operator), FORMS[form], tolerance=ROUNDING)
    assert not model.nodes(operator)
    names = [node.name for node in model.nodes()]
    assert all(name.startswith(f"{operator}_") for name in names)
    assert {origin for node in model.nodes() for origin in origins(node)} <= {f"{operator}_0", f"{operator}_1"}


def test_losses_on_labels() -> None:
    text = """g (float[4,3] x, int64[4] t, float[3] w) => (float y, float z) {
        y = NegativeLogLikelihoodLoss<reduction="mean">(x, t, w) z = SoftmaxCrossEntropyLoss(x, t) }"""
    feeds = {
        "x": np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32),
        "t": np.array([0, 2, 1, 2]),
        "w": np.array([0.5, 1, 2], np.float32),
    }
    model = check_pass(ExpandFunctions(), text, tolerance=ROUNDING, feeds=feeds)
    # The body of one holds the other.
    assert not model.nodes("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")


def test_loops_in_bodies() -> None:
    text = "g (int64 a, int64 b, int64 d) => (int64[n] y) { [steps] y = Range(a, b, d) }"
    feeds = {name: np.array(value) for name, value in {"a": 3, "b": 20, "d": 4}.items()}
    model = check_pass(step("Range"), text, tolerance=0.0, feeds=feeds)
    assert {origin for node in model.all_nodes() for origin in origins(node)} == {"steps"}


def test_two_nodes_of_one_operator() -> None:
    model = check_pass(
        step("Softplus"),
        "g (float[2,3] x) => (float[2,3] y, float[2,3] t) { [one] t = Softplus(x) [two] y = Softplus(t) }",
        tolerance=ROUNDING,
    )
    assert {origin for node in model.nodes() for origin in origins(node)} == {"one", "two"}


def test_open_dimensions() -> None:
    text = "g (float[n,m] x, float[m] s) => (float[n,m] y) { y = RMSNormalization(x, s) }"
    model = Model.from_text(text)
    PassPipeline([ExpandFunctions()]).run(model, PassContext(None, np.random.default_rng(0)))
    assert not model.nodes("RMSNormalization")


def test_origins_of_what_was_merged_before_stay() -> None:
    model = Model.from_text("g (float[2] x) => (float[2] y) { y = Softplus(x) }")
    node = model.nodes()[0]
    node.origins = ("first", "second")
    assert expand(node, model)
    assert {origins(inner) for inner in model.nodes()} == {("first", "second")}


def test_a_node_in_a_subgraph_is_left_alone() -> None:
    text = """g (float[2] x, bool c) => (float[2] y) {
        y = If(c) <
            then_branch = t () => (float[2] a) { a = Softplus(x) },
            else_branch = e () => (float[2] b) { b = Relu(x) }
        > }"""
    assert_skipped(step("Softplus"), text, reason="")


def test_ignored_nodes_stay() -> None:
    text = "g (float[2] x) => (float[2] y) { [one] t = Softplus(x) [two] y = Softplus(t) }"
    model = check_pass(ExpandFunctions(operators=("Softplus",), ignore=("two",)), text, tolerance=ROUNDING)
    assert [node.name for node in model.nodes("Softplus")] == ["two"]


def test_a_body_that_depends_on_unknown_types() -> None:
    model = Model.from_text("g (float[2] x) => (float[2] y) { y = Gelu(x) }")
    node = model.nodes("Gelu")[0]
    model.inputs[0].dtype = None
    digest = model.to_text()
    assert not expand(node, model)
    assert model.to_text() == digest


def test_unknown_operator() -> None:
    with pytest.raises(UnknownNameError) as caught:
        check_pass(step("Softplas"), "g (float[2] x) => (float[2] y) { y = Relu(x) }", tolerance=ROUNDING)
    assert str(caught.value) == (
        "unknown ONNX function 'Softplas'\n"
        "  where: pass expand-functions\n"
        "  try: did you mean 'Softplus' or 'Softmax' or 'Softsign'?"
    )


def test_the_default_operators_are_functions() -> None:
    assert all(has_body(operator, INTERNAL_OPSET) for operator in ExpandFunctions().operators)
