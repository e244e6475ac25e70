"""Integers of every width and float16, which most TFLite kernels do not know; trigonometric functions; bits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgecc.model import Model
from edgecc_tflite.lower import find_unsupported
from edgecc_tflite.lowerings import builtin_rules
from edgecc_tflite.testing import Case, assert_close, check, lowered, parse, run_tflite

_FUNCTIONS = ("Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh")
_HARD = np.array([0.0, 1e-30, 1e-6, -1e-4, 0.3, -0.7, 0.9999, 1.0, -1.0], np.float32)
_LARGE = np.array([1.0, 1.0001, 2.0, 40.0, 1e6, 1e9, 1e25, 1e38, np.inf], np.float32)

CASES = [
    *[Case(op, ("f:2,30",), span=(-0.99, 0.99)) for op in _FUNCTIONS if op != "Acosh"],
    Case("Acosh", ("f:2,30",), span=(1.0, 3.0)),
    *[Case(op, ("f16:2,30",), span=(-0.9, 0.9), label="float16", tolerance=2e-3) for op in ("Sin", "Exp", "Relu")],
    Case("MatMul", ("f16:3,4", "f16:4,5"), label="float16", tolerance=2e-3),
    Case("Add", ("f16:3,4", np.ones(4, np.float16)), label="float16", tolerance=2e-3),
    Case("Mod", ("i64:2,30", np.array(-7)), {"fmod": 1}, label="int64-fmod", span=(-99, 99)),
    *[Case("Mod", (f"{kind}:2,30", f"{kind}:2,30"), label=kind, span=(1, 99)) for kind in ("i8", "u8", "i16", "u32")],
    Case("Abs", ("i64:2,30",), label="int64", span=(-99, 99)),
    Case("Sign", ("i64:2,30",), label="int64", span=(-2, 2)),
    Case("Pow", ("i64:30", np.array(5)), label="int64", span=(-99, 99)),
    Case("Pow", ("i64:30", "i64:30"), label="int64-computed", span=(0, 9)),
    Case("Pow", ("i32:30", np.array(2.0, np.float32)), label="int32-by-float", span=(-99, 99)),
    Case("Pow", ("f:30", "i64:30"), label="float-by-int64", span=(0.5, 3)),
    Case("Div", ("i64:2,300", "i64:300"), label="int64", span=(1, 1e15)),
    Case("Div", ("i64:2,300", np.array(-3)), label="int64-negative", span=(-1e18, 1e18)),
    *[Case("Max", (f"{kind}:2,3", f"{kind}:3"), label=kind, span=(0, 99)) for kind in ("u32", "u64", "f16", "f64")],
    *[Case(op, ("u8:2,30", "u8:30"), span=(0, 255)) for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")],
    *[Case(op, ("i64:2,30", "i64:30"), span=(-1e18, 1e18)) for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")],
    *[Case("BitwiseNot", (f"{kind}:30",), label=kind, span=(0, 99)) for kind in ("i32", "u8", "u64")],
    *[
        Case("BitShift", (f"{kind}:2,30", np.arange(30).astype(parse(f"{kind}:")[0])), {"direction": to}, label=to)
        for kind in ("u8", "u32")
        for to in ("LEFT", "RIGHT")
    ],
    Case("BitShift", ("u64:30", np.arange(30, dtype=np.uint64)), {"direction": "LEFT"}, label="u64", span=(0, 1e9)),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_onnxruntime(case: Case) -> None:
    check(case)


def _answer(model: Model, *inputs: np.ndarray) -> np.ndarray:
    graph = lowered(model)
    feeds = {f"x{number}": values for number, values in enumerate(inputs)}
    results = [run_tflite(graph, feeds, xnnpack=xnnpack)["y0"] for xnnpack in (True, False)]
    assert_close({"y0": results[0]}, {"y0": results[1]}, 1e-6)
    return results[0]


_BINARY: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Equal": np.equal,
    "Less": np.less,
    "GreaterOrEqual": np.greater_equal,
    "Min": np.minimum,
    "Max": np.maximum,
}


@pytest.mark.parametrize("kind", ["i8", "u8", "i16", "u16", "u32", "u64"])
@pytest.mark.parametrize("op", _BINARY)
def test_every_width(op: str, kind: str) -> None:
    """ONNX Runtime has few of these: numpy wraps around in the same way."""
    dtype = parse(f"{kind}:")[0]
    bounds = np.iinfo(dtype)
    x = np.array([[0, 1, bounds.max, bounds.max // 2, bounds.min, 7]], dtype)
    y = np.array([[3], [bounds.max], [0]], dtype)
    expected = _BINARY[op](x, y)
    actual = _answer(Case(op, (f"{kind}:1,6", f"{kind}:3,1")).model(), x, y)
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("kind", ["i8", "u8", "i16", "u16", "u32"])
def test_division_of_every_width(kind: str) -> None:
    dtype = parse(f"{kind}:")[0]
    x = np.array([100, 7, np.iinfo(dtype).max, 0, 1, np.iinfo(dtype).min + 1], dtype)
    y = np.array([7, 2, 3, 5, 2, 3], dtype)
    actual = _answer(Case("Div", (f"{kind}:6", f"{kind}:6")).model(), x, y)
    np.testing.assert_array_equal(actual, np.trunc(x / y).astype(dtype))


def test_int64_division_is_exact() -> None:
    x = np.array([2**63 - 1, -(2**63) + 1, 10**18, -(10**18) - 1, 5, -5], np.int64)
    y = np.array([1, 7, 3, 10**9 + 7, -2, 2], np.int64)
    expected = [abs(int(a)) // abs(int(b)) * (1 if a * int(np.sign(b)) >= 0 else -1) for a, b in zip(x, y, strict=True)]
    actual = _answer(Case("Div", ("i64:6", "i64:6")).model(), x, y)
    assert actual.tolist() == expected


@pytest.mark.parametrize("op", _FUNCTIONS)
def test_hard_values(op: str) -> None:
    """Relative to each value, not to the largest one."""
    functions = {"Tan": np.tan, "Sinh": np.sinh, "Cosh": np.cosh}
    numpy_name = op.lower().replace("asin", "arcsin").replace("acos", "arccos").replace("atan", "arctan")
    function = functions.get(op) or getattr(np, numpy_name)
    values = _LARGE if op == "Acosh" else (np.concatenate([_HARD, -_LARGE, _LARGE]) if op == "Asinh" else _HARD)
    with np.errstate(all="ignore"):
        expected = function(values.astype(np.float64)).astype(np.float32)
    actual = _answer(Case(op, (f"f:{values.size}",)).model(), values)
    np.testing.assert_allclose(actual, expected, rtol=4e-6, atol=1e-37)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (Case("Pow", ("i64:3", "f:3")), "base is int64 and exponent float32"),
        (Case("BitShift", ("u64:3", "u64:3"), {"direction": "RIGHT"}), "int64 shifted to the right"),
        (Case("Less", ("f64:3", "f64:3")), "is float64, the TFLite kernels take"),
        (Case("Div", ("u64:3", "u64:3")), "is uint64, the TFLite kernels take"),
    ],
    ids=str,
)
def test_refusals(case: Case, reason: str) -> None:
    problems = find_unsupported(case.model(), builtin_rules())
    assert reason in " ".join(problem.reason for problem in problems)
