"""What becomes of a node test that is written to a `.tflite` file and imported from it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from .run_cases import Result, compiled, difference, feeds_of

if TYPE_CHECKING:
    import numpy as np
    from onnx.backend.test.case.test_case import TestCase

    from edgecc.model import Model


def outcome(case: TestCase) -> Result:
    """`ok` where ONNX Runtime computes from the imported model what LiteRT computes from the file."""
    from edgecc.errors import RequestError, UnsupportedError
    from edgecc_tflite.importing.to_onnx import import_file

    try:
        contents = compiled(case.model)
    except (UnsupportedError, RequestError):
        return "unwritten", ""
    try:
        model = import_file(memoryview(contents), "the file")
    except UnsupportedError as error:
        return "unsupported", "; ".join(f"{node.op}: {node.reason}" for node in error.nodes)
    except Exception as error:
        return "error", f"{type(error).__name__}: {error}"
    return _compare(case, contents, model)


def _compare(case: TestCase, contents: bytes, model: Model) -> Result:
    from edgecc_tflite.session import Session
    from edgecc_tflite.testing.quantized import run_exactly

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "case.tflite")
        path.write_bytes(contents)
        for inputs, _ in case.data_sets:
            feeds = feeds_of(case.model.graph, inputs)
            session = Session(str(path), {})
            session.set_inputs(feeds)
            session.run()
            try:
                found = run_exactly(model, feeds)
            except Exception as error:  # the runtime raises what it likes
                return "runtime", str(error)
            if why := _differences(found, session.get_outputs()):
                return "wrong", why
    return "ok", ""


def _differences(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> str:
    if found.keys() != wanted.keys():
        return f"outputs {sorted(found)}, not {sorted(wanted)}"
    return "; ".join(f"{name}: {why}" for name, values in wanted.items() if (why := difference(found[name], values)))
