"""What numpy rearranges is what ONNX Runtime would make of it, and it is not asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edgecc.constant_moves import moved
from edgecc.model import Model
from edgecc.opset import INTERNAL_OPSET

DATA = np.arange(24, dtype=np.float32).reshape(2, 1, 3, 4)
HEADER = f'<ir_version: 10, opset_import: ["" : {INTERNAL_OPSET}]>\n'


def parsed(expression: str, operand: object) -> Model:
    # Slices end far behind the first value of axis 3, and go backwards where they have a step.
    ends = np.array([-(2**40) if "i4" in expression else 2**40])
    constants = {"d": DATA, "i": np.asarray(operand), "i2": ends, "i3": np.array([3]), "i4": np.array([-2])}
    read = expression.split("(")[1].rstrip(")").split(", ")
    used = {name: values for name, values in constants.items() if name in read}
    return Model.from_text(f"{HEADER}g () => (float y) {{ y = {expression} }}", used)


@pytest.mark.parametrize(
    ("expression", "operand"),
    [
        ("Identity(d)", 0),
        ("Transpose<perm=[3,1,0,2]>(d)", 0),
        ("Transpose(d)", 0),
        ("Expand(d, i)", [2, 5, 1, 4]),
        ("Expand(d, i)", [3, 2, 5, 3, 4]),
        ("Expand(d, i)", [1]),
        ("Gather(d, i)", [1, 0, -1]),
        ("Gather<axis=3>(d, i)", [[1, -4], [0, 0]]),
        ("Gather<axis=-2>(d, i)", 2),
        ("Unsqueeze(d, i)", [0, -1, 2]),
        ("Squeeze(d, i)", [1]),
        ("Squeeze(d)", 0),
        ("Concat<axis=1>(d, d, d)", 0),
        ("Concat<axis=-1>(d, d)", 0),
        ("Slice(d, i, i2)", [1]),
        ("Slice(d, i, i2, i3, i4)", [3]),
    ],
)
def test_equals_onnxruntime(expression: str, operand: object) -> None:
    model = parsed(expression, operand)
    found = moved(model.nodes()[0])
    model.outputs[0].shape = None
    session = onnxruntime.InferenceSession(model.to_proto().SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {})
    assert found is not None
    assert found.dtype == expected.dtype
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("expression", "operand"),
    [
        ("Gather(d, i)", [2]),
        ("Gather<axis=7>(d, i)", [0]),
        ("Squeeze(d, i)", [0]),
        ("Unsqueeze(d, i)", [9]),
        ("Expand(d, i)", [5, 5]),
        ("Transpose<perm=[0,1]>(d)", 0),
        ("Neg(d)", 0),
        ("Concat<axis=5>(d, d)", 0),
    ],
)
def test_left_to_the_runtime(expression: str, operand: object) -> None:
    assert moved(parsed(expression, operand).nodes()[0]) is None


def test_the_runtime_is_not_imported(tmp_path: Path) -> None:
    text = (
        "g (float[2,3] x) => (float[2,3] y) <float[3] b = {1,2,3}> { c = Identity(b) e = Expand(c, s) y = Add(x, e) }"
    )
    Model.from_text(HEADER + text, {"s": np.array([2, 3])}).save(tmp_path / "m.onnx")
    code = (
        "import sys, edgecc\n"
        f"model = edgecc.load({str(tmp_path / 'm.onnx')!r})\n"
        "assert [node.op for node in model.nodes()] == ['Add']\n"
        "assert 'onnxruntime' not in sys.modules\n"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
