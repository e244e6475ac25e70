"""Pass expand-for-tflite."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import PrivateAttr

from edgecc.passes.base import Loss, NodePass, PassContext

if TYPE_CHECKING:
    from edgecc.model import Model, Node
    from edgecc_tflite.lowerings.base import RuleTable


class ExpandForTFLite(NodePass):
    """Replace what no lowering rule takes by the body that ONNX defines for it, where rules take all of that body.

    Before: y, mean = LayerNormalization(x, scale)            mean is read: the rule for LayerNormalization refuses
    After:  mean = ReduceMean(x) ... y = Mul(normalized, scale)

    A node that a rule takes stays whole: rules know shorter ways than bodies. So does one whose body would be refused
    too: the error then speaks of the operator that the user wrote.

    Attributes:
        ignore: patterns of node names to leave alone.
    """

    name = "expand-for-tflite"
    loss = Loss.ROUNDING
    _rules: RuleTable | None = PrivateAttr(default=None)
    before = ("eliminate-identity", "fold-batchnorm", "fuse-pad", "convert-float16")

    def with_rules(self, rules: RuleTable) -> ExpandForTFLite:
        """The pass for these rules, instead of for those that are installed."""
        chosen = self.model_copy()
        chosen._rules = rules
        return chosen

    def _known(self) -> RuleTable:
        return installed_rules() if self._rules is None else self._rules

    def run(self, model: Model, ctx: PassContext) -> bool:
        changed = False
        # What is left of a body once its constants are folded decides whether rules take it; and bodies hold functions.
        while super().run(model, ctx):
            model.cleanup()
            changed = True
        return changed

    def candidates(self, model: Model) -> list[Node]:
        protected = {id(node) for node in model.nodes(ignore=self.ignore)} if self.ignore else None
        nodes = _functions_without_rule(model, self._known())
        return [node for node in nodes if protected is None or id(node) in protected]

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        from edgecc.passes.expand_functions import expand

        if not _body_is_taken(node, model, self._known(), PassContext(ctx.target, ctx.seed)):
            ctx.skip(node, "no rule takes it, and its body neither")
            return False
        return expand(node, model)


def installed_rules() -> RuleTable:
    """Those of a pass that the user names: no backend gives it any."""
    from edgecc.registry import default_registry
    from edgecc_tflite.lowerings import builtin_rules

    return builtin_rules().extended(default_registry().lowerings("tflite"))


def _functions_without_rule(model: Model, rules: RuleTable) -> list[Node]:
    from edgecc.importers.functions import has_body
    from edgecc.model import is_standard
    from edgecc.opset import INTERNAL_OPSET
    from edgecc_tflite.lower import problems_of

    outputs = frozenset(t.name for t in model.outputs)
    functions = [node for node in model.nodes() if is_standard(node) and has_body(node.op, INTERNAL_OPSET)]
    return [node for node in functions if problems_of(node, outputs, rules) and not _is_taken_in(node, model)]


def _is_taken_in(node: Node, model: Model) -> bool:
    """Whether kernels round data at run time by themselves where this node says so."""
    from edgecc.quantization.dynamic import reads_are_dynamic

    return node.op == "DynamicQuantizeLinear" and reads_are_dynamic(node, model)


def _body_is_taken(node: Node, model: Model, rules: RuleTable, ctx: PassContext) -> bool:
    """Try it on a model of that node alone."""
    from edgecc.passes.eliminate_identity import EliminateIdentity
    from edgecc.passes.expand_functions import expand
    from edgecc_tflite.lower import find_unsupported

    alone = _alone(node, model)
    while True:
        expanded = [expand(inner, alone) for inner in _functions_without_rule(alone, rules)]
        if not any(expanded):
            break
        alone.cleanup()
    # What the passes behind this one remove anyway needs no rule.
    if EliminateIdentity().run(alone, ctx):
        alone.cleanup()
    return not find_unsupported(alone, rules)


def _alone(node: Node, model: Model) -> Model:
    """A model of one node and its constants, with those outputs that something needs."""
    import onnx_graphsurgeon as gs

    from edgecc.model import Model

    inputs = {id(t): t for t in node.inputs if isinstance(t, gs.Variable) and not t.is_empty()}
    outputs = [t for t in node.outputs if not t.is_empty() and (model.consumers(t) or model.is_output(t))]
    # The copy's tensors know only this node.
    return Model(gs.Graph([node], list(inputs.values()), outputs, opset=model.graph.opset)).clone()
