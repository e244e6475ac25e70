"""Pass quantize-static."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from edgecc.errors import OptionError
from edgecc.passes.base import Loss, Pass, PassContext, check_ignore, check_ops

if TYPE_CHECKING:
    from edgecc.model import Model, Node
    from edgecc.quantization.groups import Solution
    from edgecc.quantization.plan import Plan
    from edgecc.quantization.scheme import QuantizationScheme
    from edgecc.statistics.answers import HistogramStatistic, RangeStatistic
    from edgecc.statistics.requests import Request


class QuantizeStatic(Pass):
    """Compute with integers whose scales are chosen from calibration data.

    Which operators have integer kernels, which tensors share a scale and where values are rounded is the target's
    scheme. Weights become int8 with a scale per output channel, a bias int32; an activation is taken in by the operator
    in front of it. A model that is quantized already stays as it is.

    Before: a = Conv(x, w, b)  y = Relu(a)
    After:  q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)
            v = DequantizeLinear(w8, t)  c = DequantizeLinear(b32, u)
            a = Conv(d, v, c)  r = Relu(a)  p = QuantizeLinear(r, o, m)  y = DequantizeLinear(p, o, m)
    """

    name: ClassVar[str] = "quantize-static"
    loss: ClassVar[Loss] = Loss.LOSSY
    # What it finds in integers, others can no longer fold or fuse.
    after: ClassVar[tuple[str, ...]] = ("expand-qoperators", "fold-batchnorm", "fuse-pad", "fuse-matmul-add")
    before: ClassVar[tuple[str, ...]] = ("convert-float16",)

    activations: Literal["int8", "int16"] = Field(default="int8", description="type of data; weights are int8")
    range: Literal["mse", "min-max", "percentile", "entropy", "moving-average"] = Field(
        default="mse", description="how the range of a tensor is chosen"
    )
    percent: float = Field(default=99.99, gt=0, le=100, description="of the values that range=percentile keeps")
    per_channel: bool = Field(default=True, description="weights get a scale per output channel, or one in all")
    ignore: tuple[str, ...] = Field(default=(), description="patterns of names of nodes that stay float")
    ignore_ops: tuple[str, ...] = Field(default=(), description="operators that stay float")
    keep_first: bool = Field(default=False, description="the first node with weights stays float")
    keep_last: bool = Field(default=False, description="the last node with weights stays float")
    quantized: Literal["keep", "refuse"] = Field(
        default="keep", description="what is done about a model that is quantized already"
    )

    def statistics(self, model: Model) -> Iterable[Request]:
        from edgecc.quantization.plan import measured_tensors
        from edgecc.quantization.ranges import request_for

        if _is_quantized(model):
            return []
        return [request_for(self.range, name) for name in measured_tensors(model, self._kept(model))]

    def run(self, model: Model, ctx: PassContext) -> bool:
        from edgecc.quantization.placement import Placement
        from edgecc.quantization.plan import make_plan, measured_tensors
        from edgecc.statistics.answers import Excluded

        if self._is_done(model, ctx):
            return False
        scheme = self._scheme(ctx)
        kept = self._kept(model)
        excluded = {name: self._statistic(name, ctx).excluded for name in measured_tensors(model, kept)}
        unbounded = {name for name, count in excluded.items() if count != Excluded()}
        plan = make_plan(model, scheme, self.activations, kept, unbounded)
        for node in model.nodes():
            if id(node) in plan.reasons:
                ctx.skip(node, plan.reasons[id(node)])
        if not plan.tensors:
            return False
        solution = self._solve(plan, scheme, model, ctx)
        Placement(model, plan, solution, scheme, self.activations, self.per_channel).run()
        return True

    def _is_done(self, model: Model, ctx: PassContext) -> bool:
        """Whether the model is quantized already."""
        known = _is_quantized(model)
        if known and self.quantized == "refuse":
            raise OptionError(
                "the model is quantized already",
                where=f"pass {self.name}",
                why=f"{known[0].name} is a {known[0].op}",
                hint="leave the pass out, or let it keep the model's own scales: --pass quantize-static:quantized=keep",
            )
        for node in known[:1]:
            ctx.skip(node, "the model is quantized already: it keeps its scales")
        return bool(known)

    def _scheme(self, ctx: PassContext) -> QuantizationScheme:
        from edgecc.quantization.scheme import PORTABLE

        scheme = ctx.target.quantization_scheme() if ctx.target is not None else None
        scheme = scheme or PORTABLE
        if self.activations not in scheme.activations:
            raise OptionError(
                f"target {ctx.target.name if ctx.target else 'none'} has no kernels for {self.activations} activations",
                where=f"pass {self.name}",
                hint=f"activations={scheme.activations[0]}",
            )
        return scheme

    def _kept(self, model: Model) -> set[int]:
        """Ids of the nodes that the options keep in float."""
        from edgecc.model import matches_any
        from edgecc.quantization.scheme import MEASURED

        check_ignore(self, self.ignore, model)
        weighted = [node for node in model.nodes() if node.op in ("Conv", "ConvTranspose", "Gemm", "MatMul")]
        kept = {id(node) for node in weighted[: int(self.keep_first)]}
        kept |= {id(node) for node in weighted[len(weighted) - int(self.keep_last) :]}
        check_ops(self, self.ignore_ops, model, MEASURED)
        for node in model.nodes():
            if node.op in self.ignore_ops or (self.ignore and matches_any(node, self.ignore)):
                kept.add(id(node))
        return kept

    def _solve(self, plan: Plan, scheme: QuantizationScheme, model: Model, ctx: PassContext) -> Solution:
        """The grid of each tensor."""
        from edgecc.quantization.groups import solve
        from edgecc.quantization.ranges import choose_range
        from edgecc.quantization.scheme import Role

        symmetric = scheme.is_symmetric(self.activations)
        levels = 1 << (8 if self.activations == "int8" else 16)
        ranges = {
            name: choose_range(
                self.range, self._statistic(name, ctx), levels=levels, symmetric=symmetric, percent=self.percent
            )
            for name in plan.tensors
        }
        fixed = {
            node.outputs[0].name: scheme.fixed[node.op, self.activations]
            for node in model.nodes()
            if id(node) in plan.rules and plan.rules[id(node)].role is Role.FIXED and scheme.rounds_results
        }
        return solve(ranges, plan.edges, fixed, self.activations, symmetric=symmetric)

    def _statistic(self, name: str, ctx: PassContext) -> HistogramStatistic | RangeStatistic:
        """What is known of a tensor."""
        if self.range == "min-max":
            return ctx.statistics.range(name)
        return ctx.statistics.moving_range(name) if self.range == "moving-average" else ctx.statistics.histogram(name)


def _is_quantized(model: Model) -> list[Node]:
    """Nodes that say that the model is quantized."""
    known = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")
    return [node for node in model.nodes() if node.op in known or node.op.startswith("QLinear")]
