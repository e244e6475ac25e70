"""Gradients of squared errors inside a model, with respect to its weights, as more nodes of its graph.

Reverse mode: from the tensors whose errors count, backwards through the operators that have a rule here. Where one has
none the gradient ends; layers before it are then led by what is compared in front of it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from edgecc.model import is_standard
from edgecc.rewriting.reading import constant, has_operand, is_scaled_gemm
from edgecc.rewriting.shapes import as_integers
from edgecc.statistics.layers import gram_of
from edgecc.statistics.patches import padding
from edgecc.statistics.requests import Patches

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor

#: Of one input of a node: its place, and the gradient.
_Parts: TypeAlias = "list[tuple[int, Tensor]]"


class Tape:
    """Appends nodes to a model.

    Args:
        model: changed.
    """

    def __init__(self, model: Model) -> None:
        self._model = model

    def add(self, op: str, *inputs: Tensor, **attributes: Any) -> Tensor:
        """One node with one output."""
        result = self._model.variable(f"gradient/{op}", np.int64 if op == "Shape" else np.float32, None)
        self._model.add(op, list(inputs), [result], attributes=attributes, name=f"gradient/{op}")
        return result

    def number(self, value: float) -> Tensor:
        return self._model.constant("gradient/number", np.array(value, np.float32))

    def numbers(self, *values: int) -> Tensor:
        return self._model.constant("gradient/numbers", as_integers(list(values)))

    def reshaped(self, tensor: Tensor, *shape: int) -> Tensor:
        return self.add("Reshape", tensor, self.numbers(*shape))

    def summed(self, tensor: Tensor, *axes: int) -> Tensor:
        return self.add("ReduceSum", tensor, self.numbers(*axes), keepdims=0)


def add_gradients(tape: Tape, nodes: Sequence[Node], seeds: Mapping[str, Tensor]) -> dict[int, Tensor]:
    """Append what computes the gradients of the constants that nodes multiply by and add.

    Args:
        tape: of the model.
        nodes: of its main graph, in order; what was appended before is none of them.
        seeds: for tensors by name, the gradient with respect to them of the error that is measured there.

    Returns:
        The gradients by the constants' ids; those that no error reaches are missing.
    """
    found: dict[int, list[Tensor]] = {}
    for node in reversed(nodes):
        parts = found.pop(id(node.outputs[0]), [])
        seed = seeds.get(node.outputs[0].name)
        parts += [] if seed is None else [seed]
        rule = _RULES.get(node.op) if is_standard(node) else None
        if not parts or rule is None:
            continue
        whole = parts[0] if len(parts) == 1 else tape.add("Sum", *parts)
        for index, part in rule(node, whole, tape):
            found.setdefault(id(node.inputs[index]), []).append(part)
    return {key: parts[0] if len(parts) == 1 else tape.add("Sum", *parts) for key, parts in found.items()}


# ------------------------------------------------------------------------------------------------------------- rules


def _relu(node: Node, gradient: Tensor, tape: Tape) -> _Parts:
    return [(0, tape.add("Mul", gradient, tape.add("Sign", node.outputs[0])))]


def _add(node: Node, gradient: Tensor, tape: Tape) -> _Parts:
    """Where nothing is broadcast."""
    shape = node.outputs[0].shape
    return [(i, gradient) for i in (0, 1) if node.inputs[i].shape == shape and shape is not None]


def _transpose(node: Node, gradient: Tensor, tape: Tape) -> _Parts:
    order = node.attrs.get("perm")
    if order is None:
        return [(0, tape.add("Transpose", gradient))]
    return [(0, tape.add("Transpose", gradient, perm=[int(place) for place in np.argsort(order)]))]


def _reshape(node: Node, gradient: Tensor, tape: Tape) -> _Parts:
    return [(0, tape.add("Reshape", gradient, tape.add("Shape", node.inputs[0])))]


def _mean(node: Node, gradient: Tensor, tape: Tape) -> _Parts:
    """An average over all of the space."""
    before, after = node.inputs[0].shape, node.outputs[0].shape
    if before is None or after is None or len(before) != len(after) or any(size != 1 for size in after[2:]):
        return []
    if not all(isinstance(size, int) for size in before[2:]) or any(node.attrs.get("pads") or ()):
        return []
    area = math.prod(int(size) for size in before[2:])
    if list(node.attrs.get("kernel_shape", before[2:])) != list(before[2:]):
        return []
    share = tape.add("Div", gradient, tape.number(area))
    return [(0, tape.add("Expand", share, tape.add("Shape", node.inputs[0])))]


def _gemm(node: Node, gradient: Tensor, tape: Tape) -> _Parts:
    weights = constant(node, 1)
    if weights is None or is_scaled_gemm(node) or node.attrs.get("transA", 0):
        return []
    turned = bool(node.attrs.get("transB", 0))
    pair = (gradient, node.inputs[0]) if turned else (node.inputs[0], gradient)
    found = [
        (0, tape.add("Gemm", gradient, node.inputs[1], transB=int(not turned))),
        (1, tape.add("Gemm", *pair, transA=1)),
    ]
    if has_operand(node, 2) and tuple(node.inputs[2].shape or ()) == (weights.shape[0 if turned else 1],):
        found.append((2, tape.summed(gradient, 0)))
    return found


def _matmul(node: Node, gradient: Tensor, tape: Tape) -> _Parts:
    weights = constant(node, 1)
    if weights is None or weights.ndim != 2:
        return []
    rows, errors = (tape.reshaped(t, -1, n) for t, n in zip((node.inputs[0], gradient), weights.shape, strict=True))
    return [
        (0, tape.add("MatMul", gradient, tape.add("Transpose", node.inputs[1], perm=[1, 0]))),
        (1, tape.add("Gemm", rows, errors, transA=1)),
    ]


def _conv(node: Node, gradient: Tensor, tape: Tape) -> _Parts:
    weights, request = constant(node, 1), gram_of(node)
    shapes = [tensor.shape[2:] if tensor.shape is not None else ["?"] for tensor in (node.inputs[0], node.outputs[0])]
    if weights is None or request is None or not all(isinstance(size, int) for shape in shapes for size in shape):
        return []
    layout = request.layout
    assert isinstance(layout, Patches), "it is a convolution"
    before, after = (tuple(int(size) for size in shape) for shape in shapes)
    found = [(0, _conv_input(node, gradient, tape, layout, before, after))]
    single = layout.group == len(weights) and weights.shape[1] == 1
    if layout.group == 1 or single:
        found.append((1, _conv_weights(node, gradient, tape, layout, before, after)))
    if has_operand(node, 2):
        found.append((2, tape.summed(gradient, 0, *range(2, 2 + len(before)))))
    return found


def _conv_input(
    node: Node, gradient: Tensor, tape: Tape, layout: Patches, before: tuple[int, ...], after: tuple[int, ...]
) -> Tensor:
    begins, ends = padding(before, layout)
    reach = [
        (count - 1) * stride + dilation * (kernel - 1) + 1
        for count, stride, dilation, kernel in zip(after, layout.strides, layout.dilations, layout.kernel, strict=True)
    ]
    rest = [size + b + e - r for size, b, e, r in zip(before, begins, ends, reach, strict=True)]
    return tape.add(
        "ConvTranspose",
        gradient,
        node.inputs[1],
        strides=list(layout.strides),
        dilations=list(layout.dilations),
        pads=[*begins, *ends],
        output_padding=rest,
        group=layout.group,
    )


def _conv_weights(
    node: Node, gradient: Tensor, tape: Tape, layout: Patches, before: tuple[int, ...], after: tuple[int, ...]
) -> Tensor:
    """For each place of the kernel, the products of what it read and of the gradient."""
    weights = constant(node, 1)
    assert weights is not None
    begins, ends = padding(before, layout)
    source, axes = node.inputs[0], range(2, 2 + len(before))
    if any((*begins, *ends)):
        source = tape.add("Pad", source, tape.numbers(0, 0, *begins, 0, 0, *ends))
    errors = None
    if layout.group == 1:
        errors = tape.add("Transpose", tape.reshaped(gradient, 0, len(weights), -1), perm=[0, 2, 1])
    taps = []
    for place in itertools.product(*(range(size) for size in layout.kernel)):
        starts = [p * dilation for p, dilation in zip(place, layout.dilations, strict=True)]
        stops = [s + (n - 1) * step + 1 for s, n, step in zip(starts, after, layout.strides, strict=True)]
        bounds = [tape.numbers(*values) for values in (starts, stops, axes, layout.strides)]
        read = tape.add("Slice", source, *bounds)
        if errors is None:
            tap = tape.summed(tape.add("Mul", read, gradient), 0, *axes)
        else:
            tap = tape.summed(tape.add("MatMul", tape.reshaped(read, 0, weights.shape[1], -1), errors), 0)
        taps.append(tape.reshaped(tap, 1, weights.shape[1], len(weights)))
    whole = tape.add("Concat", *taps, axis=0) if len(taps) > 1 else taps[0]
    return tape.reshaped(tape.add("Transpose", whole, perm=[2, 1, 0]), *weights.shape)


_RULES: dict[str, Callable[[Node, Tensor, Tape], _Parts]] = {
    "Add": _add,
    "AveragePool": _mean,
    "Conv": _conv,
    "Flatten": _reshape,
    "Gemm": _gemm,
    "GlobalAveragePool": _mean,
    "MatMul": _matmul,
    "Relu": _relu,
    "Reshape": _reshape,
    "Transpose": _transpose,
}
