from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgecc.data.feeds import OPEN_BATCH, Dataset, load_feeds, random_feeds
from edgecc.errors import DataError
from edgecc.signature import Signature, TensorSpec


def signature(*inputs: TensorSpec) -> Signature:
    return Signature(inputs, (TensorSpec("out", "float32", (1,)),))


IMAGE = TensorSpec("image", "float32", (1, 3, 4, 4))
ONE = signature(IMAGE)
IDS = TensorSpec("ids", "int64", ("batch", "length"))
MASK = TensorSpec("mask", "int64", ("batch", "length"))
TWO = signature(IDS, MASK)


def images(count: int, dtype: str = "float32") -> np.ndarray:
    return np.arange(count * 48).reshape(count, 3, 4, 4).astype(dtype)


def load(path: Path, wanted: Signature = ONE, **arrays: np.ndarray) -> Dataset:
    np.savez(path / "data.npz", **arrays)  # type: ignore[arg-type]
    return load_feeds(path / "data.npz", wanted)


# -------------------------------------------------------------------------------------------------------------- random


def test_random_feeds_are_the_same_for_the_same_seed() -> None:
    first, again, other = (random_feeds(ONE, seed)["image"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert first.dtype == np.float32
    assert first.shape == (1, 3, 4, 4)


def test_a_symbol_has_one_size() -> None:
    feeds = random_feeds(TWO, 0)
    assert feeds["ids"].shape == feeds["mask"].shape == (2, 8)
    assert random_feeds(TWO, 0, sizes={"length": 5})["ids"].shape == (2, 5)


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("int64", 0, 1), ("int32", 0, 1), ("uint8", 0, 255), ("int8", -128, 127), ("bool", False, True)],
)
def test_random_integers(dtype: str, low: int, high: int) -> None:
    values = random_feeds(signature(TensorSpec("x", dtype, (4096,))), 0)["x"]
    assert values.dtype == dtype
    assert (values.min(), values.max()) == (low, high)


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
def test_random_floats(dtype: str) -> None:
    values = random_feeds(signature(TensorSpec("x", dtype, (64,))), 0)["x"]
    assert values.dtype.name == dtype


def test_special_values() -> None:
    values = random_feeds(signature(TensorSpec("x", "float32", (64,))), 0, special=True)["x"]
    assert (np.signbit(values) & (values == 0)).any()
    assert random_feeds(signature(TensorSpec("x", "float32", (0, 3))), 0, special=True)["x"].shape == (0, 3)


def test_strings_have_no_random_values() -> None:
    with pytest.raises(DataError, match="no random values can be made for input 'x'"):
        random_feeds(signature(TensorSpec("x", "str_", (1,))), 0)


# --------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize("key", ["image", "x", "anything"])
def test_a_model_with_one_input_takes_any_single_key(tmp_path: Path, key: str) -> None:
    data = load(tmp_path, **{key: images(3)})
    assert len(data) == 3
    assert data.labels is None
    np.testing.assert_array_equal(data.arrays["image"], images(3))


@pytest.mark.parametrize("key", ["y", "labels", "label"])
def test_labels_are_kept_apart(tmp_path: Path, key: str) -> None:
    data = load(tmp_path, x=images(3), **{key: np.array([7, 8, 9])})
    assert data.labels is not None
    assert data.labels.tolist() == [7, 8, 9]
    assert [batch.labels.tolist() for batch in data.batches() if batch.labels is not None] == [[7], [8], [9]]


def test_an_input_called_y_is_no_label(tmp_path: Path) -> None:
    data = load(tmp_path, signature(TensorSpec("y", "float32", (1, 2))), y=np.ones((5, 2), np.float32))
    assert data.labels is None
    assert len(data) == 5


def test_labels_twice(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="labels are there twice: y and labels"):
        load(tmp_path, x=images(1), y=np.zeros(1), labels=np.zeros(1))


def test_wrong_name_suggests_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="array 'idss' is not an input of the model") as caught:
        load(tmp_path, TWO, idss=np.zeros((2, 8), np.int64), mask=np.zeros((2, 8), np.int64))
    assert caught.value.hint == "did you mean 'ids'?"
    assert caught.value.why == "it takes ids, mask"


def test_missing_array(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no array for input 'mask'") as caught:
        load(tmp_path, TWO, ids=np.zeros((2, 8), np.int64))
    assert caught.value.why == "the file has ids; the model takes ids, mask"
    assert "numpy.savez" in caught.value.hint


# ---------------------------------------------------------------------------------------------------- shapes and types


@pytest.mark.parametrize(
    ("array", "hint"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), "save array.transpose(0, 3, 1, 2)"),
        (np.zeros((3, 4, 4), np.float32), "save array[numpy.newaxis]"),
        (np.zeros((2, 3, 5, 5), np.float32), "save it with shape (samples, 3, 4, 4)"),
        (np.zeros((2, 48), np.float32), "save it with shape (samples, 3, 4, 4)"),
    ],
)
def test_wrong_shape(tmp_path: Path, array: np.ndarray, hint: str) -> None:
    text = r"array 'x', taken for input 'image', has shape .*, the model takes image: float32"
    with pytest.raises(DataError, match=text) as caught:
        load(tmp_path, x=array)
    assert hint in caught.value.hint


def test_channels_first_data_for_a_channels_last_model(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"save array.transpose\(0, 2, 3, 1\)"):
        load(tmp_path, signature(TensorSpec("image", "float32", (1, 4, 4, 3))), x=images(2))


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (np.full((2, 3, 4, 4), 1e300), "a value is beyond the range of float32"),
        (np.full((2, 3, 4, 4), 2**53 + 1), "which float32 does not hold"),
    ],
)
def test_values_that_the_type_does_not_hold(tmp_path: Path, array: np.ndarray, why: str) -> None:
    with pytest.raises(DataError, match=f"input 'image' takes float32, got {array.dtype}") as caught:
        load(tmp_path, x=array)
    assert why in caught.value.why


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float64", "int64"])
def test_type_whose_values_are_held_is_converted(tmp_path: Path, dtype: str) -> None:
    batch = next(load(tmp_path, x=images(2, dtype)).batches())
    assert batch.feeds["image"].dtype == np.float32


@pytest.mark.parametrize("array", [np.zeros((0, 3, 4, 4), np.float32), np.float32(1)])
def test_no_samples(tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises(DataError, match="array 'x', taken for input 'image', has no samples"):
        load(tmp_path, x=array)


@pytest.mark.parametrize(("value", "text"), [(np.nan, "NaN"), (np.inf, "infinite values")])
def test_values_that_are_not_finite(tmp_path: Path, value: float, text: str) -> None:
    array = images(5)
    array[3, 1, 2, 0] = value
    with pytest.raises(DataError, match=f"array 'x', taken for input 'image', has {text}") as caught:
        load(tmp_path, x=array)
    assert caught.value.where.endswith("sample 3")


def test_different_numbers_of_samples(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="do not have the same number of samples") as caught:
        load(tmp_path, x=images(3), y=np.zeros(4))
    assert caught.value.why == "image: 3, labels: 4"


# ------------------------------------------------------------------------------------------------------------- batches


def test_static_batch_of_one_gets_sample_by_sample(tmp_path: Path) -> None:
    batches = list(load(tmp_path, x=images(3)).batches())
    assert [batch.feeds["image"].shape for batch in batches] == [(1, 3, 4, 4)] * 3
    assert [batch.count for batch in batches] == [1, 1, 1]
    np.testing.assert_array_equal(batches[2].feeds["image"], images(3)[2:])


def test_static_batch_is_filled_with_the_last_sample(tmp_path: Path) -> None:
    wanted = signature(TensorSpec("image", "float32", (4, 3, 4, 4)))
    batches = list(load(tmp_path, wanted, x=images(6), y=np.arange(6)).batches())
    assert [batch.count for batch in batches] == [4, 2]
    assert batches[1].labels is not None
    assert batches[1].labels.tolist() == [4, 5]
    np.testing.assert_array_equal(batches[1].feeds["image"], images(6)[[4, 5, 5, 5]])


def test_open_batch_takes_several(tmp_path: Path) -> None:
    ids = np.zeros((OPEN_BATCH + 3, 8), np.int64)
    batches = list(load(tmp_path, TWO, ids=ids, mask=ids).batches())
    assert [batch.feeds["mask"].shape[0] for batch in batches] == [OPEN_BATCH, 3]


def test_model_without_a_batch_axis(tmp_path: Path) -> None:
    wanted = signature(TensorSpec("x", "float32", (3,)), TensorSpec("k", "float32", ()))
    data = load(tmp_path, wanted, x=np.ones((5, 3), np.float32), k=np.arange(5, dtype=np.float32))
    batches = list(data.batches())
    assert [batch.feeds["x"].shape for batch in batches] == [(3,)] * 5
    assert [float(batch.feeds["k"]) for batch in batches] == [0, 1, 2, 3, 4]


def test_inputs_that_disagree_about_the_batch(tmp_path: Path) -> None:
    wanted = signature(TensorSpec("a", "float32", (2, 3)), TensorSpec("b", "float32", (4, 3)))
    with pytest.raises(DataError, match="disagree about how many samples one call takes"):
        load(tmp_path, wanted, a=np.ones((8, 3), np.float32), b=np.ones((8, 3), np.float32))


def test_limit(tmp_path: Path) -> None:
    assert sum(batch.count for batch in load(tmp_path, x=images(5)).batches(limit=2)) == 2


# --------------------------------------------------------------------------------------------------------------- files


def test_uncompressed_arrays_are_mapped(tmp_path: Path) -> None:
    data = load(tmp_path, x=images(3), y=np.asfortranarray(np.arange(6).reshape(3, 2)))
    assert isinstance(data.arrays["image"], np.memmap)
    assert data.labels is not None
    assert data.labels.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_compressed_arrays_are_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "data.npz", x=images(3))
    np.testing.assert_array_equal(load_feeds(tmp_path / "data.npz", ONE).arrays["image"], images(3))


def test_pickles_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="Python objects, which edgecc never unpickles"):
        load_feeds(tmp_path / "data.npz", ONE)


@pytest.mark.parametrize("keep", [0, 10, 200])
def test_truncated_file(tmp_path: Path, keep: int) -> None:
    np.savez(tmp_path / "whole.npz", x=images(3))
    (tmp_path / "data.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:keep])
    with pytest.raises(DataError, match=r"data.npz cannot be read as .npz data"):
        load_feeds(tmp_path / "data.npz", ONE)


def test_file_of_something_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("x.npy", "hello")
    with pytest.raises(DataError, match=r"cannot be read as .npz data"):
        load_feeds(tmp_path / "data.npz", ONE)


@pytest.mark.parametrize(
    ("offset", "value", "why"), [(6, 1, "encrypted"), (8, 99, "compression"), (30, 0xFF, "")], ids=str
)
def test_members_that_cannot_be_read(tmp_path: Path, offset: int, value: int, why: str) -> None:
    np.savez_compressed(tmp_path / "whole.npz", x=images(3))
    contents = bytearray((tmp_path / "whole.npz").read_bytes())
    directory = contents.index(b"PK\x01\x02")
    if offset < 30:
        contents[offset] = contents[directory + offset + 2] = value
    else:
        contents[directory // 2 : directory // 2 + 8] = bytes([value] * 8)
    (tmp_path / "data.npz").write_bytes(contents)
    with pytest.raises(DataError, match=r"data.npz cannot be read as .npz data") as caught:
        load_feeds(tmp_path / "data.npz", ONE)
    assert why in caught.value.why


def test_archive_without_arrays(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(DataError, match="there is no array for input 'image'"):
        load_feeds(tmp_path / "data.npz", ONE)


def test_missing_file_lists_what_is_there(tmp_path: Path) -> None:
    np.savez(tmp_path / "calibration.npz", x=images(1))
    with pytest.raises(DataError, match="does not exist") as caught:
        load_feeds(tmp_path / "calibrate.npz", ONE)
    assert "calibration.npz" in caught.value.hint


def test_an_array_of_its_own(tmp_path: Path) -> None:
    """An `.npy` file is what a model with one input takes; it is mapped, whatever its size."""
    np.save(tmp_path / "data.npy", images(3))
    found = load_feeds(tmp_path / "data.npy", ONE)
    assert isinstance(found.arrays["image"], np.memmap)
    np.testing.assert_array_equal(found.arrays["image"], images(3))
    np.save(tmp_path / "flat.npy", np.zeros((2, 5), np.float32))
    with pytest.raises(DataError, match=r"array 'flat.npy', taken for input 'image', has shape \(2, 5\)"):
        load_feeds(tmp_path / "flat.npy", ONE)
    with pytest.raises(DataError, match=r"array 'data.npy' is not an input of the model"):
        load_feeds(tmp_path / "data.npy", TWO)
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(DataError, match=r"objects.npy cannot be read as .npy data"):
        load_feeds(tmp_path / "objects.npy", ONE)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "data.npy").read_bytes()[:200])
    with pytest.raises(DataError, match=r"cut.npy cannot be read as .npy data"):
        load_feeds(tmp_path / "cut.npy", ONE)


def test_other_kinds_of_data_are_refused_clearly(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="data from a Python function can calibrate, not evaluate"):
        load_feeds("package.module:function", ONE)
    with pytest.raises(DataError, match="folders of images are not read yet"):
        load_feeds(tmp_path, ONE)
    (tmp_path / "data.csv").write_text("1,2")
    with pytest.raises(DataError, match=r"data.csv is neither an .npz nor an .npy file"):
        load_feeds(tmp_path / "data.csv", ONE)


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.zeros((2, 3, 4, 5), np.float32), r"array 'pixels', taken for input 'image', has shape \(2, 3, 4, 5\)"),
        (np.full((2, 3, 4, 4), np.nan, np.float32), "array 'pixels', taken for input 'image', has NaN"),
    ],
)
def test_messages_name_the_key_of_the_file(tmp_path: Path, array: np.ndarray, text: str) -> None:
    with pytest.raises(DataError, match=text):
        load(tmp_path, pixels=array)
