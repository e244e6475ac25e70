"""Compile a model in memory and run it beside ONNX Runtime."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from edgecc.model import Model
from edgecc_tflite import layout
from edgecc_tflite.ir import Graph
from edgecc_tflite.lower import find_unsupported, lower
from edgecc_tflite.lowerings import RuleTable, builtin_rules
from edgecc_tflite.testing.case import Case
from edgecc_tflite.testing.importing import imported
from edgecc_tflite.writer import write

Feeds = dict[str, np.ndarray]


def lowered(
    model: Model,
    *,
    solve: bool = True,
    io_layout: str = "keep",
    io_layouts: Mapping[str, str] | None = None,
    rules: RuleTable | None = None,
) -> Graph:
    """The IR of a model that must be supported."""
    table = builtin_rules() if rules is None else rules
    problems = find_unsupported(model, table)
    assert not problems, "\n".join(map(str, problems))
    graph = lower(model, table)
    return layout.solve(graph, io_layout, io_layouts or {}) if solve else graph


def run_tflite(graph: Graph, feeds: Feeds, *, xnnpack: bool = True) -> Feeds:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    kernels = {} if xnnpack else {"experimental_op_resolver_type": plain}
    interpreter = Interpreter(model_content=bytes(write(graph)), num_threads=1, **kernels)
    if not feeds:
        interpreter.allocate_tensors()
        interpreter.invoke()
        names = [t.source or t.name for t in graph.outputs]
        details = interpreter.get_output_details()
        return {name: interpreter.get_tensor(d["index"]) for name, d in zip(names, details, strict=True)}
    return interpreter.get_signature_runner("serving_default")(**feeds)  # type: ignore[no-any-return]


def run_onnx(model: Model, feeds: Feeds) -> Feeds:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.to_proto().SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return dict(zip((o.name for o in session.get_outputs()), session.run(None, feeds), strict=True))


def assert_close(actual: Feeds, expected: Feeds, tolerance: float) -> None:
    """The largest difference is within `tolerance` of the largest expected value; the types are equal."""
    assert actual.keys() == expected.keys()
    for name, wanted in expected.items():
        found = actual[name]
        assert found.shape == wanted.shape, name
        assert found.dtype == wanted.dtype, name
        a, b = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
        finite = np.isfinite(b)
        assert np.array_equal(a[~finite], b[~finite], equal_nan=True), name
        scale = max(float(np.max(np.abs(b[finite]), initial=0)), 1e-30)
        error = float(np.max(np.abs(a[finite] - b[finite]), initial=0)) / scale
        assert error <= tolerance, f"{name}: {error:.2e}"


def counts(graph: Graph) -> Counter[str]:
    return Counter(op.builtin for op in graph.operators)


def check(case: Case, rules: RuleTable | None = None) -> None:
    """Assert that a case's result equals ONNX Runtime's: delegated, on the reference kernels, and before layout.

    The written file, imported, must give the same once more.
    """
    model, feeds = case.model(), case.feeds()
    expected = run_onnx(model, feeds)
    solved = lowered(model, rules=rules)
    assert_close(run_tflite(solved, feeds), expected, case.tolerance)
    assert_close(run_tflite(solved, feeds, xnnpack=False), expected, case.tolerance)
    # Layout only makes it faster: what the rule emits is right as it stands.
    assert_close(run_tflite(lowered(model, rules=rules, solve=False), feeds), expected, case.tolerance)
    again = imported(solved)
    if again is not None:
        assert_close(run_onnx(again, feeds), expected, case.tolerance)
