from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecc.data.calibration import Calibration, CalibrationData, open_calibration
from edgecc.data.feeds import Feeds
from edgecc.errors import DataError, EdgeccError, UnknownNameError
from edgecc.signature import Signature, TensorSpec
from edgecc.statistics.table import StatisticTable


def signature(*inputs: TensorSpec) -> Signature:
    return Signature(inputs, (TensorSpec("out", "float32", (1,)),))


ONE = signature(TensorSpec("image", "float32", (1, 3, 4, 4)))
OPEN = signature(TensorSpec("image", "float32", ("N", 3, 4, 4)))
FOUR = signature(TensorSpec("image", "float32", (4, 3, 4, 4)))
TWO = signature(TensorSpec("ids", "int64", ("N", "S")), TensorSpec("mask", "float32", ("N", "S")))


def images(count: int, dtype: str = "float32") -> np.ndarray:
    return np.arange(count * 48).reshape(count, 3, 4, 4).astype(dtype)


def opened(given: Calibration, wanted: Signature = ONE, **options: Any) -> CalibrationData:
    found = open_calibration(given, wanted, **options)
    assert not isinstance(found, StatisticTable)
    return found


def samples(given: Calibration, wanted: Signature = ONE, **options: Any) -> list[Feeds]:
    return list(opened(given, wanted, **options).samples())


def check(error: EdgeccError, what: str, hint: str = "") -> None:
    assert what in str(error)
    assert hint in error.hint


# --------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("wanted", [ONE, OPEN], ids=["fixed", "open"])
def test_npz(tmp_path: Path, save: Any, wanted: Signature) -> None:
    save(tmp_path / "d.npz", image=images(5), labels=np.arange(5))
    data = opened(str(tmp_path / "d.npz"), wanted)
    assert (data.total, data.per_call, data.notes) == (5, 1, ())
    for _ in range(2):
        found = list(data.samples())
        assert [feeds["image"].shape for feeds in found] == [(1, 3, 4, 4)] * 5
        np.testing.assert_array_equal(np.concatenate([feeds["image"] for feeds in found]), images(5))


def test_npz_is_read_row_by_row(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", image=np.asfortranarray(images(5)))
    np.testing.assert_array_equal(samples(tmp_path / "d.npz")[3]["image"], images(5)[3:4])
    np.savez(tmp_path / "d.npz", image=images(5).astype(">f4"))
    np.testing.assert_array_equal(samples(tmp_path / "d.npz")[4]["image"], images(5)[4:])


def test_limit(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", image=images(5))
    assert len(samples(tmp_path / "d.npz", limit=2)) == 2
    assert opened(tmp_path / "d.npz", limit=9).notes == (f"{tmp_path / 'd.npz'} has 5 samples, 9 were asked for",)


def test_bytes_are_cast_with_a_note() -> None:
    data = opened({"image": images(2, "uint8")})
    assert next(iter(data.samples()))["image"].dtype == np.float32
    (note,) = data.notes
    assert note.startswith("input 'image' takes float32: the uint8 values of the data are used as they are; scale them")


def test_one_sample_is_noted() -> None:
    assert "calibrated on a single sample" in opened({"image": images(1)}).notes[0]
    assert "calibrated on a single sample" in opened({"image": images(3)}, limit=1).notes[0]


@pytest.mark.parametrize(
    ("count", "calls", "note"),
    [(8, 2, ""), (10, 2, "2 of 10 are left out"), (3, 1, "the last of 3 is repeated")],
)
def test_fixed_batches(count: int, calls: int, note: str) -> None:
    data = opened({"image": images(count)}, FOUR)
    assert (data.total, data.per_call) == (calls, 4)
    assert [feeds["image"].shape[0] for feeds in data.samples()] == [4] * calls
    assert note in " ".join(data.notes)
    assert bool(data.notes) == bool(note)


@pytest.mark.parametrize(
    ("arrays", "what", "hint"),
    [
        ({"imgae": images(2), "other": images(2)}, "array 'imgae' is not an input", "did you mean 'image'?"),
        ({"labels": np.arange(2)}, "there is no array for input 'image'", "numpy.savez"),
        ({"image": images(2)[:, :, :3]}, "has shape (2, 3, 3, 4)", "save it with shape (samples, 3, 4, 4)"),
        ({"image": images(2).transpose(0, 2, 3, 1)}, "has shape (2, 4, 4, 3)", "channels are last"),
        ({"image": images(2).astype("complex64")}, "takes float32, got complex64", ""),
        ({"image": images(0)}, "array 'image' has no samples", "the first axis is samples"),
        ({"image": np.where(images(2) == 50, np.nan, images(2))}, "array 'image' has NaN", "remove or mend it"),
        ({"image": np.where(images(2) == 50, np.inf, images(2))}, "has infinite values", "remove or mend it"),
    ],
)
def test_arrays_that_do_not_fit(arrays: dict[str, np.ndarray], what: str, hint: str) -> None:
    with pytest.raises(DataError) as caught:
        opened(arrays)
    check(caught.value, what, hint)


def test_nan_names_its_sample() -> None:
    with pytest.raises(DataError) as caught:
        opened({"image": np.where(images(2) == 50, np.nan, images(2))})
    assert caught.value.where == "arrays in memory, sample 1"


def test_one_array() -> None:
    assert len(samples(images(2))) == 2
    with pytest.raises(DataError, match="one array is given, the model has 2 inputs") as caught:
        opened(images(2), TWO)
    assert caught.value.hint == "compile(..., calibration={'ids': array, 'mask': array})"


def test_a_table_of_statistics(tmp_path: Path) -> None:
    StatisticTable().save(tmp_path / "t.json")
    assert isinstance(open_calibration(tmp_path / "t.json", ONE), StatisticTable)
    assert isinstance(open_calibration(StatisticTable(), ONE), StatisticTable)


# ----------------------------------------------------------------------------------------------------------- functions


def three() -> Iterator[dict[str, np.ndarray]]:
    yield from ({"image": images(3)[i : i + 1]} for i in range(3))


def test_a_function_is_called_for_every_sweep() -> None:
    data = opened(three)
    assert data.total == 0
    for _ in range(2):
        assert [feeds["image"][0, 0, 0, 0] for feeds in data.samples()] == [0, 48, 96]
    assert (data.source, data.total, data.notes) == ("three", 3, ())
    assert len(samples(three, limit=2)) == 2


def test_batches_are_split_where_the_model_leaves_them_open() -> None:
    for split in ([3], [1, 2], [1, 1, 1]):
        parts = np.split(images(3), np.cumsum(split)[:-1])
        found = samples([{"image": part} for part in parts], OPEN)
        assert [feeds["image"].tolist() for feeds in found] == [images(3)[i : i + 1].tolist() for i in range(3)]


def test_lengths_may_differ_from_sample_to_sample() -> None:
    given = [{"ids": np.ones((1, n), np.int64), "mask": np.ones((1, n), np.float32)} for n in (3, 5)]
    assert [feeds["ids"].shape for feeds in samples(given, TWO)] == [(1, 3), (1, 5)]


def test_bytes_of_a_function_are_noted() -> None:
    data = opened([{"image": images(2, "uint8")[:1]}] * 2)
    assert [feeds["image"].dtype for feeds in data.samples()] == [np.float32] * 2
    assert "the uint8 values of the data" in data.notes[0]


@pytest.mark.parametrize(
    ("given", "wanted", "what", "hint"),
    [
        ([], ONE, "feeds in memory yields no samples", 'yield {"INPUT": array}'),
        ([images(1)], ONE, "feeds in memory yields ndarray, not feeds by name", 'yield {"INPUT": array}'),
        ([{"imag": images(1)}], ONE, "the model has no input 'imag'", "did you mean 'image'?"),
        ([{"image": images(1)[0]}], ONE, "takes shape [1, 3, 4, 4], got [3, 4, 4]", "add the batch axis: x[None]"),
        ([{"image": images(2)}], ONE, "takes shape [1, 3, 4, 4], got [2, 3, 4, 4]", "the batch is fixed to 1"),
        ([{"image": images(1) * np.nan}], ONE, "array 'image' has NaN", "remove or mend it"),
        ([{"image": images(1) + np.inf}], ONE, "array 'image' has infinite values", "remove or mend it"),
        (
            [{"ids": np.ones((2, 3), np.int64), "mask": np.ones((1, 3), np.float32)}],
            TWO,
            "the inputs do not have the same number of samples",
            "the first axis of every array is samples",
        ),
        ([{"ids": np.ones((1, 3), np.float32), "mask": np.ones((1, 3), np.float32)}], TWO, "takes int64", "round"),
    ],
)
def test_feeds_that_do_not_fit(given: list[Any], wanted: Signature, what: str, hint: str) -> None:
    with pytest.raises(DataError) as caught:
        samples(given, wanted)
    check(caught.value, what, hint)


def test_a_generator_is_refused() -> None:
    with pytest.raises(DataError, match="a generator can be read only once") as caught:
        opened(three())
    assert "calibration=function" in caught.value.hint


def test_what_is_no_data() -> None:
    with pytest.raises(DataError, match="cannot be read from a value of type int") as caught:
        opened(5)  # type: ignore[arg-type]
    assert "arrays by input name" in caught.value.hint


def test_a_function_that_raises() -> None:
    def broken() -> Iterator[dict[str, np.ndarray]]:
        yield {"image": images(1)}
        raise KeyError("missing.jpg")

    with pytest.raises(DataError, match=r"broken raised KeyError: 'missing.jpg'") as caught:
        samples(broken)
    assert "test_calibration.py:" in caught.value.where


def test_a_function_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_feeds.py").write_text(
        "import numpy as np\ndef validation():\n    yield {'image': np.ones((1, 3, 4, 4), np.float32)}\n"
    )
    assert len(samples("my_feeds:validation")) == 1
    with pytest.raises(UnknownNameError, match="unknown function 'validatoin'") as unknown:
        opened("my_feeds:validatoin")
    assert unknown.value.hint == "did you mean 'validation'?"
    with pytest.raises(DataError, match="module 'no_such_feeds' cannot be imported") as caught:
        opened("no_such_feeds:validation")
    assert "current folder" in caught.value.hint


# -------------------------------------------------------------------------------------------------------------- random


def test_random_values_say_so() -> None:
    data = opened("random", OPEN, limit=3, seed=5)
    found = [list(data.samples()) for _ in range(2)]
    assert [feeds["image"].shape for feeds in found[0]] == [(1, 3, 4, 4)] * 3
    assert found[0][1]["image"].tolist() == found[1][1]["image"].tolist()
    assert found[0][0]["image"].tolist() != found[0][1]["image"].tolist()
    assert data.notes[0].startswith("CALIBRATED ON RANDOM VALUES")
    assert opened("random").total == 256
