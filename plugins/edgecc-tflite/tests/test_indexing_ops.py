"""Gathering, scattering, ranking and what is at which place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgecc_tflite.lower import find_unsupported
from edgecc_tflite.lowerings import builtin_rules
from edgecc_tflite.testing import Case, assert_close, check, ints, lowered, run_onnx, run_tflite

#: Few values, so that slices are equal.
_SLICES = np.random.default_rng(3).integers(-1, 1, (7, 2, 4))
_TIES = np.array([[3, 1, 3, 0, 1], [2, 2, 2, 2, 2]])
_PLACES = np.array([[0, -1, 2], [3, 1, 1]])
_COLUMNS = np.array([[[0], [2]], [[-1], [1]]])

CASES = [
    *[Case("Gather", (f"{kind}:4,5", ints(3, -1, 0)), {"axis": 1}, label=kind, span=(0, 9)) for kind in ("u16", "u64")],
    *[
        Case(op, (f"{kind}:2,6", *more), {"axis": 1} | attributes, outputs, label=kind, span=(0, 9))
        for kind in ("u16", "u32", "u64", "f64")
        for op, more, attributes, outputs in (("Concat", (f"{kind}:2,3",), {}, 1), ("Split", (), {"num_outputs": 2}, 2))
    ],
    *[Case("Pad", (f"{kind}:2,3", ints(1, 0, 0, 2)), label=kind, span=(0, 9)) for kind in ("u32", "u64", "f64")],
    *[Case("Split", (f"{kind}:6",), {"num_outputs": 2}, 2, label=f"1d-{kind}") for kind in ("b", "f16")],
    Case("GatherElements", ("f:4,3", np.array([[0, -1, 2], [3, 1, 1]]))),
    Case("GatherElements", ("f:2,4,3", "i64:2,2,3"), {"axis": 1}, label="computed", span=(-4, 3.9)),
    Case("GatherElements", ("u32:2,4", "i32:2,4"), {"axis": -1}, label="uint32", span=(0, 3.9)),
    Case("GatherND", ("f:3,4,5", "i64:2,2"), label="computed", span=(-3, 2.9)),
    Case("GatherND", ("f:2,3,5", _COLUMNS), {"batch_dims": 1}, label="batch"),
    Case("ReverseSequence", ("f:2,4,3", ints(2, 4)), {"batch_axis": 0, "time_axis": 1}),
    Case("ReverseSequence", ("f:4,3,2", ints(2, 4, 1)), label="time-first"),
    *[
        Case(
            "ScatterElements",
            ("f:4,3", _PLACES, "f:2,3"),
            {"reduction": reduction} if reduction else {},
            label=reduction,
        )
        for reduction in ("", "add", "mul", "max", "min")
    ],
    Case("ScatterElements", ("f:2,4,3", np.array([[[3, -2, 0]], [[0, 1, 1]]]), "f:2,1,3"), {"axis": 1}, label="axis"),
    *[
        Case("ScatterND", ("f:4,3", np.array([[1], [-1]]), "f:2,3"), {"reduction": r} if r else {}, label=r)
        for r in ("", "add", "mul", "max", "min")
    ],
    Case("ScatterND", ("f:4,3,2", np.array([[1, 0], [-1, 2]]), "f:2,2"), label="pairs"),
    Case("ScatterND", ("f:4,3", np.array([[1], [1]]), "f:2,3"), {"reduction": "max"}, label="twice"),
    Case("ScatterND", ("i64:4,3", np.array([[1], [2]]), "i64:2,3"), {"reduction": "add"}, label="i64", span=(-9, 9)),
    Case("ScatterND", ("b:4,3", np.array([[1], [2]]), "b:2,3"), label="bool"),
    Case(
        "MaxUnpool",
        ("f:1,1,2,2", np.array([[[[5, 7], [13, 15]]]])),
        {"kernel_shape": [2, 2], "strides": [2, 2]},
    ),
    Case("Col2Im", ("f:2,12,12", ints(4, 5), ints(2, 2)), tolerance=1e-5),
    Case(
        "Col2Im",
        ("f:1,18,4", ints(5, 6), ints(3, 3)),
        {"pads": [0, 1, 0, 1], "strides": [2, 3], "dilations": [1, 2]},
        label="all",
    ),
    Case("TopK", ("f:3,7", ints(3)), outputs=2),
    Case("TopK", ("f:7,3", ints(2)), {"axis": 0, "largest": 0}, outputs=2, label="smallest"),
    Case("TopK", ("i64:3,7", ints(3)), {"largest": 0}, outputs=2, label="int64", span=(-99, 99)),
    Case("TopK", (_TIES.astype(np.float32), ints(5)), outputs=2, label="ties"),
    *[
        Case(op, ("i32:2,30",), {"axis": 1, "keepdims": keep, "select_last_index": last}, label=f"{keep}{last}")
        for op in ("ArgMax", "ArgMin")
        for keep in (0, 1)
        for last in (0, 1)
    ],
    Case("ArgMax", ("f:2,3,4",), {"axis": 1, "select_last_index": 1}, label="float"),
    *[Case("Hardmax", ("f:2,3,4",), {"axis": axis}, label=str(axis)) for axis in (0, 1, -1)],
    *[
        Case("OneHot", (np.array([[1, -1], [7, 0]]), np.array(4), np.array([2.0, 5.0], np.float32)), {"axis": axis})
        for axis in (-1, 0, 1)
    ],
    Case("OneHot", ("i64:5", np.array(4), np.array([0, 1])), label="computed", span=(-5, 6)),
    Case("NonZero", ("i32:3,4",)),
    Case("NonZero", ("b:3,4,2",), label="bool"),
    Case("Compress", ("f:3,4", np.array([True, False, True])), {"axis": 0}),
    Case("Compress", ("f:3,4", "b:4"), {"axis": -1}, label="computed"),
    Case("Compress", ("f:3,4", "b:9"), label="flat"),
    *[Case("CumSum", ("f:2,3,4", np.array(axis)), label=str(axis)) for axis in (0, -1)],
    *[
        Case("CumSum", ("i64:2,9", np.array(1)), {"exclusive": e, "reverse": r}, label=f"{e}{r}", span=(-9, 9))
        for e in (0, 1)
        for r in (0, 1)
    ],
    *[
        Case("Unique", (values,), {"sorted": order}, outputs=4, label=f"{kind}-{order}", span=(-3, 3))
        for kind, values in (("float", _TIES.astype(np.float32)), ("int64", "i64:5,6"))
        for order in (0, 1)
    ],
    *[
        Case(
            "Unique",
            (values,),
            {"sorted": order, "axis": axis},
            outputs=4,
            label=f"{kind}-{axis}-{order}",
            span=(-1, 1),
        )
        for kind, values in (("float", _SLICES.astype(np.float32)), ("int64", "i64:5,3,2"), ("int8", "i8:6,2"))
        for axis in (0, 1, -1)
        for order in (0, 1)
    ],
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_onnxruntime(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("batch", [1, 3])
def test_every_sample_has_its_own_indices(batch: int) -> None:
    case = Case("GatherElements", ("f:n,4,3", "i64:n,2,3"), {"axis": 1}, span=(-4, 3.9))
    model, feeds = case.model(), case.feeds(n=batch)
    for xnnpack in (True, False):
        assert_close(run_tflite(lowered(model), feeds, xnnpack=xnnpack), run_onnx(model, feeds), 1e-6)


def test_nothing_is_found() -> None:
    feeds = {"x0": np.zeros((3, 4), np.int32)}
    assert run_tflite(lowered(Case("NonZero", ("i32:3,4",)).model()), feeds)["y0"].shape == (2, 0)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (Case("ScatterND", ("f:4", np.array([[1], [1]]), "f:2")), "several updates of one place"),
        (Case("ScatterND", ("i64:4", "i64:2,1", "i64:2"), {"reduction": "max"}), "TFLite reduces float32 and int32"),
        (
            Case("Unique", ("f:2000,3000",), {"axis": 0}),
            "2000 slices of 3000 elements, which are too many to compare each with all",
        ),
        (Case("GatherElements", ("f:n,3", "i64:n,3"), {"axis": 0}), "an open dimension that is not the batch"),
        (Case("GatherND", ("f:n,3,2", "i64:n,1"), {"batch_dims": 1}), "batch_dims with an open dimension"),
        (Case("Hardmax", ("f:2,n",)), "an open dimension along the axis"),
        (Case("ArgMax", ("i64:2,n",), {"axis": 1}), "the extreme of int64 along an open dimension"),
    ],
    ids=str,
)
def test_refusals(case: Case, reason: str) -> None:
    problems = find_unsupported(case.model(), builtin_rules())
    assert reason in " ".join(problem.reason for problem in problems)


def test_an_output_shape_of_its_own_is_refused() -> None:
    attributes = {"kernel_shape": [2, 2], "strides": [2, 2]}
    model = Case("MaxUnpool", ("f:1,1,2,2", "i64:1,1,2,2", ints(1, 1, 5, 5)), attributes).model()
    model.outputs[0].shape = [1, 1, 5, 5]
    (problem,) = find_unsupported(model, builtin_rules())
    assert "output_shape is another" in problem.reason


def test_indices_beyond_32_bits_are_beyond_every_depth() -> None:
    from edgecc.model import Model
    from edgecc_tflite.testing.running import lowered, run_onnx, run_tflite

    depth, values = np.array(3), np.array([0, 1], np.float32)
    model = Model.from_text(
        "g (int64[6] x) => (float[6,3] y) { y = OneHot(x, depth, values) }", {"depth": depth, "values": values}
    )
    feeds = {"x": np.array([1, -1, 2**32 + 1, -(2**32) + 1, 2**31, -(2**63)])}
    found = run_tflite(lowered(model), feeds)["y"]
    np.testing.assert_array_equal(found, run_onnx(model, feeds)["y"])
    assert found.sum() == 2


def test_narrowed_indices_are_in_the_report(tmp_path: Path) -> None:
    import edgecc
    from edgecc.model import Model

    text = "g (float[4,3] x, int64[2] i) => (float[2,3] y, int32[2] z) { y = Gather(x, i) z = Cast<to = 6>(i) }"
    result = edgecc.compile(Model.from_text(text), output=tmp_path / "m.tflite")
    names = {node.op: node.name for node in result.model.nodes()}
    assert result.artifact.report["details"]["narrowed"] == [names["Gather"]]
