"""prune-channels: how much goes, what goes, and that the rest makes up for it."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.compiler import resolve_pass
from edgecc.data.calibration import open_calibration
from edgecc.errors import DataError, OptionError, PassOrderError
from edgecc.inspection import inspect_model
from edgecc.model import Model
from edgecc.passes.base import PassContext
from edgecc.passes.pipeline import PassPipeline
from edgecc.passes.prune_channels import PruneChannels
from edgecc.passes.quantize_static import QuantizeStatic
from edgecc.passes.verification import run
from edgecc.registry import default_registry

TEXT = """g (float[N,3,12,12] x) => (float[N,5] y)
{ a = Conv<pads = [1, 1, 1, 1]>(x, w, b) c = Relu(a) d = Conv<pads = [1, 1, 1, 1]>(c, v, s) e = Relu(d)
  f = GlobalAveragePool(e) h = Flatten(f) y = Gemm(h, u, t) }"""


def weights(redundant: bool = False) -> dict[str, np.ndarray]:
    """16 and 12 channels; if redundant, the second half of the first ones are mixtures of the first half."""
    rng = np.random.default_rng(0)
    values = {
        "w": rng.standard_normal((16, 3, 3, 3)) / 5,
        "b": rng.standard_normal(16) / 5,
        "v": rng.standard_normal((12, 16, 3, 3)) / 12,
        "s": rng.standard_normal(12) / 5,
        "u": rng.standard_normal((12, 5)) / 3,
        "t": rng.standard_normal(5),
    }
    if redundant:
        # Twice the same channel: what reads one can read the other.
        values["w"][8:], values["b"][8:] = values["w"][:8], values["b"][:8]
    return {name: array.astype(np.float32) for name, array in values.items()}


def net(redundant: bool = False) -> Model:
    model = Model.from_text(TEXT, weights(redundant))
    model.cleanup()
    return model


def samples(count: int = 48) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    return [{"x": rng.standard_normal((1, 3, 12, 12)).astype(np.float32)} for _ in range(count)]


def context(model: Model, count: int = 48) -> PassContext:
    ctx = PassContext(None, np.random.default_rng(0))
    ctx.calibration = open_calibration({"x": np.concatenate([one["x"] for one in samples(count)])}, model.signature)
    return ctx


def pruned(step: PruneChannels, model: Model) -> tuple[Model, PassContext]:
    result, ctx = model.clone(), context(model)
    PassPipeline([step]).run(result, ctx)
    return result, ctx


def error(model: Model, other: Model) -> float:
    """Relative squared error on samples that nothing was fitted to."""
    rng = np.random.default_rng(7)
    feeds = {"x": rng.standard_normal((64, 3, 12, 12)).astype(np.float32)}
    wanted, found = run(model, feeds)["y"], run(other, feeds)["y"]
    return float(((found - wanted) ** 2).sum() / ((wanted - wanted.mean(axis=0)) ** 2).sum())


@pytest.mark.parametrize("budget", [0.8, 0.5, 0.3])
@pytest.mark.parametrize("measure", ["macs", "params", "bytes"])
def test_budget_is_met_and_not_by_much(measure: str, budget: float) -> None:
    before, after = inspect_model(net()), inspect_model(pruned(PruneChannels(**{measure: budget}), net())[0])
    key = {"macs": "macs", "params": "parameters", "bytes": "parameter_bytes"}[measure]
    # One channel of the first layer is 1/16 of nearly all.
    assert budget - 0.08 < getattr(after, key) / getattr(before, key) <= budget + 0.01


def test_a_number_of_bytes() -> None:
    before, after = inspect_model(net()), inspect_model(pruned(PruneChannels(bytes=5000), net())[0])
    assert before.parameter_bytes > 8000
    # A channel of the second layer has 2 * 9 * 16 + 2 + 5 values at most.
    assert 5000 - 4 * 300 < after.parameter_bytes <= 5000
    same, ctx = pruned(PruneChannels(bytes=20000), net())
    assert inspect_model(same) == before
    assert ctx.notes == ["prune-channels: nothing goes: the bytes of the weights are within the budget"]


def test_a_share_of_the_time_is_for_who_measures() -> None:
    with pytest.raises(OptionError, match=r"latency=0\.7 is a budget for edgecc compile, which measures") as error:
        pruned(PruneChannels(latency=0.7), net())
    assert error.value.hint == "prune-channels:macs=0.7 leaves that share of the multiply-accumulates"


def test_rounded_to_what_kernels_like() -> None:
    rounded = PruneChannels(latency=0.7).rounded()
    assert rounded == PruneChannels(latency=0.7, multiple=8)
    assert rounded.rounded() is None
    assert PruneChannels(latency=0.7, multiple=3).rounded() is None


def test_shapes_are_those_of_the_result() -> None:
    model = net()
    before = model.to_text()
    step = PruneChannels(latency=0.7)
    at = step.shapes(model, context(model))
    for share in (0.7, 0.4):
        shaped, made = at(step.with_macs(share)), pruned(PruneChannels(macs=share), net())[0]
        wanted = [node.inputs[1].shape for node in made.nodes("Conv", "Gemm")]
        assert [node.inputs[1].shape for node in shaped.nodes("Conv", "Gemm")] == wanted
        shaped.verify()
        assert run(shaped, {"x": samples(1)[0]["x"]})["y"].shape == (1, 5)
    assert model.to_text() == before


def test_same_share_of_every_group() -> None:
    after, _ = pruned(PruneChannels(ratio=0.25), net())
    assert [tuple(node.inputs[1].shape) for node in after.nodes("Conv", "Gemm")] == [
        (12, 3, 3, 3),
        (9, 12, 3, 3),
        (9, 5),
    ]


def channels(model: Model) -> list[int]:
    return [node.inputs[1].shape[0] for node in model.nodes("Conv")]


def test_multiples_of_groups_that_have_none() -> None:
    after, ctx = pruned(PruneChannels(ratio=0.3, multiple=8), net())
    # 12 channels go down to 8, and 16, of which 30 % would be too few for that, stay.
    assert channels(after) == [16, 12]
    after, ctx = pruned(PruneChannels(ratio=0.5, multiple=8), net())
    assert channels(after) == [8, 8]
    assert not ctx.notes
    after, ctx = pruned(PruneChannels(ratio=0.5, multiple=16), net())
    assert channels(after) == [8, 6]
    assert ctx.notes == ["prune-channels: 2 groups have too few channels for multiples of 16 ('Conv_0')"]


def test_large_groups_of_depthwise_convolutions_go_in_what_kernels_like() -> None:
    rng = np.random.default_rng(0)
    shapes = {"w": (128, 3, 1, 1), "k": (128, 1, 1, 1), "v": (24, 128, 1, 1), "u": (2, 24, 1, 1)}
    model = Model.from_text(
        """g (float[1,3,8,8] x) => (float[1,2,8,8] y)
        { a = Conv(x, w) b = Conv<group = 128>(a, k) c = Conv(b, v) d = Relu(c) y = Conv(d, u) }""",
        {key: rng.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()},
    )
    ways = {None: [96, 96, 17, 2], 1: [90, 90, 17, 2], 8: [96, 96, 24, 2]}
    for multiple, left in ways.items():
        result = model.clone()
        step = PruneChannels(ratio=0.3, multiple=multiple, criterion="magnitude", repair=False)
        PassPipeline([step]).run(result, PassContext(None, np.random.default_rng(0)))
        assert channels(result) == left


def test_heads_and_gates_are_several_channels_each() -> None:
    rng = np.random.default_rng(0)
    shapes = {"w": (1, 96, 6), "r": (1, 96, 24), "u": (24, 3)}
    model = Model.from_text(
        """g (float[5,2,6] x) => (float[5,2,3] y) <int64[1] axis = {1}>
        { a, h, s = LSTM<hidden_size = 24>(x, w, r) b = Squeeze(a, axis) y = MatMul(b, u) }""",
        {key: rng.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()},
    )
    step = PruneChannels(macs=0.8, multiple=8, criterion="magnitude", repair=False)
    PassPipeline([step]).run(model, PassContext(None, np.random.default_rng(0)))
    assert model.nodes("LSTM")[0].attrs["hidden_size"] == 16


def test_number_of_channels_is_a_multiple() -> None:
    after, _ = pruned(PruneChannels(macs=0.5, multiple=4), net())
    assert [node.inputs[1].shape[0] % 4 for node in after.nodes("Conv")] == [0, 0]


def test_twins_go_first_and_nothing_is_lost() -> None:
    model = net(redundant=True)
    after, ctx = pruned(PruneChannels(ratio=0.5, ignore=("*Gemm*",)), model)
    assert after.nodes("Conv")[0].inputs[1].shape[0] == 8
    assert len(ctx.skips) == 2
    # Ridge regression keeps a thousandth of the power of what it fits back.
    assert error(model, after) < 1e-3


def test_repair_and_the_surgeon_pay() -> None:
    model = net()
    errors = {
        name: error(model, pruned(step, model)[0])
        for name, step in {
            "magnitude": PruneChannels(macs=0.5, criterion="magnitude", repair=False),
            "repaired": PruneChannels(macs=0.5, criterion="magnitude"),
            "surgeon": PruneChannels(macs=0.5),
        }.items()
    }
    assert errors["repaired"] < 0.5 * errors["magnitude"]
    assert errors["surgeon"] <= 1.1 * errors["repaired"]


def test_activation_criterion() -> None:
    model = net()
    assert error(model, pruned(PruneChannels(macs=0.6, criterion="activation"), model)[0]) < 1


def test_a_budget_that_cannot_be_met_says_how_far_it_got() -> None:
    after, ctx = pruned(PruneChannels(macs=0.01, keep=0.5), net())
    (note,) = ctx.notes
    assert note.startswith(
        "prune-channels: 30% of the multiply-accumulates are left, not 1%: 2 groups of channels are "
    )
    assert "down to 50% of their units and 1 group of channels is not to lose any ('Gemm_6': " in note
    assert note.endswith("Try: keep=0.25 lets more of each group go, or a larger macs, since no pass takes so much")
    assert after.nodes("Conv")[0].inputs[1].shape[0] == 8


def test_where_a_single_unit_is_left_no_smaller_keep_is_offered() -> None:
    _, ctx = pruned(PruneChannels(macs=0.001, keep=0.01, epochs=0), net())
    (note,) = (note for note in ctx.notes if "are left, not" in note)
    assert "2 groups of channels are down to a single unit" in note
    assert "keep=" not in note


def test_a_ratio_beyond_what_stays() -> None:
    _, ctx = pruned(PruneChannels(ratio=0.9, criterion="magnitude", repair=False), net())
    assert ctx.notes == ["prune-channels: 20% of each group stay: keep=0.1 lets more of it go"]


def test_a_depthwise_convolution_that_keeps_one_channel() -> None:
    """It is no depthwise one any more, and has weights like any other: it is still not fitted."""
    rng = np.random.default_rng(0)
    shapes = {"w": (4, 3, 1, 1), "v": (4, 1, 3, 3), "u": (2, 4, 1, 1)}
    model = Model.from_text(
        """g (float[1,3,8,8] x) => (float[1,2,8,8] y)
        { a = Conv(x, w) b = Conv<group = 4, pads = [1, 1, 1, 1]>(a, v) y = Conv(b, u) }""",
        {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()},
    )
    ctx = PassContext(None, np.random.default_rng(0))
    images = rng.standard_normal((64, 3, 8, 8)).astype(np.float32)
    ctx.calibration = open_calibration(images, model.signature)
    PassPipeline([PruneChannels(macs=0.01, keep=0, epochs=1)]).run(model, ctx)
    assert [node.inputs[1].shape[0] for node in model.nodes("Conv")] == [1, 1, 2]
    assert np.isfinite(run(model, {"x": images[:1]})["y"]).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{ y = MatMul(x, w) }", "1 group of channels is to stay ('MatMul_0': 'y' is an output"),
        ("{ y = Relu(x) }", "the model has no layer whose channels are read by another one"),
    ],
)
def test_a_model_of_which_nothing_may_go_says_so(text: str, words: str) -> None:
    model = Model.from_text(f"g (float[N,4] x) => (float[N,4] y) {text}", {"w": np.eye(4, dtype=np.float32)})
    model.cleanup()
    ctx = PassContext(None, np.random.default_rng(0))
    result = PassPipeline([PruneChannels(macs=0.5)]).run(model, ctx)
    assert not result.records[0].changed
    (note,) = ctx.notes
    assert note.startswith(f"prune-channels: nothing goes: {words}")


def test_residual_and_depthwise_layers() -> None:
    text = """g (float[N,3,8,8] x) => (float[N,2,8,8] y)
    { a = Conv(x, w) b = Relu(a) c = Conv<group = 8, pads = [1, 1, 1, 1]>(b, d) e = Conv(c, v) f = Add(a, e) h = Relu(f)
      y = Conv(h, u) }"""
    rng = np.random.default_rng(0)
    shapes = {"w": (8, 3, 1, 1), "d": (8, 1, 3, 3), "v": (8, 8, 1, 1), "u": (2, 8, 1, 1)}
    model = Model.from_text(text, {k: rng.standard_normal(s).astype(np.float32) for k, s in shapes.items()})
    model.cleanup()
    ctx = PassContext(None, np.random.default_rng(0))
    ctx.calibration = open_calibration({"x": rng.standard_normal((32, 3, 8, 8)).astype(np.float32)}, model.signature)
    PassPipeline([PruneChannels(ratio=0.25)]).run(model, ctx)
    assert model.nodes("Conv")[1].attrs["group"] == 6
    assert [node.inputs[1].shape[0] for node in model.nodes("Conv")] == [6, 6, 6, 2]


def test_without_data() -> None:
    model = net()
    PassPipeline([PruneChannels(ratio=0.25, criterion="magnitude", repair=False)]).run(
        model, PassContext(None, np.random.default_rng(0))
    )
    assert model.nodes("Conv")[0].inputs[1].shape[0] == 12
    with pytest.raises(DataError, match="needs calibration data"):
        PassPipeline([PruneChannels(ratio=0.25)]).run(net(), PassContext(None, np.random.default_rng(0)))


@pytest.mark.parametrize(("gemm", "rows", "bias"), [("Gemm<beta = 50.0>", "N", (5,)), ("Gemm", "5", (5, 1))])
def test_biases_that_are_scaled_or_differ_between_rows_stay(gemm: str, rows: str, bias: tuple[int, ...]) -> None:
    """What the others are fitted to is right all the same."""
    text = f"""g (float[{rows},6] x) => (float[{rows},2] y)
    {{ a = MatMul(x, w) r = Relu(a) b = {gemm}(r, v, c) y = MatMul(b, u) }}"""
    rng = np.random.default_rng(0)
    shapes = {"w": (6, 16), "v": (16, 5), "c": bias, "u": (5, 2)}
    model = Model.from_text(text, {k: rng.standard_normal(s).astype(np.float32) for k, s in shapes.items()})
    model.cleanup()
    images, unseen = (rng.standard_normal((size, 6)).astype(np.float32) for size in (160, 5))
    losses = []
    for repair in (True, False):
        after, ctx = model.clone(), PassContext(None, rng)
        ctx.calibration = open_calibration({"x": images}, model.signature)
        PassPipeline([PruneChannels(ratio=0.1, repair=repair)]).run(after, ctx)
        assert after.nodes("MatMul")[0].inputs[1].shape == (6, 15)
        np.testing.assert_array_equal(after.nodes("Gemm")[0].inputs[2].values, model.nodes("Gemm")[0].inputs[2].values)
        losses.append(float(np.square(run(after, {"x": unseen})["y"] - run(model, {"x": unseen})["y"]).mean()))
    # The last layer makes up for what it can.
    assert losses[0] < losses[1]


def test_values_that_are_not_finite() -> None:
    text = """g (float[N,4] x) => (float[N,2] y)
    { a = MatMul(x, w) b = Log(a) c = MatMul(b, v) d = Relu(c) y = MatMul(d, u) }"""
    rng = np.random.default_rng(0)
    shapes = {"w": (4, 8), "v": (8, 8), "u": (8, 2)}
    model = Model.from_text(text, {k: rng.standard_normal(s).astype(np.float32) for k, s in shapes.items()})
    model.cleanup()
    ctx = PassContext(None, rng)
    ctx.calibration = open_calibration({"x": rng.standard_normal((8, 4)).astype(np.float32)}, model.signature)
    with pytest.raises(DataError, match="computes NaN or infinities in 'b'"):
        PassPipeline([PruneChannels(ratio=0.5)]).run(model, ctx)


def test_values_whose_squares_are_not_finite() -> None:
    model, ctx = net(), PassContext(None, np.random.default_rng(0))
    ctx.calibration = open_calibration(np.full((8, 3, 12, 12), 1e30, np.float32), model.signature)
    with pytest.raises(DataError, match=r"computes values as large as 2e\+30 in "):
        PassPipeline([PruneChannels(macs=0.5)]).run(model, ctx)


@pytest.mark.parametrize("words", ["", ":macs=0.5,params=0.5"])
def test_one_budget(words: str) -> None:
    step = resolve_pass(f"prune-channels{words}", default_registry())
    with pytest.raises(
        OptionError,
        match=r"takes one of macs, params, bytes, latency and ratio, and (none is|macs and params are) given",
    ):
        PassPipeline([step]).run(net(), context(net()))


def test_patterns_that_match_nothing() -> None:
    with pytest.raises(OptionError, match="matches no node"):
        pruned(PruneChannels(ratio=0.5, ignore=("nothing",)), net())


def test_it_comes_before_what_quantizes() -> None:
    with pytest.raises(PassOrderError, match="'prune-channels' must run before 'quantize-static'"):
        PassPipeline([QuantizeStatic(), PruneChannels(ratio=0.5)])


def test_outputs_without_a_size_leave_the_layers_errors() -> None:
    text = TEXT.replace("(float[N,5] y)", "(int64[N] z)").replace(
        "y = Gemm(h, u, t) }", "y = Gemm(h, u, t) z = ArgMax<axis = 1, keepdims = 0>(y) }"
    )
    model = Model.from_text(text, weights())
    model.cleanup()
    sizes = []
    for sensitivity in ("outputs", "layers"):
        after, _ = pruned(PruneChannels(macs=0.5, sensitivity=sensitivity), model)
        sizes.append([node.inputs[1].shape for node in after.nodes("Conv")])
    assert sizes[0] == sizes[1]


def test_recurrent_layers_alone() -> None:
    rng = np.random.default_rng(0)
    shapes = {"w": (1, 32, 4), "r": (1, 32, 8), "v": (1, 24, 8), "u": (1, 24, 6)}
    values = {name: rng.standard_normal(shape).astype(np.float32) / 4 for name, shape in shapes.items()}
    text = """g (float[5,2,4] x) => (float[5,1,2,6] y)
{ a = LSTM<hidden_size = 8>(x, w, r) c = Squeeze(a, axes) y = LSTM<hidden_size = 6>(c, v, u) }"""
    model = Model.from_text(text, {**values, "axes": np.array([1], np.int64)})
    model.cleanup()
    ctx = PassContext(None, np.random.default_rng(0))
    feeds = [{"x": rng.standard_normal((5, 2, 4)).astype(np.float32)} for _ in range(8)]
    ctx.calibration = open_calibration(feeds, model.signature)
    assert PruneChannels(ratio=0.5).run(model, ctx)
    assert model.nodes("LSTM")[0].attrs["hidden_size"] == 4
    assert run(model, feeds[0])["y"].shape == (5, 1, 2, 6)


def stacked() -> tuple[Model, dict[str, np.ndarray], PassContext]:
    """Half of the first layer's units have the largest weights, and are read neither by it nor behind it."""
    rng = np.random.default_rng(0)
    shapes = {"w": (1, 64, 4), "r": (1, 64, 16), "v": (1, 48, 16), "q": (1, 48, 16), "u": (16, 3)}
    values = {name: rng.standard_normal(shape).astype(np.float32) / 4 for name, shape in shapes.items()}
    values["r"][:, :, 8:] = values["v"][:, :, 8:] = 0
    values["w"].reshape(4, 16, 4)[:, 8:] *= 4
    text = """g (float[5,2,4] x) => (float[5,2,3] y)
{ a = LSTM<hidden_size = 16>(x, w, r) c = Squeeze(a, axes) d = GRU<hidden_size = 16>(c, v, q) e = Squeeze(d, axes)
  y = MatMul(e, u) }"""
    model = Model.from_text(text, {**values, "axes": np.array([1], np.int64)})
    model.cleanup()
    ctx = PassContext(None, np.random.default_rng(0))
    feeds = [{"x": rng.standard_normal((5, 2, 4)).astype(np.float32)} for _ in range(8)]
    ctx.calibration = open_calibration(feeds, model.signature)
    return model, feeds[0], ctx


@pytest.mark.parametrize("options", ["", ",sensitivity=layers", ",criterion=activation"])
def test_units_of_stacked_recurrent_layers_that_nothing_reads_go_first(options: str) -> None:
    model, feeds, ctx = stacked()
    expected = run(model, feeds)["y"]
    step = resolve_pass(f"prune-channels:macs=0.56,repair=false{options}", default_registry())
    PassPipeline([step]).run(model, ctx)
    assert [node.attrs["hidden_size"] for node in model.nodes("LSTM", "GRU")] == [8, 16]
    np.testing.assert_allclose(run(model, feeds)["y"], expected, atol=1e-6)


def test_units_of_recurrent_layers_that_nothing_reads_go_first_where_each_layer_loses_as_many() -> None:
    model, _, ctx = stacked()
    PassPipeline([PruneChannels(ratio=0.5, repair=False)]).run(model, ctx)
    lstm, gru = (node.inputs[2].values for node in model.nodes("LSTM", "GRU"))
    assert (lstm.shape[2], gru.shape[2]) == (8, 8)
    assert (np.abs(lstm).sum(axis=(0, 1)) > 0).all()


def test_shared_weights_stay_shared() -> None:
    rng = np.random.default_rng(0)
    shapes = {"w": (8, 3, 1, 1), "s": (8, 8, 1, 1), "v": (5, 8, 1, 1)}
    values = {name: rng.standard_normal(shape).astype(np.float32) / 2 for name, shape in shapes.items()}
    text = """g (float[N,3,12,12] x) => (float[N,5,12,12] y)
{ a = Conv(x, w) b = Relu(a) c = Conv(b, s) d = Relu(c) e = Conv(d, s) f = Relu(e) y = Conv(f, v) }"""
    model = Model.from_text(text, values)
    model.cleanup()
    result, _ = pruned(PruneChannels(ratio=0.5), model)
    layers = result.nodes("Conv")
    assert layers[1].inputs[1].shape == (4, 4, 1, 1)
    assert layers[1].inputs[1] is layers[2].inputs[1]


def deep_net(layers: int = 6) -> Model:
    """Matrix products with biases behind one another, of three axes, so that they stay MatMul and Add."""
    rng = np.random.default_rng(0)
    lines, values = [], {}
    for index in range(layers):
        source = "x" if not index else f"r{index - 1}"
        last = index == layers - 1
        lines.append(f"m{index} = MatMul({source}, w{index}) {'y' if last else f'a{index}'} = Add(m{index}, b{index})")
        lines += [] if last else [f"r{index} = Relu(a{index})"]
        values[f"w{index}"] = (rng.standard_normal((24, 24)) / np.sqrt(12)).astype(np.float32)
        values[f"b{index}"] = (rng.standard_normal(24) / 3).astype(np.float32)
    model = Model.from_text(f"g (float[N,4,24] x) => (float[N,4,24] y) {{ {' '.join(lines)} }}", values)
    model.cleanup()
    return model


def on_deep_net(**options: object) -> tuple[float, dict[str, np.ndarray]]:
    """The relative squared error on other samples, and the constants."""
    model, rng = deep_net(), np.random.default_rng(1)
    after, ctx = model.clone(), PassContext(None, np.random.default_rng(0))
    seen, unseen = (rng.standard_normal((256, 4, 24)).astype(np.float32) for _ in range(2))
    ctx.calibration = open_calibration({"x": seen}, model.signature)
    PassPipeline([PruneChannels(ratio=0.25, epochs=0, **options)]).run(after, ctx)
    wanted, found = (run(one, {"x": unseen})["y"] for one in (model, after))
    values = {node.name: node.inputs[1].values for node in after.nodes("MatMul", "Add")}
    return float(((found - wanted) ** 2).mean() / wanted.var()), values


def test_layers_behind_one_another_do_not_make_up_for_the_same_errors() -> None:
    """As they did when several were fitted at once: the more of them, the worse, up to worse than none."""
    assert on_deep_net()[0] < 0.5 * on_deep_net(repair=False)[0]


def test_biases_behind_matrix_products_are_fitted() -> None:
    fitted, before = on_deep_net()[1], on_deep_net(repair=False)[1]
    names = [node.name for node in deep_net().nodes("Add")]
    assert [bool((fitted[name] != before[name]).any()) for name in names] == [False] + [True] * (len(names) - 1)


@pytest.mark.parametrize("epochs", [0, 12])
def test_layers_to_be_ignored_keep_their_weights(epochs: int) -> None:
    model = net()
    after, ctx = model.clone(), context(model, 128)
    PassPipeline([PruneChannels(ratio=0.25, epochs=epochs, ignore=("Gemm*",))]).run(after, ctx)
    assert after.nodes("Conv")[0].inputs[1].shape[0] == 12
    for index in (1, 2):
        np.testing.assert_array_equal(
            after.nodes("Gemm")[0].inputs[index].values, model.nodes("Gemm")[0].inputs[index].values
        )
    assert len(ctx.notes) == bool(epochs)


def test_sums_with_masks_of_minus_infinity_are_left_out_of_fits() -> None:
    rng = np.random.default_rng(0)
    shapes = {"w": (6, 24), "v": (24, 4)}
    model = Model.from_text(
        """g (float[N,6] x, float[N,4] mask) => (float[N,4] y)
        { a = MatMul(x, w) b = Relu(a) c = MatMul(b, v) m = Log(mask) y = Add(c, m) }""",
        {key: rng.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()},
    )
    inputs = rng.standard_normal((64, 6)).astype(np.float32)
    masks = np.tile(np.array([1, 1, 0, 1], np.float32), (64, 1))
    ctx = PassContext(None, np.random.default_rng(0))
    ctx.calibration = open_calibration({"x": inputs, "mask": masks}, model.signature)
    assert PruneChannels(ratio=0.3).run(model, ctx)
    assert all(np.isfinite(tensor.values).all() for tensor in model.constants())
