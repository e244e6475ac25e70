"""What must go together, and that what is left computes what the model does without the rest."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest

from edgecc.data.feeds import random_feeds
from edgecc.model import Model, Node
from edgecc.passes.verification import run
from edgecc.pruning.groups import Coupling, Group, Unit, find_coupling
from edgecc.pruning.removal import remove_units

#: Sums in another order, of a few dozen float32 values of size 1.
TOLERANCE = 1e-5

CASES: dict[str, tuple[str, list[int]]] = {
    "convolutions in a row": (
        """g (float[1,3,8,8] x) => (float[1,4,4,4] y)
        <float[6,3,3,3] w, float[6] b, float[4,6,3,3] v, float[6] s, float[6] o, float[6] m, float[6] n>
        { a = Conv(x, w, b) c = BatchNormalization(a, s, o, m, n) d = Relu(c) y = Conv(d, v) }""",
        [6],
    ),
    "residual": (
        """g (float[1,3,8,8] x) => (float[1,2,8,8] y)
        <float[4,3,1,1] w, float[5,4,1,1] v, float[4,5,1,1] u, float[2,4,1,1] t>
        { a = Conv(x, w) b = Conv(a, v) c = Conv(b, u) d = Add(a, c) y = Conv(d, t) }""",
        [4, 5],
    ),
    "depthwise": (
        """g (float[1,3,8,8] x) => (float[1,2,6,6] y) <float[4,3,1,1] w, float[4,1,3,3] v, float[4] b, float[2,4,1,1] u>
        { a = Conv(x, w) c = Conv<group = 4>(a, v, b) y = Conv(c, u) }""",
        [4],
    ),
    "depthwise with a multiplier": (
        """g (float[1,3,8,8] x) => (float[1,2,6,6] y) <float[4,3,1,1] w, float[8,1,3,3] v, float[2,8,1,1] u>
        { a = Conv(x, w) c = Conv<group = 4>(a, v) y = Conv(c, u) }""",
        [4],
    ),
    "groups": (
        """g (float[1,3,8,8] x) => (float[1,2,6,6] y) <float[6,3,1,1] w, float[8,3,3,3] v, float[2,8,1,1] u>
        { a = Conv(x, w) c = Conv<group = 2>(a, v) y = Conv(c, u) }""",
        [3, 4],
    ),
    "transposed convolution": (
        """g (float[1,3,4,4] x) => (float[1,2,8,8] y) <float[4,3,1,1] w, float[4,5,2,2] v, float[5] b, float[2,5,1,1] u>
        { a = Conv(x, w) c = ConvTranspose<strides = [2, 2]>(a, v, b) y = Conv(c, u) }""",
        [4, 5],
    ),
    "squeeze and excite": (
        """g (float[1,3,8,8] x) => (float[1,2,8,8] y)
        <float[4,3,1,1] w, float[2,4,1,1] v, float[4,2,1,1] u, float[2,4,1,1] t>
        { a = Conv(x, w) p = GlobalAveragePool(a) q = Conv(p, v) r = Relu(q) s = Conv(r, u) z = HardSigmoid(s)
          e = Mul(a, z) y = Conv(e, t) }""",
        [4, 2],
    ),
    "concatenation, and a part of it": (
        """g (float[1,3,8,8] x) => (float[1,2,8,8] y, float[1,2,8,8] z)
        <float[4,3,1,1] w, float[6,3,1,1] v, float[2,10,1,1] u, float[2,3,1,1] t,
         int64[1] from, int64[1] to, int64[1] axis>
        { a = Conv(x, w) b = Conv(x, v) c = Concat<axis = 1>(a, b) y = Conv(c, u)
          d = Slice(c, from, to, axis) z = Conv(d, t) }""",
        [2, 2, 1, 5],
    ),
    "split": (
        """g (float[1,3,8,8] x) => (float[1,2,8,8] y) <float[6,3,1,1] w, float[2,3,1,1] u, int64[2] sizes>
        { a = Conv(x, w) b, c = Split<axis = 1>(a, sizes) d = Mul(b, c) y = Conv(d, u) }""",
        [3],
    ),
    "flattened": (
        """g (float[1,3,8,8] x) => (float[1,2] y) <float[4,3,3,3] w, float[144,5] v, float[5] b, float[5,2] u>
        { a = Conv(x, w) c = Flatten(a) d = Gemm(c, v, b) y = MatMul(d, u) }""",
        [4, 5],
    ),
    "channel shuffle": (
        """g (float[1,3,4,4] x) => (float[1,2,4,4] y) <float[6,3,1,1] w, float[2,6,1,1] u,
         int64[5] apart, int64[4] whole>
        { a = Conv(x, w) b = Reshape(a, apart) c = Transpose<perm = [0, 2, 1, 3, 4]>(b) d = Reshape(c, whole)
          y = Conv(d, u) }""",
        [3],
    ),
    "channels last": (
        """g (float[2,5,3] x) => (float[2,5,2] y) <float[3,4] w, float[4] b, float[4,2] u, float[1] slope>
        { a = MatMul(x, w) c = Add(a, b) d = PRelu(c, slope) y = MatMul(d, u) }""",
        [4],
    ),
    "prelu": (
        """g (float[1,3,4,4] x) => (float[1,2,4,4] y) <float[4,3,1,1] w, float[4,1,1] slope, float[2,4,1,1] u>
        { a = Conv(x, w) b = PRelu(a, slope) y = Conv(b, u) }""",
        [4],
    ),
    "heads": (
        """g (float[1,5,6] x) => (float[1,5,3] y)
        <float[6,12] q, float[6,12] k, float[6,12] v, float[12,3] o, int64[4] apart, int64[3] whole, float scale>
        { a = MatMul(x, q) b = MatMul(x, k) c = MatMul(x, v)
          ra = Reshape(a, apart) rb = Reshape(b, apart) rc = Reshape(c, apart)
          ta = Transpose<perm = [0, 2, 1, 3]>(ra) tb = Transpose<perm = [0, 2, 3, 1]>(rb)
          tc = Transpose<perm = [0, 2, 1, 3]>(rc)
          s = MatMul(ta, tb) ss = Mul(s, scale) p = Softmax(ss) m = MatMul(p, tc)
          t = Transpose<perm = [0, 2, 1, 3]>(m) w = Reshape(t, whole) y = MatMul(w, o) }""",
        [3],
    ),
    "heads that share keys and values": (
        """g (float[1,5,6] x) => (float[1,5,3] y)
        <float[6,12] q, float[6,6] k, float[6,6] v, float[12,3] o, float scale,
         int64[4] apart, int64[4] pairs, int64[1] axis, int64[5] twice, int64[4] all, int64[3] whole>
        { a = MatMul(x, q) b = MatMul(x, k) c = MatMul(x, v)
          ra = Reshape(a, apart) rb = Reshape(b, pairs) rc = Reshape(c, pairs)
          ta = Transpose<perm = [0, 2, 1, 3]>(ra)
          tb = Transpose<perm = [0, 2, 1, 3]>(rb) ub = Unsqueeze(tb, axis) eb = Expand(ub, twice) fb = Reshape(eb, all)
          tc = Transpose<perm = [0, 2, 1, 3]>(rc) uc = Unsqueeze(tc, axis) ec = Expand(uc, twice) fc = Reshape(ec, all)
          gb = Transpose<perm = [0, 1, 3, 2]>(fb)
          s = MatMul(ta, gb) ss = Mul(s, scale) p = Softmax(ss) m = MatMul(p, fc)
          t = Transpose<perm = [0, 2, 1, 3]>(m) w = Reshape(t, whole) y = MatMul(w, o) }""",
        [2],
    ),
    "heads that share keys and values in one operator": (
        """g (float[1,5,6] x) => (float[1,5,3] y)
        <float[6,12] q, float[6,6] k, float[6,6] v, float[12,3] o, int64[4] apart, int64[4] pairs, int64[3] whole>
        { a = MatMul(x, q) b = MatMul(x, k) c = MatMul(x, v)
          ra = Reshape(a, apart) rb = Reshape(b, pairs) rc = Reshape(c, pairs)
          ta = Transpose<perm = [0, 2, 1, 3]>(ra) tb = Transpose<perm = [0, 2, 1, 3]>(rb)
          tc = Transpose<perm = [0, 2, 1, 3]>(rc)
          m = Attention(ta, tb, tc) t = Transpose<perm = [0, 2, 1, 3]>(m) w = Reshape(t, whole) y = MatMul(w, o) }""",
        [2],
    ),
    "group normalization": (
        """g (float[1,3,4,4] x) => (float[1,2,4,4] y) <float[6,3,1,1] w, float[6] s, float[6] b, float[2,6,1,1] u>
        { a = Conv(x, w) c = GroupNormalization<num_groups = 3>(a, s, b) y = Conv(c, u) }""",
        [3],
    ),
    "hidden units of both directions": (
        """g (float[5,1,3] x) => (float[5,1,2] y)
        <float[2,16,3] w, float[2,16,4] r, float[2,32] b, float[8,2] u, int64[3] flat>
        { h, l, c = LSTM<direction = "bidirectional", hidden_size = 4>(x, w, r, b)
          t = Transpose<perm = [0, 2, 1, 3]>(h) f = Reshape(t, flat) y = MatMul(f, u) }""",
        [4],
    ),
    "resized": (
        """g (float[1,3,4,4] x) => (float[1,2,8,8] y) <float[4,3,1,1] w, float[2,4,1,1] u, int64[4] sizes>
        { a = Conv(x, w) b = Resize<mode = "nearest">(a, , , sizes) y = Conv(b, u) }""",
        [4],
    ),
    "gathered": (
        """g (float[1,3,4,4] x) => (float[1,2,4,4] y) <float[4,3,1,1] w, float[2,4,1,1] u, int64[4] order>
        { a = Conv(x, w) b = Gather<axis = 1>(a, order) y = Conv(b, u) }""",
        [4],
    ),
    "reversed": (
        """g (float[1,3,4,4] x) => (float[1,2,4,4] y) <float[5,3,1,1] w, float[2,5,1,1] u,
         int64[1] from, int64[1] to, int64[1] axis, int64[1] step>
        { a = Conv(x, w) b = Slice(a, from, to, axis, step) y = Conv(b, u) }""",
        [5],
    ),
}

SHARED = "heads that share keys and values"
FUSED = f"{SHARED} in one operator"
INTEGERS = {
    "apart": {"channel shuffle": [0, 2, 3, 4, 4], "heads": [1, 5, 3, 4], SHARED: [1, 5, 4, 3], FUSED: [1, 5, 4, 3]},
    "whole": {"channel shuffle": [0, -1, 4, 4], "heads": [1, 5, 12], SHARED: [1, 5, 12], FUSED: [1, 5, 12]},
    "pairs": {SHARED: [1, 5, 2, 3], FUSED: [1, 5, 2, 3]},
    "twice": {SHARED: [1, 2, 2, 5, 3]},
    "all": {SHARED: [1, 4, 5, 3]},
    "from": {"concatenation, and a part of it": [2], "reversed": [-1]},
    "to": {"concatenation, and a part of it": [5], "reversed": [-(1 << 31)]},
    "axis": {"concatenation, and a part of it": [1], "reversed": [1], SHARED: [2]},
    "step": {"reversed": [-1]},
    "sizes": {"split": [3, 3], "resized": [1, 4, 8, 8]},
    "flat": {"hidden units of both directions": [5, 1, 8]},
    "order": {"gathered": [2, 0, 3, 1]},
}


def built(name: str) -> Model:
    """The case's model with random weights."""
    return with_weights(CASES[name][0], {key: values[name] for key, values in INTEGERS.items() if name in values})


def with_weights(text: str, integers: dict[str, list[int]] | None = None) -> Model:
    """A model whose constants are declared with their shapes alone: random values, or the integers given."""
    rng = np.random.default_rng(0)
    constants: dict[str, np.ndarray] = {}
    declared = re.search(r"<([^<>{}]*)>\s*\{", text)
    for kind, shape, name in re.findall(r"(float|int64)\[?([\d,]*)\]? (\w+)", declared[1] if declared else ""):
        sizes = [int(size) for size in shape.split(",") if size]
        if kind == "float":
            values = rng.standard_normal(sizes).astype(np.float32)
            constants[name] = np.abs(values) + 1 if name == "n" else values  # a variance
        else:
            constants[name] = np.array((integers or {})[name], np.int64)
    header = re.sub(r"\n?\s*<[^<>{}]*>\s*\{", " {", text, count=1)
    model = Model.from_text(header, constants)
    model.cleanup()
    return model


def open_groups(coupling: Coupling) -> Iterator[Group]:
    return (group for group in coupling.groups if not group.reason)


def silence(model: Model, coupling: Coupling, unit: Unit) -> None:
    """Let nothing listen to the unit: zeros in every weight that reads it."""
    for group in open_groups(coupling):
        for layer in (*group.readers, *(layer for layer in group.writers if layer.node.op == "LSTM")):
            for place in unit.places:
                if (id(place.constant), place.axis) in reading_axes(layer.node):
                    values = place.constant.values.copy()
                    np.moveaxis(values, place.axis, 0)[place.indices] = 0
                    place.constant.values = values


def reading_axes(node: Node) -> set[tuple[int, int]]:
    """The axes of its weights that the node sums over."""
    if node.op == "LSTM":
        return {(id(node.inputs[1]), 2), (id(node.inputs[2]), 2)}
    axis = {"Conv": 1, "Gemm": 1 if node.attrs.get("transB", 0) else 0}.get(node.op, 0)
    return {(id(node.inputs[1]), axis)}


@pytest.mark.parametrize("name", CASES)
def test_groups(name: str) -> None:
    sizes = [len(group.units) for group in open_groups(find_coupling(built(name)))]
    assert sizes == CASES[name][1]


@pytest.mark.parametrize("name", CASES)
def test_what_is_left_computes_what_the_model_does_without_the_rest(name: str) -> None:
    for number in range(len(CASES[name][1])):
        silent, cut = built(name), built(name)
        expected, coupling = find_coupling(silent), find_coupling(cut)
        units = list(open_groups(expected))[number].units
        silence(silent, expected, units[len(units) // 2])
        chosen = list(open_groups(coupling))[number].units[len(units) // 2]
        before = cut.parameter_count
        remove_units(cut, coupling, [chosen])
        cut.cleanup()
        cut.verify()
        assert cut.parameter_count < before
        assert cut.signature == silent.signature
        feeds = random_feeds(cut.signature, 0)
        for found, wanted in zip(run(cut, feeds).values(), run(silent, feeds).values(), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=TOLERANCE, atol=TOLERANCE)


FROZEN = {
    "output": (
        "g (float[1,3,8,8] x) => (float[1,4,8,8] y) <float[4,3,1,1] w> { y = Conv(x, w) }",
        "'y' is an output of the model",
    ),
    "added to the input": (
        """g (float[1,3,8,8] x) => (float[1,2,8,8] y) <float[3,3,1,1] w, float[2,3,1,1] v>
        { a = Conv(x, w) b = Add(a, x) y = Conv(b, v) }""",
        "combines it with 'x', which keeps all of that axis",
    ),
    "normalized along it": (
        """g (float[2,3] x) => (float[2,2] y) <float[3,4] w, float[4] s, float[4,2] v>
        { a = MatMul(x, w) b = LayerNormalization(a, s) y = MatMul(b, v) }""",
        r"LayerNormalization\) needs all of axis 1 of 'a'",
    ),
    "summed over": (
        """g (float[2,3] x) => (float[2,1] y) <float[3,4] w, int64[1] axis>
        { a = MatMul(x, w) y = ReduceMean(a, axis) }""",
        r"ReduceMean\) needs all of axis 1 of 'a'",
    ),
    "moved by a Pad": (
        """g (float[1,3,8,8] x) => (float[1,2,8,8] y) <float[4,3,1,1] w, float[2,4,1,1] v, int64[8] pads>
        { a = Conv(x, w) b = Pad(a, pads) y = Conv(b, v) }""",
        r"Pad\) needs all of axis 1 of 'a'",
    ),
    "unknown operator": (
        "g (float[2,3] x) => (float[2,4] y) <float[3,4] w, int64 i> { a = MatMul(x, w) y = CumSum(a, i) }",
        r"CumSum\) needs all of axis 1 of 'a'",
    ),
    "read in a subgraph": (
        """g (float[2,3] x, bool c) => (float[2,2] y) <float[3,4] w, float[4,2] v>
        { a = MatMul(x, w) b = If (c) <then_branch = t () => (float[2,4] d) { d = Relu(a) },
          else_branch = e () => (float[2,4] f) { f = Neg(a) }> y = MatMul(b, v) }""",
        "needs all of axis 1 of 'a'",
    ),
}


@pytest.mark.parametrize("name", FROZEN)
def test_frozen_groups_have_a_reason(name: str) -> None:
    text, reason = FROZEN[name]
    model = with_weights(text, {"axis": [1], "i": 1, "pads": [0, 1, 0, 0, 0, -1, 0, 0]})
    groups = [group for group in find_coupling(model).groups if group.writers]
    assert groups[0].reason
    assert re.search(reason, groups[0].reason), groups[0].reason


def test_something_is_left_of_what_a_slice_takes() -> None:
    text = """g (float[1,3,4,4] x) => (float[1,3,4,4] y)
    <float[4,3,1,1] w, float[3,4,1,1] v, int64[1] zero, int64[1] two, int64[1] four, int64[1] axis>
    { a = Conv(x, w) b = Slice(a, zero, two, axis) c = Slice(a, two, four, axis) d = Concat<axis = 1>(c, b)
      e = Relu(d) y = Conv(e, v) }"""
    model = with_weights(text, {"zero": [0], "two": [2], "four": [4], "axis": [1]})
    coupling = find_coupling(model)
    (group,) = open_groups(coupling)
    remove_units(model, coupling, group.units[:3])
    model.cleanup()
    model.verify()
    assert model.nodes("Conv")[0].inputs[1].shape == (2, 3, 1, 1)
    run(model, random_feeds(model.signature, 0))
