from __future__ import annotations

import numpy as np
import pytest

from edgecc.data.sources import ArraySource, FunctionSource
from edgecc.data.split import Part, SpreadSamples
from edgecc.signature import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("x", "float32", ("N", 1)),), (TensorSpec("y", "float32", ("N", 1)),))


def parts(count: int) -> tuple[Part, Part]:
    values = np.arange(count, dtype=np.float32).reshape(-1, 1)
    data = ArraySource.of({"x": values}, SIGNATURE, "test", None)
    return Part(data, held_out=False), Part(data, held_out=True)


def seen(part: Part | SpreadSamples) -> list[int]:
    return [int(feeds["x"][0, 0]) for feeds in part.samples()]


@pytest.mark.parametrize("count", [1, 7, 8, 20, 64])
def test_every_sample_is_in_one_part(count: int) -> None:
    fit, held_out = parts(count)
    assert sorted(seen(fit) + seen(held_out)) == list(range(count))
    assert (fit.total, held_out.total) == (len(seen(fit)), len(seen(held_out)))
    assert len(seen(held_out)) == count // 8


def test_a_function_is_split_while_it_is_read() -> None:
    data = FunctionSource(lambda: ({"x": np.full((1, 1), i, np.float32)} for i in range(20)), SIGNATURE, "f")
    assert seen(Part(data, held_out=True)) == [7, 15]
    assert Part(data, held_out=True).source == "f"


@pytest.mark.parametrize(("count", "most"), [(20, 4), (20, 7), (7, 20), (1, 1)])
def test_some_are_spread_over_all(count: int, most: int) -> None:
    data = ArraySource.of({"x": np.arange(count, dtype=np.float32).reshape(-1, 1)}, SIGNATURE, "test", None)
    some = SpreadSamples(data, most)
    found = seen(some)
    assert some.total == len(found) == min(count, most)
    gaps = np.diff([-1, *found])
    assert gaps.max() - gaps.min() <= 1
    assert found[-1] == count - 1
