"""Reading nodes: operands, constants and attributes, with ONNX's defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from edgecc.model import Node, Tensor

#: Relative difference that a constant written in decimals may have; float16 has its own.
_TOLERANCE, _HALF_TOLERANCE = 1e-5, 2e-3


def is_op(node: Node | None, *ops: str) -> bool:
    """Whether it is a node of one of these operators of the default domain: others may have operators of that name."""
    from edgecc.model import is_standard

    return node is not None and node.op in ops and is_standard(node)


def has_operand(node: Node, index: int) -> bool:
    """Whether the node has that input; optional ones may be left out or empty."""
    return len(node.inputs) > index and not node.inputs[index].is_empty()


def constant(node: Node, index: int) -> np.ndarray | None:
    """Values of an input (shared: never write into them); None if it is left out or computed."""
    from edgecc.model import value_of

    return value_of(node.inputs[index]) if has_operand(node, index) else None


def scalar(tensor: Tensor) -> float | None:
    """The value of a constant of one element, whatever its rank; None for anything else."""
    from edgecc.model import value_of

    values = value_of(tensor)
    if values is None or values.size != 1 or values.dtype.kind not in "fiuV":
        return None
    return float(values.reshape(-1)[0])


def is_close(found: float | None, wanted: float, dtype: DTypeLike | None) -> bool:
    """Whether a constant is that number, up to the rounding of its type and of decimals that it was written in."""
    if found is None:
        return False
    half = dtype is not None and np.dtype(dtype).itemsize == 2
    return abs(found - wanted) <= (_HALF_TOLERANCE if half else _TOLERANCE) * max(abs(wanted), 1e-30)


def is_floating(dtype: DTypeLike | None) -> bool:
    """Whether it is a type of floating point numbers in which a model computes: bfloat16 is, float8 is not."""
    # numpy knows bfloat16 only as an extension, whose kind is "V", like that of int4.
    return dtype is not None and (np.dtype(dtype).kind == "f" or np.dtype(dtype).name == "bfloat16")


def smallest_normal(dtype: DTypeLike) -> float:
    """The smallest number of a floating point type with all of its digits: 6e-5 for float16."""
    # bfloat16, which numpy does not know, reaches as far as float32.
    return float(np.finfo(dtype if np.dtype(dtype).kind == "f" else np.float32).smallest_normal)


def text(node: Node, name: str, default: str) -> str:
    """An attribute that holds text."""
    value = node.attrs.get(name, default)
    return value.decode() if isinstance(value, bytes) else str(value)


def number(node: Node, name: str, default: float) -> float:
    """An attribute that holds a number."""
    return float(cast("float", node.attrs.get(name, default)))


def is_scaled_gemm(node: Node) -> bool:
    """Whether it is a Gemm that multiplies its product or its bias by something else than 1."""
    return node.op == "Gemm" and (number(node, "alpha", 1) != 1 or number(node, "beta", 1) != 1)


def integers(node: Node, index: int) -> list[int] | None:
    """The elements of a constant vector of integers; None if it is left out or computed."""
    values = constant(node, index)
    return None if values is None else [int(value) for value in values.reshape(-1)]


def rank(tensor: Tensor) -> int | None:
    """Number of axes, if known."""
    return None if tensor.shape is None else len(tensor.shape)


def is_static(tensor: Tensor) -> bool:
    """Whether every dimension is a number."""
    return tensor.shape is not None and all(isinstance(dim, int) for dim in tensor.shape)


def same_shape(first: Tensor, second: Tensor) -> bool:
    """Whether both have the same numbers and named dimensions."""
    if first.shape is None or second.shape is None:
        return False
    return list(first.shape) == list(second.shape)


def describe(node: Node | None) -> str:
    """A node in the words of a reason."""
    from edgecc.model import display_name

    return "an input or constant" if node is None else f"{display_name(node)} ({node.op})"
