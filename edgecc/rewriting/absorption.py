"""A Mul, Div, Add or Sub of constants behind a normalization, taken into the normalization's scale and bias."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgecc.passes.base import PassContext
from edgecc.rewriting.affine import per_channel
from edgecc.rewriting.matching import Match
from edgecc.rewriting.patterns import Op, Rest, Value, Weight
from edgecc.rewriting.reading import describe, same_shape
from edgecc.rewriting.rewrite import Replacement, Rewrite

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor

#: A scale of more elements would make the file larger than the Mul that it saves is worth.
MOST_ELEMENTS = 1 << 20


def over_last_axes(values: np.ndarray, x: Tensor, axis: int) -> np.ndarray | None:
    """The constant with the shape of x's last axes, from `axis` on, if it differs along those alone (not a copy)."""
    shape = last_dims(x, axis)
    if shape is None:
        return None
    own = list(values.shape)
    while len(own) > len(shape) and own[0] == 1:
        own.pop(0)
    if len(own) > len(shape) or any(dim not in (1, full) for dim, full in zip(own[::-1], shape[::-1], strict=False)):
        return None
    return np.broadcast_to(values.reshape(own), shape)


def last_dims(x: Tensor, axis: int) -> tuple[int, ...] | None:
    """Sizes of the axes from `axis` on, if they are known and few elements."""
    if x.shape is None or not all(isinstance(dim, int) for dim in x.shape[axis:]):
        return None
    dims = tuple(int(dim) for dim in x.shape[axis:])
    return dims if np.prod(dims) <= MOST_ELEMENTS else None


def over_channels(values: np.ndarray, x: Tensor) -> np.ndarray | None:
    """The constant with one value per channel, axis 1, if it differs along that alone (not a copy)."""
    if x.shape is None or len(x.shape) < 2 or not isinstance(x.shape[1], int):
        return None
    return per_channel(values, len(x.shape), 1, x.shape[1])


class AbsorbAffine(Rewrite):
    """A constant behind a normalization becomes part of its scale and bias.

    Args:
        normalization: operator type; its inputs are x, a scale and, where it has one, a bias.
        op: Mul, Div, Add or Sub.
    """

    def __init__(self, normalization: str, op: str) -> None:
        self.normalization, self.anchor = normalization, op
        self._scale, self._rest, self._constant = Value(), Rest(), Weight()
        self._normal = Op(normalization, Value(), self._scale, self._rest)
        self.pattern = Op(op, self._normal, self._constant)

    def is_candidate(self, node: Node, model: Model) -> bool:
        from edgecc.model import is_standard, value_of

        producers = [model.producer(tensor) for tensor in node.inputs]
        normal = any(p is not None and p.op == self.normalization and is_standard(p) for p in producers)
        return normal and any(value_of(tensor) is not None for tensor in node.inputs)

    @abstractmethod
    def spread(self, values: np.ndarray, normal: Node) -> np.ndarray | None:
        """The constant in the shape of the normalization's scale, None if it does not broadcast like one."""

    def replacement(self, found: Match, model: Model, ctx: PassContext) -> Replacement | str:
        from edgecc.model import value_of

        normal, constant = found.node(self._normal), found.tensor(self._constant)
        old = [value_of(tensor) for tensor in (found.tensor(self._scale), *found.rest(self._rest))]
        if any(values is None for values in old):
            return f"the scale or bias of {describe(normal)} is computed"
        values = self.spread(found.constant(self._constant), normal)
        if values is None or not same_shape(normal.outputs[0], found.output):
            return f"{constant.name!r} does not broadcast like the scale of {describe(normal)}"
        new = self._combined([v for v in old if v is not None], values)
        if isinstance(new, str):
            return new
        names = [tensor.name for tensor in normal.inputs[1:]] + [f"{normal.name}/bias"]
        tensors = [model.constant(name, part) for name, part in zip(names, new, strict=False)]
        return Replacement(self.normalization, [normal.inputs[0], *tensors], dict(normal.attrs))

    def _combined(self, old: Sequence[np.ndarray], values: np.ndarray) -> list[np.ndarray] | str:
        """Scale and bias afterwards; or why they cannot be."""
        dtype, wide = old[0].dtype, values.astype(np.float64)
        scale, *bias = [np.broadcast_to(part, values.shape).astype(np.float64) for part in old]
        with np.errstate(all="ignore"):
            if self.anchor in ("Mul", "Div"):
                new = [part * wide if self.anchor == "Mul" else part / wide for part in (scale, *bias)]
            else:
                added = wide if self.anchor == "Add" else -wide
                new = [scale, bias[0] + added if bias else added]
            narrow = [part.astype(dtype) for part in new]
        if not all(np.isfinite(part.astype(np.float64)).all() for part in narrow):
            return f"scale and bias would not be finite in {dtype}"
        return narrow


class AbsorbOverLastAxes(AbsorbAffine):
    """For normalizations over the last axes, from attribute `axis` on."""

    def spread(self, values: np.ndarray, normal: Node) -> np.ndarray | None:
        x = normal.inputs[0]
        axis = int(normal.attrs.get("axis", -1))
        return None if x.shape is None else over_last_axes(values, x, axis % len(x.shape))


class AbsorbOverChannels(AbsorbAffine):
    """For normalizations with one scale per channel."""

    def spread(self, values: np.ndarray, normal: Node) -> np.ndarray | None:
        return over_channels(values, normal.inputs[0])
