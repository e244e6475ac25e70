"""Constraints that rules share: what a node must be like, and the sentence a user reads when it is not."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.base import Constraint
    from edgecc_tflite.lowerings.node_view import NodeView

FLOAT = frozenset({"float32"})
#: Types of arithmetic that most kernels have.
NUMERIC = frozenset({"float32", "int32", "int64"})
ANY_TYPE = frozenset(
    {"float32", "float16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "bool"},
)


def typed(types: Iterable[str], index: int = 0) -> Constraint:
    """The input has one of these types."""
    return functools.partial(_typed, frozenset(types), index)


def _typed(types: frozenset[str], index: int, node: NodeView) -> str | None:
    if not node.has(index) or node.dtype(index).name in types:
        return None
    name, dtype = node.input(index).name, node.dtype(index).name
    return f"input {name!r} is {dtype}, the TFLite kernels take {', '.join(sorted(types))}"


def ranked(low: int, high: int, index: int = 0) -> Constraint:
    """The input's rank is known and within bounds."""
    return functools.partial(_ranked, low, high, index)


def _ranked(low: int, high: int, index: int, node: NodeView) -> str | None:
    rank = node.rank(index)
    if rank < 0:
        return f"the rank of input {node.input(index).name!r} is not known"
    if low <= rank <= high:
        return None
    bounds = f"{low}" if low == high else f"{low} to {high}"
    return f"input {node.input(index).name!r} has rank {rank}, only rank {bounds} can be lowered"


def known_rank(index: int = 0) -> Constraint:
    return functools.partial(_ranked, 0, 8, index)


def constant(index: int, what: str) -> Constraint:
    """The optional input is a constant if it is there."""
    return functools.partial(_constant, index, what)


def _constant(index: int, what: str, node: NodeView) -> str | None:
    if not node.has(index) or node.value(index) is not None:
        return None
    return f"the {what} {node.input(index).name!r} is computed at run time; only constant {what} can be lowered"


def static(index: int = 0, axes: Iterable[int] | None = None) -> Constraint:
    """The input's dimensions are fixed, all of them or those of some axes."""
    return functools.partial(_static, index, None if axes is None else tuple(axes))


#: Part of a reason for operands that are lists of unknown length.
OPEN_NUMBER = "unknown number"
#: Part of a reason that makes `find_unsupported` add the flag that fixes it.
OPEN_DIMENSION = "open dimension"


def _static(index: int, axes: tuple[int, ...] | None, node: NodeView) -> str | None:
    shape = node.shape(index)
    if shape is None:
        return f"the shape of input {node.input(index).name!r} is not known"
    chosen = range(len(shape)) if axes is None else [a for a in axes if a < len(shape)]
    if all(shape[axis] >= 0 for axis in chosen):
        return None
    return f"input {node.input(index).name!r} has an {OPEN_DIMENSION} ({_shown(node, index)}) where a size is needed"


def _shown(node: NodeView, index: int) -> str:
    return "x".join(str(d) for d in node.input(index).shape)


def static_but_batch(index: int = 0) -> Constraint:
    """Every dimension but the first is fixed."""
    return functools.partial(_static, index, tuple(range(1, 9)))


def static_space(index: int = 0) -> Constraint:
    """Every dimension behind batch and channels is fixed."""
    return functools.partial(_static, index, tuple(range(2, 9)))


def one_of(attribute: str, allowed: Iterable[str], default: str) -> Constraint:
    """The string attribute has one of these values."""
    return functools.partial(_one_of, attribute, tuple(allowed), default)


def _one_of(attribute: str, allowed: tuple[str, ...], default: str, node: NodeView) -> str | None:
    value = node.text(attribute, default)
    return None if value in allowed else f"{attribute}={value!r}; only {', '.join(allowed)} can be lowered"


def single_output(node: NodeView) -> str | None:
    """Only the first output is used."""
    extra = [t.name for n, t in enumerate(node.outputs) if n and t is not None and node.has_output(n)]
    return f"output {extra[0]!r} has no counterpart in TFLite" if extra else None
