from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from edgecc.errors import DataError, PassContractError
from edgecc.model import Model
from edgecc.passes.base import Loss, Pass, PassContext
from edgecc.passes.pipeline import PassPipeline, Rounds
from edgecc.statistics import Gram, Histogram, Range, Request
from edgecc.statistics.table import StatisticTable

TEXT = "g (float[1,4] x) => (float[1,4] z) { a = Neg(x)  b = Relu(a)  z = Exp(b) }"
SEEN: list[tuple[str, float]] = []


class Samples:
    source, notes, total, per_call = "samples", (), 3, 1

    def __init__(self) -> None:
        self.sweeps = 0

    def samples(self) -> Iterator[dict[str, np.ndarray]]:
        self.sweeps += 1
        yield from ({"x": np.full((1, 4), value, np.float32)} for value in (-1, -2, -5))


class Observe(Pass):
    """Reads the largest value of a tensor."""

    name = "observe"
    tensor: str = "b"

    def statistics(self, model: Model) -> Iterable[Request]:
        yield Range(self.tensor)

    def run(self, model: Model, ctx: PassContext) -> bool:
        SEEN.append((self.name, float(ctx.statistics.range(self.tensor).high)))
        return False


class Watch(Observe):
    """The same, and says that names and values stay."""

    name = "watch"
    keeps_statistics = True


class Halve(Pass):
    """Computes the absolute value instead of the negative one, and half of it."""

    name = "halve"
    loss = Loss.LOSSY

    def run(self, model: Model, ctx: PassContext) -> bool:
        negative = model.nodes("Neg")
        if not negative:
            return False
        half = model.variable("half", np.dtype(np.float32), [1, 4])
        model.add("Mul", [negative[0].inputs[0], model.constant("h", np.array(-0.5, np.float32))], [half])
        model.replace(negative[0], "Identity", [half])
        return True


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    SEEN.clear()


def run(*passes: Pass | Rounds, data: Samples | None = None, table: StatisticTable | None = None) -> PassContext:
    ctx = PassContext(None, np.random.default_rng(0), calibration=data)
    ctx.statistics = table or StatisticTable()
    PassPipeline(passes).run(Model.from_text(TEXT), ctx)
    return ctx


def test_a_pass_reads_what_it_asked_for() -> None:
    data = Samples()
    ctx = run(Observe(), data=data)
    assert SEEN == [("observe", 5.0)]
    assert ctx.statistics.data.samples == 3


def test_what_is_known_is_not_measured_again() -> None:
    data = Samples()
    run(Observe(), Watch(), Observe(tensor="a"), data=data)
    assert SEEN == [("observe", 5.0), ("watch", 5.0), ("observe", 5.0)]
    assert data.sweeps == 2


def test_passes_that_keep_statistics_share_a_sweep_with_the_next() -> None:
    data = Samples()
    run(Watch(), Watch(tensor="a"), Observe(tensor="z"), data=data)
    assert [name for name, _ in SEEN] == ["watch", "watch", "observe"]
    assert data.sweeps == 1


def test_after_an_edit_the_model_is_measured_again() -> None:
    data = Samples()
    run(Observe(), Halve(), Observe(), data=data)
    assert SEEN == [("observe", 5.0), ("observe", 2.5)]
    assert data.sweeps == 2


def test_passes_in_rounds_may_ask() -> None:
    run(Rounds((Halve(), Observe())), data=Samples())
    assert set(SEEN) == {("observe", 2.5)}


def test_a_pass_that_asks_for_nothing_needs_no_data() -> None:
    assert run(Halve()).statistics.answers == {}


def test_without_data_the_pass_refuses() -> None:
    with pytest.raises(DataError) as caught:
        run(Observe())
    assert str(caught.value) == (
        "pass 'observe' needs calibration data\n"
        "  why: it asks about 1 tensors, beginning with 'b'\n"
        "  try: add --calibration DATA.npz, one array per input with 100 to 500 samples; "
        "--calibration random tries it out without any"
    )


def test_a_saved_table_is_enough() -> None:
    table = run(Observe(), data=Samples()).statistics
    run(Observe(), table=table)
    assert SEEN == [("observe", 5.0)] * 2


def test_a_saved_table_of_something_else_is_not() -> None:
    table = run(Observe(), data=Samples()).statistics
    with pytest.raises(DataError, match="the saved statistics do not answer what pass 'observe' asks") as caught:
        run(Halve(), Observe(), table=table)
    assert caught.value.hint == "give the data itself: --calibration DATA.npz"


class AskNonsense(Observe):
    """Asks about a tensor that is not there."""

    name = "ask-nonsense"

    def statistics(self, model: Model) -> Iterable[Request]:
        return [Histogram("bb")]


class Stumble(Observe):
    """Raises."""

    name = "stumble"

    def statistics(self, model: Model) -> Iterable[Request]:
        yield Gram("b", rows=0)


def test_nonsense_names_the_pass() -> None:
    with pytest.raises(PassContractError, match="pass 'ask-nonsense': statistics are asked of tensor 'bb'") as caught:
        run(AskNonsense(), data=Samples())
    assert caught.value.hint == "did you mean 'b'?"


def test_a_bug_in_statistics_names_the_pass() -> None:
    with pytest.raises(PassContractError, match=r"pass 'stumble' raised ValueError in statistics\(\): rows must be"):
        run(Stumble(), data=Samples())


def test_the_default_asks_for_nothing() -> None:
    assert list(Halve().statistics(Model.from_text(TEXT))) == []
