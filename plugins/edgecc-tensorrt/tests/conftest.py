"""Small nets as text, and how they are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import pytest

from edgecc.backend import Compiled
from edgecc.compiler import arrange
from edgecc.model import Model
from edgecc.passes.base import PassContext
from edgecc.passes.pipeline import PassPipeline
from edgecc_tensorrt.backend import TensorRTBackend
from edgecc_tensorrt.sdk import availability
from edgecc_tensorrt.target import TensorRTTarget

Compile: TypeAlias = Callable[..., tuple[Model, Compiled]]


def numbers(count: int) -> str:
    return ",".join(f"{v:.4f}" for v in np.random.default_rng(3).standard_normal(count) * 0.2)


CONV = f"""g (float[1,3,16,16] x) => (float[1,10] y)
<float[8,3,3,3] w = {{{numbers(216)}}}, float[8] b = {{{numbers(8)}}},
 float[8,10] d = {{{numbers(80)}}}, int64[2] s = {{1,8}}> {{
  a = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w, b)
  r = Relu(a)
  p = GlobalAveragePool(r)
  f = Reshape(p, s)
  m = MatMul(f, d)
  y = Softmax(m)
}}"""

DYNAMIC = CONV.replace("float[1,3,16,16] x) => (float[1,10]", "float[N,3,16,16] x) => (float[N,10]").replace(
    "{1,8}", "{-1,8}"
)


@pytest.fixture
def sdk_installed() -> None:
    """Skip where neither TensorRT package can be used."""
    available = availability()
    if not available:
        pytest.skip(available.reason)


@pytest.fixture
def conv() -> str:
    """A net with fixed shapes."""
    return CONV


@pytest.fixture
def dynamic() -> str:
    """The same with an open batch."""
    return DYNAMIC


@pytest.fixture
def compile_text(sdk_installed: None) -> Compile:
    """Compiles a text with options of the target: the model after the backend's passes, and what became of it."""

    def run(text: str, **options: object) -> tuple[Model, Compiled]:
        backend, target = TensorRTBackend(), TensorRTTarget.model_validate(options)
        model = Model.from_text(text)
        PassPipeline(arrange((), backend, target)).run(model, PassContext(target, np.random.default_rng(0)))
        assert backend.find_unsupported(model, target) == []
        return model, backend.compile(model, target)

    return run
