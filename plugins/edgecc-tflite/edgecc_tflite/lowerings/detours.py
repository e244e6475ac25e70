"""Detours: a type that no kernel takes is computed in another one, exactly.

Kernels for int8, uint8 and int16 are quantized ones, which crash or compute nonsense on tensors without a scale; other
types have no kernels at all. A rule that says `detoured(rule, ...)` takes them nevertheless: its inputs go through a
conversion, its outputs back. The rule sees a node of the other type and knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from edgecc_tflite.ir import Operator, Tensor
from edgecc_tflite.lowerings.base import LoweringRule
from edgecc_tflite.lowerings.context import Lowering
from edgecc_tflite.lowerings.node_view import NodeView

_LOWEST = np.iinfo(np.int64).min


class Detour(NamedTuple):
    """How values get to the other type and back.

    Attributes:
        dtype: what is computed in.
        there: emits the conversion.
        back: emits the way back, into the given tensor.
        convert: the same for a constant.
        revert: the same for a result that is known now.
        emits: the operators of both ways.
    """

    dtype: str
    there: Callable[[Lowering, Tensor, np.dtype[Any]], Tensor]
    back: Callable[[Lowering, Tensor, Tensor], None]
    convert: Callable[[np.ndarray, np.dtype[Any]], np.ndarray]
    revert: Callable[[np.ndarray, np.dtype[Any]], np.ndarray]
    emits: tuple[str, ...]


def by_value(dtype: str) -> Detour:
    """A wider type holds every value; on the way back CAST wraps around as the narrow type would have."""
    return Detour(
        dtype, lambda c, x, to: c.cast(x, to), _cast_back, np.ndarray.astype, np.ndarray.astype, emits=("CAST",)
    )


def _cast_back(c: Lowering, x: Tensor, out: Tensor) -> None:
    c.emit("CAST", [x], out)


def by_bits(dtype: str) -> Detour:
    """The same bits under another name: for moving values, and for arithmetic that wraps around either way."""
    return Detour(dtype, _bitcast, _bitcast_back, np.ndarray.view, np.ndarray.view, emits=("BITCAST",))


def _bitcast(c: Lowering, x: Tensor, dtype: np.dtype[Any]) -> Tensor:
    if x.data is not None:
        return c.constant(x.data.view(dtype), "bits")
    return c.emit("BITCAST", [x], dtype=dtype)


def _bitcast_back(c: Lowering, x: Tensor, out: Tensor) -> None:
    c.emit("BITCAST", [x], out)


def _in_order(c: Lowering, x: Tensor, dtype: np.dtype[Any]) -> Tensor:
    if x.data is not None:
        return c.constant(_to_order(x.data, dtype), "shifted")
    return c.binary("ADD", _bitcast(c, x, dtype), c.scalar(_LOWEST, dtype))


def _out_of_order(c: Lowering, x: Tensor, out: Tensor) -> None:
    _bitcast_back(c, c.binary("ADD", x, c.scalar(_LOWEST, x.dtype)), out)


def _to_order(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    shifted: np.ndarray = np.bitwise_xor(values.view(dtype), np.array(_LOWEST, dtype))
    return shifted


#: uint64 as int64 that compares in the same way: 0 becomes the lowest value.
BY_ORDER = Detour("int64", _in_order, _out_of_order, _to_order, _to_order, emits=("BITCAST", "ADD"))

HALF = {"float16": by_value("float32")}
#: Not exact: only where it is what a user of such a model wants.
DOUBLE = {"float64": by_value("float32")}
SMALL_INTS = {
    **dict.fromkeys(("int8", "uint8", "int16", "uint16"), by_value("int32")),
    "uint32": by_value("int64"),
}
#: What wraps around in the same way whatever the sign.
MODULAR_INTS = SMALL_INTS | {"uint64": by_bits("int64")}
#: What only compares.
ORDERED_INTS = SMALL_INTS | {"uint64": BY_ORDER}
#: What only moves values.
MOVED = {
    "uint16": by_bits("int16"),
    "uint32": by_bits("int32"),
    "uint64": by_bits("int64"),
    "float64": by_bits("int64"),
}
#: The same for kernels that have neither bool nor float16.
MOVED_AS_INTS = MOVED | {"bool": by_bits("int8"), "float16": by_bits("int16")}


def detoured(rule: LoweringRule, detours: Mapping[str, Detour]) -> LoweringRule:
    """The rule for these types too, where it does not take a node as it is."""

    def seen(node: NodeView) -> NodeView:
        return node if rule.takes(node) else _DetouredView(node, detours)

    def view(node: NodeView) -> NodeView:
        return rule.view(seen(node))

    def lower(c: Lowering) -> None:
        view = seen(c.node)
        if not isinstance(view, _DetouredView) or not view.turns:
            rule.lower(c)
            return
        detour = _DetouredLowering(c, view)
        rule.lower(detour)
        detour.finish()

    emits = dict.fromkeys((*rule.emits, *(b for d in detours.values() for b in d.emits)))
    return replace(rule, lower=lower, emits=tuple(emits), view=view)


class _DetouredView(NodeView):
    """The node as if its tensors had the other types."""

    def __init__(self, node: NodeView, detours: Mapping[str, Detour]) -> None:
        super().__init__(node.node, node.model_outputs)
        self._seen = node
        self.detours = detours
        #: Whether any of its tensors has such a type.
        self.turns = any(self.detour(t.dtype) for t in (*self.inputs, *self.outputs) if t is not None)

    def detour(self, dtype: Any) -> Detour | None:
        return None if dtype is None else self.detours.get(np.dtype(dtype).name)

    def dtype(self, index: int = 0) -> np.dtype[Any]:
        dtype = self._seen.dtype(index)
        detour = self.detour(dtype)
        return dtype if detour is None else np.dtype(detour.dtype)

    def value(self, index: int) -> np.ndarray | None:
        values = self._seen.value(index)
        detour = None if values is None else self.detour(values.dtype)
        if values is None or detour is None:
            return values
        return detour.convert(values, np.dtype(detour.dtype))


class _DetouredLowering(Lowering):
    """Hands out converted inputs and other outputs; `finish` converts what was written to these."""

    def __init__(self, c: Lowering, view: _DetouredView) -> None:
        super().__init__(c.builder, view, c.origins, c.readers)
        self._c = c
        self._detour = view.detour
        self._converted: dict[Tensor, Tensor] = {}
        self._results: dict[int, Tensor] = {}

    def x(self, index: int = 0) -> Tensor:
        return self._there(self._c.x(index))

    @property
    def inputs(self) -> list[Tensor]:
        return [self._there(x) for x in self._c.inputs]

    def _there(self, x: Tensor) -> Tensor:
        detour = self._detour(x.dtype)
        if detour is None:
            return x
        if x not in self._converted:
            self._converted[x] = detour.there(self, x, np.dtype(detour.dtype))
        return self._converted[x]

    def out(self, index: int = 0) -> Tensor:
        out = self._c.out(index)
        detour = self._detour(out.dtype)
        if detour is None:
            return out
        if index not in self._results:
            self._results[index] = self.temporary(out.shape, np.dtype(detour.dtype), "detour")
        return self._results[index]

    def copy(self, x: Tensor, out: Tensor) -> None:
        for index, result in self._results.items():
            if result is out:
                self._back(index, x)
                del self._results[index]
                return
        self._c.copy(x, out)

    def define(self, index: int, values: np.ndarray) -> None:
        real = self._c.out(index).dtype
        detour = self._detour(real)
        self._c.define(index, values if detour is None or values.dtype == real else detour.revert(values, real))

    def sole_producer(self, index: int) -> Operator | None:
        """Nothing to fuse with: there is a conversion in between."""
        return None

    def finish(self) -> None:
        for index, result in self._results.items():
            self._back(index, result)

    def _back(self, index: int, result: Tensor) -> None:
        real = self._c.out(index)
        detour = self._detour(real.dtype)
        assert detour is not None
        detour.back(self, result, real)
