"""What budgets forecast is what is left: of layers that share weights, of recurrent ones, of products and subgraphs."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.inspection import inspect_model
from edgecc.model import Model
from edgecc.passes.base import PassContext
from edgecc.passes.pipeline import PassPipeline
from edgecc.passes.prune_channels import PruneChannels
from edgecc.pruning.allocation import share_left
from edgecc.pruning.groups import find_coupling
from edgecc.pruning.removal import remove_units
from edgecc.pruning.works import size_of, works_of


def one_operator(kept: int) -> tuple[str, dict[str, tuple[int, ...]]]:
    """Attention of four heads of queries and so many of keys and values, and the shapes of its weights."""
    text = f"""g (float[1,7,16] x) => (float[1,7,16] y)
        <int64[4] heads = {{1, 7, 4, 4}}, int64[4] few = {{1, 7, {kept}, 4}}, int64[3] flat = {{1, 7, 16}}>
        {{ q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv)
          q4 = Reshape(q, heads) k4 = Reshape(k, few) v4 = Reshape(v, few)
          qt = Transpose<perm = [0, 2, 1, 3]>(q4) kt = Transpose<perm = [0, 2, 1, 3]>(k4)
          vt = Transpose<perm = [0, 2, 1, 3]>(v4)
          o = Attention<scale = 0.5>(qt, kt, vt) ot = Transpose<perm = [0, 2, 1, 3]>(o)
          f = Reshape(ot, flat) y = MatMul(f, wo) }}"""
    return text, {"wq": (16, 16), "wk": (16, 4 * kept), "wv": (16, 4 * kept), "wo": (16, 16)}


MODELS = {
    "convolutions": (
        """g (float[1,3,8,8] x) => (float[1,2,8,8] y)
        { a = Conv(x, w) b = Relu(a) c = Conv<group = 8, pads = [1, 1, 1, 1]>(b, d) e = Conv<group = 2>(c, v)
          y = Conv(e, u) }""",
        {"w": (8, 3, 1, 1), "d": (8, 1, 3, 3), "v": (12, 4, 1, 1), "u": (2, 12, 1, 1)},
    ),
    "shared": (
        """g (float[3,8] x) => (float[3,8] y)
        { a = MatMul(x, w) b = Relu(a) c = MatMul(b, v) d = Relu(c) e = MatMul(d, v) f = Relu(e) y = MatMul(f, u) }""",
        {"w": (8, 16), "v": (16, 16), "u": (16, 8)},
    ),
    "lstm": (
        """g (float[5,2,6] x) => (float[5,2,3] y) <int64[1] axis = {1}>
        { a, h, s = LSTM<hidden_size = 12>(x, w, r) b = Squeeze(a, axis) y = MatMul(b, u) }""",
        {"w": (1, 48, 6), "r": (1, 48, 12), "u": (12, 3)},
    ),
    "gru behind a layer": (
        """g (float[5,2,6] x) => (float[5,2,3] y) <int64[1] axis = {1}>
        { p = MatMul(x, v) a, h = GRU<hidden_size = 12>(p, w, r) b = Squeeze(a, axis) y = MatMul(b, u) }""",
        {"v": (6, 10), "w": (1, 36, 10), "r": (1, 36, 12), "u": (12, 3)},
    ),
    "attention": (
        """g (float[1,7,16] x) => (float[1,7,16] y) <int64[4] heads = {1, 7, 4, 4}, int64[3] flat = {1, 7, 16}>
        { q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv)
          q4 = Reshape(q, heads) k4 = Reshape(k, heads) v4 = Reshape(v, heads)
          qt = Transpose<perm = [0, 2, 1, 3]>(q4) kt = Transpose<perm = [0, 2, 3, 1]>(k4)
          vt = Transpose<perm = [0, 2, 1, 3]>(v4)
          s = MatMul(qt, kt) p = Softmax(s) o = MatMul(p, vt) ot = Transpose<perm = [0, 2, 1, 3]>(o)
          f = Reshape(ot, flat) y = MatMul(f, wo) }""",
        {"wq": (16, 16), "wk": (16, 16), "wv": (16, 16), "wo": (16, 16)},
    ),
    "attention as one operator": one_operator(4),
    "attention of grouped heads": one_operator(2),
    "attention of flat heads": (
        """g (float[1,7,16] x) => (float[1,7,16] y)
        { h = MatMul(x, w1) r = Relu(h) z = MatMul(r, w2) q = MatMul(z, wq) k = MatMul(z, wk) v = MatMul(z, wv)
          o = Attention<q_num_heads = 4, kv_num_heads = 4>(q, k, v) y = MatMul(o, wo) }""",
        {"w1": (16, 24), "w2": (24, 16), "wq": (16, 16), "wk": (16, 16), "wv": (16, 16), "wo": (16, 16)},
    ),
    "steps": (
        """g (float[1,8] x) => (float[1,4] y) <int64 n = {5}>
        { a = MatMul(x, w) r = Relu(a) b = MatMul(r, v)
          y = Loop(n, "", b) <body = l (int64 i, bool c, float[1,4] s) => (bool d, float[1,4] t)
            { t = MatMul(s, u) d = Identity(c) }> }""",
        {"w": (8, 16), "v": (16, 4), "u": (4, 4)},
    ),
    "channels mixed along both axes": (
        """g (float[1,9,8] x) => (float[1,9,3] y)
        { a = MatMul(x, w) t = Transpose<perm = [0, 2, 1]>(a) b = MatMul(t, v) c = Relu(b) d = MatMul(c, u)
          s = Transpose<perm = [0, 2, 1]>(d) y = MatMul(s, o) }""",
        {"w": (8, 12), "v": (9, 20), "u": (20, 9), "o": (12, 3)},
    ),
    "branches": (
        """g (float[1,8] x, bool c) => (float[1,4] y)
        { a = MatMul(x, w) r = Relu(a) b = MatMul(r, v)
          y = If(c) <then_branch = t () => (float[1,4] p) { p = MatMul(b, i) },
                     else_branch = e () => (float[1,4] q) { j = MatMul(b, i) q = MatMul(j, k) }> }""",
        {"w": (8, 16), "v": (16, 4), "i": (4, 4), "k": (4, 4)},
    ),
}


def built(name: str) -> Model:
    text, shapes = MODELS[name]
    rng = np.random.default_rng(0)
    weights = {key: rng.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()}
    model = Model.from_text(text, weights)
    model.cleanup()
    return model


@pytest.mark.parametrize("measure", ["macs", "params", "bytes"])
@pytest.mark.parametrize("name", MODELS)
def test_the_forecast_is_what_is_left(name: str, measure: str) -> None:
    model = built(name)
    coupling = find_coupling(model)
    groups = [group for group in coupling.groups if not group.reason and group.writers]
    assert groups
    works, whole = works_of(model, coupling, groups, measure), size_of(model, measure)
    assert sum(work.size for work in works) == whole
    gone = [len(group.units) // 2 for group in groups]
    remove_units(model, coupling, [u for group, count in zip(groups, gone, strict=True) for u in group.units[:count]])
    model.infer_shapes()
    # Targets of Reshapes are new constants, of some bytes.
    slack = 200 if measure == "bytes" else 1e-6
    assert share_left(works, gone) * whole == pytest.approx(size_of(model, measure), abs=slack)
    facts = inspect_model(model)
    assert size_of(model, measure) == {"macs": facts.macs, "bytes": facts.parameter_bytes}.get(
        measure, size_of(model, "params")
    )


@pytest.mark.parametrize(
    "name", ["shared", "lstm", "gru behind a layer", "attention", "channels mixed along both axes"]
)
@pytest.mark.parametrize("budget", ["macs", "params", "bytes"])
def test_budgets_are_met_and_no_more_goes_than_asked_for(name: str, budget: str) -> None:
    model = built(name)
    whole = size_of(model, budget)
    step = PruneChannels(**{budget: 0.7}, criterion="magnitude", repair=False)
    PassPipeline([step]).run(model, PassContext(None, np.random.default_rng(0)))
    # A unit is up to a tenth of the smallest of these models, and of four heads a quarter of the last one.
    assert (0.48 if name == "attention" else 0.58) < size_of(model, budget) / whole <= 0.7
