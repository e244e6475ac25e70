"""scale-resizes: with it, TensorRT takes a Resize of some axes beside an open batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgecc.model import Model
from edgecc.passes.base import PassContext
from edgecc.testing import check_pass
from edgecc_tensorrt.scale_resizes import ScaleResizes

OPTIONS = 'mode="linear", coordinate_transformation_mode="half_pixel"'
OPEN = f"""g (float[N,2,4,6] x) => (float[N,2,8,18] y) <int64[2] sizes = {{8, 18}}> {{
    y = Resize<axes=[2, 3], {OPTIONS}>(x, , , sizes)
}}"""


def test_sizes_become_factors() -> None:
    after = f"""g (float[N,2,4,6] x) => (float[N,2,8,18] y) <float[4] scales = {{1, 1, 2, 3}}> {{
        y = Resize<{OPTIONS}>(x, , scales)
    }}"""
    check_pass(ScaleResizes(), OPEN, after)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (OPEN.replace("8, 18", "7, 18").replace("8,18", "7,18"), "7 is no whole multiple of the size of axis 2"),
        (OPEN.replace("N,2,4,6", "N,2,H,6"), "8 is no whole multiple of the size of axis 2"),
    ],
)
def test_left_alone(text: str, reason: str) -> None:
    context = PassContext(None, np.random.default_rng(0))
    assert not ScaleResizes().run(Model.from_text(text), context)
    assert [skip.reason for skip in context.skips] == [reason]


@pytest.mark.usefixtures("sdk_installed")
def test_engine_with_an_open_batch(compile_text: Callable[..., Any]) -> None:
    _, compiled = compile_text(OPEN, batch=(1, 2, 4))
    assert memoryview(compiled.files[".engine"]).nbytes > 1000
