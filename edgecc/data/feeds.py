"""Feeds: what a model is given, random ones made from its signature or real ones read from a file."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecc.artifact import NOT_REGULAR
from edgecc.data.feed_check import convert, fits
from edgecc.data.names import is_function
from edgecc.data.npz import read_npy, read_npz, read_rows
from edgecc.errors import DataError, UnknownNameError

if TYPE_CHECKING:
    from edgecc.signature import Signature, TensorSpec

Feeds = dict[str, np.ndarray]

#: Keys of the array of labels, unless the model has an input of that name.
LABEL_KEYS = ("y", "labels", "label")
#: Samples per batch for models that leave the batch dimension open.
OPEN_BATCH = 16
#: Bytes looked at in one step when values are checked.
_CHUNK_BYTES = 1 << 24


# -------------------------------------------------------------------------------------------------------- random feeds


def random_feeds(
    signature: Signature, seed: int, *, sizes: Mapping[str, int] | None = None, special: bool = False
) -> Feeds:
    """Feeds from a seed: normal floats, zeros and ones for integers (safe as indices), full range for bytes.

    Args:
        signature: of the model.
        seed: equal seeds give equal feeds.
        sizes: of open dimensions, by symbol. Others get a small size, the same one wherever the symbol appears.
        special: also put in zeros of both signs, huge and tiny numbers.
    """
    rng = np.random.default_rng(seed)
    known = dict(sizes or {})
    return {spec.name: _random_array(spec, known, rng, special) for spec in signature.inputs}


def _random_array(spec: TensorSpec, sizes: dict[str, int], rng: np.random.Generator, special: bool) -> np.ndarray:
    shape = tuple(_size(dim, axis, spec, sizes) for axis, dim in enumerate(spec.shape))
    dtype = _dtype(spec)
    if dtype == np.bool_:
        return rng.integers(0, 2, shape).astype(np.bool_)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        low, high = (int(limits.min), int(limits.max)) if dtype.itemsize == 1 else (0, 1)
        return rng.integers(low, high, shape, endpoint=True).astype(dtype)
    if dtype.kind not in "fV":
        raise DataError(f"no random values can be made for input {spec.name!r} of type {spec.dtype}")
    values = rng.standard_normal(shape)
    if special and values.size:
        extremes = np.array([0.0, -0.0, 1.0, -1.0, 1e4, -1e4, 1e-4])
        places = rng.integers(0, values.size, max(1, values.size // 4))
        values.flat[places] = extremes[rng.integers(0, extremes.size, places.size)]
    return values.astype(dtype)


def _size(dim: int | str, axis: int, spec: TensorSpec, sizes: dict[str, int]) -> int:
    """The size of a dimension; an open one keeps the first size that its symbol got."""
    if isinstance(dim, int):
        return dim
    is_image_side = axis >= 2 and len(spec.shape) >= 4
    return sizes.setdefault(dim, 2 if axis == 0 else 64 if is_image_side else 8)


def _dtype(spec: TensorSpec) -> np.dtype[Any]:
    try:
        return np.dtype(spec.dtype)
    except TypeError:
        import ml_dtypes  # comes with onnx; gives numpy bfloat16 and its relatives

        kind: type = getattr(ml_dtypes, spec.dtype)
        return np.dtype(kind)


# --------------------------------------------------------------------------------------------------------------- files


@dataclass(frozen=True)
class Batch:
    """What the model is given at once.

    Attributes:
        feeds: one array per input.
        count: how many samples of the data it holds; where it is less than the model's batch size, the last sample
            is repeated to fill the rest.
        labels: of these samples; None if the data has none.
    """

    feeds: Feeds
    count: int
    labels: np.ndarray | None


@dataclass(frozen=True)
class Dataset:
    """Samples for a model, read from disk as they are needed where the file allows it.

    Attributes:
        arrays: one per input, by the model's names; the first axis is samples.
        labels: one per sample; None if there are none.
        signature: of the model that they fit.
        source: where they come from.
    """

    arrays: Mapping[str, np.ndarray] = field(repr=False)
    labels: np.ndarray | None = field(repr=False)
    signature: Signature
    source: str

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    @property
    def batch_size(self) -> int | None:
        """Samples that one call takes: the model's own batch dimension; None if that is open."""
        sizes = [_batch_of(spec, self.arrays[spec.name]) for spec in self.signature.inputs]
        fixed = {size for size in sizes if size is not None}
        if len(fixed) > 1:
            raise DataError(
                "the model's inputs disagree about how many samples one call takes",
                where=self.source,
                why=", ".join(str(spec) for spec in self.signature.inputs),
                hint="give every input one sample per row, without the batch axis",
            )
        return fixed.pop() if fixed else None

    def batches(self, limit: int | None = None, *, open_batch: int = OPEN_BATCH) -> Iterator[Batch]:
        """The samples in order, as many at a time as the model takes.

        Args:
            limit: number of samples after which to stop.
            open_batch: how many at a time if the model leaves it open.
        """
        total = len(self) if limit is None else min(limit, len(self))
        size = self.batch_size or open_batch
        for start in range(0, total, size):
            count = min(size, total - start)
            feeds = {spec.name: self._part(spec, start, count, size) for spec in self.signature.inputs}
            labels = None if self.labels is None else np.asarray(self.labels[start : start + count])
            yield Batch(feeds, count, labels)

    def _part(self, spec: TensorSpec, start: int, count: int, size: int) -> np.ndarray:
        rows = read_rows(self.arrays[spec.name], start, start + count).astype(_dtype(spec), copy=False)
        if rows.ndim == len(spec.shape) + 1:
            return np.array(rows[0], order="C")
        if count < size and isinstance(spec.shape[0], int):
            rows = np.concatenate([rows, np.repeat(rows[-1:], size - count, axis=0)])
        return np.ascontiguousarray(rows)


def _batch_of(spec: TensorSpec, array: np.ndarray) -> int | None:
    """Samples per call as this input sees it; None if it leaves that open."""
    if array.ndim == len(spec.shape) + 1:
        return 1
    return spec.shape[0] if isinstance(spec.shape[0], int) else None


def load_feeds(source: str | Path, signature: Signature) -> Dataset:
    """Samples from an `.npz` file: one array per input under the input's name, the first axis is samples.

    A model with one input takes key `x` or any single key as well, or an `.npy` file. Labels are under `y` or `labels`.
    Arrays that are stored without compression (`np.savez`, `np.save`) are mapped into memory, not read.

    Raises:
        DataError: the file does not fit the model; the message says what to change.
    """
    path = Path(source)
    text = str(source)
    try:
        is_folder, is_there, is_file = path.is_dir(), path.exists(), path.is_file()
    except OSError as error:  # such as a name that is too long
        raise DataError(f"{text} cannot be read", why=error.strerror or str(error), hint="check the path") from error
    if is_folder:
        raise DataError(f"{text} is a folder", why="folders of images are not read yet", hint=_HOW_TO_SAVE)
    if not is_there:
        raise _missing(path, text)
    if not is_file:
        raise DataError(f"{text} cannot be read", why=NOT_REGULAR, hint=_HOW_TO_SAVE)
    if path.suffix not in (".npz", ".npy"):
        raise DataError(f"{text} is neither an .npz nor an .npy file", hint=_HOW_TO_SAVE)
    return dataset_of(_read(path), signature, text)


def dataset_of(arrays: Mapping[str, np.ndarray], signature: Signature, source: str) -> Dataset:
    """Samples from arrays, named as in an `.npz` file.

    Args:
        arrays: by name, with labels or without.
        signature: of the model.
        source: where they come from, for messages.

    Raises:
        DataError: they do not fit the model.
    """
    named, labels = _assign_names(arrays, signature, source)
    dataset = Dataset(named, labels, signature, source)
    called = {name: _called(name, array, arrays) for name, array in named.items()}
    for spec in signature.inputs:
        _check_array(spec, named[spec.name], called[spec.name], source)
    _check_counts(dataset)
    for spec in signature.inputs:
        _check_values(spec, named[spec.name], called[spec.name], source)
    return dataset


_HOW_TO_SAVE = 'in Python: numpy.savez("data.npz", INPUT=array, y=labels), with the model\'s input names'


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        return read_npz(path) if path.suffix == ".npz" else {path.name: read_npy(path)}
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, RuntimeError) as error:
        # RuntimeError: it is encrypted, or compressed in a way that Python does not know.
        raise DataError(f"{path} cannot be read as {path.suffix} data", why=str(error), hint=_HOW_TO_SAVE) from error


def _missing(path: Path, text: str) -> DataError:
    if is_function(text):
        return DataError(
            f"{text}: data from a Python function can calibrate, not evaluate",
            hint=f"save what it yields; {_HOW_TO_SAVE}",
        )
    near = sorted(p.name for p in path.parent.glob("*.npz"))[:5] if path.parent.is_dir() else []
    hint = f"in {path.parent} there is: {', '.join(near)}" if near else "check the path"
    return DataError(f"{text} does not exist", hint=hint)


# ---------------------------------------------------------------------------------------- does the data fit the model?


def _assign_names(
    arrays: Mapping[str, np.ndarray], signature: Signature, where: str
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    inputs = [spec.name for spec in signature.inputs]
    label_keys = [key for key in LABEL_KEYS if key in arrays and key not in inputs]
    if len(label_keys) > 1:
        raise DataError(f"labels are there twice: {' and '.join(label_keys)}", where=where, hint="keep one of them")
    labels = arrays[label_keys[0]] if label_keys else None
    found = {key: array for key, array in arrays.items() if key not in label_keys}
    if len(inputs) == 1 and inputs[0] not in found and len(found) == 1:
        found = {inputs[0]: next(iter(found.values()))}
    if len(inputs) == 1 and inputs[0] not in found and "x" in found:
        found[inputs[0]] = found.pop("x")
    for key in found:
        if key not in inputs:
            raise _unknown_array(key, inputs, where)
    missing = [name for name in inputs if name not in found]
    if missing:
        raise DataError(
            f"there is no array for input {missing[0]!r}",
            where=where,
            why=f"the file has {', '.join(arrays) or 'no arrays'}; the model takes {', '.join(inputs)}",
            hint=_HOW_TO_SAVE,
        )
    return {name: found[name] for name in inputs}, labels


def _called(name: str, array: np.ndarray, arrays: Mapping[str, np.ndarray]) -> str:
    """What the user calls the array of an input, for messages."""
    key = next(key for key, given in arrays.items() if given is array)
    return f"array {key!r}" if key == name else f"array {key!r}, taken for input {name!r},"


def _unknown_array(key: str, inputs: list[str], where: str) -> DataError:
    why = f"it takes {', '.join(inputs)}"
    hint = UnknownNameError("array", key, [*inputs, *LABEL_KEYS]).hint
    return DataError(f"array {key!r} is not an input of the model", where=where, why=why, hint=hint)


def _check_array(spec: TensorSpec, array: np.ndarray, called: str, where: str) -> None:
    if array.ndim == 0 or len(array) == 0:
        raise DataError(f"{called} has no samples", where=where, hint="the first axis is samples")
    if not (fits(array.shape[1:], spec.shape[1:]) and spec.shape) and not fits(array.shape[1:], spec.shape):
        raise _wrong_shape(spec, array, called, where)


def _wrong_shape(spec: TensorSpec, array: np.ndarray, called: str, where: str) -> DataError:
    sample = spec.shape[1:] if len(spec.shape) > 1 else spec.shape
    text = ", ".join(str(dim) for dim in ("samples", *sample))
    hint = f"save it with shape ({text})"
    if array.ndim == 4 and fits(array.transpose(0, 3, 1, 2).shape[1:], sample):
        hint = "channels are last in the data and first in the model: save array.transpose(0, 3, 1, 2)"
    elif array.ndim == 4 and fits(array.transpose(0, 2, 3, 1).shape[1:], sample):
        hint = "channels are first in the data and last in the model: save array.transpose(0, 2, 3, 1)"
    elif fits(array.shape, sample) or fits(array.shape, spec.shape):
        hint = "the first axis is samples: save array[numpy.newaxis] for a single one"
    return DataError(f"{called} has shape {array.shape}, the model takes {spec}", where=where, hint=hint)


def _check_counts(dataset: Dataset) -> None:
    counts = {name: len(array) for name, array in dataset.arrays.items()}
    if dataset.labels is not None:
        counts["labels"] = dataset.labels.shape[0] if dataset.labels.ndim else 0
    if len(set(counts.values())) > 1:
        raise DataError(
            "the arrays do not have the same number of samples",
            where=dataset.source,
            why=", ".join(f"{name}: {count}" for name, count in counts.items()),
            hint="the first axis of every array is samples",
        )
    _ = dataset.batch_size


def _check_values(spec: TensorSpec, array: np.ndarray, called: str, where: str) -> None:
    """Raise DataError for values that are not finite, or that the input's type does not hold; part by part."""
    rows = max(1, _CHUNK_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):
        part = read_rows(array, start, start + rows)
        _check_finite(called, part, start, where)
        convert(part, spec, where)


def _check_finite(called: str, part: np.ndarray, start: int, where: str) -> None:
    if part.dtype.kind != "f":
        return
    finite = np.isfinite(part).reshape(len(part), -1).all(axis=1)
    if not finite.all():
        index = int(np.argmin(finite))
        kind = "NaN" if np.isnan(part[index]).any() else "infinite values"
        where = f"{where}, sample {start + index}"
        raise DataError(f"{called} has {kind}", where=where, hint="remove or mend it")
