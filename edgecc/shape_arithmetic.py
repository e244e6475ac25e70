"""What is known of a model's shape arithmetic although a dimension, such as the batch, is open.

Exporters compute the target of a Reshape from the Shape of a tensor. One open dimension makes all of that arithmetic
depend on the input, and with it every shape behind it. Here each element of such a small integer tensor is a number, a
product of open dimensions, or unknown: elements do not wait for their neighbours. Integers that turn out to be known
become constants; the target of a Reshape gets 0 ("as the input has it") or -1 for the one that is not; a Resize is told
only the sizes that change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor

#: Larger tensors are data, not shapes.
_MOST_ELEMENTS = 64


@dataclass(frozen=True)
class OpenSize:
    """A positive factor times open dimensions, named and sorted; never negative."""

    factor: int
    names: tuple[str, ...]


Element: TypeAlias = "int | OpenSize | None"


def fold_shape_arithmetic(model: Model) -> bool:
    """Make constants of what is known; returns whether anything changed."""
    values: dict[int, np.ndarray] = {}
    changed = False
    for node in model.nodes():
        changed |= _resolve_target(node, values, model) or _resolve_sizes(node, values, model)
        value = _value(node, values)
        if value is None or value.size > _MOST_ELEMENTS:
            continue
        output = node.outputs[0]
        values[id(output)] = value
        if all(type(element) is int for element in value.flat) and not model.is_output(output):
            output.inputs.clear()
            output.to_constant(value.astype(output.dtype or np.int64))
            changed = True
    return changed


def _resolve_target(node: Node, values: dict[int, np.ndarray], model: Model) -> bool:
    """Give a Reshape a constant target if at most one dimension must be left to it."""
    if node.op != "Reshape" or id(node.inputs[1]) not in values or node.inputs[1].dtype != np.int64:
        return False
    target = _constant_target(node, values[id(node.inputs[1])].tolist())
    if target is None:
        return False
    node.attrs.pop("allowzero", None)
    model.set_input(node, 1, model.constant(f"{node.outputs[0].name}_shape", np.array(target, np.int64)))
    return True


def _constant_target(node: Node, target: list[Element]) -> list[int] | None:
    shape = node.inputs[0].shape
    literal_zero = 0 in target and bool(node.attrs.get("allowzero", 0))
    if shape is None or literal_zero:
        return None
    result = []
    for axis, wanted in enumerate(target):
        copied = axis < len(shape) and isinstance(wanted, OpenSize) and _dimension(shape[axis]) == wanted
        result.append(0 if copied else wanted if isinstance(wanted, int) else -1)
    # An element that is not known could be the -1 itself, which one more would contradict.
    return result if result.count(-1) <= 1 else None


def _resolve_sizes(node: Node, values: dict[int, np.ndarray], model: Model) -> bool:
    """Give a Resize constant sizes for the axes that it changes."""
    if node.op != "Resize" or len(node.inputs) < 4:
        return False
    sizes, shape = values.get(id(node.inputs[3])), node.inputs[0].shape
    if sizes is None or shape is None or len(sizes) != len(shape) or "axes" in node.attrs:
        return False
    if node.attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        return False
    if node.attrs.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        return False
    if _ints(sizes) is not None:
        return False  # all of them are a constant by now, which runtimes like better than axes
    axes = [axis for axis, wanted in enumerate(sizes) if _dimension(shape[axis]) != wanted]
    known = _ints(sizes[axes])
    if not axes or known is None or len(axes) == len(shape):
        return False
    node.attrs["axes"] = axes
    model.set_input(node, 3, model.constant(f"{node.outputs[0].name}_sizes", np.array(known, np.int64)))
    return True


# ------------------------------------------------------------------------------------------------------- evaluation


def _value(node: Node, values: dict[int, np.ndarray]) -> np.ndarray | None:
    """Elements of the node's only output, as an array of objects."""
    if node.domain not in (None, "", "ai.onnx") or len(node.outputs) != 1:
        return None
    if node.op in ("Shape", "Size"):
        return _of_shape(node)
    evaluate = _EVALUATIONS.get(node.op)
    if evaluate is None:
        return None
    operands = [_operand(tensor, values) for tensor in node.inputs]
    if not operands or operands[0] is None:
        return None
    result = evaluate(node, operands)
    return None if result is None else np.asarray(result, object)


def _operand(tensor: Tensor, values: dict[int, np.ndarray]) -> np.ndarray | None:
    constant = getattr(tensor, "values", None)
    if constant is None:
        return values.get(id(tensor))
    if constant.size > _MOST_ELEMENTS or constant.dtype.kind not in "iub":
        return None
    return cast("np.ndarray", constant.astype(object))


_Operands: TypeAlias = "list[np.ndarray | None]"


def _dimension(dim: int | str | None) -> Element:
    if isinstance(dim, int):
        return dim
    return OpenSize(1, (dim,)) if dim else None


def _array(elements: Iterable[Element]) -> np.ndarray:
    listed = list(elements)
    array = np.empty(len(listed), object)
    array[:] = listed
    return array


def _of_shape(node: Node) -> np.ndarray | None:
    shape = node.inputs[0].shape
    if shape is None:
        return None
    dims = [_dimension(dim) for dim in shape]
    if node.op == "Shape":
        return _array(dims[node.attrs.get("start", 0) : node.attrs.get("end", len(dims))])
    return np.asarray(_product(dims), object)


def _ints(array: np.ndarray | None) -> list[int] | None:
    """The elements if each is a number."""
    if array is None or not all(type(element) is int for element in array.flat):
        return None
    return [int(element) for element in array.flat]


def _gather(node: Node, operands: _Operands) -> np.ndarray | None:
    data, indices = operands[0], operands[1]
    assert data is not None
    if indices is None or _ints(indices) is None:
        return None
    return np.take(data, indices.astype(np.int64), axis=node.attrs.get("axis", 0))


def _slice(node: Node, operands: _Operands) -> np.ndarray | None:
    """Of a vector."""
    data, steps = operands[0], [1]
    assert data is not None
    starts, ends = _ints(operands[1]), _ints(operands[2])
    if len(operands) > 4:
        steps = _ints(operands[4]) or []
    if data.ndim != 1 or starts is None or ends is None or not steps:
        return None
    return data[starts[0] : ends[0] : steps[0]]


def _concat(node: Node, operands: _Operands) -> np.ndarray | None:
    parts = [part for part in operands if part is not None]
    if len(parts) < len(operands) or any(part.ndim != 1 for part in parts):
        return None
    return np.concatenate(parts)


def _to_out_shape(node: Node, operands: _Operands) -> np.ndarray | None:
    """Reshape, Squeeze, Unsqueeze: the inferred shape says it all."""
    shape, data = node.outputs[0].shape, operands[0]
    assert data is not None
    if shape is None or not all(isinstance(dim, int) for dim in shape):
        return None
    return data.reshape(shape)


def _same(node: Node, operands: _Operands) -> np.ndarray | None:
    return operands[0] if np.dtype(node.outputs[0].dtype or np.float32).kind in "iu" else None


def _constant_of_shape(node: Node, operands: _Operands) -> np.ndarray | None:
    dims, value = _ints(operands[0]), node.attrs.get("value")
    filler = np.asarray(getattr(value, "values", 0.0 if value is None else value)).reshape(-1)
    if dims is None or filler.dtype.kind not in "iu" or math.prod(dims) > _MOST_ELEMENTS:
        return None
    return np.full(dims, int(filler[0]), object)


def _where(node: Node, operands: _Operands) -> np.ndarray | None:
    condition, x, y = operands
    if condition is None or x is None or y is None:
        return None
    return cast("np.ndarray", np.frompyfunc(_chosen, 3, 1)(condition, x, y))


def _reduce_prod(node: Node, operands: _Operands) -> np.ndarray | None:
    data = operands[0]
    assert data is not None
    if data.ndim != 1:
        return None
    return np.full((1,) * node.attrs.get("keepdims", 1), _product(data.tolist()), object)


def _elementwise(
    function: Callable[[Element, Element], Element],
) -> Callable[[Node, _Operands], np.ndarray | None]:
    def evaluate(node: Node, operands: _Operands) -> np.ndarray | None:
        a, b = operands[0], operands[1]
        if a is None or b is None:
            return None
        return cast("np.ndarray", np.frompyfunc(function, 2, 1)(a, b))

    return evaluate


# --------------------------------------------------------------------------------------------------------- elements


def _size(factor: int, names: Iterable[str]) -> Element:
    names = tuple(sorted(names))
    if factor < 0 and names:
        return None
    return OpenSize(factor, names) if names and factor else factor


def _parts(element: int | OpenSize) -> tuple[int, tuple[str, ...]]:
    return (element, ()) if isinstance(element, int) else (element.factor, element.names)


def _times(a: Element, b: Element) -> Element:
    if a is None or b is None:
        return None
    (factor, names), (other, more) = _parts(a), _parts(b)
    return _size(factor * other, names + more)


def _product(elements: list[Element]) -> Element:
    result: Element = 1
    for element in elements:
        result = _times(result, element)
    return result


def _divided(a: Element, b: Element) -> Element:
    """Truncated as ONNX divides; of open sizes only without remainder."""
    if a is None or b is None or b == 0:
        return None
    (factor, names), (divisor, gone) = _parts(a), _parts(b)
    if not names and not gone:
        return abs(factor) // abs(divisor) * (1 if (factor < 0) == (divisor < 0) else -1)
    left = list(names)
    for name in gone:
        if name not in left:
            return None
        left.remove(name)
    return None if divisor < 0 or factor % divisor else _size(factor // divisor, left)


def _plus(a: Element, b: Element) -> Element:
    if a is None or b is None:
        return None
    (factor, names), (other, more) = _parts(a), _parts(b)
    if not other or not factor:
        return b if not factor else a
    return _size(factor + other, names) if names == more else None


def _minus(a: Element, b: Element) -> Element:
    if a is None or b is None:
        return None
    (factor, names), (other, more) = _parts(a), _parts(b)
    if not other:
        return a
    return _size(factor - other, names if factor != other else ()) if names == more else None


def _equal(a: Element, b: Element) -> Element:
    if a is None or b is None:
        return None
    if type(a) is type(b):
        return 1 if a == b else (0 if isinstance(a, int) else None)
    number = a if isinstance(a, int) else b
    return 0 if isinstance(number, int) and number < 0 else None


def _chosen(condition: Element, x: Element, y: Element) -> Element:
    if condition is None:
        return x if x == y else None
    return x if condition else y


_EVALUATIONS: dict[str, Callable[[Node, _Operands], np.ndarray | None]] = {
    "Add": _elementwise(_plus),
    "Cast": _same,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Div": _elementwise(_divided),
    "Equal": _elementwise(_equal),
    "Gather": _gather,
    "Identity": _same,
    "Mul": _elementwise(_times),
    "ReduceProd": _reduce_prod,
    "Reshape": _to_out_shape,
    "Slice": _slice,
    "Squeeze": _to_out_shape,
    "Sub": _elementwise(_minus),
    "Unsqueeze": _to_out_shape,
    "Where": _where,
}
