"""Where calibration samples come from: arrays, a function, a random generator."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecc.data.feed_check import check_feeds
from edgecc.data.feeds import Batch, Dataset, Feeds, dataset_of, random_feeds
from edgecc.data.names import RANDOM
from edgecc.errors import DataError, EdgeccError

if TYPE_CHECKING:
    from edgecc.data.calibration import FeedFunction
    from edgecc.signature import Signature, TensorSpec

_ONE_SAMPLE = "calibrated on a single sample: what other samples would show is not known; 100 to 500 are usual"


@dataclass(frozen=True)
class ArraySource:
    """Samples of arrays, of a file or in memory.

    Attributes:
        dataset: the arrays.
        limit: number of samples after which to stop; all if None.
    """

    dataset: Dataset
    limit: int | None = None

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], signature: Signature, source: str, limit: int | None) -> ArraySource:
        return cls(dataset_of({name: np.asarray(values) for name, values in arrays.items()}, signature, source), limit)

    @property
    def source(self) -> str:
        return self.dataset.source

    @property
    def per_call(self) -> int:
        return self.dataset.batch_size or 1

    @property
    def total(self) -> int:
        return max(1, self._count // self.per_call)

    @property
    def _count(self) -> int:
        return len(self.dataset) if self.limit is None else min(self.limit, len(self.dataset))

    @property
    def notes(self) -> tuple[str, ...]:
        inputs = self.dataset.signature.inputs
        found = [note for spec in inputs for note in _integer_notes(spec, self.dataset.arrays[spec.name].dtype)]
        if self._count == 1:
            found.append(_ONE_SAMPLE)
        used = self.total * self.per_call
        if used > self._count:
            found.append(f"the model takes {self.per_call} samples at a time: the last of {self._count} is repeated")
        if used < self._count:
            left = self._count - used
            found.append(f"the model takes {self.per_call} samples at a time: {left} of {self._count} are left out")
        if self.limit is not None and self.limit > len(self.dataset):
            found.append(f"{self.source} has {len(self.dataset)} samples, {self.limit} were asked for")
        return tuple(found)

    def samples(self) -> Iterator[Feeds]:
        for batch in self._batches():
            yield batch.feeds

    def labelled(self) -> Iterator[tuple[Feeds, np.ndarray]] | None:
        """The same calls with their labels; None if the arrays have none."""
        if self.dataset.labels is None:
            return None
        # Where the last sample fills the rest of a call, its label does too.
        size = self.per_call
        whole = ((batch.feeds, batch.labels) for batch in self._batches())
        return ((feeds, _filled(labels, size)) for feeds, labels in whole if labels is not None)

    def _batches(self) -> Iterator[Batch]:
        return islice(self.dataset.batches(self._count, open_batch=1), self.total)


@dataclass
class FunctionSource:
    """Samples that a function yields: it is called again for every sweep.

    It yields feeds by name, with the batch axis; where the model leaves the batch open, it may yield several samples at
    once, which go through the model one by one.

    Attributes:
        function: returns an iterable of feeds.
        signature: of the model.
        source: what users call it.
        limit: number of samples after which to stop; all if None.
    """

    function: FeedFunction
    signature: Signature
    source: str
    limit: int | None = None
    _read: int = field(default=0, init=False)
    _integers: dict[str, str] = field(default_factory=dict, init=False)

    @property
    def per_call(self) -> int:
        sizes = {spec.shape[0] for spec in self.signature.inputs if spec.shape}
        fixed = sizes.pop() if len(sizes) == 1 else 1
        return fixed if isinstance(fixed, int) else 1

    @property
    def total(self) -> int:
        return self._read

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self._integers.values(), *((_ONE_SAMPLE,) if self._read * self.per_call == 1 else ()))

    def samples(self) -> Iterator[Feeds]:
        count = 0
        for feeds in islice(self._singles(), None if self.limit is None else max(1, self.limit // self.per_call)):
            count += 1
            yield feeds
        if not count:
            raise DataError(f"{self.source} yields no samples", hint='yield {"INPUT": array} for each of them')
        self._read = count

    def _singles(self) -> Iterator[Feeds]:
        for index, given in enumerate(self._call()):
            where = f"{self.source}, item {index}"
            if not isinstance(given, Mapping):
                raise DataError(
                    f"{self.source} yields {type(given).__name__}, not feeds by name",
                    where=where,
                    hint='yield {"INPUT": array}, with the model\'s input names',
                )
            feeds = check_feeds(given, self.signature.inputs, where=where)
            for spec in self.signature.inputs:
                _check_finite(feeds[spec.name], spec, where)
                for note in _integer_notes(spec, np.asarray(given[spec.name]).dtype):
                    self._integers[spec.name] = note
            yield from self._split(feeds, where)

    def _split(self, feeds: Feeds, where: str) -> Iterator[Feeds]:
        """Single samples, where every input leaves the batch open."""
        if not all(spec.shape and isinstance(spec.shape[0], str) for spec in self.signature.inputs):
            yield feeds
            return
        counts = {name: len(values) for name, values in feeds.items()}
        if len(set(counts.values())) > 1:
            raise DataError(
                "the inputs do not have the same number of samples",
                where=where,
                why=", ".join(f"{name}: {count}" for name, count in counts.items()),
                hint="the first axis of every array is samples",
            )
        for row in range(max(counts.values(), default=0)):
            yield {name: values[row : row + 1] for name, values in feeds.items()}

    def _call(self) -> Iterator[object]:
        """What the function yields; what it raises is the user's to mend."""
        try:
            yield from self.function()
        except EdgeccError:
            raise
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            raise DataError(
                f"{self.source} raised {type(error).__name__}: {error}", where=f"{frame.filename}:{frame.lineno}"
            ) from error


@dataclass(frozen=True)
class RandomSource:
    """Random values, to try things out: ranges are those of noise.

    Attributes:
        signature: of the model.
        total: number of calls.
        seed: of the first; the others follow.
    """

    signature: Signature
    total: int
    seed: int

    @property
    def source(self) -> str:
        return RANDOM

    @property
    def per_call(self) -> int:
        return 1

    @property
    def notes(self) -> tuple[str, ...]:
        return (
            "CALIBRATED ON RANDOM VALUES: the ranges are those of noise and the accuracy means nothing; "
            "give real samples with --calibration DATA.npz",
        )

    def samples(self) -> Iterator[Feeds]:
        sizes = {str(spec.shape[0]): 1 for spec in self.signature.inputs if spec.shape}
        for index in range(self.total):
            yield random_feeds(self.signature, self.seed + index, sizes=sizes)


def _filled(labels: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([labels, np.repeat(labels[-1:], size - len(labels), axis=0)])


def _integer_notes(spec: TensorSpec, dtype: np.dtype[Any]) -> list[str]:
    if dtype.kind not in "iu" or not spec.dtype.startswith(("float", "bfloat")):
        return []
    return [
        f"input {spec.name!r} takes {spec.dtype}: the {dtype.name} values of the data are used as they are; "
        "scale them first if the model expects another range"
    ]


def _check_finite(values: np.ndarray, spec: TensorSpec, where: str) -> None:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        kind = "NaN" if np.isnan(values).any() else "infinite values"
        raise DataError(f"array {spec.name!r} has {kind}", where=where, hint="remove or mend it")
