"""prune-heads: which heads go, how many of each attention, and that nothing else does."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.compiler import resolve_pass
from edgecc.data.calibration import open_calibration
from edgecc.errors import DataError, OptionError, PassOrderError
from edgecc.model import Model
from edgecc.passes.base import PassContext
from edgecc.passes.pipeline import PassPipeline
from edgecc.passes.prune_channels import PruneChannels
from edgecc.passes.prune_heads import PruneHeads
from edgecc.passes.quantize_static import QuantizeStatic
from edgecc.passes.verification import run
from edgecc.registry import default_registry
from edgecc.testing import assert_skipped

WIDTH, HEADS, SIZE, LENGTH = 16, 4, 4, 6
ATTENTION = """
  q{i} = MatMul(x{i}, wq{i}) k{i} = MatMul(x{i}, wk{i}) v{i} = MatMul(x{i}, wv{i})
  qr{i} = Reshape(q{i}, four) qt{i} = Transpose<perm = [0, 2, 1, 3]>(qr{i})
  kr{i} = Reshape(k{i}, four) kt{i} = Transpose<perm = [0, 2, {keys}]>(kr{i})
  vr{i} = Reshape(v{i}, four) vt{i} = Transpose<perm = [0, 2, 1, 3]>(vr{i})
  {core}
  at{i} = Transpose<perm = [0, 2, 1, 3]>(a{i}) ar{i} = Reshape(at{i}, three) o{i} = MatMul(ar{i}, wo{i})
  x{j} = Add(o{i}, x{i})
"""
WRITTEN_OUT = "s{i} = MatMul(qt{i}, kt{i}) p{i} = Softmax<axis = -1>(s{i}) a{i} = MatMul(p{i}, vt{i})"
ONE_OPERATOR = "a{i} = Attention<scale = 0.5>(qt{i}, kt{i}, vt{i})"


def network(core: str = WRITTEN_OUT, useless: tuple[int, ...] = ()) -> Model:
    """Two attentions and a layer of hidden units, with residual additions.

    Args:
        core: how attention is written.
        useless: heads of the second attention whose results nothing listens to.
    """
    keys = "3, 1" if core == WRITTEN_OUT else "1, 3"
    layers = "".join(ATTENTION.format(i=i, j=i + 1, keys=keys, core=core.format(i=i)) for i in (0, 1))
    text = f"""g (float[1,{LENGTH},{WIDTH}] x0) => (float[1,{LENGTH},{WIDTH}] y) {{ {layers}
    h = MatMul(x2, wh) r = Relu(h) t = MatMul(r, wt) y = Add(t, x2) }}"""
    rng = np.random.default_rng(0)
    constants: dict[str, np.ndarray] = {
        "four": np.array([1, LENGTH, HEADS, SIZE]),
        "three": np.array([1, LENGTH, WIDTH]),
        "wh": rng.standard_normal((WIDTH, 24)).astype(np.float32) / 4,
        "wt": rng.standard_normal((24, WIDTH)).astype(np.float32) / 5,
    }
    for i in (0, 1):
        for name in ("wq", "wk", "wv", "wo"):
            constants[f"{name}{i}"] = rng.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 4
    for head in useless:
        constants["wo1"][head * SIZE : (head + 1) * SIZE] = 0
    model = Model.from_text(text, constants)
    model.cleanup()
    return model


def samples(seed: int, count: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, LENGTH, WIDTH)).astype(np.float32)


def context(model: Model) -> PassContext:
    ctx = PassContext(None, np.random.default_rng(0))
    ctx.calibration = open_calibration({"x0": samples(1)}, model.signature)
    return ctx


def pruned(step: PruneHeads, model: Model) -> tuple[Model, PassContext]:
    after, ctx = model.clone(), context(model)
    PassPipeline([step]).run(after, ctx)
    assert after.signature == model.signature
    return after, ctx


def heads(model: Model) -> list[int]:
    """Of each attention, by the width of what its last projection reads."""
    joined = [node.outputs[0] for node in model.nodes("Reshape") if len(node.outputs[0].shape) == 3]
    return [tensor.shape[-1] // SIZE for tensor in joined]


def error(model: Model, other: Model) -> float:
    """Relative squared error on samples that nothing was fitted to."""
    total = wrong = 0.0
    for sample in samples(7, 32):
        wanted, found = (run(one, {"x0": sample[np.newaxis]})["y"] for one in (model, other))
        wrong, total = wrong + float(((found - wanted) ** 2).sum()), total + float((wanted**2).sum())
    return wrong / total


@pytest.mark.parametrize("core", [WRITTEN_OUT, ONE_OPERATOR])
def test_so_many_are_left_to_each(core: str) -> None:
    after, ctx = pruned(PruneHeads(heads=3), network(core))
    assert heads(after) == [3, 3]
    assert [change.what for change in ctx.changes] == ["1 of 4 heads removed"] * 2
    assert after.nodes("MatMul")[-2].inputs[1].shape == (WIDTH, 24)  # hidden units are no heads
    assert not PruneHeads(heads=3).run(after, context(after))


@pytest.mark.parametrize("core", [WRITTEN_OUT, ONE_OPERATOR])
def test_heads_that_nothing_listens_to_go_first(core: str) -> None:
    model = network(core, useless=(0, 2))
    after, _ = pruned(PruneHeads(ratio=0.25, repair=False), model)
    assert heads(after) == [4, 2]
    assert error(model, after) < 1e-9


def test_the_other_heads_make_up_for_one() -> None:
    """Two heads of the second attention compute the same."""
    model = network()
    first, last = slice(0, SIZE), slice((HEADS - 1) * SIZE, HEADS * SIZE)
    for name in ("wq1", "wk1", "wv1"):
        (tensor,) = (tensor for tensor in model.constants() if tensor.name == name)
        values = tensor.values.copy()
        values[:, last] = values[:, first]
        tensor.values = values
    repaired, alone = (pruned(PruneHeads(ratio=0.125, repair=repair), model)[0] for repair in (True, False))
    assert heads(repaired) == heads(alone) == [4, 3]
    assert error(model, repaired) < 1e-5 < 1e-3 < error(model, alone)


def test_a_share_of_all_heads() -> None:
    for share, left in ((0.125, 7), (0.5, 4)):
        after, _ = pruned(PruneHeads(ratio=share), network())
        assert sum(heads(after)) == left


def test_each_attention_keeps_some() -> None:
    after, ctx = pruned(PruneHeads(ratio=0.7, keep=0.5), network())
    assert heads(after) == [2, 2]
    assert ctx.notes == [
        "prune-heads: 4 of 8 heads are gone, not 70%: each attention keeps 50% of its heads. Try: keep=0.25 lets more "
        "of each go"
    ]


def test_the_last_head_stays() -> None:
    after, ctx = pruned(PruneHeads(ratio=0.9, keep=0), network())
    assert heads(after) == [1, 1]
    assert ctx.notes == ["prune-heads: 6 of 8 heads are gone, not 90%: each attention keeps its last head"]


def test_fewer_go_where_attentions_are_left_alone() -> None:
    """Values of the third attention are an input of the model."""
    layers = "".join(ATTENTION.format(i=i, j=i + 1, keys="3, 1", core=WRITTEN_OUT.format(i=i)) for i in (0, 1))
    text = f"""g (float[{{batch}},{LENGTH},{WIDTH}] x0, float[{{batch}},{HEADS},{LENGTH},{SIZE}] v)
    => (float[{{batch}},{LENGTH},{WIDTH}] y, float[{{batch}},{HEADS},{LENGTH},{SIZE}] z) {{{{ {layers}
    y = Identity(x2) u = Softmax(v) [third] z = MatMul(u, w) }}}}"""
    weights = {
        tensor.name: tensor.values for tensor in network().constants() if tensor.name[:2] in ("wq", "wk", "wv", "wo")
    }
    weights |= {"four": np.array([0, LENGTH, HEADS, SIZE]), "three": np.array([0, LENGTH, WIDTH])}
    weights["w"] = np.ones((1, HEADS, SIZE, SIZE), np.float32)
    step = PruneHeads(ratio=0.5, criterion="magnitude", repair=False)
    reason = "1 attention keeps all of its heads ('third': 'u' keeps all of its heads)"
    why = "since heads that share an axis with an open size cannot be told apart"
    hint = f". Try: --shape x0=1,6,16 --shape v=1,4,6,4, {why}"
    for batch, tries in (("1", ""), ("N", hint)):
        model = Model.from_text(text.format(batch=batch), weights)
        model.cleanup()
        ctx = PassContext(None)
        PassPipeline([step]).run(model, ctx)
        assert ctx.notes == [f"prune-heads: 4 of 12 heads are gone, not 50%: {reason}{tries}"]


def test_without_data() -> None:
    model = network()
    PassPipeline([PruneHeads(heads=2, criterion="magnitude", repair=False)]).run(
        model, PassContext(None, np.random.default_rng(0))
    )
    assert heads(model) == [2, 2]
    with pytest.raises(DataError, match="needs calibration data"):
        PassPipeline([PruneHeads(heads=2)]).run(network(), PassContext(None, np.random.default_rng(0)))


def test_the_same_heads_as_prune_channels_takes() -> None:
    """One way to find and remove them."""
    model, other = network(), network()
    for step, one in (
        (PruneHeads(heads=3, criterion="magnitude", repair=False), model),
        (PruneChannels(ratio=0.25, criterion="magnitude", repair=False), other),
    ):
        PassPipeline([step]).run(one, PassContext(None, np.random.default_rng(0)))
    weights = [[node.inputs[1] for node in one.nodes("MatMul")] for one in (model, other)]
    pairs = [(a.values, b.values) for a, b in zip(*weights, strict=True) if hasattr(a, "values")]
    assert len(pairs) == 10
    for first, second in pairs[:-2]:
        np.testing.assert_array_equal(first, second)


def test_reasons() -> None:
    """Values that are an input of the model keep all of their heads."""
    text = f"""g (float[1,{LENGTH},{WIDTH}] x, float[1,{HEADS},{LENGTH},{SIZE}] v)
    => (float[1,{HEADS},{LENGTH},{SIZE}] y)
    {{ q = MatMul(x, w) r = Reshape(q, four) t = Transpose<perm = [0, 2, 1, 3]>(r)
      k = Transpose<perm = [0, 2, 3, 1]>(r) s = MatMul(t, k) p = Softmax(s) y = MatMul(p, v) }}"""
    constants = {
        "w": np.random.default_rng(0).standard_normal((WIDTH, WIDTH)).astype(np.float32),
        "four": np.array([1, LENGTH, HEADS, SIZE]),
    }
    step = PruneHeads(heads=1, criterion="magnitude", repair=False)
    assert_skipped(step, Model.from_text(text, constants), "'v' keeps all of its heads")


def joined(batch: str) -> Model:
    """As PyTorch writes it: batch and heads are one axis."""
    text = f"""g (float[{LENGTH},{batch},{WIDTH}] x) => (float[{LENGTH},{batch},{WIDTH}] y)
    {{ q = MatMul(x, w) r = Reshape(q, joined) t = Transpose<perm = [1, 0, 2]>(r)
      k = Transpose<perm = [1, 2, 0]>(r) s = MatMul(t, k) p = Softmax(s) v = MatMul(p, t)
      u = Transpose<perm = [1, 0, 2]>(v) z = Reshape(u, back) y = MatMul(z, o) }}"""
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal((WIDTH, WIDTH)).astype(np.float32) for name in "wo"}
    shapes = {"joined": np.array([LENGTH, -1, SIZE]), "back": np.array([LENGTH, -1, WIDTH])}
    model = Model.from_text(text, {**weights, **shapes})
    model.cleanup()
    return model


def test_an_open_batch_beside_the_heads_gets_a_hint() -> None:
    step, ctx = PruneHeads(heads=1, criterion="magnitude", repair=False), PassContext(None, np.random.default_rng(0))
    model = joined("N")
    assert not PassPipeline([step]).run(model, ctx).records[0].changed
    assert ctx.notes == [
        "prune-heads: nothing to do: 1 attention stays as it is ('MatMul_6': 'p' has no axis of heads). Try: "
        f"--shape x={LENGTH},1,{WIDTH}, since heads that share an axis with an open size cannot be told apart"
    ]
    fixed = joined("1")
    assert PassPipeline([step]).run(fixed, PassContext(None, np.random.default_rng(0))).records[0].changed
    assert fixed.nodes("MatMul")[0].inputs[1].shape == (WIDTH, SIZE)


def test_a_model_without_attention_and_one_of_few_heads() -> None:
    model = Model.from_text(
        "g (float[1,4] x) => (float[1,4] y) { y = MatMul(x, w) }", {"w": np.eye(4, dtype=np.float32)}
    )
    step, ctx = PruneHeads(heads=4, criterion="magnitude", repair=False), PassContext(None, np.random.default_rng(0))
    PassPipeline([step]).run(model, ctx)
    assert ctx.notes == [
        "prune-heads: nothing to do: the model has no attention: no product with the result of a Softmax"
    ]
    _, ctx = pruned(step, network())
    assert ctx.notes == ["prune-heads: nothing to do: with heads=4, attentions of at most 4 heads keep all of them"]


def test_ignored_attentions_keep_their_heads() -> None:
    model = network()
    projection = model.nodes("MatMul")[0].name
    after, ctx = pruned(PruneHeads(heads=3, ignore=(projection,)), model)
    assert heads(after) == [4, 3]
    assert [skip.reason for skip in ctx.skips] == ["it is to be ignored"]
    _, ctx = pruned(PruneHeads(ratio=0.5, ignore=(projection,)), model)
    assert not ctx.notes


@pytest.mark.parametrize(
    ("words", "what"), [("", "none is given"), (":ratio=0.5,heads=2", "ratio and heads are given")]
)
def test_one_budget(words: str, what: str) -> None:
    step = resolve_pass(f"prune-heads{words}", default_registry())
    with pytest.raises(OptionError, match=what):
        PassPipeline([step]).run(network(), context(network()))


def test_it_comes_before_what_quantizes() -> None:
    with pytest.raises(PassOrderError, match="'prune-heads' must run before 'quantize-static'"):
        PassPipeline([QuantizeStatic(), PruneHeads(heads=2)])
