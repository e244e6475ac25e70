from __future__ import annotations

import pytest

from edgecc.errors import OptionError
from edgecc.options import build, parse_spec
from edgecc_tensorrt.target import TensorRTTarget


def read(spec: str) -> TensorRTTarget:
    return build(TensorRTTarget, "target", *parse_spec(spec))


@pytest.mark.parametrize(
    "spec",
    [
        "tensorrt",
        "tensorrt:precision=float16",
        "tensorrt:batch=[1,8,32]",
        'tensorrt:dims=["n:1:8:64","m:1:1:1"]',
        'tensorrt:compute_capabilities=["8.6","12.0"]',
        "tensorrt:workspace=1048576,optimization_level=5",
    ],
)
def test_spec_round_trip(spec: str) -> None:
    assert read(spec).spec() == spec


def test_capabilities_read_as_numbers() -> None:
    assert read("tensorrt:compute_capabilities=[8.6,12.0]").compute_capabilities == ("8.6", "12.0")


def test_dims_without_quotes() -> None:
    assert read("tensorrt:dims=[n:1:8:64]").range_of("n", first=False) == (1, 8, 64)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("tensorrt:batch=[8,1,32]", "1 <= min <= opt <= max"),
        ("tensorrt:dims=[n:8]", "NAME:MIN:OPT:MAX"),
        ("tensorrt:compute_capabilities=[ampere]", "is not a compute capability"),
        ("tensorrt:precision=int8", "float16"),
    ],
)
def test_wrong_options(spec: str, text: str) -> None:
    with pytest.raises(OptionError) as caught:
        read(spec)
    assert text in str(caught.value)


def test_ranges() -> None:
    target = TensorRTTarget(batch=(1, 2, 3), dims=("n:4:5:6",))
    assert target.range_of("N", first=True) == (1, 2, 3)
    assert target.range_of("N", first=False) is None
    assert target.range_of("n", first=True) == (4, 5, 6)
