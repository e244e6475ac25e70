"""prune-weights: how many weights are 0, in which pattern, and that the rest makes up for them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from edgecc.compiler import resolve_pass
from edgecc.data.calibration import open_calibration
from edgecc.errors import DataError, OptionError, PassOrderError
from edgecc.model import Model, value_of
from edgecc.passes.base import PassContext
from edgecc.passes.pipeline import PassPipeline
from edgecc.passes.prune_weights import PruneWeights
from edgecc.passes.quantize_static import QuantizeStatic
from edgecc.passes.round_weights import RoundWeights
from edgecc.passes.verification import run
from edgecc.pruning.features import linear_of
from edgecc.pruning.sparsity import Pattern
from edgecc.registry import default_registry
from edgecc.testing import assert_skipped, check_contract, check_pass
from edgecc.testing.strategies import models

RNG = np.random.default_rng(0)
TEXT = """g (float[N,8,10,10] x) => (float[N,4] y)
{ a = Conv<pads = [1, 1, 1, 1]>(x, w, b) c = Relu(a) d = Conv<pads = [1, 1, 1, 1]>(c, v) e = Add(c, d) f = Relu(e)
  p = GlobalAveragePool(f) h = Flatten(p) y = Gemm<transB = 1>(h, u, t) }"""
CONSTANTS = {
    "w": RNG.standard_normal((16, 8, 3, 3)) / 8,
    "b": RNG.standard_normal(16) / 5,
    "v": RNG.standard_normal((16, 16, 3, 3)) / 12,
    "u": RNG.standard_normal((4, 16)) / 4,
    "t": RNG.standard_normal(4),
}
MIX = RNG.standard_normal((8, 8)) * 0.3 + np.eye(8)


def net() -> Model:
    model = Model.from_text(TEXT, {name: values.astype(np.float32) for name, values in CONSTANTS.items()})
    model.cleanup()
    return model


def images(seed: int, count: int = 48) -> np.ndarray:
    """Channels go together, as in real data: only then can the others make up for one."""
    values = np.random.default_rng(seed).standard_normal((count, 8, 10, 10))
    return np.einsum("ncij,cd->ndij", values, MIX).astype(np.float32)


def context(model: Model, samples: np.ndarray | None = None) -> PassContext:
    ctx = PassContext(None, np.random.default_rng(0))
    ctx.calibration = open_calibration({"x": images(1) if samples is None else samples}, model.signature)
    return ctx


def pruned(step: PruneWeights, model: Model) -> tuple[Model, PassContext]:
    result, ctx = model.clone(), context(model)
    PassPipeline([step]).run(result, ctx)
    return result, ctx


def matrices(model: Model) -> list[tuple[np.ndarray, int]]:
    """Weights [outputs, features] and places of the kernel of each layer."""
    linears = [linear_of(node) for node in model.nodes("Conv", "Gemm", "MatMul")]
    return [(linear.weights[:, :-1], linear.taps) for linear in linears if linear is not None]


def zeros(model: Model) -> list[float]:
    return [float((weights == 0).mean()) for weights, _ in matrices(model)]


def error(model: Model, other: Model) -> float:
    """Relative squared error on samples that nothing was fitted to."""
    wanted, found = (run(one, {"x": images(7, 64)})["y"] for one in (model, other))
    return float(((found - wanted) ** 2).sum() / ((wanted - wanted.mean(axis=0)) ** 2).sum())


@pytest.mark.parametrize("options", [{}, {"repair": False}, {"criterion": "magnitude", "allocation": "uniform"}])
@pytest.mark.parametrize("sparsity", [0.5, 0.8])
def test_so_many_weights_are_zero(sparsity: float, options: dict[str, object]) -> None:
    after, ctx = pruned(PruneWeights(sparsity=sparsity, **options), net())  # type: ignore[arg-type]
    sizes = [weights.size for weights, _ in matrices(after)]
    assert abs(np.average(zeros(after), weights=sizes) - sparsity) < 0.01
    assert len(ctx.changes) == 3
    assert f"{sparsity:.0%} of the weights of 3 layers are 0" in ctx.notes[0]


def test_the_share_of_all_weights_is_said_where_most_are_out_of_reach() -> None:
    text = """g (float[5,1,8] x) => (float[5,1,4] y) <int64[1] axis = {1}>
    { a = MatMul(x, w) l, h, s = LSTM<hidden_size = 8>(a, wx, wh) b = Squeeze(l, axis) y = MatMul(b, u) }"""
    shapes = {"w": (8, 8), "wx": (1, 32, 8), "wh": (1, 32, 8), "u": (8, 4)}
    rng = np.random.default_rng(0)
    model = Model.from_text(text, {name: rng.standard_normal(s).astype(np.float32) for name, s in shapes.items()})
    model.cleanup()
    ctx = PassContext(None)
    PassPipeline([PruneWeights(sparsity=0.5, criterion="magnitude", repair=False)]).run(model, ctx)
    # 48 zeros of 64 + 32 weights that can be 0, and of 512 more that cannot.
    assert ctx.notes[0].startswith("prune-weights: 50% of the weights of 2 layers are 0, 8% of those of all layers; ")
    whole = pruned(PruneWeights(sparsity=0.5), net())[1]
    assert "of all layers" not in whole.notes[0]


def test_the_same_share_of_every_layer() -> None:
    after, _ = pruned(PruneWeights(sparsity=0.5, allocation="uniform"), net())
    assert zeros(after) == [0.5, 0.5, 0.5]
    uneven, _ = pruned(PruneWeights(sparsity=0.5), net())
    assert zeros(uneven) != [0.5, 0.5, 0.5]


@pytest.mark.parametrize("repair", [True, False])
@pytest.mark.parametrize("words", ["2:4", "1:4", "4:8"])
def test_pattern(words: str, repair: bool) -> None:
    keep, of = map(int, words.split(":"))
    after, _ = pruned(PruneWeights(pattern=words, repair=repair), net())
    for weights, taps in matrices(after):
        assert Pattern(keep, of).holds(weights, taps)
        assert abs(float((weights != 0).mean()) - keep / of) < 0.01


def test_pattern_of_a_matrix_product_lies_along_what_is_summed() -> None:
    model = Model.from_text(
        "g (float[N,8] x) => (float[N,12] y) { y = MatMul(x, w) }",
        {"w": RNG.standard_normal((8, 12)).astype(np.float32)},
    )
    PassPipeline([PruneWeights(pattern="2:4")]).run(model, context(model, images(1)[:, :, 0, 0]))
    weights = model.nodes("MatMul")[0].inputs[1].values
    assert (np.count_nonzero(weights.reshape(2, 4, 12), axis=1) == 2).all()


def test_repair_and_sharing_out_pay() -> None:
    model = net()
    errors = {
        name: error(model, pruned(step, model)[0])
        for name, step in {
            "magnitude": PruneWeights(sparsity=0.7, criterion="magnitude", repair=False),
            "activation": PruneWeights(sparsity=0.7, criterion="activation", repair=False),
            "repaired": PruneWeights(sparsity=0.7, criterion="magnitude"),
            "surgeon": PruneWeights(sparsity=0.7),
            "uniform": PruneWeights(sparsity=0.7, allocation="uniform"),
        }.items()
    }
    assert errors["repaired"] < 0.3 * errors["magnitude"]
    assert errors["repaired"] < 0.3 * errors["activation"]
    assert errors["surgeon"] < 0.3 * errors["activation"]
    assert errors["surgeon"] < 0.7 * errors["uniform"]


def test_bias_behind_a_matrix_product() -> None:
    """What is lost on average goes into the Add that follows."""
    text = "g (float[N,4,16] x) => (float[N,4,6] y) { a = MatMul(x, w) y = Add(a, b) }"
    values = {"w": RNG.standard_normal((16, 6)), "b": RNG.standard_normal(6)}
    model = Model.from_text(text, {name: value.astype(np.float32) for name, value in values.items()})
    samples = (RNG.standard_normal((200, 4, 16)) + 2).astype(np.float32)
    after = model.clone()
    PassPipeline([PruneWeights(sparsity=0.5)]).run(after, context(model, samples))
    wanted, found = (run(one, {"x": samples})["y"] for one in (model, after))
    np.testing.assert_allclose(found.mean(axis=(0, 1)), wanted.mean(axis=(0, 1)), atol=0.02)


def test_without_data() -> None:
    check_pass(
        PruneWeights(sparsity=0.5, criterion="magnitude", repair=False),
        "g (float[1,4] x) => (float[1,2] y) <float[4,2] w = {1, -5, -2, 6, 3, 7, -4, 8}> { y = MatMul(x, w) }",
        "g (float[1,4] x) => (float[1,2] y) <float[4,2] w = {0, -5, 0, 6, 0, 7, 0, 8}> { y = MatMul(x, w) }",
    )
    with pytest.raises(DataError, match="needs calibration data"):
        PassPipeline([PruneWeights(sparsity=0.5)]).run(net(), PassContext(None, np.random.default_rng(0)))


def test_each_layer_keeps_some() -> None:
    after, ctx = pruned(PruneWeights(sparsity=0.9, keep=0.4), net())
    assert max(zeros(after)) <= 0.601
    assert "not 90%, since each layer keeps 40%" in ctx.notes[1]
    assert not PruneWeights(sparsity=0.9, keep=0.4).run(after, context(after))


@pytest.mark.parametrize("step", [PruneWeights(sparsity=0.6), PruneWeights(pattern="2:4")])
def test_a_second_run_changes_nothing(step: PruneWeights) -> None:
    after, _ = pruned(step, net())
    assert not step.run(after, context(after))


def test_zeros_stay_through_quantization() -> None:
    model = net()
    steps = [PruneWeights(pattern="2:4"), QuantizeStatic(), RoundWeights()]
    PassPipeline(steps).run(model, context(model))
    stored = [value_of(node.inputs[0]) for node in model.nodes("DequantizeLinear")]
    found = [values for values in stored if values is not None and values.ndim > 1]
    assert len(found) == 3
    for values in found:
        taps = int(np.prod(values.shape[2:], dtype=np.int64))
        assert Pattern(2, 4).holds(values.reshape(len(values), -1), taps)


@pytest.mark.parametrize(
    ("text", "shape", "reason"),
    [
        (
            "g (float[1,8,9,9] x) => (float[1,8,7,7] y) { y = Conv<group = 8>(x, w) }",
            (8, 1, 3, 3),
            "groups of channels",
        ),
        ("g (float[1,8,4,4] x) => (float[1,4,5,5] y) { y = ConvTranspose(x, w) }", (8, 4, 2, 2), "what it sums over"),
        ("g (float[1,6] x) => (float[1,8] y) { y = MatMul(x, w) }", (6, 8), "reads 6 channels, no multiple of 4"),
        ("g (float[1,8] x) => (float[1,6] y) { y = Gemm<alpha = 2.0>(x, w) }", (8, 6), "no matrix, or its bias"),
        ("g (float[2,8] x) => (float[2,8] y) { a = MatMul(x, w)  y = MatMul(a, w) }", (8, 8), "weights are shared"),
    ],
)
def test_left_alone(text: str, shape: tuple[int, ...], reason: str) -> None:
    model = Model.from_text(text, {"w": RNG.standard_normal(shape).astype(np.float32)})
    assert_skipped(PruneWeights(pattern="2:4"), model, reason)


LSTM = """g (float[5,1,6] x) => (float[5,1,1,8] y) { y = LSTM<hidden_size = 8>(x, w, r) }"""


def test_nothing_to_do_says_why() -> None:
    shapes = {"w": (1, 32, 6), "r": (1, 32, 8)}
    model = Model.from_text(LSTM, {key: RNG.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()})
    step = PruneWeights(sparsity=0.5)
    assert_skipped(step, model, "weights of recurrent layers are not set to 0 one by one")
    ctx = PassContext(None, RNG)
    PassPipeline([step]).run(model, ctx)
    why = "'LSTM_0': weights of recurrent layers are not set to 0 one by one"
    assert ctx.notes == [f"prune-weights: nothing to do: 1 layer stays as it is ({why})"]
    after, _ = pruned(step, net())
    _, ctx = pruned(step, after)
    assert ctx.notes == ["prune-weights: nothing to do: as many weights as sparsity=0.5 asks for are 0 already"]


def test_layers_of_subgraphs_are_left_with_a_reason() -> None:
    model = Model.from_text(
        """g (float[1,8] x, bool c) => (float[1,8] y) { y = If(c)
        <then_branch = t () => (float[1,8] p) { p = MatMul(x, w) },
         else_branch = e () => (float[1,8] q) { q = Relu(x) }>
        }""",
        {"w": RNG.standard_normal((8, 8)).astype(np.float32)},
    )
    assert_skipped(PruneWeights(sparsity=0.5), model, "it is in a subgraph of If, Loop or Scan")


def test_ignored_layers_keep_their_weights() -> None:
    model = net()
    after, _ = pruned(PruneWeights(sparsity=0.5, ignore=("Conv_0",)), model)
    first, second = (one.nodes("Conv")[0].inputs[1].values for one in (model, after))
    np.testing.assert_array_equal(first, second)
    assert zeros(after)[0] == 0
    with pytest.raises(OptionError, match="matches no node"):
        pruned(PruneWeights(sparsity=0.5, ignore=("nothing",)), model)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("", "none is given"),
        (":sparsity=0.5,pattern=2:4", "sparsity and pattern are given"),
        (":pattern=4:2", "the pattern 4:2 sets nothing to 0"),
    ],
)
def test_options_that_make_no_sense(words: str, what: str) -> None:
    step = resolve_pass(f"prune-weights{words}", default_registry())
    with pytest.raises(OptionError, match=what):
        PassPipeline([step]).run(net(), context(net()))


def test_it_comes_before_what_quantizes() -> None:
    with pytest.raises(PassOrderError, match="'prune-weights' must run before 'quantize-static'"):
        PassPipeline([QuantizeStatic(), PruneWeights(sparsity=0.5)])


@settings(max_examples=20, deadline=None)
@given(models())
def test_random_models(model: Model) -> None:
    try:
        check_contract(PruneWeights(sparsity=0.5), model)
    except DataError as error:
        # Random graphs compute NaN, of masks for example.
        assert "NaN" in str(error)  # noqa: PT017


def test_layers_that_have_the_pattern_keep_it() -> None:
    """While those in front of them get it and the others are fitted."""
    half, _ = pruned(PruneWeights(pattern="2:4", ignore=("Conv_0",)), net())
    assert zeros(half)[0] == 0
    after, _ = pruned(PruneWeights(pattern="2:4"), half)
    for (weights, taps), (before, _) in zip(matrices(after)[1:], matrices(half)[1:], strict=True):
        np.testing.assert_array_equal(weights, before)
        assert Pattern(2, 4).holds(weights, taps)
    assert zeros(after)[0] == 0.5


def test_shared_weights_stay_shared() -> None:
    text = """g (float[N,8] x) => (float[N,8] y)
    { a = MatMul(x, w) b = Relu(a) c = MatMul(b, v) d = MatMul(c, v) y = MatMul(d, u) }"""
    weights = {name: RNG.standard_normal((8, 8)).astype(np.float32) for name in "wvu"}
    model = Model.from_text(text, weights)
    PassPipeline([PruneWeights(sparsity=0.5)]).run(model, context(model, images(1)[:, :, 0, 0]))
    first, second = (node.inputs[1] for node in model.nodes("MatMul")[1:3])
    assert first is second
    np.testing.assert_array_equal(first.values, weights["v"])
