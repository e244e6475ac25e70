"""Run an exported model and TFLite files made from it, one thread each."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


def reference_session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def expected_outputs(session: Any, feeds: Arrays) -> Arrays:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def interpreter(path: Path) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    loaded = Interpreter(str(path), num_threads=1)
    loaded.allocate_tensors()
    return loaded


def random_feeds(session: Any, batch: int, seed: int) -> Arrays:
    random = np.random.default_rng(seed)
    feeds: Arrays = {}
    for spec in session.get_inputs():
        shape = [dim if isinstance(dim, int) else batch for dim in spec.shape]
        if spec.name == "mask":
            lengths = random.integers(shape[1] // 2, shape[1] + 1, (shape[0], 1))
            feeds[spec.name] = (np.arange(shape[1]) < lengths).astype(np.int64)
        elif "int" in spec.type:
            feeds[spec.name] = random.integers(0, 500, shape)
        else:
            feeds[spec.name] = random.standard_normal(shape, dtype=np.float32)
    return feeds


def feed(loaded: Any, feeds: Arrays) -> None:
    """Set the inputs of a file of ours: names and layout are the source's, open dimensions are resized."""
    details = {detail["name"]: detail for detail in loaded.get_input_details()}
    changed = False
    for name, values in feeds.items():
        if tuple(details[name]["shape"]) != values.shape:
            loaded.resize_tensor_input(details[name]["index"], values.shape, strict=True)
            changed = True
    if changed:
        loaded.allocate_tensors()
    for name, values in feeds.items():
        loaded.set_tensor(details[name]["index"], values)


def outputs(loaded: Any) -> Arrays:
    return {detail["name"]: loaded.get_tensor(detail["index"]) for detail in loaded.get_output_details()}


def feed_in_any_layout(loaded: Any, feeds: Arrays) -> None:
    """Set the inputs of a file of another converter, which may have made them channels-last and int32.

    Raises:
        ValueError: an input that fits in neither layout.
    """
    details = loaded.get_input_details()
    by_name = {detail["name"]: detail for detail in details}
    for place, (name, values) in enumerate(feeds.items()):
        detail = by_name.get(name, details[place])
        shape = tuple(detail["shape"])
        # The source's layout is the last guess: with one channel both fit, and the other converter prefers its own.
        fitting = [laid for laid in (_to_last(values), values) if laid.shape == shape]
        if not fitting:
            raise ValueError(f"input {name} has shape {shape}, the source {values.shape}")
        loaded.set_tensor(detail["index"], np.ascontiguousarray(fitting[0], dtype=detail["dtype"]))


def error_in_any_layout(expected: Arrays, loaded: Any) -> float:
    """The largest difference relative to the largest value, with the outputs laid out and ordered as fits best."""
    found = [loaded.get_tensor(detail["index"]) for detail in loaded.get_output_details()]
    worst = 0.0
    for values in expected.values():
        pairs = itertools.product((values, _to_last(values)), found)
        errors = [relative_error(laid, other) for laid, other in pairs if laid.shape == other.shape]
        worst = max(worst, min(errors, default=float("inf")))
    return worst


def relative_error(expected: np.ndarray, found: np.ndarray) -> float:
    """The largest difference, relative to the largest value; infinite where a value is no number."""
    error = float(np.abs(expected - found).max() / np.abs(expected).max())
    return float("inf") if np.isnan(error) else error


def _to_last(values: np.ndarray) -> np.ndarray:
    return values if values.ndim < 3 else np.moveaxis(values, 1, -1)


def count_operators(path: Path) -> tuple[Counter[str], int]:
    """Operators by name, and TRANSPOSE that neither reads an input of the model nor writes an output."""
    from ai_edge_litert import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    operators: Counter[str] = Counter()
    transposes = 0
    for graph in model.subgraphs:
        for op in graph.operators:
            name = names[model.operatorCodes[op.opcodeIndex].builtinCode]
            operators[name] += 1
            inside = op.inputs[0] not in graph.inputs and op.outputs[0] not in graph.outputs
            transposes += name == "TRANSPOSE" and inside
    return operators, transposes
