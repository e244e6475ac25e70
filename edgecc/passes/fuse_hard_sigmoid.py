"""Pass fuse-hard-sigmoid."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgecc.passes.base import Loss, NodePass, PassContext
from edgecc.rewriting.limits import Limits, limits
from edgecc.rewriting.reading import describe, is_close, is_op, same_shape, scalar

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor


class FuseHardSigmoid(NodePass):
    """Say HardSigmoid where exporters write max(0, min(1, alpha x + beta)) out.

    Before: a = Add(x, {3})   b = Clip(a, {0}, {6})   y = Div(b, {6})
    After:  y = HardSigmoid<alpha = 0.16666667, beta = 0.5>(x)

    Any upper limit h that is divided by afterwards, and Clip(alpha x + beta, 0, 1); the limits in every spelling that
    fuse-clip knows. An addition must be there, and a factor: `Clip(x, 0, 1)` stays a Clip.
    ONNX Runtime and TensorRT have a kernel for it; TFLite runs ADD, RELU6 and MUL, the same as without.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "fuse-hard-sigmoid"
    loss = Loss.ROUNDING
    keeps_types = True

    def candidates(self, model: Model) -> list[Node]:
        return model.nodes("Clip", "Min", "Max", "Relu", ignore=self.ignore)

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        from edgecc.model import matches_any, merged_origins

        found = limits(node, model, most=2)
        if not isinstance(found, Limits) or found.low != 0 or not 0 < found.high < math.inf:
            return False
        line = _Line(found.source, list(found.nodes))
        line.follow(found.nodes[-1], model, one=found.high == 1)
        if not line.added:
            return False
        last, reason = _last(node, found.high, line, model)
        if reason is None and not same_shape(line.source, last.outputs[0]):
            reason = f"a constant broadcasts {line.source.name!r} to another shape"
        if reason is None and np.dtype(last.outputs[0].dtype) == np.float64:
            reason = "it computes in float64, and HardSigmoid keeps its factor in float32"
        if reason is not None:
            ctx.skip(node, reason)
            return False
        nodes = list({id(part): part for part in (last, *line.nodes)}.values())
        if any(matches_any(part, self.ignore) for part in nodes):
            return False
        ctx.done(last, f"{' + '.join(sorted(part.op for part in nodes))} became HardSigmoid", nodes)
        attributes = {"alpha": _single(line.factor / found.high), "beta": _single(line.added / found.high)}
        origins = merged_origins(reversed(nodes))
        model.replace(last, "HardSigmoid", [line.source], attributes=attributes, origins=origins)
        return True


class _Line:
    """factor * source + added, as far as nodes in front compute it."""

    def __init__(self, source: Tensor, nodes: list[Node]) -> None:
        self.source, self.nodes = source, nodes
        self.factor, self.added = 1.0, 0.0

    def follow(self, reader: Node, model: Model, *, one: bool) -> None:
        """Take one addition in, and one multiplication on either side of it where the upper limit is `one`."""
        wanted = {"Add", "Sub", "Mul", "Div"} if one else {"Add", "Sub"}
        while wanted:
            node = model.producer(self.source)
            if node is None or not is_op(node, *wanted) or model.single_consumer(self.source) is not reader:
                return
            if not self._take(node):
                return
            wanted -= {"Add", "Sub"} if node.op in ("Add", "Sub") else {"Mul", "Div"}
            self.nodes.append(node)
            reader = node

    def _take(self, node: Node) -> bool:
        values = [scalar(tensor) for tensor in node.inputs]
        place = next((index for index in (1, 0) if values[index] is not None), None)
        value = None if place is None else values[place]
        if value is None or place is None or (place == 0 and node.op in ("Sub", "Div")):
            return False
        if node.op in ("Mul", "Div"):
            if not value or not math.isfinite(value):
                return False
            self.factor *= value if node.op == "Mul" else 1 / value
        else:
            self.added += self.factor * (value if node.op == "Add" else -value)
        self.source = node.inputs[1 - place]
        return True


def _last(node: Node, high: float, line: _Line, model: Model) -> tuple[Node, str | None]:
    """The node that divides by the upper limit, which is none where that is one; or why there is none."""
    result = node.outputs[0]
    if high == 1:
        if line.factor == 1:
            return node, f"{line.source.name!r} is shifted and not scaled: that is no shorter as a HardSigmoid"
        return node, None
    reader = model.single_consumer(result)
    if reader is None or model.is_inner(reader):
        return node, f"its result {result.name!r} is not only divided by its upper limit {high:g}"
    values = [scalar(tensor) for tensor in reader.inputs]
    wanted = 1 / high
    if is_op(reader, "Mul") and any(is_close(value, wanted, result.dtype) for value in values):
        return reader, None
    if is_op(reader, "Div") and is_close(values[1], high, result.dtype):
        return reader, None
    return node, f"its reader {describe(reader)} does not divide by its upper limit {high:g}"


def _single(value: float) -> float:
    """As the attribute keeps it."""
    return float(np.float32(value))
