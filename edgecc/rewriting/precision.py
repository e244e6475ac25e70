"""A float16 tensor that is cast to float32 for a normalization and back behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgecc.passes.base import PassContext
from edgecc.rewriting.matching import Match
from edgecc.rewriting.patterns import Op, Rest, Value
from edgecc.rewriting.reading import describe
from edgecc.rewriting.rewrite import Replacement, Rewrite

if TYPE_CHECKING:
    from edgecc.model import Model, Node


class DropCasts(Rewrite):
    """Cast, normalize in float32, Cast back: what the normalization does by itself with `stash_type` float32.

    Args:
        normalization: LayerNormalization or RMSNormalization.
    """

    def __init__(self, normalization: str) -> None:
        self.normalization = self.anchor = normalization
        self._x, self._rest = Value(), Rest()
        self._normal = Op(normalization, Op("Cast", self._x), self._rest)
        self.pattern = Op("Cast", self._normal)

    def is_candidate(self, node: Node, model: Model) -> bool:
        cast = model.producer(node.inputs[0])
        return cast is not None and cast.op == "Cast" and _is_half(cast.inputs[0].dtype)

    def replacement(self, found: Match, model: Model, ctx: PassContext) -> Replacement | str:
        from edgecc.model import value_of

        x, normal = found.tensor(self._x), found.node(self._normal)
        if normal.inputs[0].dtype != np.float32 or not _is_half(x.dtype) or found.output.dtype != x.dtype:
            return f"the Casts around {describe(normal)} are not from a half precision to float32 and back"
        if normal.attrs.get("stash_type", 1) != 1:
            return f"{describe(normal)} does not compute in float32"
        parts = []
        for tensor in found.rest(self._rest):
            values = value_of(tensor)
            if values is None:
                return f"{tensor.name!r} is computed, in float32"
            with np.errstate(over="ignore"):
                narrow = values.astype(np.dtype(x.dtype))
            if not np.array_equal(narrow.astype(values.dtype), values):
                return f"{tensor.name!r} is more precise than {np.dtype(x.dtype)}"
            parts.append((tensor.name, narrow))
        inputs = [x, *(model.constant(name, values) for name, values in parts)]
        return Replacement(self.normalization, inputs, {**normal.attrs, "stash_type": 1})


def _is_half(dtype: Any) -> bool:
    return dtype is not None and np.dtype(dtype).name in ("float16", "bfloat16")
