from __future__ import annotations

import json
import math

import numpy as np
import pytest

from edgecc.measuring.metrics import AccuracyMeter, FidelityMeter, class_scores, cosine, fidelity, sqnr_db, top1

F = np.float32


def test_by_hand() -> None:
    # r = (3, 4), o = (3, 3): d = (0, 1); |r|² = 25, |d|² = 1, |o|² = 18, r·o = 21
    result = fidelity(np.array([[3, 4]], F), np.array([[3, 3]], F))
    assert result.max_abs == 1.0
    assert result.mean_abs == 0.5
    assert result.relative == 0.25
    assert result.sqnr_db == pytest.approx(13.979400086720377, rel=1e-12)
    assert result.cosine == pytest.approx(21 / math.sqrt(25 * 18), rel=1e-12)
    assert result.top1 == 0.0


def test_equal() -> None:
    values = np.array([[0.1, -0.2, 0.3]], F)
    result = fidelity(values, values.copy())
    assert (result.max_abs, result.mean_abs, result.relative) == (0, 0, 0)
    assert result.sqnr_db == math.inf
    assert result.cosine == pytest.approx(1.0, abs=1e-15)
    assert result.top1 == 1.0


def test_opposite() -> None:
    result = fidelity(np.array([1.0, 2.0]), np.array([-1.0, -2.0]))
    assert result.cosine == pytest.approx(-1, abs=1e-15)
    assert result.sqnr_db == pytest.approx(-20 * math.log10(2), rel=1e-12)
    assert result.top1 is None


def test_both_zero() -> None:
    result = fidelity(np.zeros(4, F), np.zeros(4, F))
    assert (result.max_abs, result.relative, result.sqnr_db, result.cosine) == (0, 0, math.inf, 1)


def test_only_the_reference_is_zero() -> None:
    result = fidelity(np.zeros(4, F), np.full(4, 2, F))
    assert (result.max_abs, result.relative, result.sqnr_db, result.cosine) == (2, math.inf, -math.inf, 0)


def test_only_the_output_is_zero() -> None:
    result = fidelity(np.full(4, 2, F), np.zeros(4, F))
    assert (result.max_abs, result.relative, result.sqnr_db, result.cosine) == (2, 1, 0, 0)


def test_nan_on_one_side_is_seen() -> None:
    result = fidelity(np.array([1.0, 2.0]), np.array([1.0, np.nan]))
    assert all(math.isnan(v) for v in (result.max_abs, result.mean_abs, result.relative, result.sqnr_db, result.cosine))


def test_nan_in_a_later_batch_is_seen() -> None:
    meter = FidelityMeter()
    meter.add(np.array([np.nan]), np.array([1.0]))
    meter.add(np.array([1.0]), np.array([1.0]))
    assert math.isnan(meter.result().max_abs)


def test_equal_infinities_and_nans_are_equal() -> None:
    odd = np.array([np.inf, -np.inf, np.nan, 4.0])
    result = fidelity(odd, odd.copy())
    assert (result.max_abs, result.relative, result.sqnr_db, result.cosine) == (0, 0, math.inf, 1)


def test_an_infinity_on_one_side() -> None:
    result = fidelity(np.array([1.0, 2.0]), np.array([1.0, np.inf]))
    assert result.max_abs == math.inf
    assert result.relative == math.inf
    assert result.sqnr_db == -math.inf


def test_empty() -> None:
    result = fidelity(np.zeros((0, 3), F), np.zeros((0, 3), F))
    assert (result.max_abs, result.mean_abs, result.sqnr_db, result.top1) == (0, 0, math.inf, None)


def test_sums_are_in_float64() -> None:
    reference = np.full(1 << 22, 0.1, F)
    result = fidelity(reference, reference + F(1e-3))
    assert result.mean_abs == pytest.approx(float(F(0.1) + F(1e-3)) - float(F(0.1)), rel=1e-9)


def test_integers_do_not_overflow() -> None:
    result = fidelity(np.array([-128, 127], np.int8), np.array([127, -128], np.int8))
    assert result.max_abs == 255


def test_batches_give_what_the_whole_gives() -> None:
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((12, 5))
    output = reference + 0.3 * rng.standard_normal((12, 5))
    meter = FidelityMeter()
    for start in range(0, 12, 5):
        meter.add(reference[start : start + 5], output[start : start + 5])
    for name, value in fidelity(reference, output).to_dict().items():
        assert meter.result().to_dict()[name] == pytest.approx(value, rel=1e-12)


def test_other_shape() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        fidelity(np.zeros(3), np.zeros(4))


@pytest.mark.parametrize(
    ("signal", "noise", "expected"),
    [(100, 1, 20), (1, 100, -20), (0, 0, math.inf), (0, 1, -math.inf), (math.inf, 1, math.inf), (5, 5, 0)],
)
def test_sqnr(signal: float, noise: float, expected: float) -> None:
    assert sqnr_db(signal, noise) == pytest.approx(expected)


def test_sqnr_of_tiny_sums() -> None:
    assert sqnr_db(1e-300, 1e-310) == pytest.approx(100.0)
    assert math.isnan(sqnr_db(math.nan, 1))
    assert math.isnan(sqnr_db(math.inf, math.inf))


def test_cosine_stays_in_range() -> None:
    assert cosine(1.0000000000000002, 1, 1) == 1.0
    assert cosine(-1.0000000000000002, 1, 1) == -1.0
    assert math.isnan(cosine(math.nan, 1, 1))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2, 10), (2, 10)),
        ((2, 10, 1, 1), (2, 10)),
        ((2, 5, 7), (2, 5, 7)),
        ((2, 3, 8, 8), None),
        ((2, 1), None),
        ((2,), None),
        ((), None),
    ],
)
def test_class_scores(shape: tuple[int, ...], expected: tuple[int, ...] | None) -> None:
    scores = class_scores(np.zeros(shape))
    assert (None if scores is None else scores.shape) == expected


def test_top1_takes_the_first_of_equal_ones() -> None:
    assert top1(np.array([[1, 3, 3], [0, 0, 0]])).tolist() == [1, 0]


@pytest.mark.parametrize("labels", [[2, 0, 1], [[2], [0], [1]], [[0, 0, 1], [1, 0, 0], [0, 1, 0]]])
def test_accuracy(labels: list[object]) -> None:
    meter = AccuracyMeter()
    assert meter.result() is None
    meter.add(np.array([[0, 1, 2], [0, 1, 2], [0, 9, 2]]), np.array(labels))
    assert meter.result() == pytest.approx(2 / 3)


def test_figures_as_json() -> None:
    values = fidelity(np.array([1.0]), np.array([1.0])).to_dict()
    assert values["sqnr_db"] == "inf"
    assert json.loads(json.dumps(values, allow_nan=False)) == values
