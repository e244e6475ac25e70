"""Support check, fusion and open dimensions."""

from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgecc.errors import PluginError
from edgecc.model import Model
from edgecc_tflite import lowerings
from edgecc_tflite.lower import find_unsupported
from edgecc_tflite.lowerings import LoweringRule, builtin_rules
from edgecc_tflite.testing import Case, assert_close, counts, lowered, run_onnx, run_tflite, weights
from edgecc_tflite.testing.net import Net

RULES = builtin_rules()
FAMILIES = [path.stem for path in Path(lowerings.__file__).parent.glob("*.py")]


@pytest.mark.parametrize("family", lowerings.RARE)
def test_families_that_are_imported_late_list_their_operators(family: str) -> None:
    module = importlib.import_module(f"{lowerings.__name__}.{family}")
    assert {rule.domain for rule in module.RULES} == {""}
    assert sorted({rule.op for rule in module.RULES}) == lowerings.RARE[family].split()


def test_no_family_is_left_out() -> None:
    modules = [importlib.import_module(f"{lowerings.__name__}.{name}") for name in FAMILIES if name != "__init__"]
    written = [(rule.op, rule.since) for module in modules for rule in getattr(module, "RULES", ())]
    assert sorted(written) == sorted((rule.op, rule.since) for rule in builtin_rules())


def test_a_late_family_meets_the_rule_of_a_plugin() -> None:
    rule = LoweringRule("Einsum", lower=lambda c: None, emits=(), owner="my-plugin")
    with pytest.raises(PluginError, match="two lowering rules for Einsum"):
        builtin_rules().extended([rule])
    table = builtin_rules().extended([replace(rule, domain="my.domain")])
    assert table.find("Einsum", "my.domain", 21) is not None
    assert table.find("Einsum", "", 21).owner == "edgecc-tflite"  # type: ignore[union-attr]
    assert len(table) == len(RULES) + 1


def test_only_what_a_model_needs_is_imported() -> None:
    code = (
        "import sys\n"
        "from edgecc_tflite.lowerings import builtin_rules\n"
        "there = lambda name: f'edgecc_tflite.lowerings.{name}' in sys.modules\n"
        "rules = builtin_rules().extended([])\n"
        "assert rules.find('Conv', '', 21) and not there('recurrent') and not there('einsum')\n"
        "assert rules.find('LSTM', '', 21) and there('recurrent') and not there('einsum')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def reasons(case: Case) -> list[str]:
    return [str(problem) for problem in find_unsupported(case.model(), RULES)]


def test_an_operator_without_a_rule() -> None:
    model = Model.from_text("g (float[2, 3] x) => (float[2, 3] y) { y = com.acme.Magic(x) }")
    (problem,) = find_unsupported(model, RULES)
    assert problem.op == "com.acme.Magic"
    assert problem.reason == "no lowering rule for this operator"


def test_every_node_and_every_reason_is_listed() -> None:
    net = Net(x="f:n,8,h,9")
    dilated = {"kernel_shape": [2, 2], "dilations": [2, 2]}
    y = net.op("MaxPool", net.op("MaxPool", "x", **dilated), **dilated)
    found = [p.reason for p in find_unsupported(net.model(y), RULES)]
    assert len(found) == 2
    assert all("has an open dimension" in reason for reason in found)


@pytest.mark.parametrize(
    ("case", "text"),
    [
        (Case("Conv", ("f:1,3,4,4", "f:4,3,3,3")), ""),
        (Case("Conv", ("f:1,3,4,4,4,4", weights(4, 3, 1, 1, 1, 1))), "has rank 6, only rank 3 to 5 can be lowered"),
        (Case("Sqrt", ("f:2,3",)), ""),
        (
            Case("MaxPool", ("f:1,2,h,8",), {"kernel_shape": [2, 2], "dilations": [2, 2]}),
            "has an open dimension (1x2xhx8)",
        ),
        (Case("Dropout", ("f:2,3", None, "b:")), "training_mode 'x2' is computed at run time"),
        (Case("Dropout", ("f:2,3", None, np.array(True))), "training_mode is set"),
        (Case("Slice", ("f:2,3", "i64:n", "i64:n")), "gives an unknown number of bounds"),
        (Case("Split", ("f:2,3", np.array([0, 3])), {"axis": 1}, outputs=2), "'y0': a tensor without elements"),
        (Case("ArgMax", ("i64:2,n",), {"axis": 1}), "the extreme of int64 along an open dimension"),
    ],
    ids=str,
)
def test_reasons(case: Case, text: str) -> None:
    found = reasons(case)
    assert text in "\n".join(found)
    assert bool(found) == bool(text)


def test_an_open_dimension_names_the_flag_that_fixes_it() -> None:
    case = Case("ConvTranspose", ("f:n,3,h,w", weights(3, 4, 2, 2)))
    (text,) = reasons(case)
    assert "open dimension (nx3xhxw)" in text
    assert "--shape x0=1,3,224,224" in text


def test_arithmetic_with_open_dimensions_names_the_flag_too() -> None:
    text = """g (float[1,12,9] x, float[1,3,H,W] z) => (y) <int64[2] b = {2,2}, int64[2] o = {1,1}> {
        s = Shape<start=2>(z) t = Add(s, o) y = Col2Im(x, t, b) }"""
    (found,) = find_unsupported(Model.from_text(text), builtin_rules())
    assert found.reason == "the image shape 't' is computed at run time; only constant image shape can be lowered"
    assert found.hint == "fix the input's shape: --shape z=1,3,224,224"
    given = """g (float[1,12,9] x, float[1,3,H,W] z, int64[2] t) => (y, w) <int64[2] b = {2,2}> {
        w = Relu(z) y = Col2Im(x, t, b) }"""
    (found,) = find_unsupported(Model.from_text(given), builtin_rules())
    assert found.hint == ""


@pytest.mark.parametrize(
    ("act", "bounds"), [("Relu", ()), ("Clip", (0.0, 6.0)), ("Clip", (-1.0, 1.0))], ids=["relu", "relu6", "unit"]
)
def test_activations_go_into_the_operator_in_front(act: str, bounds: tuple[float, ...]) -> None:
    net = Net(x="f:1,3,8,8")
    y = net.op(act, net.conv("x", 4, 3), *(np.full((), b, np.float32) for b in bounds))
    y = net.op(act, net.op("Add", y, net.random(4, 1, 1)), *(np.full((), b, np.float32) for b in bounds))
    assert counts(lowered(net.model(y))) == {"TRANSPOSE": 2, "CONV_2D": 1, "ADD": 1}


def test_an_activation_stays_where_its_input_has_other_readers() -> None:
    net = Net(x="f:1,3,8,8")
    y = net.conv("x", 4, 3)
    model = net.model(net.op("Relu", y), y)
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)}
    graph = lowered(model)
    assert counts(graph)["RELU"] == 1
    assert_close(run_tflite(graph, feeds), run_onnx(model, feeds), 1e-5)


def test_a_bias_goes_into_the_matrix_product() -> None:
    net = Net(x="f:4,3")
    model = net.model(net.op("Relu", net.op("Add", net.op("MatMul", "x", net.random(3, 5)), net.random(5))))
    assert counts(lowered(model)) == {"FULLY_CONNECTED": 1}


@pytest.mark.parametrize(
    "case",
    [
        Case("Conv", ("f:n,3,h,w", weights(4, 3, 3, 3)), {"pads": [1, 1, 1, 1]}, label="space"),
        Case("MaxPool", ("f:n,3,h,w",), {"kernel_shape": [2, 2], "strides": [2, 2]}, label="space"),
        Case("Reshape", ("f:n,3,h,w", np.array([0, 0, -1])), label="two-open"),
        Case("Softmax", ("f:n,3,h,w",), {"axis": 1}),
        Case("Add", ("f:n,3,h,w", weights(3, 1, 1))),
        Case("Shape", ("f:n,3,h,w",)),
        Case("Size", ("f:n,3,h,w",)),
        Case("Slice", ("f:n,3,h,w", np.array([1]), np.array([-1]), np.array([2]))),
        Case("Flatten", ("f:n,3,4",)),
        Case("MatMul", ("f:n,h,3", weights(3, 4))),
        Case("LayerNormalization", ("f:n,h,8", weights(8), weights(8)), tolerance=1e-5),
        Case("ConvTranspose", ("f:n,3,4,4", weights(3, 2, 2, 2)), {"strides": [2, 2]}),
        Case("AveragePool", ("f:n,3,8,8",), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
        Case("Expand", ("f:n,1,4", np.array([1, 3, 4]))),
        Case("Concat", ("f:n,3", "f:n,2"), {"axis": 1}),
        Case("Gather", ("f:n,5", np.array([0, -1])), {"axis": 1}),
    ],
    ids=str,
)
def test_open_dimensions_take_any_size(case: Case) -> None:
    model = case.model()
    graph = lowered(model)
    for n, h, w in ((1, 6, 6), (2, 8, 5), (5, 7, 9)):
        feeds = case.feeds(n=n, h=h, w=w)
        expected = run_onnx(model, feeds)
        for xnnpack in (True, False):
            assert_close(run_tflite(graph, feeds, xnnpack=xnnpack), expected, case.tolerance)


def test_a_whole_network_takes_any_batch() -> None:
    net = Net(x="f:n,3,16,16")
    x = net.conv("x", 8, 3, 2, act="HardSwish")
    x = net.op("Add", x, net.conv(net.squeeze_excite(net.depthwise(x), 4), 8))
    model = net.model(net.head(net.shuffle(x, 2, 8, 8)))
    graph = lowered(model)
    for n in (1, 2, 5):
        feeds = {"x": np.random.default_rng(n).standard_normal((n, 3, 16, 16)).astype(np.float32)}
        assert_close(run_tflite(graph, feeds), run_onnx(model, feeds), 1e-5)


def test_a_plugin_adds_a_rule() -> None:
    rule = LoweringRule("Magic", lambda c: c.emit("TANH", [c.x()], c.out()) and None, ("TANH",), domain="com.acme")
    model = Model.from_text("g (float[2, 3] x) => (float[2, 3] y) { y = com.acme.Magic(x) }")
    graph = lowered(model, rules=RULES.extended([rule]))
    assert counts(graph) == {"TANH": 1}


def test_two_rules_for_one_operator_name_both_owners() -> None:
    rule = LoweringRule("Relu", lambda c: None, ("RELU",), owner="acme-rules")
    with pytest.raises(PluginError) as error:
        RULES.extended([rule])
    assert "two lowering rules for Relu" in str(error.value)
    assert "from edgecc-tflite and from acme-rules" in str(error.value)


def test_the_table_for_the_documentation() -> None:
    lines = RULES.to_markdown().splitlines()
    assert len(lines) == len(RULES) + 2
    conv = next(line for line in lines if line.startswith("| Conv |"))
    assert "channels-last" in conv
    assert "| Floor | 1+ | FLOOR | any |" in "\n".join(lines)


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ("1,1,1,1,1,1,1,1,2", "has rank 9, and TFLite's kernels take at most 8"),
        ("65536,65536", "has 4,294,967,296 elements, and TFLite counts them in 32 bits"),
    ],
)
def test_a_tensor_that_no_kernel_takes(shape: str, reason: str) -> None:
    model = Model.from_text(f"g (float[{shape}] x) => (float[{shape}] y) {{ y = Relu(x) }}")
    assert [problem.reason for problem in find_unsupported(model, RULES)] == [f"'x' {reason}"]


@pytest.mark.parametrize(("size", "operators"), [(16, ["ADD"]), (1 << 19, ["FILL", "ADD"])])
def test_a_large_fill_is_not_in_the_file(size: int, operators: list[str]) -> None:
    text = f"""g (int64[1] x) => (int64[{size}] y) <int64[1] shape = {{{size}}}> {{
        filled = ConstantOfShape<value = int64[1] {{7}}>(shape)
        y = Add(filled, x)
    }}"""
    graph = lowered(Model.from_text(text))
    assert [operator.builtin for operator in graph.operators] == operators


@pytest.mark.parametrize(
    "text",
    [
        "g (float[2] x) => (float[2] x) { }",
        "g (float[2] x) => (float[2] y, float[2] w) <float[2] w = {1, 2}> { y = Add(x, w) }",
    ],
    ids=["input", "constant"],
)
def test_an_input_or_constant_that_is_an_output(text: str) -> None:
    model = Model.from_text(text)
    x = np.array([3, 4], np.float32)
    assert_close(run_tflite(lowered(model), {"x": x}), run_onnx(model, {"x": x}), 0.0)
