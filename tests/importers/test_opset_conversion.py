"""Every operator that changed since opset 7: the same outputs before and after."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest
from onnx.backend.test.case.node import collect_testcases

from edgecc.errors import InvalidModelError
from edgecc.importers.onnx import OnnxImporter
from edgecc.importers.upgrades import TABLE
from edgecc.model import Model
from edgecc.opset import INTERNAL_OPSET

from .old_opsets import SAMPLES, feeds_for, parse
from .running import assert_same, outputs_of

#: Both sides compute the same float32 formulas; helper nodes may add one rounding.
TOLERANCE = 1e-6
#: ONNX Runtime 1.31 has no kernel for these in the internal opset; their outputs are compared with the old label.
WITHOUT_KERNEL = {"roialign-10"}


def from_text(text: str, opset: int, *imports: str) -> onnx.ModelProto:
    domains = ", ".join((f'"": {opset}', *imports))
    return onnx.parser.parse_model(f"<ir_version: 8, opset_import: [{domains}]> {text}")


def load(proto: onnx.ModelProto) -> Model:
    return OnnxImporter().from_proto(proto)


def relabelled(proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    del copy.opset_import[:]
    copy.opset_import.add(domain="", version=opset)
    copy.ir_version = 8
    return copy


@pytest.mark.parametrize("name", SAMPLES)
def test_sample_gives_same_outputs(name: str) -> None:
    proto = parse(*SAMPLES[name])
    feeds = feeds_for(proto)
    expected = outputs_of(proto, feeds)
    model = load(proto)
    assert model.graph.opset == INTERNAL_OPSET
    converted = model.to_proto()
    onnx.checker.check_model(converted, full_check=True)
    if name in WITHOUT_KERNEL:
        converted = relabelled(converted, 16)
    assert_same(expected, outputs_of(converted, feeds), TOLERANCE)


@pytest.mark.parametrize("name", SAMPLES)
def test_sample_speaks_of_source_nodes(name: str) -> None:
    proto = parse(*SAMPLES[name])
    sources = {node.name for node in proto.graph.node}
    model = load(proto)
    for node in model.nodes():
        assert node.name
        assert set(node.origins) <= sources, node.name


def changed_operators() -> list[tuple[str, int]]:
    """Operators and versions up to the internal opset that have a predecessor a model of opset 7 or newer can hold."""
    schemas = [s for s in onnx.defs.get_all_schemas_with_history() if s.domain == ""]
    found = []
    for schema in schemas:
        older = [s.since_version for s in schemas if s.name == schema.name and s.since_version < schema.since_version]
        if older and 7 < schema.since_version <= INTERNAL_OPSET:
            found.append((schema.name, schema.since_version))
    return found


@pytest.mark.parametrize(("op", "version"), changed_operators())
def test_change_is_in_table_or_compatible(op: str, version: int) -> None:
    """What the table leaves out must be expressible as it is: nothing taken away, new attributes with a default."""
    if version in TABLE.get(op, {}):
        return
    older, newer = onnx.defs.get_schema(op, version - 1), onnx.defs.get_schema(op, version)
    assert not newer.deprecated
    assert set(older.attributes) <= set(newer.attributes)
    assert not any(a.required for name, a in newer.attributes.items() if name not in older.attributes)
    assert len(newer.inputs) >= len(older.inputs)
    kept = zip(older.inputs, newer.inputs, strict=False)
    assert not any(is_required(b) and not is_required(a) for a, b in kept)
    assert not any(is_required(formal) for formal in newer.inputs[len(older.inputs) :])
    for name, attribute in older.attributes.items():
        assert newer.attributes[name].default_value == attribute.default_value, name


def is_required(formal: onnx.defs.OpSchema.FormalParameter) -> bool:
    return formal.option == onnx.defs.OpSchema.FormalParameterOption.Single


def test_table_holds_only_real_changes() -> None:
    known = set(changed_operators())
    assert {(op, version) for op, steps in TABLE.items() for version in steps} <= known


def relabelled_node_tests() -> list[tuple[str, int, object]]:
    schemas = onnx.defs.get_all_schemas_with_history()
    versions: dict[str, set[int]] = {}
    for schema in schemas:
        if schema.domain == "":
            versions.setdefault(schema.name, set()).add(max(schema.since_version, 7))
    random = {"Dropout", "Bernoulli", "RandomNormalLike", "RandomUniformLike", "Multinomial", "RoiAlign"}
    cases = []
    with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):  # onnx's own, while it makes their data
        collected = collect_testcases(None)
    for case in collected:
        nodes = case.model.graph.node
        if len(nodes) == 1 and not nodes[0].domain and nodes[0].op_type not in random and case.data_sets:
            cases += [(case.name, v, case) for v in sorted(versions[nodes[0].op_type]) if v < INTERNAL_OPSET]
    return cases


@pytest.mark.slow
def test_node_tests_relabelled_to_older_opsets() -> None:
    """onnx's node tests, under every older opset in which they are valid and ONNX Runtime can run them."""
    compared, refused = 0, set()
    for name, version, case in relabelled_node_tests():
        proto = relabelled(case.model, version)  # type: ignore[attr-defined]
        feeds = dict(zip([i.name for i in proto.graph.input], case.data_sets[0][0], strict=False))  # type: ignore[attr-defined]
        if not all(isinstance(v, (np.ndarray, np.generic)) for v in feeds.values()):
            continue
        feeds = {key: np.asarray(values) for key, values in feeds.items()}
        try:
            onnx.checker.check_model(proto, full_check=True)
            expected = outputs_of(proto, feeds)
        except Exception:  # not valid in the older opset, or beyond ONNX Runtime
            continue
        if any(not isinstance(v, np.ndarray) or v.dtype.kind not in "biuf" for v in expected.values()):
            continue
        try:
            found = outputs_of(load(proto).to_proto(), feeds)
        except InvalidModelError:
            refused.add(name)
            continue
        for key, values in expected.items():
            np.testing.assert_allclose(found[key], values, rtol=1e-5, atol=1e-6, err_msg=f"{name} from {version}")
        compared += 1
    assert compared > 1900
    # Optional values are no tensors.
    assert all("opt" in name or name == "test_loop16_seq_none" for name in refused)


# ------------------------------------------------------------------------------------------------- nothing to change


def test_unchanged_operators_are_only_relabelled() -> None:
    proto = from_text("g (float[2,3] x) => (float[2,3] y) { [a] t = Relu(x) [b] y = Sigmoid(t) }", 7)
    model = load(proto)
    assert [(n.op, n.name, dict(n.attrs)) for n in model.nodes()] == [("Relu", "a", {}), ("Sigmoid", "b", {})]
    assert "t" in {t.name for t in model.tensors()}


def test_softmax_over_last_axis_stays_one_node() -> None:
    for text in (
        "g (float[N,4] x) => (float[N,4] y) { y = Softmax(x) }",
        "g (float[2,5,1,1] x) => (float[2,5,1,1] y) { y = Softmax(x) }",
        "g (float[2,3,4] x) => (float[2,3,4] y) { y = Softmax<axis=2>(x) }",
    ):
        assert [n.op for n in load(from_text(text, 11)).nodes()] == ["Softmax"]


def test_ai_onnx_is_the_default_domain() -> None:
    proto = from_text("g (float[1,4] x) => (float[4] y) { y = Squeeze<axes=[0]>(x) }", 11)
    proto.opset_import[0].domain = proto.graph.node[0].domain = "ai.onnx"
    model = load(proto)
    assert [n.op for n in model.nodes("Squeeze")] == ["Squeeze"]
    assert len(model.nodes()[0].inputs) == 2


def test_clip_of_float16_keeps_its_type() -> None:
    proto = from_text("g (float16[4] x) => (float16[4] y) { y = Clip<min=0.0, max=6.0>(x) }", 7)
    low, high = load(proto).nodes("Clip")[0].inputs[1:]
    assert low.dtype == high.dtype == np.float16


def test_batchnorm_per_activation_becomes_arithmetic() -> None:
    proto = from_text(
        "g (float[2,3,4] x, float[3,4] s, float[3,4] b, float[3,4] m, float[3,4] v) => (float[2,3,4] y)"
        "{ [bn] y = BatchNormalization<spatial=0, epsilon=0.1>(x, s, b, m, v) }",
        7,
    )
    feeds = feeds_for(proto)
    x, s, b, m, v = (feeds[name] for name in "xsbmv")
    model = load(proto)
    found = outputs_of(model.to_proto(), feeds)["y"]
    np.testing.assert_allclose(found, (x - m) / np.sqrt(v + 0.1) * s + b, rtol=1e-5, atol=1e-6)
    assert {origin for node in model.nodes() for origin in node.origins} == {"bn"}


def test_dropout_mask_keeps_its_type() -> None:
    proto = from_text("g (float[3,4] x) => (float[3,4] y, float[3,4] m) { y, m = Dropout(x) }", 7)
    assert load(proto).signature.outputs[1].dtype == "float32"


def test_names_taken_by_the_model_are_not_used_for_helpers() -> None:
    text = "g (float[1,2] x) => (float[2] y) { y_Constant = Relu(x) y = Squeeze<axes=[0]>(y_Constant) }"
    proto = from_text(text, 11)
    expected = outputs_of(proto, feeds_for(proto))
    assert_same(expected, outputs_of(load(proto).to_proto(), feeds_for(proto)), 0)


def test_same_names_in_two_branches_do_not_mix() -> None:
    """Both branches call their tensor p, with another rank: neither may decide for the other."""
    text = """g (bool c, float[2,3,4] x) => (float[a,b] y) { y = If(c)<
        then_branch = t () => (float[2,12] q) { p = Flatten(x) q = Softmax(p) },
        else_branch = e () => (float[2,12] r) { p = Softmax(x) r = Flatten(p) }> }"""
    proto = from_text(text, 11)
    for condition in (True, False):
        feeds = {**feeds_for(proto), "c": np.array(condition)}
        assert_same(outputs_of(proto, feeds), outputs_of(load(proto).to_proto(), feeds), TOLERANCE)


# -------------------------------------------------------------------------------------------------------- refusals


def refusal(proto: onnx.ModelProto) -> str:
    with pytest.raises(InvalidModelError) as caught:
        load(proto)
    return str(caught.value)


def test_batchnorm_of_training_is_refused() -> None:
    proto = from_text(
        "g (float[2,3,4] x, float[3] s, float[3] b, float[3] m, float[3] v) => (float[2,3,4] y, float[3] n)"
        "{ [bn] y, n = BatchNormalization(x, s, b, m, v) }",
        9,
    )
    assert refusal(proto) == (
        "BatchNormalization of an old opset cannot be converted\n"
        "  where: node 'bn'\n"
        "  why: its statistics outputs are read: it was exported in training mode\n"
        "  try: export it in eval mode"
    )


def test_scan_with_lengths_is_refused() -> None:
    _, body = SAMPLES["scan-8"]
    proto = parse(8, body.replace("(, h, x)", "(n, h, x)").replace("(float[1,2] h", "(int64[1] n, float[1,2] h"))
    assert "sequences of different lengths" in refusal(proto)


def test_tf_half_pixel_with_other_rounding_is_refused() -> None:
    _, body = SAMPLES["resize-11-tf-half-pixel"]
    message = refusal(parse(11, body.replace(',nearest_mode="floor"', "")))
    assert "node 'resize0'" in message
    assert "only with mode nearest and nearest_mode floor" in message


@pytest.mark.parametrize("opset", [13, 18, INTERNAL_OPSET, INTERNAL_OPSET + 1])
def test_tf_half_pixel_of_opsets_without_it(opset: int) -> None:
    """ONNX Runtime computes it all the same."""
    for before, after in (((3, 4), (7, 9)), ((7, 9), (3, 4)), ((5, 6), (10, 2))):
        shapes = [f"float[1,1,{height},{width}]" for height, width in (before, after)]
        proto = from_text(
            f"g ({shapes[0]} x) => ({shapes[1]} y) <int64[4] z = {{1,1,{after[0]},{after[1]}}}> {{ [r] y = Resize"
            '<coordinate_transformation_mode="tf_half_pixel_for_nn",nearest_mode="floor">(x, , , z) }',
            opset,
        )
        feeds, converted = feeds_for(proto), load(proto).to_proto()
        assert "tf_half_pixel_for_nn" not in onnx.printer.to_text(converted)
        assert_same(outputs_of(relabelled(proto, 13), feeds), outputs_of(converted, feeds), 0.0)


@pytest.mark.parametrize("attributes", ['nearest_mode="ceil"', 'mode="linear"', 'mode="linear",nearest_mode="floor"'])
def test_tf_half_pixel_without_an_equal_is_refused(attributes: str) -> None:
    text = "g (float[1,1,3,4] x) => (float[1,1,7,9] y) <int64[4] z = {1,1,7,9}> { [r] y = Resize"
    text += f'<coordinate_transformation_mode="tf_half_pixel_for_nn",{attributes}>(x, , , z) }}'
    for opset in (13, INTERNAL_OPSET):
        message = refusal(from_text(text, opset))
        assert "node 'r'" in message
        assert "only with mode nearest and nearest_mode floor" in message


def test_opset_of_the_future_is_refused() -> None:
    newest = onnx.defs.onnx_opset_version()
    message = refusal(from_text("g (float[2] x) => (float[2] y) { y = Relu(x) }", newest + 1))
    assert message.startswith(f"opset {newest + 1} is newer than onnx {onnx.__version__} knows (up to {newest})")
    assert "pip install --upgrade onnx" in message


# ------------------------------------------------------------------------------------------------------ opset 1 to 6


def test_opset_6_comes_up_through_onnx() -> None:
    text = "g (float[2,3] x) => (float[2,3] y) <float[3] b = {1,2,3}> { [a] y = Add<broadcast=1, axis=1>(x, b) }"
    model = load(from_text(text, 6))
    feeds = {"x": np.ones((2, 3), np.float32)}
    np.testing.assert_array_equal(outputs_of(model.to_proto(), feeds)["y"], [[2, 3, 4]] * 2)


def test_prelu_of_opset_6_with_several_slopes_is_refused() -> None:
    message = refusal(from_text("g (float[1,3,4] x, float[3] s) => (float[1,3,4] y) { [p] y = PRelu(x, s) }", 6))
    assert message.startswith("PRelu of opset 6 cannot be converted\n  where: node 'p'")


def test_what_onnx_cannot_bring_up_is_refused() -> None:
    message = refusal(from_text("g (float[2] x) => (float[2] y) { [u] y = Upsample<height_scale=2.0>(x) }", 5))
    assert message.startswith("opset 5 is too old: onnx cannot convert the model to opset 7\n")
    assert "try: export the model with opset 7 or newer" in message


# ------------------------------------------------------------------------------------------------------ newer opsets


def test_newer_model_is_relabelled_where_nothing_changed() -> None:
    model = load(from_text("g (float[2] x) => (float[2] y) { [a] y = Relu(x) }", 26))
    assert model.graph.opset == INTERNAL_OPSET
    assert [n.name for n in model.nodes()] == ["a"]


def test_new_attribute_with_its_default_is_dropped() -> None:
    text = 'g (float[1,4,2,2] x) => (float[1,16,1,1] y) { y = SpaceToDepth<blocksize=2, mode="DCR">(x) }'
    assert dict(load(from_text(text, 28)).nodes()[0].attrs) == {"blocksize": 2}


def test_new_operator_is_expanded_by_its_own_body() -> None:
    model = load(from_text("g (float[2,3] x) => (float[2,3] y) { [act] y = Swish<alpha=2.0>(x) }", 24))
    assert {origin for node in model.nodes() for origin in node.origins} == {"act"}
    assert all(node.name.startswith("act/") for node in model.nodes())
    x = np.linspace(-2, 2, 6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_allclose(outputs_of(model.to_proto(), {"x": x})["y"], x / (1 + np.exp(-2 * x)), rtol=1e-5)


def test_body_is_given_the_defaults_of_its_attributes() -> None:
    x = np.linspace(-2, 2, 6, dtype=np.float32).reshape(2, 3)
    model = load(from_text("g (float[2,3] x) => (float[2,3] y) { [act] y = Swish(x) }", 24))
    np.testing.assert_allclose(outputs_of(model.to_proto(), {"x": x})["y"], x / (1 + np.exp(-x)), rtol=1e-5)


def test_new_operators_without_body_are_all_listed() -> None:
    text = """g (float[4] x, int64 i) => (float[4] y, float[4] z, int32[4] b) {
        [first] y = CumProd(x, i) [second] z = CumProd(x, i) [cast] b = BitCast<to=6>(x) }"""
    assert refusal(from_text(text, 26)) == (
        "3 nodes of opset 26 cannot be expressed in opset 23\n"
        "  where: first (CumProd), second (CumProd), cast (BitCast)\n"
        "  try: export the model with opset 23"
    )


def test_new_types_are_refused() -> None:
    text = 'g (int32[4] x, int32[4] s) => (int32[4] y) { [a] y = BitShift<direction="LEFT">(x, s) }'
    assert "a (BitShift)" in refusal(from_text(text, 28))


def test_body_of_a_node_that_omits_inputs() -> None:
    text = """g (float[1,2,3,4] q, float[1,2,5,4] k, float[1,2,5,4] v, int64[1] n) => (float[1,2,3,4] y) {
        [att] y = Attention(q, k, v, , , , n) }"""
    model = load(from_text(text, 24))
    assert {origin for node in model.nodes() for origin in node.origins} == {"att"}
    q, k, v = (
        np.random.default_rng(seed).standard_normal((1, 2, n, 4), np.float32) for seed, n in enumerate((3, 5, 5))
    )
    scores = q @ k[:, :, :4].swapaxes(2, 3) / 2
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    found = outputs_of(model.to_proto(), {"q": q, "k": k, "v": v, "n": np.array([4])})["y"]
    np.testing.assert_allclose(found, weights @ v[:, :, :4], rtol=1e-5, atol=1e-6)


def test_two_bodies_side_by_side_keep_their_tensors_apart() -> None:
    text = "g (float[2,3] x) => (float[2,3] y) { [one] t = Swish(x) [two] y = Swish<alpha=2.0>(t) }"
    model = load(from_text(text, 24))
    assert {origin for node in model.nodes() for origin in node.origins} == {"one", "two"}
    x = np.linspace(-2, 2, 6, dtype=np.float32).reshape(2, 3)
    t = x / (1 + np.exp(-x))
    np.testing.assert_allclose(outputs_of(model.to_proto(), {"x": x})["y"], t / (1 + np.exp(-2 * t)), rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_mod_of_floats_rounds_the_quotient_down(dtype: type) -> None:
    kind = {np.float16: "float16", np.float32: "float", np.float64: "double"}[dtype]
    model = load(from_text(f"g ({kind}[n] x, {kind}[n] d) => ({kind}[n] y) {{ [a] y = Mod(x, d) }}", 28))
    inf, nan = np.inf, np.nan
    x = np.array([5, -5, 5, -5, 6, -6, 0.0, -0.0, 0.0, -0.0, -3, 3, -1, 1, inf, 1, 1, nan, 1, 5.25], dtype)
    d = np.array([3, 3, -3, -3, 3, -3, -2, 2, 2, -2, inf, inf, -inf, -inf, 2, 0.0, -0.0, 2, nan, -1.5], dtype)
    found = outputs_of(model.to_proto(), {"x": x, "d": d})["y"]
    with np.errstate(invalid="ignore"):
        wanted = np.mod(x, d)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(np.signbit(found[:14]), np.signbit(wanted[:14]))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("kind", ["float", "int32", "int64"])
@pytest.mark.parametrize(("exclusive", "reverse"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_cumulative_product(axis: int, kind: str, exclusive: int, reverse: int) -> None:
    options = f"exclusive={exclusive}, reverse={reverse}"
    text = f"""g ({kind}[2,n,3] x) => ({kind}[2,n,3] y) {{
        a = Constant<value_int={axis}>() y = CumProd<{options}>(x, a) }}"""
    model = load(from_text(text, 26))
    values = np.arange(1, 25).reshape(2, 4, 3).astype({"float": np.float32}.get(kind, kind))
    ordered = np.flip(values, axis) if reverse else values
    if exclusive:
        first = np.take(np.ones_like(ordered), [0], axis)
        ordered = np.concatenate([first, np.delete(ordered, -1, axis)], axis)
    wanted = np.cumprod(ordered, axis, dtype=values.dtype)
    found = outputs_of(model.to_proto(), {"x": values})["y"]
    np.testing.assert_allclose(found, np.flip(wanted, axis) if reverse else wanted, rtol=1e-6)


@pytest.mark.parametrize("indices", [True, False])
@pytest.mark.parametrize("axis", [1, -1, -2])
@pytest.mark.parametrize("mode", ["linear", "circular"])
def test_tensor_scatter(indices: bool, axis: int, mode: str) -> None:
    place = axis % 3
    update_shape = [2, 6, 5]
    update_shape[place] = 3
    shape = ",".join(map(str, update_shape))
    text = f"""g (float[2,6,5] c, float[{shape}] u, int64[2] i) => (float[2,6,5] y) {{
        y = TensorScatter<axis={axis}, mode="{mode}">(c, u{", i" if indices else ""}) }}"""
    rng = np.random.default_rng(0)
    cache, update = rng.random((2, 6, 5), np.float32), rng.random(update_shape, np.float32)
    starts = np.array([1, 4 if mode == "circular" else 2])
    found = outputs_of(load(from_text(text, 24)).to_proto(), {"c": cache, "u": update, "i": starts})["y"]
    wanted = cache.copy()
    for sample, start in enumerate(starts if indices else [0, 0]):
        for step in range(3):
            position = (start + step) % cache.shape[place]
            wanted[sample].swapaxes(0, place - 1)[position] = update[sample].swapaxes(0, place - 1)[step]
    np.testing.assert_array_equal(found, wanted)


def test_bfloat16_goes_through_float32_where_it_was_not_taken() -> None:
    model = load(from_text("g (bfloat16[4] x, bool[4] c) => (bfloat16[n] y) { [a] y = Compress(x, c) }", 28))
    assert [node.op for node in model.nodes()] == ["Cast", "Compress", "Cast"]
    assert {origin for node in model.nodes() for origin in node.origins} == {"a"}


# --------------------------------------------------------------------------------------------------- local functions

_FUNCTION = """
<domain: "my", opset_import: ["": {opset}]>
scaled <alpha> (a) => (c) {{ b = LeakyRelu<alpha: float = @alpha>(a) c = Relu(b) }}
"""


def test_local_functions_are_inlined_and_named_after_their_calls() -> None:
    text = "g (float[2,3] x) => (float[2,3] y) { [one] t = my.scaled<alpha=0.5>(x) [two] y = my.scaled<alpha=0.2>(t) }"
    model = load(from_text(text + _FUNCTION.format(opset=17), 17, '"my": 1'))
    assert [n.op for n in model.nodes()] == ["LeakyRelu", "Relu"] * 2
    assert [n.origins for n in model.nodes()] == [("one",)] * 2 + [("two",)] * 2
    assert len({n.name for n in model.nodes()}) == 4
    assert [round(n.attrs["alpha"], 3) for n in model.nodes("LeakyRelu")] == [0.5, 0.2]


def test_function_in_another_opset_than_the_model() -> None:
    text = "g (float[1,3] x) => (float[3] y) { [call] y = my.flat<ax=[0]>(x) }"
    function = (
        '<domain: "my", opset_import: ["": 11]> flat <ax> (a) => (b) { s = Squeeze<axes: ints = @ax>(a) b = Relu(s) }'
    )
    model = load(from_text(f"{text} {function}", 17, '"my": 1'))
    assert [n.op for n in model.nodes()] == ["Squeeze", "Relu"]
    x = np.array([[-1, 0, 2]], np.float32)
    np.testing.assert_array_equal(outputs_of(model.to_proto(), {"x": x})["y"], [0, 0, 2])


def test_function_in_a_newer_opset_than_the_model() -> None:
    text = "g (float[1,3] x) => (float[3] y) { t = Squeeze<axes=[0]>(x) [call] y = my.act(t) }"
    function = '<domain: "my", opset_import: ["": 24]> act (a) => (b) { b = Swish(a) }'
    model = load(from_text(f"{text} {function}", 11, '"my": 1'))
    x = np.array([[-1, 0, 2]], np.float32)
    np.testing.assert_allclose(outputs_of(model.to_proto(), {"x": x})["y"], (x / (1 + np.exp(-x)))[0], rtol=1e-5)


def test_parameter_that_decides_the_conversion_is_refused() -> None:
    text = "g (float[1,3] x) => (float[1,3] y) { [call] y = my.soft<ax=1>(x) }"
    function = '<domain: "my", opset_import: ["": 11]> soft <ax> (a) => (b) { b = Softmax<axis: int = @ax>(a) }'
    message = refusal(from_text(f"{text} {function}", 17, '"my": 1'))
    assert "its attribute 'axis' is a parameter of a local function" in message


def test_what_the_checker_says_of_an_old_node() -> None:
    with pytest.raises(InvalidModelError, match="a node is not valid in the opset that the model says") as caught:
        load(from_text("g (float[1,3] x) => (float[1,3] y) { [p] y = Pad(x) }", 7))
    assert "Required attribute 'pads' is missing" in caught.value.why


def test_a_mistake_of_ours_is_not_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    def mistaken(site: object) -> None:
        raise TypeError("ours")

    monkeypatch.setitem(TABLE, "Softmax", {13: mistaken})
    with pytest.raises(TypeError, match="ours"):
        load(from_text("g (float[1,3] x) => (float[1,3] y) { y = Softmax(x) }", 11))
