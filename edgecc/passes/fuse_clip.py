"""Pass fuse-clip."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgecc.passes.base import Loss, NodePass, PassContext
from edgecc.rewriting.limits import LIMITING, Limits, bound_tensors, limits
from edgecc.rewriting.reading import scalar

if TYPE_CHECKING:
    from edgecc.model import Model, Node, Tensor


class FuseClip(NodePass):
    """Say in one node between which two constants values are kept: Relu for zero and no upper bound, otherwise Clip.

    Before: a = Max(x, {0})   b = Min(a, {6})   c = Relu(b)   y = Min(c, {5})
    After:  y = Clip(x, {0}, {5})

    Also `Where(LessOrEqual(x, c), c, x)`, as thresholds are exported. Numbers alone are compared, so that what is not a
    number stays so. Rounding, since zeros may change their sign (ONNX Runtime: Max(-0, 0) is 0, Relu(-0) is -0) and
    infinity may become the greatest number, or stay what it is where that was cut off: a Clip of one bound cuts there.

    A bound that limits nothing, as in Max(x, {-inf}), goes. Left alone are integers, bounds that are computed or have
    several elements, a lower bound above the upper one, what makes every value infinite, and limits whose inner result
    something else reads.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "fuse-clip"
    loss = Loss.ROUNDING
    keeps_types = True

    def candidates(self, model: Model) -> list[Node]:
        # Last ones first: they take in those in front of them.
        return model.nodes(*LIMITING, ignore=self.ignore)[::-1]

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        from edgecc.model import matches_any, merged_origins

        found = limits(node, model)
        if not isinstance(found, Limits):
            if found is not None:
                ctx.skip(node, found)
            return False
        if any(matches_any(part, self.ignore) for part in found.nodes):
            return False
        if found.refused:
            ctx.skip(node, found.refused)
        if found.low == -math.inf and found.high == math.inf:
            return _drop(node, found, model, ctx)
        op = "Relu" if found.low == 0 and found.high == math.inf else "Clip"
        if len(found.nodes) == 1 and node.op == op:
            return False
        ctx.done(node, f"{' + '.join(sorted(part.op for part in found.nodes))} became {op}", found.nodes)
        inputs = [found.source, *(_bounds(found, model) if op == "Clip" else ())]
        model.replace(node, op, inputs, origins=merged_origins(reversed(found.nodes)))
        for part in found.nodes[1:]:
            model.remove(part)
        return True


def _drop(node: Node, found: Limits, model: Model, ctx: PassContext) -> bool:
    """Remove nodes that limit nothing."""
    result = node.outputs[0]
    ctx.done(node, f"{' + '.join(sorted(part.op for part in found.nodes))} without bounds went", found.nodes)
    if not model.redirect(result, found.source):
        ctx.changes.pop()
        ctx.skip(node, f"it has no bounds, but {found.source.name!r} and {result.name!r} must keep their names")
        return False
    for part in found.nodes:
        model.remove(part)
    return True


def _bounds(found: Limits, model: Model) -> list[Tensor]:
    """The inputs of a Clip behind the first one."""
    from edgecc.model import Variable

    tensors = []
    for bound, hint in ((found.low, "min"), (found.high, "max")):
        if math.isinf(bound):
            tensors.append(Variable.empty())
            continue
        known = (tensor for tensor in bound_tensors(found) if scalar(tensor) == bound)
        new = np.asarray(bound, np.dtype(found.source.dtype))
        tensors.append(next(known, None) or model.constant(f"{found.nodes[0].name}/{hint}", new))
    return tensors if not tensors[1].is_empty() else tensors[:1]
