from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import edgecc
from edgecc.model import Model
from edgecc.passes.base import PassContext
from edgecc.passes.eliminate_sequences import EliminateSequences
from edgecc.passes.pipeline import PassPipeline
from edgecc.testing import assert_skipped, check_pass

ELIMINATE = EliminateSequences()
NUMBERS = ", ".join(f"int64 n{i} = {{{i}}}" for i in range(4))
CONSTANTS = f"""{NUMBERS}, int64 last = {{-1}}, int64[2] two = {{2, 6}},
    int64[3] ones = {{3, 3, 2}}, int64[1] a0 = {{0}}, int64[1] a1 = {{1}}, int64[1] a2 = {{2}},
    int64[6] six = {{1,1,1,1,1,1}}"""
X = "float[6,8] x"


def graph(body: str, outputs: str, inputs: str = X) -> str:
    return f"g ({inputs}) => ({outputs}) <{CONSTANTS}> {{ {body} }}"


@pytest.mark.parametrize("places", ["n0 n1 n2", "n0 last", "n2 n0"])
def test_chunks_of_which_the_last_is_smaller(places: str) -> None:
    """torch.chunk and torch.split."""
    reads = " ".join(f"y{i} = SequenceAt(s, {place})" for i, place in enumerate(places.split()))
    sizes = {"n0": 3, "n1": 3, "n2": 2, "last": 2}
    outputs = ", ".join(f"float[6,{sizes[place]}] y{i}" for i, place in enumerate(places.split()))
    names = {"n0": 0, "n1": 1, "n2": 2, "last": 2}
    pieces = ["p0", "p1", "p2"]
    for index, place in enumerate(places.split()):
        pieces[names[place]] = f"y{index}"
    check_pass(
        ELIMINATE,
        graph(f"s = SplitToSequence<axis = -1>(x, n3) {reads}", outputs),
        graph(f"{', '.join(pieces)} = Split<axis = 1>(x, ones)", outputs),
    )


def test_given_sizes() -> None:
    outputs = "float[6,2] y, float[6,6] z"
    check_pass(
        ELIMINATE,
        graph("s = SplitToSequence<axis = 1>(x, two) a = SequenceAt(s, n0) y = Relu(a) z = SequenceAt(s, n1)", outputs),
        graph("a, z = Split<axis = 1>(x, two) y = Relu(a)", outputs),
    )


def test_pieces_that_lose_the_axis() -> None:
    """torch.unbind."""
    outputs = "float[8] y, float[8] z"
    check_pass(
        ELIMINATE,
        graph("s = SplitToSequence<keepdims = 0>(x) y = SequenceAt(s, n0) z = SequenceAt(s, last)", outputs),
        graph("a, b, c, d, e, f = Split<axis = 0>(x, six) y = Squeeze(a, a0) z = Squeeze(f, a0)", outputs),
    )
    outputs = "float[1,8] y"
    check_pass(
        ELIMINATE,
        graph("s = SplitToSequence(x) y = SequenceAt(s, n1)", outputs),
        graph("a, y, c, d, e, f = Split<axis = 0>(x, six)", outputs),
    )


def test_one_piece_read_twice() -> None:
    outputs = "float[6,2] y, float[6,2] z, float[6,2] u"
    body = "s = SplitToSequence<axis = 1>(x, two) y = SequenceAt(s, n0) z = SequenceAt(s, n0) a = SequenceAt(s, n0)"
    check_pass(
        ELIMINATE,
        graph(f"{body} u = Relu(a)", outputs),
        graph("y, b = Split<axis = 1>(x, two) z = Identity(y) u = Relu(y)", outputs),
    )


def test_constructed() -> None:
    inputs, outputs = f"{X}, float[3] w", "float[3] y, float[6,8] z"
    check_pass(
        ELIMINATE,
        graph("s = SequenceConstruct(x, w) a = SequenceAt(s, last) y = Relu(a) z = SequenceAt(s, n0)", outputs, inputs),
        graph("y = Relu(w) z = Identity(x)", outputs, inputs),
    )


@pytest.mark.parametrize(
    ("body", "outputs", "after"),
    [
        ("t = ConcatFromSequence<axis = 1>(s)", "float[6,16] y", "t = Concat<axis = 1>(x, w)"),
        ("t = ConcatFromSequence<axis = -2>(s)", "float[12,8] y", "t = Concat<axis = 0>(x, w)"),
        (
            "t = ConcatFromSequence<axis = -1, new_axis = 1>(s)",
            "float[6,8,2] y",
            "a = Unsqueeze(x, a2) b = Unsqueeze(w, a2) t = Concat<axis = 2>(a, b)",
        ),
    ],
)
def test_constructed_and_put_together(body: str, outputs: str, after: str) -> None:
    """torch.cat and torch.stack."""
    inputs = f"{X}, float[6,8] w"
    check_pass(
        ELIMINATE,
        graph(f"s = SequenceConstruct(x, w) {body} y = Relu(t)", outputs, inputs),
        graph(f"{after} y = Relu(t)", outputs, inputs),
    )


@pytest.mark.parametrize(
    ("body", "outputs", "after"),
    [
        ("s = SplitToSequence<axis = 1>(x, n3) y = ConcatFromSequence<axis = 1>(s)", "float[6,8] y", "y = Identity(x)"),
        (
            "s = SplitToSequence<axis = 1, keepdims = 0>(x) a = ConcatFromSequence<axis = 1, new_axis = 1>(s) "
            "y = Neg(a)",
            "float[6,8] y",
            "y = Neg(x)",
        ),
        (
            "s = SplitToSequence<axis = 0>(x, n3) y = ConcatFromSequence<axis = 1>(s) z = SequenceAt(s, n0)",
            "float[3,16] y, float[3,8] z",
            "z, b = Split<axis = 0>(x, threes) y = Concat<axis = 1>(z, b)",
        ),
        (
            "s = SplitToSequence<axis = 0, keepdims = 0>(v) y = ConcatFromSequence<axis = 0>(s)",
            "float[4] y",
            "a, b = Split<axis = 0>(v, a11) c = Squeeze(a, a0) d = Squeeze(b, a0) y = Concat<axis = 0>(c, d)",
        ),
    ],
    ids=["restored", "restored axis", "along another axis", "flattened"],
)
def test_cut_and_put_together(body: str, outputs: str, after: str) -> None:
    constants = "<int64[2] threes = {3, 3}, int64[2] a11 = {1, 1}, int64"
    inputs = "float[2,2] v" if "(v" in body else X
    before, after = graph(body, outputs, inputs), graph(after, outputs, inputs)
    check_pass(ELIMINATE, before, after.replace("<int64", constants, 1))


def test_scalars_are_stacked() -> None:
    inputs = "float v, float w"
    check_pass(
        ELIMINATE,
        graph("s = SequenceConstruct(v, w) y = ConcatFromSequence<axis = 0, new_axis = 1>(s)", "float[2] y", inputs),
        graph("a = Unsqueeze(v, a0) b = Unsqueeze(w, a0) y = Concat<axis = 0>(a, b)", "float[2] y", inputs),
    )


def test_unknown_shapes() -> None:
    body = "t = Reshape(x, k) s = SequenceConstruct(t, t) y = ConcatFromSequence<axis = 0>(s)"
    text = graph(body, "float[M] y", f"{X}, int64[R] k")
    assert_skipped(ELIMINATE, text, reason="the shape of 'y' or of what it is made of is not known")
    text = graph("t = Reshape(x, k) s = SplitToSequence(t) y = SequenceAt(s, n0)", "float[1,M] y", f"{X}, int64[R] k")
    assert_skipped(ELIMINATE, text, reason="the axes of 't' are not known")


def test_length() -> None:
    inputs = f"{X}, int64 k"
    check_pass(
        ELIMINATE,
        graph("s = SplitToSequence<axis = 1>(x, n3) n = SequenceLength(s) y = Add(n, k)", "int64 y", inputs),
        graph("y = Add(n3, k)", "int64 y", inputs),
    )
    check_pass(
        ELIMINATE,
        graph("s = SequenceConstruct(x, x) y = SequenceLength(s) z = SequenceAt(s, n1)", "int64 y, float[6,8] z"),
        graph("y = Identity(n2) z = Identity(x)", "int64 y, float[6,8] z"),
    )


@pytest.mark.parametrize("dtype", ["float16", "double", "int64"])
def test_other_types(dtype: str) -> None:
    check_pass(
        ELIMINATE,
        graph("s = SplitToSequence<axis = 1>(x, two) y = SequenceAt(s, n1)", f"{dtype}[6,6] y", f"{dtype}[6,8] x"),
        graph("a, y = Split<axis = 1>(x, two)", f"{dtype}[6,6] y", f"{dtype}[6,8] x"),
    )


def test_open_dimensions() -> None:
    inputs = "float[N,8] x"
    check_pass(
        ELIMINATE,
        graph("s = SplitToSequence<axis = 1>(x, n3) y = SequenceAt(s, n2)", "float[N,2] y", inputs),
        graph("a, b, y = Split<axis = 1>(x, ones)", "float[N,2] y", inputs),
    )
    for body in ("s = SplitToSequence(x, n3)", "s = SplitToSequence(x)"):
        text = graph(f"{body} y = SequenceAt(s, n0)", "float[M,8] y", inputs)
        assert_skipped(ELIMINATE, text, reason="axis 0 of 'x' is open: into how many pieces")
    inputs = "float[6,8] z, int64 rows"
    text = graph("s = SplitToSequence<axis = 1>(z, rows) y = SequenceAt(s, n0)", "float[6,M] y", inputs)
    assert_skipped(ELIMINATE, text, reason="the sizes 'rows' are computed")


def test_given_sizes_of_an_open_axis() -> None:
    """They must be what the axis is made of: Split refuses any other, as SplitToSequence does."""
    text = graph("s = SplitToSequence<axis = 1>(x, two) y = SequenceAt(s, n1)", "float[6,6] y", "float[6,N] x")
    feeds = {"x": np.arange(48, dtype=np.float32).reshape(6, 8)}
    after = graph("a, y = Split<axis = 1>(x, two)", "float[6,6] y", "float[6,N] x")
    check_pass(ELIMINATE, text, after, feeds=feeds)


@pytest.mark.parametrize(
    ("body", "outputs", "reason"),
    [
        ("s = SplitToSequence<axis = 1>(x, two) y = SequenceAt(s, k)", "float[6,M] y", "which tensor y"),
        ("s = SequenceConstruct(x, x) y = SequenceAt(s, n3)", "float[6,8] y", "takes number 3 of 2 tensors"),
        ("s = SplitToSequence<axis = 1>(x, three) y = SequenceAt(s, n0)", "float[6,4] y", "do not make axis 1"),
        ("s = SplitToSequence<axis = 1>(x, n0) y = SequenceAt(s, n0)", "float[6,4] y", "is cut into pieces of 0"),
        ("s = SplitToSequence<axis = 1, keepdims = 0>(x, n1) y = SequenceAt(s, n0)", "float[6,1] y", "keepdims = 0"),
        (
            "s = SplitToSequence<axis = 1>(x, two) r = SequenceInsert(s, x) y = SequenceAt(r, n0) "
            "z = SequenceAt(s, n1)",
            "float[6,2] y, float[6,6] z",
            "(SequenceInsert) reads the sequence",
        ),
    ],
)
def test_left_alone(body: str, outputs: str, reason: str) -> None:
    reason = reason.replace("which tensor y", "which tensor at (SequenceAt) takes is computed")
    body = body.replace("y = SequenceAt(s, k)", "[at] y = SequenceAt(s, k)")
    text = graph(body, outputs, f"{X}, int64 k").replace("<int64", "<int64[3] three = {4, 3, 9}, int64", 1)
    assert_skipped(ELIMINATE, text, reason=reason)


def test_output_of_the_model() -> None:
    text = graph("s = SequenceConstruct(x, x) y = SequenceAt(s, n0)", "seq(float[6,8]) s, float[6,8] y")
    assert_skipped(ELIMINATE, text, reason="the sequence 's' is an output of the model")


def test_subgraph() -> None:
    text = f"""g (bool c, {X}) => (float[6,2] y, float[6,6] z) <{CONSTANTS}> {{
        s = SplitToSequence<axis = 1>(x, two) z = SequenceAt(s, n1) y = If(c)<
            then_branch = t () => (float[6,2] p) {{ [inner] p = SequenceAt(s, n0) }},
            else_branch = e () => (float[6,2] q) {{ q = SequenceAt(s, n0) }}> }}"""
    assert_skipped(ELIMINATE, text, reason="inner (SequenceAt) reads the sequence in a subgraph")
    text = f"""g (bool c, {X}) => (float[6,2] y) <{CONSTANTS}> {{
        s = SplitToSequence<axis = 1>(x, two) a = SequenceAt(s, n0) y = If(c)<
            then_branch = t () => (float[6,2] p) {{ p = Neg(a) }},
            else_branch = e () => (float[6,2] q) {{ q = Identity(a) }}> }}"""
    assert [node.op for node in check_pass(ELIMINATE, text).nodes()] == ["Split", "If"]


def test_origins_and_ignore() -> None:
    body = "[cut] s = SplitToSequence<axis = 1>(x, two) [take] y = SequenceAt(s, n0)"
    model = check_pass(ELIMINATE, graph(body, "float[6,2] y"))
    assert model.nodes()[0].origins == ("cut", "take")
    assert_skipped(EliminateSequences(ignore=("cut",)), graph(body, "float[6,2] y"), reason="")
    assert_skipped(EliminateSequences(ignore=("take",)), graph(body, "float[6,2] y"), reason="is to be ignored")


def test_changes_are_told() -> None:
    ctx = PassContext(None, np.random.default_rng(0))
    text = graph("s = SplitToSequence<axis = 1>(x, two) y = SequenceAt(s, n0)", "float[6,2] y")
    PassPipeline([ELIMINATE]).run(Model.from_text(text), ctx)
    assert [change.what for change in ctx.changes] == ["it became Split into 2 pieces"]


def test_compiles_for_tflite(tmp_path: Path) -> None:
    """TFLite has no sequences: what its own passes expand first must not refuse them before this pass has its turn."""
    pytest.importorskip("edgecc_tflite")
    text = graph(
        """s = SplitToSequence<axis = 1>(x, n3) a = SequenceAt(s, n0) b = SequenceAt(s, n1) c = Mul(a, b) d = Softmax(c)
        u = SplitToSequence<axis = 1, keepdims = 0>(d) e = SequenceAt(u, n0) y = Relu(e)""",
        "float[6] y",
    )
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18]> {text}')
    onnx.save(proto, tmp_path / "chunks.onnx")
    x = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    result = edgecc.compile(tmp_path / "chunks.onnx", output=tmp_path / "chunks.tflite")
    with edgecc.runner(result.path) as runner:
        actual = runner.infer({"x": x})["y"]
    first, second = x[:, :3], x[:, 3:6]
    powers = np.exp(first * second)
    expected = np.maximum((powers / powers.sum(1, keepdims=True))[:, 0], 0)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
