"""Pass merge-transposes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from edgecc.passes.base import Loss, NodePass, PassContext, check_ignore
from edgecc.rewriting.layout_region import regions
from edgecc.rewriting.shapes import permutation

if TYPE_CHECKING:
    from edgecc.model import Model, Node


class MergeTransposes(NodePass):
    """Let Transposes meet and cancel.

    Before: a = Transpose<perm = [0, 2, 3, 1]>(x)   b = Relu(a)   y = Transpose<perm = [0, 3, 1, 2]>(b)
    After:  y = Relu(x)

    A Transpose of a Transpose becomes one or none. Elementwise operators, Concat, Split and Softmax between Transposes
    compute in the layout in front of them wherever there are fewer Transposes then: constants are transposed
    beforehand, another operand or another reader gets a Transpose of its own.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "merge-transposes"
    loss = Loss.EXACT

    def run(self, model: Model, ctx: PassContext) -> bool:
        changed = False
        if not self.candidates(model):
            check_ignore(self, self.ignore, model)
            return changed
        # Each time around there are fewer Transposes, or chains of them are shorter.
        while super().run(model, ctx) or self._move(model, ctx):
            changed = True
        self._give_reasons(model, ctx)
        return changed

    def candidates(self, model: Model) -> list[Node]:
        return model.nodes("Transpose", ignore=self.ignore)

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        """Read what the Transpose in front reads."""
        from edgecc.model import is_standard, matches_any, merged_origins

        first = model.producer(node.inputs[0])
        if first is None or first.op != "Transpose" or not is_standard(first) or matches_any(first, self.ignore):
            return False
        before, after = permutation(first), permutation(node)
        if before is None or after is None:
            return False
        perm = [before[axis] for axis in after]
        source, cancels = first.inputs[0], perm == sorted(perm)
        ctx.done(node, "two Transposes cancel" if cancels else "two Transposes became one", [node, first])
        if cancels and model.redirect(node.outputs[0], source):
            model.remove(node)
            self._drop(first, model)
            return True
        op, attributes = ("Identity", {}) if cancels else ("Transpose", {"perm": perm})
        model.replace(node, op, [source], attributes=attributes, origins=merged_origins((first, node)))
        self._drop(first, model)
        return True

    @staticmethod
    def _drop(node: Node, model: Model) -> None:
        if not node.outputs[0].outputs and not model.is_output(node.outputs[0]):
            model.remove(node)

    def _move(self, model: Model, ctx: PassContext) -> bool:
        """Compute regions of the graph in another layout."""
        changed = False
        for region in regions(model, self.ignore):
            plan = region.best_plan()
            if plan is not None:
                for transpose in plan.transposes:
                    ctx.done(transpose, f"moved through {_names(plan.nodes)}")
                plan.apply()
                changed = True
        return changed

    def _give_reasons(self, model: Model, ctx: PassContext) -> None:
        """Of each Transpose that touches a region."""
        for region in regions(model, self.ignore):
            for transpose in region.transposes():
                ctx.skip(transpose, f"moving it through {_names(region.nodes)} would not leave fewer Transposes")


def _names(nodes: Iterable[Node]) -> str:
    listed = [f"{node.name} ({node.op})" for node in nodes]
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")
