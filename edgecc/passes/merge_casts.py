"""Pass merge-casts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecc.passes.base import Loss, NodePass, PassContext

if TYPE_CHECKING:
    from edgecc.model import Model, Node

#: Bits of the significand, the hidden one included, and the exponents of the smallest and largest powers of two.
_FLOATS = {
    "bfloat16": (8, -133, 127),
    "float16": (11, -24, 15),
    "float32": (24, -149, 127),
    "float64": (53, -1074, 1023),
}
_INTEGERS = frozenset({"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"})


class MergeCasts(NodePass):
    """Make one Cast, or none, of two, where the type in the middle holds every value.

    Before: a = Cast<to = FLOAT>(x)   y = Cast<to = INT64>(a)   (x is int8)
    After:  y = Cast<to = INT64>(x)

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "merge-casts"
    loss = Loss.EXACT
    keeps_types = True

    def candidates(self, model: Model) -> list[Node]:
        return model.nodes("Cast", ignore=self.ignore)

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        from edgecc.model import is_standard, matches_any, merged_origins

        first = model.producer(node.inputs[0])
        if first is None or first.op != "Cast" or not is_standard(first) or matches_any(first, self.ignore):
            return False
        source = first.inputs[0]
        types = [tensor.dtype for tensor in (source, first.outputs[0], node.outputs[0])]
        if any(dtype is None for dtype in types):
            ctx.skip(node, f"the type of {source.name!r} is not known")
            return False
        names = [np.dtype(dtype).name for dtype in types]
        if not _holds(names[0], names[1]):
            ctx.skip(node, f"{first.name} makes {names[1]} of {names[0]}, which loses values")
            return False
        if not _same_directly(names[0], names[2]):
            ctx.skip(
                node, f"from {names[0]} to {names[2]}, values that do not fit come out otherwise than by {names[1]}"
            )
            return False
        nothing = names[0] == names[2]
        ctx.done(node, "two Casts cancel" if nothing else "two Casts became one", [node, first])
        if nothing and model.redirect(node.outputs[0], source):
            model.remove(node)
        else:
            attributes = {} if nothing else dict(node.attrs)
            model.replace(
                node,
                "Identity" if nothing else "Cast",
                [source],
                attributes=attributes,
                origins=merged_origins((first, node)),
            )
        if not first.outputs[0].outputs and not model.is_output(first.outputs[0]):
            model.remove(first)
        return True


def _holds(source: str, middle: str) -> bool:
    """Whether every value of the first type is one of the second."""
    if source == middle:
        return True
    if source in _INTEGERS and middle in _INTEGERS:
        return _within(_range(source), _range(middle))
    if source in _INTEGERS and middle in _FLOATS:
        digits, _, highest = _FLOATS[middle]
        return max(abs(bound) for bound in _range(source)) <= 2**digits and highest >= digits
    if source in _FLOATS and middle in _FLOATS:
        (digits, lowest, highest), (more, lower, higher) = _FLOATS[source], _FLOATS[middle]
        return more >= digits and lower <= lowest and higher >= highest
    return False


def _same_directly(source: str, result: str) -> bool:
    """Whether a conversion gives the same as one from a larger type: not where integers wrap and floats saturate."""
    if source == result or result == "bool" or result in _FLOATS:
        return source in _INTEGERS or source in _FLOATS
    return source in _INTEGERS and result in _INTEGERS and _within(_range(source), _range(result))


def _range(name: str) -> tuple[int, int]:
    if name == "bool":
        return 0, 1
    info = np.iinfo(name)
    return int(info.min), int(info.max)


def _within(inner: tuple[int, int], outer: tuple[int, int]) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]
