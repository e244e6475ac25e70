"""Calibration data: what a model is fed, one call at a time, while passes watch."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from edgecc.data.names import RANDOM, is_function
from edgecc.errors import DataError, UnknownNameError

if TYPE_CHECKING:
    from edgecc.data.feeds import Feeds
    from edgecc.signature import Signature
    from edgecc.statistics.table import StatisticTable

#: Samples of random values, and of a function that yields without end.
DEFAULT_SAMPLES = 256
#: Something that yields feeds, from the start whenever it is called.
FeedFunction: TypeAlias = "Callable[[], Iterable[Mapping[str, np.ndarray]]]"


@runtime_checkable
class CalibrationData(Protocol):
    """Samples that can be read again and again, streamed: one call's worth is in memory at any time."""

    @property
    def source(self) -> str:
        """Where they come from, as users call it."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that users should read; complete once the samples have been read."""
        ...

    @property
    def total(self) -> int:
        """How many calls `samples` gives; 0 if that is not known before they are read."""
        ...

    @property
    def per_call(self) -> int:
        """Samples in one call: 1, or what the model's batch is fixed to."""
        ...

    def samples(self) -> Iterator[Feeds]:
        """Feeds of one call each, in the inputs' types.

        Raises:
            DataError: they do not fit the model.
        """
        ...


@runtime_checkable
class LabelledData(CalibrationData, Protocol):
    """Samples of which some sources know the labels."""

    def labelled(self) -> Iterator[tuple[Feeds, np.ndarray]] | None:
        """The same calls with the labels of each, one per sample; None if there are no labels."""
        ...


def labelled(data: CalibrationData) -> Iterator[tuple[Feeds, np.ndarray]] | None:
    """Calls with their labels; None if the data has none."""
    return data.labelled() if isinstance(data, LabelledData) else None


Calibration: TypeAlias = (
    "str | Path | np.ndarray | Mapping[str, np.ndarray] | FeedFunction | Iterable[Mapping[str, np.ndarray]]"
    " | CalibrationData | StatisticTable"
)


def open_calibration(
    given: Calibration, signature: Signature, *, limit: int | None = None, seed: int = 0
) -> CalibrationData | StatisticTable:
    """What `--calibration` or `compile(calibration=...)` names, checked against the model as far as possible.

    Args:
        given: an `.npz` file, a table of statistics (`.json`), `package.module:function`, `random`; in Python also
            arrays by name, one array for a model with one input, a function that returns an iterable of feeds, or such
            an iterable that can be read again.
        signature: of the model.
        limit: number of samples after which to stop; all if None.
        seed: of random values.

    Raises:
        DataError: it cannot be read, or does not fit the model.
    """
    from edgecc.data.sources import ArraySource, FunctionSource
    from edgecc.statistics.table import StatisticTable

    if isinstance(given, str | Path):
        return _open_named(str(given), signature, limit, seed)
    if isinstance(given, StatisticTable | CalibrationData):
        return given
    if isinstance(given, np.ndarray):
        given = _named(given, signature)
    if isinstance(given, Mapping):
        return ArraySource.of(given, signature, "arrays in memory", limit)
    if callable(given):
        return FunctionSource(given, signature, str(getattr(given, "__qualname__", "a function")), limit)
    if not isinstance(given, Iterable):
        raise DataError(
            f"calibration data cannot be read from a value of type {type(given).__name__}",
            hint="give arrays by input name, a function that returns feeds, or the name of an .npz file",
        )
    if iter(given) is given:
        raise DataError(
            "a generator can be read only once, calibration may read the data again",
            hint="give the function that makes it: compile(..., calibration=function)",
        )
    return FunctionSource(lambda: given, signature, "feeds in memory", limit)


def _named(values: np.ndarray, signature: Signature) -> dict[str, np.ndarray]:
    if len(signature.inputs) == 1:
        return {signature.inputs[0].name: values}
    names = ", ".join(f"{spec.name!r}: array" for spec in signature.inputs)
    raise DataError(
        f"one array is given, the model has {len(signature.inputs)} inputs",
        hint=f"compile(..., calibration={{{names}}})",
    )


def _open_named(name: str, signature: Signature, limit: int | None, seed: int) -> CalibrationData | StatisticTable:
    from edgecc.data.feeds import load_feeds
    from edgecc.data.sources import ArraySource, FunctionSource, RandomSource
    from edgecc.statistics.table import StatisticTable

    if name == RANDOM:
        return RandomSource(signature, limit or DEFAULT_SAMPLES, seed)
    if name.endswith(".json"):
        return StatisticTable.load(Path(name))
    if is_function(name) and not Path(name).exists():
        return FunctionSource(import_function(name, f"calibration data {name}"), signature, name, limit)
    return ArraySource(load_feeds(name, signature), limit)


def import_function(name: str, where: str) -> Callable[..., Any]:
    """The function that `package.module:function` names; modules in the current folder are found too.

    Args:
        name: of that form.
        where: what names it, for messages.

    Raises:
        DataError: there is no such module, or it cannot be imported.
        UnknownNameError: the module has no such function.
    """
    module_name, _, function_name = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the module's own code runs, which may raise anything
        raise DataError(
            f"module {module_name!r} cannot be imported",
            where=where,
            why=f"{type(error).__name__}: {error}",
            hint="it is looked for in the current folder and among installed packages",
        ) from error
    finally:
        sys.path.remove(str(Path.cwd()))
    functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    if function_name not in functions:
        raise UnknownNameError("function", function_name, functions, where=f"module {module_name}")
    found: Callable[..., Any] = getattr(module, function_name)
    return found
