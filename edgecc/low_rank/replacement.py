"""Two or three nodes in the place of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc.low_rank.factors import Factors
from edgecc.low_rank.splits import Split
from edgecc.model import origins
from edgecc.rewriting.reading import constant, text
from edgecc.statistics.answers import Array

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor


def replace_layer(model: Model, node: Node, split: Split, factors: Factors) -> Node:
    """Put the factors in the place of the node, which becomes the last one; its bias stays as it is.

    Args:
        model: that the node is in.
        node: Conv, Gemm or MatMul.
        split: where.
        factors: weights.

    Returns:
        The node.
    """
    if not hasattr(node, "origins"):
        node.origins = origins(node)
    given = constant(node, 1)
    assert given is not None
    old: np.ndarray = given

    def weights(matrix: Array, kernel: tuple[int, ...]) -> Tensor:
        values = matrix.reshape(len(matrix), -1, *kernel) if node.op == "Conv" else matrix.T
        return model.constant(f"{node.name}/weights", np.ascontiguousarray(values.astype(old.dtype)))

    def put_before(
        matrix: Array, kernel: tuple[int, ...], attributes: dict[str, object], shape: list[int | str] | None
    ) -> None:
        middle = model.variable(f"{node.name}/factor", old.dtype, shape)
        inputs = [node.inputs[0], weights(matrix, kernel)]
        model.add(node.op, inputs, [middle], attributes=attributes, origins=origins(node), name=f"{node.name}/factor")
        model.set_input(node, 0, middle)

    if node.op != "Conv":
        attributes: dict[str, object] = {"transA": 1} if node.attrs.get("transA", 0) else {}
        put_before(factors.first, (), attributes, _shape(node, len(factors.first), split))
        model.set_input(node, 1, weights(factors.second, ()))
        node.attrs.pop("transA", None)
        node.attrs.pop("transB", None)
        return node
    spatial = range(len(split.kernel))
    rest = tuple(axis for axis in spatial if axis not in split.axes)
    shape = _shape(node, len(factors.first), split)
    put_before(factors.first, split.first_kernel(), _attributes(node, split.axes), shape)
    last = _attributes(node, rest)
    if factors.third is not None:
        put_before(factors.second, split.second_kernel(), last, _shape(node, len(factors.second), None))
        last = _attributes(node, ())
        model.set_input(node, 1, weights(factors.third, (1,) * len(split.kernel)))
    else:
        model.set_input(node, 1, weights(factors.second, split.second_kernel()))
    node.attrs.clear()
    node.attrs.update(last)
    return node


def random_factors(split: Split, rank: int, inner: int, rng: np.random.Generator) -> Factors:
    """Factors of the right shapes that keep values about as large as they are; for timing.

    Args:
        split: where.
        rank: channels between the first layer and the second.
        inner: between the second and the third; 0 for no third one.
        rng: of the values.
    """

    def normal(rows: int, columns: int) -> Array:
        found: Array = rng.standard_normal((rows, columns)) / np.sqrt(columns)
        return found

    first = normal(rank, int(split.taps.shape[1]))
    second = normal(inner or split.outputs, rank * split.places)
    return Factors(first, second, normal(split.outputs, inner) if inner else None)


def _attributes(node: Node, axes: tuple[int, ...]) -> dict[str, object]:
    """A convolution's, along those axes of its kernel; along the others it has a kernel of size 1."""
    weights = constant(node, 1)
    assert weights is not None
    count = weights.ndim - 2
    result: dict[str, object] = {}
    for name, rest in (("strides", 1), ("dilations", 1), ("pads", 0)):
        values = list(node.attrs.get(name) or ())
        if values:
            result[name] = [v if i % count in axes else rest for i, v in enumerate(values)]
    kernel = node.attrs.get("kernel_shape")
    if kernel:
        result["kernel_shape"] = [size if axis in axes else 1 for axis, size in enumerate(kernel)]
    mode = text(node, "auto_pad", "NOTSET")
    if mode != "NOTSET":
        result["auto_pad"] = mode
        result.pop("pads", None)
    return result


def _shape(node: Node, channels: int, first: Split | None) -> list[int | str] | None:
    """Of what a factor computes: the layer's output, or along the axes left to the second factor its input."""
    output, given = node.outputs[0].shape, node.inputs[0].shape
    if output is None:
        return None
    shape = list(output)
    if node.op != "Conv":
        shape[-1] = channels
        return shape
    shape[1] = channels
    if first is not None:
        if given is None:
            return None
        for axis in range(len(first.kernel)):
            if axis not in first.axes:
                shape[2 + axis] = given[2 + axis]
    return shape
