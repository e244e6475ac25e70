from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnxruntime as ort
import pytest

from edgecc.backend import Compiled
from edgecc.errors import RunnerError
from edgecc.model import Model
from edgecc.running.runner import Runner
from edgecc_tensorrt.backend import TensorRTBackend
from edgecc_tensorrt.sdk import has_gpu
from edgecc_tensorrt.session import Session, Unavailable

pytestmark = pytest.mark.usefixtures("sdk_installed")
Compile: TypeAlias = Callable[..., tuple[Model, Compiled]]


@pytest.mark.skipif(has_gpu(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path, compile_text: Compile, conv: str) -> None:
    path = tmp_path / "m.engine"
    path.write_bytes(compile_text(conv)[1].files[".engine"])
    with pytest.raises(Unavailable) as caught:
        Session(str(path), {"threads": 1})
    assert "copy the .engine to a machine with an NVIDIA GPU" in str(caught.value)
    with pytest.raises(RunnerError) as wrapped, Runner(path, TensorRTBackend()):
        pass
    assert "copy the .engine" in str(wrapped.value)


def test_unknown_option(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="unknown option 'gpu'; options are device, threads"):
        Session(str(tmp_path / "m.engine"), {"gpu": 1})


@pytest.mark.skipif(not has_gpu(), reason="no GPU on this machine")
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-3), ("float16", 1e-2)])
def test_results_on_a_gpu(
    tmp_path: Path, precision: str, tolerance: float, compile_text: Compile, dynamic: str
) -> None:
    model, compiled = compile_text(dynamic, batch=(1, 2, 8), precision=precision)
    path = tmp_path / "m.engine"
    path.write_bytes(compiled.files[".engine"])
    session = ort.InferenceSession(model.to_proto().SerializeToString(), providers=["CPUExecutionProvider"])
    with Runner(path, TensorRTBackend()) as runner:
        for batch in (1, 3, 8):
            x = np.random.default_rng(batch).standard_normal((batch, 3, 16, 16)).astype(np.float32)
            (wanted,) = session.run(None, {"x": x})
            found = runner.infer({"x": x})["y"]
            np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())
