"""onnx's own tests of each operator, run through the rules: none comes out wrong, and every rule takes one."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.case.test_case import TestCase

from edgecc.errors import EdgeccError
from edgecc.importers.onnx import OnnxImporter
from edgecc_torch.module_builder import ModuleBuilder
from edgecc_torch.rules.table import RULES

#: Of a value, and of the largest one beside it: sums are made in another order.
_TOLERANCE = {"float16": (1e-2, 1e-2)}
_DEFAULT_TOLERANCE = (1e-3, 1e-5)
#: Rules whose cases ask for what PyTorch has not (a gate, further outputs); `test_module.py` tests them.
_TESTED_ELSEWHERE = {"GRU", "LayerNormalization"}


def cases() -> Iterator[TestCase]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    for case in found:
        if not case.name.endswith("_expanded") and all(
            map(_is_plain, (*case.model.graph.input, *case.model.graph.output))
        ):
            yield case


def _is_plain(info: onnx.ValueInfoProto) -> bool:
    if not info.type.HasField("tensor_type"):
        return False
    kind = info.type.tensor_type.elem_type
    return kind != onnx.TensorProto.STRING and onnx.helper.tensor_dtype_to_np_dtype(kind).kind in "fiub"


def with_constants(model: onnx.ModelProto, values: Sequence[np.ndarray]) -> onnx.ModelProto:
    """All inputs but the first as constants: axes, shapes and weights, as they are in real models."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    names = [info.name for info in model.graph.input]
    for name, array in zip(names[1:], values[1:], strict=True):
        result.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    del result.graph.input[1:]
    return result


def outcome(case: TestCase, model: onnx.ModelProto) -> str:
    """ "ok", "refused", "unsupported", or what is wrong."""
    inputs, expected = case.data_sets[0]
    try:
        ours = OnnxImporter().from_proto(model)
    except EdgeccError:
        return "refused"
    builder = ModuleBuilder(ours)
    module = builder.build()
    if builder.unsupported:
        return "unsupported"
    feeds = dict(zip((info.name for info in case.model.graph.input), inputs, strict=False))
    try:
        with torch.inference_mode():
            found = module(*(torch.from_numpy(np.array(feeds[tensor.name])) for tensor in ours.inputs))
    except Exception as error:  # a rule that lets through what PyTorch does not take
        return f"{type(error).__name__}: {error}"
    for output, values in zip(found if isinstance(found, tuple) else (found,), expected, strict=True):
        if problem := _difference(output.numpy(), values):
            return problem
    return "ok"


def _difference(found: np.ndarray, expected: Any) -> str:
    values = onnx.numpy_helper.to_array(expected) if isinstance(expected, onnx.TensorProto) else np.asarray(expected)
    if (found.shape, found.dtype) != (values.shape, values.dtype):
        return f"{found.dtype}{list(found.shape)} instead of {values.dtype}{list(values.shape)}"
    relative, absolute = _TOLERANCE.get(values.dtype.name, _DEFAULT_TOLERANCE)
    same = np.allclose(found.astype(np.float64), values.astype(np.float64), relative, absolute, equal_nan=True)
    return "" if same else "other values"


def test_no_case_comes_out_wrong() -> None:
    wrong, taken = {}, set()
    for case in cases():
        inputs = [np.asarray(value) for value in case.data_sets[0][0] if not isinstance(value, onnx.TensorProto)]
        if len(inputs) != len(case.model.graph.input):
            continue
        result = outcome(case, case.model)
        if result == "unsupported" and len(inputs) > 1:
            result = outcome(case, with_constants(case.model, inputs))
        if result == "ok":
            taken |= {node.op_type for node in case.model.graph.node}
        elif result not in ("unsupported", "refused"):
            wrong[case.name] = result
    assert not wrong, "\n".join(f"{name}: {result}" for name, result in wrong.items())
    assert set(RULES) - taken - _TESTED_ELSEWHERE == set()
