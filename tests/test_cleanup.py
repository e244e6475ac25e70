"""What the driver does after every pass: fold, drop, sort, infer shapes."""

from __future__ import annotations

import pytest

from edgecc import cleanup
from edgecc.errors import VerificationError
from edgecc.model import Model
from edgecc.testing.work import calls_of


def names(model: Model) -> list[str]:
    return [node.name for node in model.graph.nodes]


def test_nodes_that_nothing_uses_are_dropped() -> None:
    model = Model.from_text(
        "g (float[2] x) => (float[2] y) { [a] y = Relu(x) [b] t = Abs(x) [c] u = Neg(t) [d] v = Exp(y) }"
    )
    assert cleanup.drop_unused(model.graph)
    assert names(model) == ["a"]
    assert [n.name for n in model.consumers(model.inputs[0])] == ["a"]
    assert model.consumers(model.outputs[0]) == []
    assert not cleanup.drop_unused(model.graph)


def test_unused_constants_are_not_written() -> None:
    model = Model.from_text("g (float[2] x) => (float[2] y) <float[2] k = {1,2}> { y = Relu(x) t = Add(x, k) }")
    model.cleanup()
    assert len(model.to_proto().graph.initializer) == 0


def test_what_a_subgraph_reads_is_used() -> None:
    text = """g (bool c, float[2] x) => (float[2] y) { [a] t = Relu(x) [b] u = Abs(x) [if] y = If(c)<
        then_branch = p () => (float[2] r) { [then] r = Neg(t) [unused] z = Exp(u) },
        else_branch = q () => (float[2] s) { [else] s = Identity(x) }> }"""
    model = Model.from_text(text)
    model.cleanup()
    model.verify()
    assert [n.name for n in model.all_nodes()] == ["a", "if", "then", "else"]


def test_unused_inputs_stay_in_the_signature() -> None:
    model = Model.from_text("g (float[2] x, float[2] z) => (float[2] y) { y = Relu(x) }")
    model.cleanup()
    assert [t.name for t in model.inputs] == ["x", "z"]


def test_sort_keeps_the_order_where_it_is_right() -> None:
    text = """g (float[2] x) => (float[2] y) {
        [a] t = Relu(x) [b] u = Abs(x) [c] v = Add(t, u) [d] w = Neg(x) [e] y = Add(v, w) }"""
    model = Model.from_text(text)
    cleanup.sort(model.graph)
    assert names(model) == ["a", "b", "c", "d", "e"]


def test_sort_puts_what_is_out_of_place_right_before_its_reader() -> None:
    text = """g (float[2] x) => (float[2] y, float[2] z) {
        [a] t = Relu(x) [b] u = Abs(x) [c] z = Add(t, u) [e] y = Add(v, z) [d] v = Neg(x) }"""
    model = Model.from_text(text)
    cleanup.sort(model.graph)
    assert names(model) == ["a", "b", "c", "d", "e"]
    model.graph.nodes.reverse()
    cleanup.sort(model.graph)
    assert names(model) == ["d", "a", "b", "c", "e"]


def test_sort_sees_what_subgraphs_read() -> None:
    text = """g (bool c, float[2] x) => (float[2] y) { [a] t = Relu(x) [if] y = If(c)<
        then_branch = p () => (float[2] r) { [then] r = Neg(t) },
        else_branch = q () => (float[2] s) { [else1] z = Exp(x) [else2] s = Neg(z) }> }"""
    model = Model.from_text(text)
    model.graph.nodes.reverse()
    model.nodes("If")[0].attrs["else_branch"].nodes.reverse()
    model.cleanup()
    model.verify()
    assert [n.name for n in model.all_nodes()] == ["a", "if", "then", "else1", "else2"]


def test_cycle_is_left_for_verify() -> None:
    model = Model.from_text("g (float[2] x) => (float[2] y) { [a] t = Add(x, x) [b] u = Relu(t) [c] y = Neg(u) }")
    a, b, _ = model.nodes()
    model.set_input(a, 1, b.outputs[0])
    model.cleanup()
    assert sorted(names(model)) == ["a", "b", "c"]
    with pytest.raises(VerificationError, match="a cycle or a dangling input"):
        model.verify()


def test_shape_arithmetic_of_any_depth_resolves() -> None:
    """Each level's shape is known only after the level before was folded: 24 rounds."""
    lines, tensor = [], "x"
    for level in range(24):
        lines.append(f"s{level} = Shape({tensor}) p{level} = ReduceProd<keepdims=1>(s{level})")
        lines.append(
            f"f{level} = Reshape({tensor}, p{level}) q{level} = Sqrt(f{level}) r{level} = Reshape(q{level}, s{level})"
        )
        tensor = f"r{level}"
    model = Model.from_text(f"g (float[2,3] x) => (float[a,b] y) {{ {' '.join(lines)} y = Relu({tensor}) }}")
    model.cleanup()
    assert {n.op for n in model.nodes()} == {"Reshape", "Sqrt", "Relu"}
    assert model.signature.outputs[0].shape == (2, 3)


def test_notes_are_given_once() -> None:
    model = Model.from_text("g () => (float[2] y) { t = RandomNormal<shape=[2]>() y = Relu(t) }")
    assert model.cleanup() == []


def test_work_grows_linearly() -> None:
    def work_on(length: int) -> int:
        body = " ".join(f"t{i + 1} = Relu(t{i})" for i in range(length))
        model = Model.from_text(f"g (float[2] t0) => (float[2] t{length}) {{ {body} }}")

        def upkeep() -> None:
            model.cleanup()
            model.verify()
            model.clone().verify()

        return calls_of(upkeep)

    assert work_on(2000) < 10 * work_on(250)
