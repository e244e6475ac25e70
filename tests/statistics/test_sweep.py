from __future__ import annotations

import numpy as np
import pytest

from edgecc.errors import DataError, PassContractError
from edgecc.model import Model
from edgecc.passes.verification import run
from edgecc.statistics import ChannelAbsMax, Gram, Histogram, Moments, MovingRange, Range, Request
from edgecc.statistics.answers import Excluded
from edgecc.statistics.layers import gram_of
from edgecc.statistics.sweep import sweep
from edgecc.statistics.table import StatisticTable
from edgecc.statistics.table_json import to_text

from .samples import Samples

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((12, 3, 8, 8)).astype(np.float32)


def network(batch: str = "1") -> Model:
    return Model.from_text(
        f"""g (float[{batch},3,8,8] x) => (float[{batch},5] y) {{
            c = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w)  r = Relu(c)
            t = Transpose<perm = [0, 2, 3, 1]>(r)  f = Flatten(t)  y = MatMul(f, v)
        }}""",
        {
            "w": np.random.default_rng(1).standard_normal((4, 3, 3, 3)).astype(np.float32),
            "v": np.random.default_rng(2).standard_normal((64, 5)).astype(np.float32),
        },
    )


def requests(model: Model) -> list[Request]:
    grams = [gram_of(node) for node in model.nodes("Conv", "MatMul")]
    whole: list[Request] = [cls(name) for cls in (Range, Histogram, Moments) for name in ("x", "c", "r", "f", "y")]
    return [
        *whole,
        Range("c", 1),
        ChannelAbsMax("r", 1),
        Moments("t", -1),
        *(gram for gram in grams if gram is not None),
    ]


def same(first: StatisticTable, second: StatisticTable, asked: list[Request]) -> None:
    assert to_text(first) == to_text(second)
    for request in asked:
        if isinstance(request, Gram):
            assert first.gram(request).sums.tobytes() == second.gram(request).sums.tobytes()


# ------------------------------------------------------------------------------------------------------ right answers


def test_answers_are_those_of_the_raw_tensors() -> None:
    model = network()
    table = sweep(model, requests(model), Samples({"x": IMAGES}))
    raw = [run(model, {"x": IMAGES[i : i + 1]}, ["c", "r", "t", "f", "y"]) for i in range(len(IMAGES))]
    c, r, t = (np.concatenate([values[name] for values in raw]).astype(np.float64) for name in "crt")
    assert (table.range("c").low, table.range("c").high) == (c.min(), c.max())
    assert table.range("c", 1).low.tolist() == c.min(axis=(0, 2, 3)).tolist()
    assert table.channel_abs_max("r", 1).tolist() == np.abs(r).max(axis=(0, 2, 3)).tolist()
    assert table.moments("r").count == r.size
    # The sums are exact to some 1e-15; numpy's own differ by as much.
    np.testing.assert_allclose(table.moments("r").mean, r.mean(), rtol=1e-12)
    np.testing.assert_allclose(table.moments("t", -1).variance, t.var(axis=(0, 1, 2)), rtol=1e-12)
    histogram = table.histogram("r")
    assert (histogram.count, histogram.zeros) == (r.size, (r == 0).sum())
    assert (histogram.low, histogram.high) == (r.min(), r.max())
    assert histogram.linear is not None
    edges = np.ldexp(np.arange(histogram.linear.first, histogram.linear.first + 2049.0), histogram.linear.exponent)
    expected = np.histogram(r[r != 0], edges)[0][: len(histogram.linear.counts)]
    assert histogram.linear.counts.tolist() == expected.tolist()


def test_gram_gives_the_means_and_products_of_the_layer() -> None:
    model = network()
    convolution = model.nodes("Conv")[0]
    request = gram_of(convolution)
    assert request is not None
    table = sweep(model, [request, Moments("c", 1), Moments("c")], Samples({"x": IMAGES}))
    weight = np.random.default_rng(1).standard_normal((4, 3, 3, 3)).astype(np.float32).reshape(4, -1).astype(float)
    gram = table.gram(request)
    assert gram.count == 12 * 16
    # float32 convolutions against float64 products
    np.testing.assert_allclose(weight @ gram.mean[0], table.moments("c", 1).mean, atol=1e-6)
    squares = np.einsum("oi,ij,oj->o", weight, gram.products[0], weight) / gram.count
    moments = table.moments("c", 1)
    np.testing.assert_allclose(squares, moments.variance + moments.mean**2, rtol=1e-5)


def test_moving_average_depends_on_the_order_and_says_how() -> None:
    model = Model.from_text("g (float[1,2] x) => (float[1,2] y) { y = Neg(x) }")
    values = np.array([[0, 1], [0, 2], [-4, 3]], np.float32)
    table = sweep(model, [MovingRange("y", 0.5)], Samples({"x": values}))
    assert (table.moving_range("y", 0.5).low, table.moving_range("y", 0.5).high) == (-2.25, 2.0)


# ---------------------------------------------------------------------------------------------- order, split, memory


@pytest.mark.parametrize("seed", range(4))
def test_any_order_gives_the_same_table(seed: int) -> None:
    model = network()
    asked = requests(model)
    order = np.random.default_rng(seed).permutation(len(IMAGES))
    same(sweep(model, asked, Samples({"x": IMAGES})), sweep(model, asked, Samples({"x": IMAGES[order]})), asked)


def test_groups_of_tensors_give_the_same_table() -> None:
    model = network()
    asked = requests(model)
    whole, parts = Samples({"x": IMAGES}), Samples({"x": IMAGES})
    same(sweep(model, asked, whole), sweep(model, asked, parts, memory=300), asked)
    assert whole.sweeps == 1
    assert parts.sweeps > 2


def test_open_batches_are_measured_as_fixed_ones() -> None:
    first = sweep(network(), requests(network()), Samples({"x": IMAGES}))
    second = sweep(network("N"), requests(network("N")), Samples({"x": IMAGES}))
    for name in ("c", "r", "y"):
        assert first.histogram(name).linear is not None
        assert str(first.histogram(name)) == str(second.histogram(name))


# ------------------------------------------------------------------------------------------------------------ fetching


def test_ranges_alone_fetch_no_tensor_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []
    monkeypatch.setattr("edgecc.statistics.sweep.look_at", lambda values, tensor, where: fetched.append(tensor))
    asked = [Range("c"), Range("r", 1), ChannelAbsMax("f", 1), MovingRange("y")]
    sweep(network(), asked, Samples({"x": IMAGES}), memory=100)
    assert fetched == []


def test_reduced_and_fetched_ranges_agree() -> None:
    model = network()
    reduced = sweep(model, [Range("c"), Range("c", 1)], Samples({"x": IMAGES}), memory=1)
    fetched = sweep(model, [Range("c"), Range("c", 1), Moments("c")], Samples({"x": IMAGES}))
    for axis in (None, 1):
        assert reduced.range("c", axis).low.tolist() == fetched.range("c", axis).low.tolist()
        assert reduced.range("c", axis).high.tolist() == fetched.range("c", axis).high.tolist()


def test_what_reorders_values_is_not_measured_twice() -> None:
    model = network()
    table = sweep(model, [Histogram("r"), Histogram("t"), Histogram("f"), Range("f")], Samples({"x": IMAGES}))
    assert table.histogram("f") is table.histogram("r")
    assert table.histogram("t") is table.histogram("r")
    assert table.range("f").high == table.histogram("r").high


def test_a_slice_is_measured_since_its_range_may_be_smaller() -> None:
    model = Model.from_text(
        "g (float[1,4] x) => (float[1,2] y) { n = Neg(x)  y = Slice(n, a, b, c) }",
        {"a": np.array([0]), "b": np.array([2]), "c": np.array([1])},
    )
    table = sweep(model, [Range("n"), Range("y")], Samples({"x": np.array([[1, 2, 3, 4]], np.float32)}))
    assert (table.range("y").low, table.range("n").low) == (-2, -4)


def test_float16_tensors() -> None:
    model = Model.from_text("g (float[1,4] x) => (float16[1,4] y) { y = Cast<to = 10>(x) }")
    values = np.array([[0.5, 2, -3, 1e6]], np.float32)
    table = sweep(model, [Range("y"), Histogram("y")], Samples({"x": values}))
    assert (table.range("y").low, table.range("y").high) == (-3, 2)
    assert table.range("y").excluded == Excluded(0, 1)


def test_a_model_input_is_measured() -> None:
    table = sweep(network(), [Range("x"), Histogram("x")], Samples({"x": IMAGES}))
    assert table.range("x").low == IMAGES.min()


def test_constant_and_zero_tensors() -> None:
    model = Model.from_text(
        "g (float[1,3] x) => (float[1,3] y, float[1,3] z) { y = Mul(x, o)  z = Add(y, k) }",
        {"o": np.zeros(1, np.float32), "k": np.full(1, 2.5, np.float32)},
    )
    table = sweep(
        model, [Histogram("y"), Histogram("z"), Range("y"), Moments("z")], Samples({"x": IMAGES[:, 0, 0, :3]})
    )
    zero, constant = table.histogram("y"), table.histogram("z")
    assert (zero.linear, zero.zeros, zero.low, zero.high) == (None, 36, 0, 0)
    assert (constant.low, constant.high, constant.count) == (2.5, 2.5, 36)
    assert (table.moments("z").mean, table.moments("z").variance) == (2.5, 0)


# ---------------------------------------------------------------------------------------- values that are not numbers


def masked(value: float) -> tuple[Model, Samples]:
    model = Model.from_text(
        "g (float[1,4] x, bool[1,4] m) => (float[1,4] y) { s = Where(m, x, k)  y = Softmax(s) }",
        {"k": np.full(1, value, np.float32)},
    )
    mask = np.array([[True, True, True, False]] * 3)
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    return model, Samples({"x": values, "m": mask})


@pytest.mark.parametrize("value", [-np.inf, np.finfo(np.float32).min])
@pytest.mark.parametrize("memory", [1, 10**6], ids=["reduced", "fetched"])
def test_masks_are_counted_apart(value: float, memory: int) -> None:
    model, data = masked(value)
    table = sweep(model, [Range("s"), Range("s", 1), MovingRange("s", 0.0)], data, memory=memory)
    found = table.range("s")
    assert (found.low, found.high, found.excluded) == (0, 10, Excluded(3, 0))
    # The last channel has no value at all.
    assert table.range("s", 1).low.tolist() == [0, 1, 2, 0]
    assert table.range("s", 1).high.tolist() == [8, 9, 10, 0]
    assert table.moving_range("s", 0.0).high == 10
    assert data.sweeps == (2 if memory == 1 else 1)


def test_infinity_above() -> None:
    model = Model.from_text("g (float[1,2] x) => (float[1,2] y) { x0 = Sub(x, x)  y = Div(x, x0) }")
    table = sweep(model, [Histogram("y"), Moments("y")], Samples({"x": np.array([[1, -1]], np.float32)}))
    assert (table.histogram("y").count, table.histogram("y").excluded) == (0, Excluded(1, 1))
    assert (table.moments("y").count, table.moments("y").mean) == (0, 0)


@pytest.mark.parametrize("memory", [1, 10**6], ids=["reduced", "fetched"])
def test_nan_names_the_tensor_and_the_sample(memory: int) -> None:
    model = Model.from_text("g (float[1,4] x) => (float[1,4] y) { y = Log(x) }")
    values = np.ones((5, 4), np.float32)
    values[3, 2] = -1
    with pytest.raises(DataError, match="tensor 'y' is NaN") as caught:
        sweep(model, [Range("y")], Samples({"x": values}), memory=memory)
    assert caught.value.where == "samples, sample 3"
    assert "leave the sample out" in caught.value.hint


def test_outliers_get_logarithmic_bins_in_a_second_sweep() -> None:
    model = Model.from_text("g (float[1,1000] x) => (float[1,1000] y, float[1,1000] z) { y = Neg(x)  z = Tanh(x) }")
    values = np.random.default_rng(0).standard_normal((20, 1000)).astype(np.float32)
    values[7, 3] = 5000
    data = Samples({"x": values})
    table = sweep(model, [Histogram("y"), Histogram("z")], data)
    assert data.sweeps == 2
    assert table.histogram("z").log is None
    log = table.histogram("y").log
    assert log is not None
    assert log.positive.sum() + log.negative.sum() == values.size
    assert table.histogram("y").count == values.size
    # Half of the values are within 0.67; the linear bins there are 4 wide.
    assert table.histogram("y").linear.exponent == 2
    density = table.histogram("y").density
    assert 0.66 < density.high[np.searchsorted(np.cumsum(density.counts), 0.75 * values.size)] < 0.72


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Range("cc"), "statistics are asked of tensor 'cc', which the model does not have"),
        (Range("w"), "statistics are asked of 'w', which is a constant"),
        (Range("c", 4), "statistics are asked along axis 4 of 'c', which has 4 axes"),
        (Gram("y", gram_of(network().nodes("Conv")[0]).layout), "axis 3 of 'y', which has 2 axes"),  # type: ignore[union-attr]
        (Gram("y", rows=3, layout=type(Gram("y").layout)(5)), "axis 5 of 'y', which has 2 axes"),
    ],
)
def test_requests_that_make_no_sense(request_: Request, message: str) -> None:
    with pytest.raises(PassContractError, match=message):
        sweep(network(), [request_], Samples({"x": IMAGES}))


def test_a_near_miss() -> None:
    with pytest.raises(PassContractError) as caught:
        sweep(network(), [Range("cx")], Samples({"x": IMAGES}))
    assert caught.value.hint in ("did you mean 'x'?", "did you mean 'c'?")


def test_integers_are_not_measured() -> None:
    model = Model.from_text("g (int64[1,4] x) => (int64[1,4] y) { y = Neg(x) }")
    with pytest.raises(PassContractError, match="'y', whose type is int64"):
        sweep(model, [Range("y")], Samples({"x": np.ones((1, 4), np.int64)}))


def test_a_model_that_cannot_run() -> None:
    model = Model.from_text("g (float[1,N] x) => (float[1,3] y) { y = Add(x, w) }", {"w": np.ones(3, np.float32)})
    with pytest.raises(DataError, match="the model cannot be run on this sample") as caught:
        sweep(model, [Range("y")], Samples({"x": np.ones((1, 2), np.float32)}))
    assert caught.value.where == "samples, sample 0"


def test_progress_is_told() -> None:
    told: list[tuple[str, int, int]] = []
    sweep(
        network(),
        [Range("c")],
        Samples({"x": IMAGES}),
        progress=lambda text, done, total: told.append((text, done, total)),
    )
    assert told[0] == ("calibrating", 1, 12)
    assert told[-1] == ("calibrating", 12, 12)
