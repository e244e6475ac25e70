"""Model: its verbs keep the graph whole."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.errors import InvalidModelError, VerificationError
from edgecc.inspection import inspect_model
from edgecc.model import Constant, Model, Variable, merged_origins, origins, value_of

CHAIN = "g (float[2,3] x) => (float[2,3] y) { [a] t = Relu(x) [b] u = Abs(t) [c] y = Neg(u) }"
BRANCHES = """g (bool c, float[2] x) => (float[2] y) <float[2] k = {1,2}> { [a] t = Add(x, k) [if] y = If(c)<
    then_branch = p () => (float[2] r) { [then] r = Mul(t, k) },
    else_branch = q () => (float[2] s) { [else] s = Abs(t) }> }"""


def names(model: Model) -> list[str]:
    return [node.name for node in model.nodes()]


def tensor(model: Model, name: str) -> Variable:
    return next(t for t in model.tensors() if t.name == name)


def node(model: Model, name: str) -> object:
    return next(n for n in model.all_nodes() if n.name == name)


def run(model: Model, **feeds: object) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.to_proto().SerializeToString(), providers=["CPUExecutionProvider"])
    types = {spec.name: spec.dtype for spec in model.signature.inputs}
    return session.run(None, {name: np.asarray(value, types[name]) for name, value in feeds.items()})


# ---------------------------------------------------------------------------------------------------------- reading


def test_fresh_names_count_on() -> None:
    model = Model.from_text("g (float[1] w) => (float[1] y) { w_3 = Neg(w) y = Neg(w_3) }")
    assert [model.fresh_name("w") for _ in range(3)] == ["w_2", "w_4", "w_5"]
    assert [model.fresh_name("new") for _ in range(2)] == ["new", "new_2"]
    assert [model.fresh_name("") for _ in range(2)] == ["tensor_2", "tensor_3"]
    model.cleanup()
    assert model.fresh_name("w") == "w_2"


def test_nodes_by_operator_and_pattern() -> None:
    model = Model.from_text(CHAIN)
    assert names(model) == ["a", "b", "c"]
    assert [n.name for n in model.nodes("Relu", "Neg")] == ["a", "c"]
    assert [n.name for n in model.nodes(ignore=["a*", "c"])] == ["b"]


def test_ignore_matches_origins_too() -> None:
    model = Model.from_text(CHAIN)
    model.nodes()[0].origins = ("layer1/conv",)
    assert [n.name for n in model.nodes(ignore=["layer1/*"])] == ["b", "c"]


def test_nodes_of_other_domains_are_not_found_by_operator() -> None:
    header = '<ir_version: 10, opset_import: ["": 23, "my": 1]>'
    model = Model.from_text(f"{header} g (float[2] x) => (float[2] y) {{ t = my.Relu(x) y = Relu(t) }}")
    assert [n.domain for n in model.nodes("Relu")] == [None]
    assert len(model.nodes()) == 2


def test_nodes_is_a_snapshot() -> None:
    model = Model.from_text(CHAIN)
    for each in model.nodes():
        if each.name != "c":
            assert model.bypass(each)
    assert names(model) == ["c"]


def test_all_nodes_and_consumers_reach_into_subgraphs() -> None:
    model = Model.from_text(BRANCHES)
    assert [n.name for n in model.all_nodes()] == ["a", "if", "then", "else"]
    assert [n.name for n in model.consumers(tensor(model, "t"))] == ["then", "else"]
    assert model.single_consumer(tensor(model, "t")) is None


def test_single_consumer() -> None:
    model = Model.from_text(
        "g (float[2] x) => (float[2] y, float[2] z) { [a] t = Mul(x, x) [b] y = Relu(t) [c] z = Abs(y) }"
    )
    assert model.single_consumer(tensor(model, "x")) is node(model, "a")
    assert model.single_consumer(tensor(model, "t")) is node(model, "b")
    assert model.single_consumer(tensor(model, "y")) is None


def test_producer_and_values() -> None:
    model = Model.from_text(BRANCHES)
    assert model.producer(tensor(model, "t")) is node(model, "a")
    assert model.producer(tensor(model, "x")) is None
    np.testing.assert_array_equal(value_of(tensor(model, "k")), [1, 2])
    assert value_of(tensor(model, "x")) is None
    assert model.parameter_count == 2


INNER = """g (bool c, float[2] x) => (float[2] y) {
    [if] y = If(c)<
        then_branch = p () => (float[2] r) <float[2] k = {1,2}> { [inner] r = Add(x, k) },
        else_branch = q () => (float[2] s) { s = Neg(x) }> }"""


def test_constants_of_subgraphs_count() -> None:
    model = Model.from_text(INNER)
    assert [tensor.name for tensor in model.constants()] == ["k"]
    assert model.parameter_count == 2
    assert inspect_model(model).parameter_bytes == 8


def test_inner_nodes() -> None:
    model = Model.from_text(INNER)
    assert {node.name: model.is_inner(node) for node in model.all_nodes() if node.op != "Neg"} == {
        "if": False,
        "inner": True,
    }


def test_signature() -> None:
    model = Model.from_text("g (float16[N,3] x, int64 i) => (float16[N,3] y) { y = Relu(x) }")
    first, second = model.signature.inputs
    assert (first.name, first.dtype, first.shape, first.is_static) == ("x", "float16", ("N", 3), False)
    assert (second.shape, second.is_static) == ((), True)
    assert str(first) == "x: float16[N, 3]"


def test_origins() -> None:
    model = Model.from_text(CHAIN)
    a, b, c = model.nodes()
    a.origins, c.origins = ("p", "q"), ("q", "r")
    assert origins(b) == ("b",)
    assert merged_origins([a, b, c]) == ("p", "q", "b", "r")


# ---------------------------------------------------------------------------------------------------------- editing


def test_add_inserts_and_names() -> None:
    model = Model.from_text(CHAIN)
    t, a = tensor(model, "t"), node(model, "a")
    offset = model.constant("offset", np.ones(3, np.float32))
    shifted = model.variable("t", np.float32, [2, 3])
    assert shifted.name == "t_2"
    added = model.add("Add", [t, offset], [shifted], origins=("a",))
    model.set_input(node(model, "b"), 0, shifted)
    model.cleanup()
    model.verify()
    assert added.name == "t_2/Add"
    assert names(model) == ["a", "t_2/Add", "b", "c"]
    assert model.consumers(t) == [added]
    assert origins(added) == origins(a)
    np.testing.assert_array_equal(run(model, x=np.zeros((2, 3)))[0], -np.ones((2, 3)))


def test_fresh_names_know_subgraphs_and_nodes() -> None:
    model = Model.from_text(BRANCHES)
    for taken in ("x", "r", "then", "k"):
        assert model.fresh_name(taken) == f"{taken}_2"
    assert model.fresh_name("x") == "x_3"
    assert model.fresh_name("new") == "new"
    assert model.fresh_name("") == "tensor_2"


def test_constant_takes_scalars() -> None:
    model = Model.from_text(CHAIN)
    assert model.constant("s", np.float32(2)).shape == ()


def test_redirect_inner_tensor() -> None:
    model = Model.from_text(CHAIN)
    assert model.redirect(tensor(model, "u"), tensor(model, "t"))
    model.cleanup()
    model.verify()
    assert names(model) == ["a", "c"]


def test_redirect_reaches_into_subgraphs() -> None:
    model = Model.from_text(BRANCHES)
    assert model.redirect(tensor(model, "t"), tensor(model, "x"))
    model.cleanup()
    model.verify()
    assert [n.name for n in model.all_nodes()] == ["if", "then", "else"]
    np.testing.assert_array_equal(run(model, c=True, x=[3, 4])[0], [3, 8])


def test_redirect_of_an_output_keeps_its_name() -> None:
    model = Model.from_text(CHAIN)
    assert model.redirect(tensor(model, "y"), tensor(model, "t"))
    model.cleanup()
    model.verify()
    assert [t.name for t in model.outputs] == ["y"]
    assert names(model) == ["a"]


def test_redirect_of_an_output_with_other_readers() -> None:
    text = """g (float[2] x) => (float[2] y, float[2] z) {
        [a] t = Abs(x) [b] y = Identity(t) [c] u = Neg(t) [d] z = Add(u, y) }"""
    model = Model.from_text(text)
    assert model.bypass(node(model, "b"))
    model.cleanup()
    model.verify()
    assert names(model) == ["a", "c", "d"]
    y, z = run(model, x=[-1, 2])
    np.testing.assert_array_equal(y, [1, 2])
    np.testing.assert_array_equal(z, [0, 0])


@pytest.mark.parametrize(
    "text",
    [
        "g (float[2] x) => (float[2] y) { y = Identity(x) }",
        "g (float[2] x) => (float[2] y, float[2] z) { y = Relu(x) z = Identity(y) }",
        "g (float[2] x) => (float[2] y) <float[2] k = {1,2}> { y = Identity(k) }",
    ],
)
def test_bypass_gives_up_where_an_output_would_lose_its_name(text: str) -> None:
    model = Model.from_text(text)
    before = model.digest()
    assert not model.bypass(model.nodes("Identity")[0])
    assert model.digest() == before


def test_bypass_gives_up_where_another_output_is_read() -> None:
    model = Model.from_text("g (float[2] x) => (float[2] y, bool[2] m) { [d] t, m = Dropout(x) y = Relu(t) }")
    assert not model.bypass(node(model, "d"))
    model = Model.from_text("g (float[2] x) => (float[2] y) { [d] t, m = Dropout(x) y = Relu(t) }")
    assert model.bypass(node(model, "d"))


def test_outputs_of_other_nodes_keep_their_places() -> None:
    """Taking away the first output of a Split must not make its second one the first."""
    text = "g (float[4] x) => (float[2] y, float[2] z) { [s] y, z = Split<num_outputs=2>(x) }"
    model = Model.from_text(text)
    negated = model.variable("negated", np.float32, [2])
    model.add("Neg", [tensor(model, "z")], [negated])
    assert model.redirect(tensor(model, "y"), negated)
    model.cleanup()
    model.verify()
    y, z = run(model, x=[1, 2, 3, 4])
    np.testing.assert_array_equal(z, [3, 4])
    np.testing.assert_array_equal(y, [-3, -4])


def test_node_that_reads_a_tensor_twice() -> None:
    model = Model.from_text("g (float[2] x) => (float[2] y) { [a] t = Relu(x) [b] y = Mul(t, t) }")
    model.set_input(node(model, "b"), 1, tensor(model, "x"))
    assert [n.name for n in model.consumers(tensor(model, "t"))] == ["b"]
    assert [n.name for n in model.consumers(tensor(model, "x"))] == ["a", "b"]
    model.verify()
    model.redirect(tensor(model, "t"), tensor(model, "x"))
    model.cleanup()
    model.verify()
    assert names(model) == ["b"]


def test_removed_nodes_are_not_shown() -> None:
    model = Model.from_text(CHAIN)
    model.redirect(tensor(model, "u"), tensor(model, "t"))
    model.remove(node(model, "b"))
    assert names(model) == ["a", "c"]
    assert [n.name for n in model.all_nodes()] == ["a", "c"]
    model.cleanup()
    assert len(model.graph.nodes) == 2


# ----------------------------------------------------------------------------------------------------------- clones


def test_clone_is_independent() -> None:
    model = Model.from_text(BRANCHES)
    model.metadata["k"] = "v"
    model.source = "here"
    model.nodes()[0].origins = ("p", "q")
    before = model.digest()
    copy = model.clone()
    assert copy.digest() == before
    assert (copy.metadata, copy.source, copy.nodes()[0].origins) == ({"k": "v"}, "here", ("p", "q"))
    copy.verify()
    copy.metadata["k"] = "w"
    copy.redirect(tensor(copy, "t"), tensor(copy, "x"))
    copy.outputs[0].shape[0] = "N"
    copy.nodes()[0].attrs["new"] = 1
    copy.cleanup()
    assert model.digest() == before
    assert model.metadata == {"k": "v"}
    model.verify()


def test_clone_shares_weights_and_nothing_else() -> None:
    model = Model.from_text(
        "g (float[1,2,3] x) => (float[2,3] y) { t = Transpose<perm=[0,1,2]>(x) y = MatMul(t, w) }",
        {"w": np.ones((3, 3), np.float32)},
    )
    copy = model.clone()
    assert value_of(tensor(copy, "w")) is value_of(tensor(model, "w"))
    copy.nodes("Transpose")[0].attrs["perm"].append(3)
    assert model.nodes("Transpose")[0].attrs["perm"] == [0, 1, 2]


def test_clone_keeps_one_constant_for_graph_and_subgraph() -> None:
    copy = Model.from_text(BRANCHES).clone()
    readers = copy.consumers(tensor(copy, "k"))
    assert [n.name for n in readers] == ["a", "then"]


# ----------------------------------------------------------------------------------------------------------- verify


def test_verify_dangling_input() -> None:
    model = Model.from_text(CHAIN)
    model.set_input(node(model, "b"), 0, model.variable("nowhere", np.float32, [2, 3]))
    with pytest.raises(VerificationError) as caught:
        model.verify()
    assert str(caught.value) == (
        "tensor 'nowhere' is read before anything writes it\n"
        "  where: node 'b' (Abs)\n"
        "  why: a cycle or a dangling input"
    )


def test_replace_keeps_the_place_the_name_and_the_first_output() -> None:
    text = "g (float[2,3] x) => (float[2,3] y) { [a] t, u = Dropout(x) [b] s = Relu(t) [c] y = Neg(s) }"
    model = Model.from_text(text)
    dropout = node(model, "a")
    model.replace(dropout, "Clip", [tensor(model, "x")], attributes={}, origins=("a", "other"))
    assert [n.op for n in model.graph.nodes] == ["Clip", "Relu", "Neg"]
    assert [t.name for t in dropout.outputs] == ["t"]
    assert (dropout.name, dropout.origins) == ("a", ("a", "other"))
    model.cleanup()
    model.verify()


def test_verify_cycle() -> None:
    model = Model.from_text(CHAIN)
    model.set_input(node(model, "a"), 0, tensor(model, "u"))
    model.cleanup()
    with pytest.raises(
        VerificationError, match=r"is read before anything writes it\n  where: node 'b' \(Abs\)\n  why: a cycle"
    ):
        model.verify()


def test_verify_duplicate_names() -> None:
    model = Model.from_text(CHAIN)
    node(model, "b").name = "a"
    with pytest.raises(VerificationError, match=r"two nodes are named 'a'\n  where: Abs"):
        model.verify()
    model = Model.from_text(CHAIN)
    tensor(model, "u").name = "t"
    with pytest.raises(VerificationError, match="tensor 't' is written twice"):
        model.verify()
    model = Model.from_text(CHAIN)
    model.add(
        "Add", [tensor(model, "t"), Constant("x", np.ones(3, np.float32))], [model.variable("v", np.float32, [2, 3])]
    )
    with pytest.raises(VerificationError, match="two tensors are named 'x'"):
        model.verify()


def test_verify_links() -> None:
    model = Model.from_text(CHAIN)
    list.clear(tensor(model, "t").outputs)
    with pytest.raises(VerificationError, match=r"'t' does not know its reader\n  where: node 'b' \(Abs\)"):
        model.verify()
    model = Model.from_text(CHAIN)
    list.clear(tensor(model, "t").inputs)
    with pytest.raises(VerificationError, match="'t' does not know its producer"):
        model.verify()


def test_verify_types_of_the_signature() -> None:
    model = Model.from_text(CHAIN)
    model.outputs[0].dtype = None
    with pytest.raises(VerificationError, match="tensor 'y' of the model's signature has no type"):
        model.verify()


def test_verify_looks_into_subgraphs() -> None:
    model = Model.from_text(BRANCHES)
    model.set_input(node(model, "then"), 0, Variable("nowhere", np.float32, [2]))
    with pytest.raises(VerificationError, match=r"where: node 'then' \(Mul\)"):
        model.verify()


# ------------------------------------------------------------------------------------------------------------- text


@pytest.mark.parametrize("text", [CHAIN, BRANCHES])
def test_text_round_trip(text: str) -> None:
    model = Model.from_text(text)
    again = Model.from_text(model.to_text())
    assert again.to_text() == model.to_text()
    assert again.digest() == model.digest()


def test_text_leaves_large_weights_out() -> None:
    model = Model.from_text(
        "g (float[1,64] x) => (float[1,64] y) { y = MatMul(x, w) }", {"w": np.ones((64, 64), np.float32)}
    )
    assert "float[64,64] w" in model.to_text()
    assert len(model.to_text()) < 500


def test_text_of_nonsense() -> None:
    with pytest.raises(InvalidModelError) as caught:
        Model.from_text("g (float[2] x) => (float[2] y) { y = Relu(x }")
    assert str(caught.value).startswith("the text is not an ONNX model\n  why: ")


def test_text_of_another_opset() -> None:
    with pytest.raises(
        InvalidModelError, match=r"opset 11 is not the internal opset 23\n  try: load it with edgecc.load"
    ):
        Model.from_text('<ir_version: 8, opset_import: ["": 11]> g (float[2] x) => (float[2] y) { y = Relu(x) }')


# ------------------------------------------------------------------------------------------------------------ protos


def test_attributes_are_written_as_the_schema_says() -> None:
    """Whole numbers where floats are due, numpy's numbers, empty lists and types."""
    model = Model.from_text(CHAIN)
    x, made = model.inputs[0], []
    for op, attributes in (
        ("LeakyRelu", {"alpha": 1}),
        ("Transpose", {"perm": [np.int64(1), np.int64(0)]}),
        ("Cast", {"to": np.float16}),
        ("Squeeze", {}),
    ):
        made.append(model.variable("v", np.float32, None))
        model.add(op, [x], [made[-1]], attributes=attributes)
    written = {n.op_type: list(n.attribute) for n in model.to_proto().graph.node}
    assert written["LeakyRelu"][0].f == 1.0
    assert list(written["Transpose"][0].ints) == [1, 0]
    assert written["Cast"][0].i == 10
    assert written["Squeeze"] == []


def test_attribute_of_a_wrong_kind() -> None:
    model = Model.from_text(CHAIN)
    node(model, "b").attrs["alpha"] = None
    node(model, "b").op = "LeakyRelu"
    with pytest.raises(TypeError):
        model.to_proto()


def test_constants_of_subgraphs_are_written_once() -> None:
    proto = Model.from_text(BRANCHES).to_proto()
    assert [t.name for t in proto.graph.initializer] == ["k"]
    assert all(not a.g.initializer for n in proto.graph.node for a in n.attribute)


def test_detached_proto_has_no_large_weights() -> None:
    text = """g (bool c, float[300] x) => (float[300] y) { y = If(c)<
        then_branch = p () => (float[300] r) { r = Mul(x, w) },
        else_branch = q () => (float[300] s) { s = Add(x, w) }> }"""
    model = Model.from_text(text, {"w": np.ones(300, np.float32)})
    proto = model.to_proto(detach=True)
    assert [v.name for v in proto.graph.input] == ["c", "x", "w"]
    assert proto.ByteSize() < 600


def test_digest_tells_weights_apart() -> None:
    text = "g (float[1,64] x) => (float[1,64] y) { y = MatMul(x, w) }"
    ones, twos = (Model.from_text(text, {"w": np.full((64, 64), v, np.float32)}) for v in (1, 2))
    assert ones.digest() != twos.digest()
    assert ones.digest() == ones.clone().digest()


def test_output_of_a_subgraph_from_around_it_gets_an_identity() -> None:
    """ONNX Runtime refuses such an output, and verbs that move readers would miss it."""
    model = Model.from_text(
        """g (bool c, float[2] x) => (float[2] y) { b = Relu(x) b_2 = Neg(b)
        y = If(c)<then_branch = t () => (float[2] b) { }, else_branch = e () => (float[2] o) { o = Abs(b_2) }> }"""
    )
    model.verify()
    inner = [node for node in model.all_nodes() if model.is_inner(node)]
    assert sorted(node.op for node in inner) == ["Abs", "Identity"]
    relu, identity = model.nodes("Relu")[0], next(node for node in inner if node.op == "Identity")
    assert identity.inputs[0] is relu.outputs[0]
    assert identity.outputs[0].name == "b_3"
    again = Model.from_proto(model.to_proto())
    assert again.digest() == model.digest()
    np.testing.assert_array_equal(run(model, c=True, x=[-1, 2])[0], [0, 2])
