"""Pass merge-constant-arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgecc.passes.base import Loss, NodePass, PassContext
from edgecc.rewriting.reading import constant, describe, is_floating, smallest_normal

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor


class MergeConstantArithmetic(NodePass):
    """Make one operation of two that scale by constants in a row, or shift by them.

    Before: a = Mul(x, {3})   b = Div(a, {2})   c = Add(b, {1})   d = Sub({5}, c)   y = Neg(d)
    After:  b = Mul(x, {1.5})   y = Sub(b, {4})

    Mul, Div and Neg, or Add, Sub and Neg, of constants that broadcast. The merged constant is no larger than the larger
    of the two; it neither overflows nor underflows, and large ones that cancel stay: adding and subtracting them
    rounds, which may be what they are there for. A single Div or Sub stays as it is written.

    Attributes:
        ignore: patterns of node names (of either of the two) to leave alone.
    """

    name = "merge-constant-arithmetic"
    loss = Loss.ROUNDING
    keeps_types = True
    # What float16 rounds away before constants are merged is lost for good.
    before = ("convert-float16",)

    def run(self, model: Model, ctx: PassContext) -> bool:
        changed = False
        # What becomes of two nodes may merge with a third one in front of them.
        while super().run(model, ctx):
            changed = True
        return changed

    def candidates(self, model: Model) -> list[Node]:
        return model.nodes("Mul", "Div", "Add", "Sub", "Neg", ignore=self.ignore)

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        from edgecc.model import is_standard, matches_any

        for read in (_scale, _shift):
            second = read(node)
            before = None if second is None else model.producer(second.source)
            if second is None or before is None or not is_standard(before) or matches_any(before, self.ignore):
                continue
            first = read(before)
            # Two Negs are nothing at all, exactly: that is another pass's.
            if first is None or (before.op == "Neg" and node.op == "Neg"):
                continue
            merged = _merge(read, first, second, before, node, model)
            if isinstance(merged, str):
                ctx.skip(node, merged)
                return False
            _apply(merged, first.source, before, node, model, ctx)
            return True
        return False


class _Step(NamedTuple):
    """x * values, or sign * x + values; in float64."""

    source: Tensor
    values: np.ndarray
    sign: int = 1


class _Merged(NamedTuple):
    """An operation and its constant, in the order in which they are operands."""

    op: str
    values: np.ndarray
    constant_first: bool = False


_Reader = Callable[["Node"], "_Step | None"]


def _scale(node: Node) -> _Step | None:
    """A node that multiplies by a constant; None for any other."""
    if node.op == "Neg":
        return _Step(node.inputs[0], np.array(-1.0)) if is_floating(node.outputs[0].dtype) else None
    found = _constant_operand(node, ("Mul", "Div"))
    if found is None or (node.op == "Div" and (found == 0 or not np.all(constant(node, 1)))):
        return None
    values = _values(node, found)
    return _Step(node.inputs[1 - found], 1 / values if node.op == "Div" else values)


def _shift(node: Node) -> _Step | None:
    """A node that adds a constant to a tensor, or to its negative; None for any other."""
    if node.op == "Neg":
        return _Step(node.inputs[0], np.array(0.0), -1) if is_floating(node.outputs[0].dtype) else None
    found = _constant_operand(node, ("Add", "Sub"))
    if found is None:
        return None
    values = _values(node, found)
    if node.op == "Sub" and found == 1:
        return _Step(node.inputs[0], -values)
    return _Step(node.inputs[1 - found], values, -1 if node.op == "Sub" else 1)


def _merge(read: _Reader, first: _Step, second: _Step, before: Node, node: Node, model: Model) -> _Merged | str:
    between = before.outputs[0]
    if model.is_output(between):
        return f"{between.name!r} is an output of the model"
    if len(between.outputs) != 1:
        return f"{between.name!r} is read by {len(between.outputs)} inputs of nodes"
    shape = np.broadcast_shapes(first.values.shape, second.values.shape) if _fit(first, second) else None
    largest = max(first.values.size, second.values.size)
    if shape is None or np.prod(shape) > largest:
        return f"one constant for it and {describe(before)} would be larger than the larger one of theirs"
    dtype = np.dtype(between.dtype)
    merged = _product(first, second, before, node) if read is _scale else _sum(first, second, before, node)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        rounded = merged.values.astype(dtype)
    reason = _too_small(merged.values, dtype) if read is _scale else _cancels(first, second, dtype)
    if not np.isfinite(rounded).all():
        reason = f"would not be finite in {dtype}"
    if reason is not None:
        return f"one constant for it and {describe(before)} {reason}"
    return _Merged(merged.op, rounded, merged.constant_first)


def _product(first: _Step, second: _Step, before: Node, node: Node) -> _Merged:
    # What is not finite is refused afterwards.
    with np.errstate(all="ignore"):
        values = first.values * second.values
        if {before.op, node.op} <= {"Div", "Neg"}:
            return _Merged("Div", 1 / values)
    return _Merged("Mul", values)


def _sum(first: _Step, second: _Step, before: Node, node: Node) -> _Merged:
    sign, values = first.sign * second.sign, second.sign * first.values + second.values
    if sign < 0:
        return _Merged("Sub", values, constant_first=True)
    if "Add" in (before.op, node.op):
        return _Merged("Add", values)
    return _Merged("Sub", -values)


def _fit(first: _Step, second: _Step) -> bool:
    pairs = zip(first.values.shape[::-1], second.values.shape[::-1], strict=False)
    return all(a == b or 1 in (a, b) for a, b in pairs)


def _too_small(values: np.ndarray, dtype: np.dtype) -> str | None:
    """Whether a factor would lose digits in its type, or all of them."""
    sizes = np.abs(values)
    return f"would be too small for {dtype}" if ((sizes > 0) & (sizes < smallest_normal(dtype))).any() else None


def _cancels(first: _Step, second: _Step, dtype: np.dtype) -> str | None:
    """Whether adding both does more than adding their sum: digits of x go missing beside a large constant."""
    sizes = np.maximum(np.abs(first.values), np.abs(second.values))
    total = np.abs(second.sign * first.values + second.values)
    bits = {2: 10, 4: 23, 8: 52}[dtype.itemsize]
    if ((sizes > 2.0 ** (bits // 2)) & (total < sizes / 2)).any():
        return "would undo a rounding: large numbers cancel"
    return None


def _apply(merged: _Merged, source: Tensor, before: Node, node: Node, model: Model, ctx: PassContext) -> None:
    from edgecc.model import merged_origins

    ctx.done(node, f"{before.op} + {node.op} became {merged.op}", [node, before])
    values = model.constant(f"{node.outputs[0].name}/constant", merged.values)
    operands = [values, source] if merged.constant_first else [source, values]
    model.replace(node, merged.op, operands, origins=merged_origins((before, node)))
    model.remove(before)


# -------------------------------------------------------------------------------------------------------- small things


def _constant_operand(node: Node, ops: tuple[str, str]) -> int | None:
    """Which operand is constant, if exactly one is."""
    if node.op not in ops or not is_floating(node.outputs[0].dtype):
        return None
    constants = [index for index in (0, 1) if constant(node, index) is not None]
    return constants[0] if len(constants) == 1 else None


def _values(node: Node, index: int) -> np.ndarray:
    values = constant(node, index)
    assert values is not None, "it was found to be constant"
    return values.astype(np.float64)
