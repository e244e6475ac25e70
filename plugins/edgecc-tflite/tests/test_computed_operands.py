"""Axes, bounds, amounts and sizes that are inputs of the model, and tensors without elements."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgecc_tflite.testing import Case, check, f32, ints

_X = "f:4,5,6"


def _reduce(op: str, axes: list[int], **attributes: int) -> Case:
    values = {1: np.array(axes, np.int64)}
    keep = attributes.get("keepdims", 1)
    gone = [axis % 3 for axis in axes]
    dims = [1 if a in gone else d for a, d in enumerate((4, 5, 6)) if keep or a not in gone]
    result = "f:" + ",".join(map(str, dims))
    label = "-".join([*map(str, axes), str(keep)])
    return Case(op, (_X, f"i64:{len(axes)}"), attributes, values=values, results=(result,), label=label, tolerance=1e-5)


def _slice(label: str, *given: list[int], late: tuple[int, ...] = (1, 2, 3, 4)) -> Case:
    inputs: list[Any] = [_X]
    for index, entries in enumerate(given, 1):
        inputs.append(f"i64:{len(entries)}" if index in late else ints(*entries))
    values = {index: ints(*entries) for index, entries in enumerate(given, 1)}
    return Case("Slice", tuple(inputs), label=label, values=values)


def _pad(
    label: str, pads: list[int], *, axes: list[int] | None = None, mode: str = "constant", value: Any = None
) -> Case:
    values = {1: ints(*pads)} | ({} if axes is None else {3: ints(*axes)})
    kinds = (_X, f"i64:{len(pads)}", value, None if axes is None else f"i64:{len(axes)}")
    inputs = kinds if axes else kinds[: 3 if value is not None else 2]
    return Case("Pad", inputs, {"mode": mode}, label=label, values=values, results=("f:a,b,c",))


_REDUCTIONS = ["Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp"]

CASES = [
    *[_reduce(f"Reduce{name}", [1], keepdims=keep) for name in _REDUCTIONS for keep in (0, 1)],
    _reduce("ReduceSum", [-1, 0]),
    Case("ReduceMax", ("b:4,5", ints(1)), label="bool"),
    Case("ReduceMin", ("b:4,5", ints(1)), label="bool"),
    _slice("bounds", [1, 0], [3, 4]),
    _slice("axes", [1, 0], [3, 4], [-1, 0]),
    _slice("steps", [0, 4, -1], [4, -(2**63), 2**63 - 1], [0, 1, 2], [3, -1, 1]),
    _slice("only-ends", [1, 1], [3, 2**63 - 1], [0, 2], [1, 2], late=(2,)),
    _slice("only-starts", [-2], [9], [1], [1], late=(1,)),
    _pad("pads", [1, 0, 2, 0, 3, 1]),
    _pad("negative", [1, 0, -2, 0, -1, 1]),
    _pad("value", [1, 0, 2, 0, 3, 1], value="f:"),
    _pad("axes", [1, 2, 3, 0], axes=[-1, 0]),
    *[_pad(mode, [1, 0, 2, 0, 3, 1], mode=mode) for mode in ("edge", "reflect", "wrap")],
    _pad("edge-axes", [7, 2], axes=[1], mode="edge"),
    Case("CumSum", (_X, "i64:"), values={1: np.array(-2)}, label="axis"),
    Case("Reshape", (_X, "i64:2"), values={1: ints(20, -1)}, label="computed"),
    Case("Reshape", (_X, "i64:3"), values={1: ints(2, 0, -1)}, label="computed-zero"),
    Case("Expand", ("f:4,1,6", "i64:3"), values={1: ints(1, 5, 1)}, label="computed"),
    Case("Tile", ("f:2,3", "i64:2"), values={1: ints(2, 3)}, label="computed"),
    Case("Split", (_X, "i64:2"), {"axis": 1}, outputs=2, values={1: ints(2, 3)}, results=("f:4,a,6", "f:4,b,6")),
    Case("BatchNormalization", ("f:2,3,4,5", "f:3", "f:3", "f:3", "f:3"), values={4: f32(0.5, 1, 2)}, tolerance=1e-5),
    Case("Gemm", ("f:3,4", "f:5,4", "f:5"), {"transB": 1}, label="computed"),
    Case("PRelu", ("f:2,3,4", "f:3,1"), label="computed"),
    Case("ReduceSum", (_X, "i64:0"), {"noop_with_empty_axes": 1}, label="no-axes", results=(_X,)),
    Case("ReduceSum", ("f:2,0,3", ints(1)), label="nothing"),
    Case("ReduceMax", ("f:2,0,3", ints(1)), label="nothing"),
    Case("Slice", (_X, ints(3), ints(3)), label="nothing"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_onnxruntime(case: Case) -> None:
    check(case)
