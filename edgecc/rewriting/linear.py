"""Linear nodes: Conv, ConvTranspose, Gemm and MatMul with constant weights, read and given others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from edgecc.rewriting.reading import constant, describe, has_operand, is_floating, is_op, rank, smallest_normal

if TYPE_CHECKING:
    from edgecc.model import Model, Node

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Linear:
    """A linear node whose weights (input 1) and bias, if it has one, are constant.

    Attributes:
        node: the node.
        weights: shared; never written into.
        adder: the Add of a constant that is the only reader of a MatMul with more than two axes and serves as its bias.
    """

    node: Node
    weights: np.ndarray
    adder: Node | None = None

    @cached_property
    def groups(self) -> int:
        return int(self.node.attrs.get("group", 1))

    @cached_property
    def transposed(self) -> bool:
        """Whether the weights have one row per output."""
        return bool(self.node.op == "Gemm" and self.node.attrs.get("transB", 0))

    @property
    def inputs(self) -> int:
        """Channels that go in."""
        if self.node.op == "Conv":
            return int(self.weights.shape[1]) * self.groups
        return int(self.weights.shape[1 if self.transposed else 0])

    @property
    def outputs(self) -> int:
        """Channels that come out."""
        if self.node.op == "Conv":
            return int(self.weights.shape[0])
        if self.node.op == "ConvTranspose":
            return int(self.weights.shape[1]) * self.groups
        return int(self.weights.shape[0 if self.transposed else 1])

    @property
    def rank(self) -> int | None:
        """Axes of the output, and of the input unless that is a vector."""
        return rank(self.node.outputs[0]) if self.node.op == "MatMul" else int(self.weights.ndim)

    def output_axis(self) -> int | None:
        """The axis of the output channels; None if the rank is not known."""
        if self.node.op in ("Conv", "ConvTranspose"):
            return 1
        return None if self.rank is None else self.rank - 1

    def input_axis(self) -> int | None:
        """The axis of the input channels; None if the rank is not known."""
        if self.node.op == "Gemm":
            return 0 if self.node.attrs.get("transA", 0) else 1
        if self.node.op != "MatMul":
            return 1
        axes = rank(self.node.inputs[0])
        return None if axes is None else axes - 1

    @property
    def last(self) -> Node:
        """The node that writes the result, bias included."""
        return self.node if self.adder is None else self.adder

    def bias(self) -> np.ndarray | None:
        """What is added to the product, in float64, as it broadcasts over the output; None if nothing is."""
        holder, index = (self.node, 2) if self.adder is None else (self.adder, _constant_index(self.adder))
        values = constant(holder, index)
        factor = self.node.attrs.get("beta", 1.0) if self.node.op == "Gemm" else 1.0
        return None if values is None else values.astype(np.float64) * factor

    def takes_bias(self) -> bool:
        return self.adder is not None or self.node.op != "MatMul" or self.rank == 2

    # ------------------------------------------------------------------------------------------------ new weights

    def scale_outputs(self, scale: np.ndarray) -> np.ndarray:
        """New weights: each output channel times its scale."""
        if self.node.op == "Conv":
            return scaled(self.weights, self._over_kernel(scale[:, None]))
        if self.node.op == "ConvTranspose":
            return scaled(self.weights, self._over_kernel(self._by_group(scale)))
        return scaled(self.weights, scale[:, None] if self.transposed else scale)

    def scale_inputs(self, scale: np.ndarray) -> np.ndarray:
        """New weights: each input channel times its scale."""
        if self.node.op == "Conv":
            return scaled(self.weights, self._over_kernel(self._by_group(scale)))
        if self.node.op == "ConvTranspose":
            return scaled(self.weights, self._over_kernel(scale[:, None]))
        return scaled(self.weights, scale if self.transposed else scale[:, None])

    def _by_group(self, values: np.ndarray) -> np.ndarray:
        """Values of the channels that the weights' second axis counts within each group, one row per first axis."""
        return np.repeat(values.reshape(self.groups, -1), self.weights.shape[0] // self.groups, axis=0)

    def _over_kernel(self, values: np.ndarray) -> np.ndarray:
        return values.reshape(*values.shape, *(1,) * (self.weights.ndim - 2))

    def of_constant(self, shift: np.ndarray) -> np.ndarray:
        """What the product makes of a tensor with that one value per input channel, in float64 per output channel.

        For a convolution: where its window sees no padding.
        """
        if self.node.op in ("Gemm", "MatMul"):
            alpha = self.node.attrs.get("alpha", 1.0) if self.node.op == "Gemm" else 1.0
            letters = "nk,k->n" if self.transposed else "kn,k->n"
            return np.asarray(np.einsum(letters, self.weights, shift, dtype=np.float64)) * alpha
        taps = self.weights.sum(axis=tuple(range(2, self.weights.ndim)), dtype=np.float64)
        if self.node.op == "Conv":
            return np.asarray((taps * self._by_group(shift)).sum(axis=1))
        products = (taps * shift[:, None]).reshape(self.groups, -1, taps.shape[1])
        return np.asarray(products.sum(axis=1).reshape(-1))

    def rounded(self, bias: np.ndarray) -> np.ndarray:
        """A bias in the type of the weights."""
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(bias.astype(self.weights.dtype))

    def refuses(
        self, weights: np.ndarray | None, bias: np.ndarray | None, scale: np.ndarray | float = 1.0
    ) -> str | None:
        """Why these cannot be its weights and bias; None if they can.

        Args:
            weights: new ones; None if the old ones stay.
            bias: likewise.
            scale: what the old weights were multiplied by.
        """
        new = [values for values in (weights, bias) if values is not None]
        if not all(np.isfinite(values).all() for values in new):
            return f"the new weights of {self.node.name} would not be finite in {self.weights.dtype}"
        if weights is not None and np.any(scale) and loses_digits(weights, self.weights):
            return f"the new weights of {self.node.name} would be too small for {self.weights.dtype}"
        return None

    def update(self, model: Model, weights: np.ndarray | None, bias: np.ndarray | None) -> None:
        """Give the node other weights and another bias; None leaves them. A MatMul with a bias becomes a Gemm.

        Constants that others read too are left to them.
        """
        node = self.node
        if weights is not None:
            model.set_input(node, 1, model.constant(node.inputs[1].name, weights))
        if bias is None:
            return
        if self.adder is not None:
            index = _constant_index(self.adder)
            model.set_input(self.adder, index, model.constant(self.adder.inputs[index].name, bias))
            return
        if node.op == "MatMul":
            node.op = "Gemm"
        node.attrs.pop("beta", None)
        if len(node.inputs) > 2:
            model.set_input(node, 2, model.constant(node.inputs[2].name or f"{node.name}/bias", bias))
        else:
            node.inputs.append(model.constant(f"{node.name}/bias", bias))


def linear_of(node: Node | None, model: Model) -> Linear | str:
    """A linear node with constant floating point weights, or the reason why it is none."""
    if node is None or not is_op(node, *LINEAR) or not node.outputs:
        return f"{describe(node)} is no {', '.join(LINEAR[:-1])} or {LINEAR[-1]}"
    weights = constant(node, 1)
    if weights is None or (constant(node, 2) is None and has_operand(node, 2)):
        return f"the weights of {node.name} are not constant"
    if not is_floating(weights.dtype):
        return f"the weights of {node.name} are {weights.dtype}"
    if weights.ndim < 2 or (node.op == "MatMul" and weights.ndim != 2):
        return f"the weights of {node.name} are no matrix"
    return Linear(node, weights, _adder(node, weights, model))


def scaled(weights: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Weights times a factor that broadcasts over them, computed in float64 without a copy in that type."""
    result = np.empty(weights.shape, weights.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        if weights.dtype.kind != "f":
            result[...] = weights.astype(np.float64) * factor
        else:
            np.multiply(weights, factor, out=result, dtype=np.float64, casting="same_kind")
    return result


def loses_digits(new: np.ndarray, old: np.ndarray) -> bool:
    """Whether the largest weight has less than all digits of its type, and had them before it was scaled."""
    least = smallest_normal(new.dtype)
    return _largest(new) < least <= _largest(old)


def _largest(values: np.ndarray) -> float:
    """The largest absolute value, without a copy of the weights."""
    return max(float(values.max()), -float(values.min())) if values.size else 0.0


def _adder(node: Node, weights: np.ndarray, model: Model) -> Node | None:
    if node.op != "MatMul" or rank(node.outputs[0]) in (None, 2):
        return None
    reader = model.single_consumer(node.outputs[0])
    if reader is None or not is_op(reader, "Add") or model.is_inner(reader):
        return None
    values = constant(reader, _constant_index(reader))
    if values is None or values.ndim > (rank(node.outputs[0]) or 0):
        return None
    return reader if values.size == 1 or values.shape == (1,) * (values.ndim - 1) + weights.shape[1:] else None


def _constant_index(adder: Node) -> int:
    return 0 if constant(adder, 0) is not None else 1
