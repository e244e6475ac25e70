"""prune-layers: which branches go, that the rest makes up for them, and which ones cannot."""

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
from edgecc.passes.prune_layers import PruneLayers
from edgecc.passes.quantize_static import QuantizeStatic
from edgecc.passes.verification import run
from edgecc.pruning.residual_blocks import find_blocks
from edgecc.registry import default_registry
from edgecc.testing import assert_skipped

RNG = np.random.default_rng(0)
STRENGTHS = (1.0, 0.05, 1.0, 0.3)
"""Of the four branches of `network`."""


def network(strengths: tuple[float, ...] = STRENGTHS) -> Model:
    """A residual network whose branches differ in what they add."""
    rng = np.random.default_rng(0)
    constants: dict[str, np.ndarray] = {
        "w": rng.standard_normal((8, 3, 3, 3)) / 4,
        "u": rng.standard_normal((8, 5)) / 3,
        "c": rng.standard_normal(5),
    }
    lines = []
    for i, strength in enumerate(strengths):
        constants[f"w{i}"] = rng.standard_normal((8, 8, 3, 3)) / 8
        constants[f"v{i}"] = rng.standard_normal((8, 8, 3, 3)) / 6 * strength
        constants[f"b{i}"] = rng.standard_normal(8) / 4
        lines.append(
            f"a{i} = Conv<pads = [1, 1, 1, 1]>(x{i}, w{i}, b{i}) r{i} = Relu(a{i}) "
            f"f{i} = Conv<pads = [1, 1, 1, 1]>(r{i}, v{i}) s{i} = Add(f{i}, x{i}) x{i + 1} = Relu(s{i})"
        )
    last = len(strengths)
    text = f"""g (float[N,3,9,9] x) => (float[N,5] y) {{ x0 = Conv<pads = [1, 1, 1, 1]>(x, w)
    {" ".join(lines)} p = GlobalAveragePool(x{last}) h = Flatten(p) y = Gemm(h, u, c) }}"""
    model = Model.from_text(text, {name: values.astype(np.float32) for name, values in constants.items()})
    model.cleanup()
    return model


def images(seed: int, count: int = 96) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 3, 9, 9)).astype(np.float32)


def context(model: Model) -> PassContext:
    ctx = PassContext(None, np.random.default_rng(0))
    ctx.calibration = open_calibration({model.inputs[0].name: images(1)}, model.signature)
    return ctx


def pruned(step: PruneLayers, model: Model) -> tuple[Model, PassContext]:
    after, ctx = model.clone(), context(model)
    PassPipeline([step]).run(after, ctx)
    assert after.signature == model.signature
    return after, ctx


def error(model: Model, other: Model) -> float:
    """Relative squared error on samples that nothing was fitted to."""
    wanted, found = (run(one, {"x": images(7)})["y"] for one in (model, other))
    return float(((found - wanted) ** 2).sum() / ((wanted - wanted.mean(axis=0)) ** 2).sum())


@pytest.mark.parametrize("tries", [1, 2, 8])
def test_the_weakest_branch_goes(tries: int) -> None:
    after, ctx = pruned(PruneLayers(blocks=1, tries=tries), network())
    assert [change.what for change in ctx.changes] == ["its branch of 2 layers is gone"]
    names = {tensor.name for node in after.nodes() for tensor in node.outputs}
    assert "s1" not in names
    assert {"s0", "s2", "s3"} <= names
    assert not after.nodes("Identity")
    assert len(after.nodes("Conv")) == 7


def test_as_many_as_are_asked_for() -> None:
    after, ctx = pruned(PruneLayers(blocks=2), network())
    assert len(find_blocks(after)[0]) == 2
    assert [change.what for change in ctx.changes] == ["its branch of 2 layers is gone"] * 2
    assert {"s0", "s2"} <= {tensor.name for node in after.nodes("Add") for tensor in node.outputs}


def test_repair_pays() -> None:
    model = network((1.0, 0.5, 1.0, 0.7))
    errors = {repair: error(model, pruned(PruneLayers(blocks=1, repair=repair), model)[0]) for repair in (True, False)}
    assert errors[True] < 0.5 * errors[False]


@pytest.mark.parametrize("measure", ["macs", "params"])
def test_budget(measure: str) -> None:
    before = inspect_model(network())
    after = inspect_model(pruned(PruneLayers(**{measure: 0.6}), network())[0])
    key = {"macs": "macs", "params": "parameters"}[measure]
    assert 0.4 < getattr(after, key) / getattr(before, key) < 0.62


def test_a_budget_that_cannot_be_met_says_how_far_it_got() -> None:
    after, ctx = pruned(PruneLayers(macs=0.01), network())
    assert not find_blocks(after)[0]
    assert "of the multiply-accumulates are left, not 1%: no other branch may go" in ctx.notes[0]
    _, ctx = pruned(PruneLayers(blocks=9), network())
    assert "4 branches are gone, not 9: there are no others" in ctx.notes[0]


def test_ignored_branches_stay() -> None:
    model = network()
    adder = find_blocks(model)[0][1].name
    after, ctx = pruned(PruneLayers(blocks=1, ignore=(adder,)), model)
    assert "s1" in {tensor.name for node in after.nodes("Add") for tensor in node.outputs}
    assert [skip.reason for skip in ctx.skips] == ["it is to be ignored"]
    with pytest.raises(OptionError, match="matches no node"):
        pruned(PruneLayers(blocks=1, ignore=("nothing",)), model)


def test_what_is_ignored_is_not_fitted_either() -> None:
    model = network()
    last = model.nodes("Gemm")[-1].name
    fitted, _ = pruned(PruneLayers(blocks=1), model)
    kept, _ = pruned(PruneLayers(blocks=1, ignore=(last,)), model)
    first, second, third = (
        next(n for n in m.nodes() if n.name == last).inputs[1].values for m in (model, fitted, kept)
    )
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, third)


def test_the_sum_is_an_output() -> None:
    """Its name stays."""
    model = Model.from_text(
        "g (float[1,4] x) => (float[1,4] y) { a = MatMul(x, w) b = Relu(a) y = Add(b, x) }",
        {"w": RNG.standard_normal((4, 4)).astype(np.float32)},
    )
    data = RNG.standard_normal((16, 4)).astype(np.float32)
    ctx = PassContext(None, RNG)
    ctx.calibration = open_calibration({"x": data}, model.signature)
    PassPipeline([PruneLayers(blocks=1)]).run(model, ctx)
    assert [node.op for node in model.nodes()] == ["Identity"]
    assert run(model, {"x": data[:1]})["y"].tolist() == data[:1].tolist()


def test_what_others_read_of_a_branch_stays() -> None:
    text = """g (float[1,4] x) => (float[1,4] y, float[1,4] z)
    { n = MatMul(x, w) a = MatMul(n, v) b = Relu(a) s = Add(b, n) z = Neg(b) y = MatMul(s, u) }"""
    weights = {name: RNG.standard_normal((4, 4)).astype(np.float32) for name in "wvu"}
    assert not find_blocks(Model.from_text(text, weights))[0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "g (float[1,4] x) => (float[1,4] y) { a = MatMul(x, w) b = MatMul(x, v) s = Add(a, b) y = Relu(s) }",
            "its shortcut computes something",
        ),
        (
            """g (float[3,4] x) => (float[3,4] y)
            { r = Relu(x) a = ReduceMean<keepdims = 1>(r, axis) b = MatMul(a, w) s = Add(b, r) y = MatMul(s, v) }""",
            "differ in shape",
        ),
    ],
)
def test_left_alone(text: str, reason: str) -> None:
    weights = {name: RNG.standard_normal((4, 4)).astype(np.float32) for name in "wv"}
    model = Model.from_text(text, {**weights, "axis": np.array([0])})
    model.cleanup()
    assert_skipped(PruneLayers(blocks=1), model, reason)
    ctx = PassContext(None, RNG)
    PassPipeline([PruneLayers(blocks=1)]).run(model, ctx)
    (note,) = ctx.notes
    assert note.startswith("prune-layers: nothing to do: 1 addition stays as it is (")
    assert reason in note
    assert note.endswith("Try: --prune 0.3 takes channels out")


def test_a_model_without_branches() -> None:
    model = Model.from_text("g (float[1,4] x) => (float[1,4] y) { y = Relu(x) }")
    ctx = PassContext(None, RNG)
    PassPipeline([PruneLayers(blocks=1)]).run(model, ctx)
    assert ctx.notes[0].startswith("prune-layers: nothing to do: the model has no residual branch")


def test_it_needs_data() -> None:
    with pytest.raises(DataError, match="needs calibration data"):
        PassPipeline([PruneLayers(blocks=1)]).run(network(), PassContext(None, np.random.default_rng(0)))


@pytest.mark.parametrize(
    ("words", "what"), [("", "none is given"), (":blocks=1,macs=0.5", "blocks and macs are given")]
)
def test_one_budget(words: str, what: str) -> None:
    step = resolve_pass(f"prune-layers{words}", default_registry())
    with pytest.raises(OptionError, match=what):
        PassPipeline([step]).run(network(), context(network()))


def test_it_comes_before_what_quantizes() -> None:
    with pytest.raises(PassOrderError, match="'prune-layers' must run before 'quantize-static'"):
        PassPipeline([QuantizeStatic(), PruneLayers(blocks=1)])
