"""Whether arrays fit a model's inputs, checked before a runtime sees them."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from edgecc.errors import DataError
from edgecc.signature import TensorSpec


def check_feeds(
    feeds: Mapping[str, np.ndarray], inputs: Sequence[TensorSpec], *, where: str = ""
) -> dict[str, np.ndarray]:
    """The feeds as contiguous arrays of the inputs' types.

    A value is converted only where that keeps its meaning: a float to another float, an integer to a type that holds
    it. A float never becomes an integer.

    Raises:
        DataError: a name, type or shape does not fit.
    """
    _check_names(list(feeds), [spec.name for spec in inputs], where)
    return {spec.name: _check_feed(np.asarray(feeds[spec.name]), spec, where) for spec in inputs}


def _check_names(given: list[str], wanted: list[str], where: str) -> None:
    for name in given:
        if name in wanted:
            continue
        near = difflib.get_close_matches(name, wanted, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"the inputs are: {', '.join(wanted) or 'none'}"
        raise DataError(f"the model has no input {name!r}", where=where, hint=hint)
    missing = [name for name in wanted if name not in given]
    if missing:
        names = ", ".join(repr(name) for name in missing)
        raise DataError(f"no value is given for input {names}", where=where, hint="give one array per input")


def _check_feed(values: np.ndarray, spec: TensorSpec, where: str) -> np.ndarray:
    _check_shape(values.shape, spec, where)
    return np.ascontiguousarray(convert(values, spec, where)).reshape(values.shape)


def _check_shape(shape: tuple[int, ...], spec: TensorSpec, where: str) -> None:
    if len(shape) == len(spec.shape) and all(
        isinstance(want, str) or have == want for have, want in zip(shape, spec.shape, strict=True)
    ):
        return
    raise DataError(
        f"input {spec.name!r} takes shape {_show(spec.shape)}, got {_show(shape)}",
        where=where,
        hint=_shape_hint(shape, spec.shape),
    )


def _shape_hint(shape: tuple[int, ...], wanted: tuple[int | str, ...]) -> str:
    if fits((1, *shape), wanted):
        return "add the batch axis: x[None]"
    if len(shape) == len(wanted) and len(shape) <= 5:
        for order in itertools.permutations(range(len(shape))):
            if fits(tuple(shape[axis] for axis in order), wanted):
                return f"is the layout another? x.transpose{order}"
    if len(shape) == len(wanted) and shape[1:] == wanted[1:]:
        return f"the batch is fixed to {wanted[0]}: feed that many at a time, or compile with --shape for another batch"
    return ""


def fits(shape: tuple[int, ...], wanted: tuple[int | str, ...]) -> bool:
    """Whether an array of that shape can be fed where open dimensions are symbols."""
    return len(shape) == len(wanted) and all(isinstance(w, str) or h == w for h, w in zip(shape, wanted, strict=True))


def convert(values: np.ndarray, spec: TensorSpec, where: str) -> np.ndarray:
    """The values in the input's type, where that keeps their meaning.

    Raises:
        DataError: it would not.
    """
    if values.dtype.name == spec.dtype or (spec.dtype.startswith(("str", "object")) and values.dtype.kind in "OSU"):
        return values
    try:
        wanted = np.dtype(spec.dtype)
    except TypeError:
        raise _type_error(values, spec, "no numpy type of that name is known here", "", where) from None
    have = values.dtype
    if np.can_cast(have, wanted, "safe"):
        return values.astype(wanted)
    if have.kind == "f" and wanted.kind == "f":
        with np.errstate(over="ignore"):
            converted = values.astype(wanted)
        if np.isinf(converted).sum() == np.isinf(values).sum():
            return converted
        raise _type_error(values, spec, f"a value is beyond the range of {spec.dtype}", "", where)
    if have.kind in "iu" and wanted.kind in "iuf":
        converted = values.astype(wanted)
        if np.array_equal(converted.astype(have), values) and np.array_equal(np.signbit(converted), values < 0):
            return converted
        span = f"values go from {values.min()} to {values.max()}"
        raise _type_error(values, spec, f"{span}, which {spec.dtype} does not hold", "", where)
    hint = ""
    if have.kind == "f" and wanted.kind in "iu":
        hint = f"round or quantize first: np.round(x / scale + zero_point).astype(np.{spec.dtype})"
    raise _type_error(values, spec, f"{have.name} to {spec.dtype} would change the values", hint, where)


def _type_error(values: np.ndarray, spec: TensorSpec, why: str, hint: str, where: str) -> DataError:
    what = f"input {spec.name!r} takes {spec.dtype}, got {values.dtype.name}"
    return DataError(what, where=where, why=why, hint=hint)


def _show(shape: Sequence[int | str]) -> str:
    return f"[{', '.join(str(d) for d in shape)}]"
