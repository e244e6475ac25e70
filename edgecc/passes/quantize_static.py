"""Pass quantize-static."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from edgecc.errors import OptionError
from edgecc.passes.base import Loss, Pass, PassContext, check_ignore, check_ops

if TYPE_CHECKING:
    from edgecc.model import Model, Node
    from edgecc.quantization.grids import Grid
    from edgecc.quantization.groups import Solution
    from edgecc.quantization.plan import Plan
    from edgecc.quantization.ranges import Interval
    from edgecc.quantization.scheme import QuantizationScheme
    from edgecc.statistics.answers import HistogramStatistic, RangeStatistic
    from edgecc.statistics.requests import Request


class QuantizeStatic(Pass):
    """Compute with integers whose scales are chosen from calibration data.

    Which operators have integer kernels, which tensors share a scale and where values are rounded is the target's
    scheme. Weights become int8 with a scale per output channel, a bias int32; an activation is taken in by the operator
    in front of it. Results that only float operators read, or that 8 bits hold badly, stay float; TFLite's products
    that write such ones round their data at run time. Tables that Gather reads rows of (embeddings) become int8 with a
    scale per row. A model that is quantized already stays as it is.

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
    least_sqnr: float = Field(
        default=28.0,
        ge=0,
        description="results that 8 bits hold with fewer dB stay float, unless they are multiplied; 0 for none",
    )
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
        dynamic = self._free_results(plan, scheme, model, ctx)
        chosen = {id(node) for node in dynamic}
        for node in model.nodes():
            if id(node) in plan.reasons and id(node) not in chosen:
                ctx.skip(node, plan.reasons[id(node)])
        tables = [node for node in model.nodes("Gather") if id(node) not in kept]
        if plan.tensors:
            solution = self._solve(plan, scheme, model, ctx)
            Placement(model, plan, solution, scheme, self.activations, self.per_channel).run()
        self._round_at_run_time(dynamic, model, ctx)
        return self._store_tables(tables, model, scheme) or bool(plan.tensors or dynamic)

    def _store_tables(self, nodes: list[Node], model: Model, scheme: QuantizationScheme) -> bool:
        """Store what Gather reads rows of; whether there is any."""
        from edgecc.quantization.weight_places import LEAST_ELEMENTS, WeightStore, weight_place
        from edgecc.rewriting.reading import constant

        store, found = WeightStore(model, 8), False
        for node in nodes:
            place, values = weight_place(node), constant(node, 0)
            if place is None or values is None or values.size < LEAST_ELEMENTS or model.is_inner(node):
                continue
            if not np.isfinite(values).all():
                continue
            store.store_table(place, scheme, per_channel=self.per_channel)
            found = True
        return found

    def _free_results(self, plan: Plan, scheme: QuantizationScheme, model: Model, ctx: PassContext) -> list[Node]:
        """Take out of the plan what had better stay float; the products that round their data at run time instead."""
        from edgecc.quantization.float_results import FloatResults, rounding_sqnr
        from edgecc.quantization.weight_places import weight_place
        from edgecc.statistics.answers import HistogramStatistic

        if not scheme.rounds_results:
            return []
        poor = {}
        if self.activations == "int8" and self.least_sqnr > 0:
            for name, grid in self._grids(plan, scheme, ctx).items():
                statistic = self._statistic(name, ctx)
                sqnr = rounding_sqnr(statistic, grid) if isinstance(statistic, HistogramStatistic) else self.least_sqnr
                if sqnr < self.least_sqnr:
                    poor[name] = sqnr
        found = FloatResults(model, plan, scheme, poor)
        found.run()
        if scheme.dynamic != "pairs":
            return []
        nodes = model.nodes(*scheme.dynamic_operators)
        return [node for node in nodes if id(node) in found.dynamic and weight_place(node) is not None]

    def _round_at_run_time(self, nodes: list[Node], model: Model, ctx: PassContext) -> None:
        from edgecc.quantization.dynamic import DynamicRounding
        from edgecc.quantization.weight_places import WeightStore, weight_place

        rounding = DynamicRounding(model, WeightStore(model, 8))
        for node in nodes:
            place = weight_place(node)
            assert place is not None, "only such nodes are chosen"
            ctx.done(node, "its data is rounded at run time, and its result is float")
            rounding.as_pair(place, per_channel=self.per_channel)

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
        from edgecc.quantization.scheme import Role

        symmetric = scheme.is_symmetric(self.activations)
        ranges = self._ranges(plan, scheme, ctx)
        fixed = {
            node.outputs[0].name: scheme.fixed[node.op, self.activations]
            for node in model.nodes()
            if id(node) in plan.rules and plan.rules[id(node)].role is Role.FIXED and scheme.rounds_results
        }
        return solve(ranges, plan.edges, fixed, self.activations, symmetric=symmetric)

    def _ranges(self, plan: Plan, scheme: QuantizationScheme, ctx: PassContext) -> dict[str, Interval]:
        """The range of each tensor on its own."""
        from edgecc.quantization.ranges import choose_range

        levels = 1 << (8 if self.activations == "int8" else 16)
        symmetric = scheme.is_symmetric(self.activations)
        return {
            name: choose_range(
                self.range, self._statistic(name, ctx), levels=levels, symmetric=symmetric, percent=self.percent
            )
            for name in plan.tensors
        }

    def _grids(self, plan: Plan, scheme: QuantizationScheme, ctx: PassContext) -> dict[str, Grid]:
        """The grid of each tensor on its own."""
        from edgecc.quantization.grids import grid_for

        symmetric = scheme.is_symmetric(self.activations)
        ranges = self._ranges(plan, scheme, ctx)
        return {name: grid_for(ranges[name], self.activations, symmetric=symmetric) for name in ranges}

    def _statistic(self, name: str, ctx: PassContext) -> HistogramStatistic | RangeStatistic:
        """What is known of a tensor."""
        if self.range == "min-max":
            return ctx.statistics.range(name)
        return ctx.statistics.moving_range(name) if self.range == "moving-average" else ctx.statistics.histogram(name)


def _is_quantized(model: Model) -> list[Node]:
    """Nodes that say that the model is quantized."""
    known = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")
    return [node for node in model.nodes() if node.op in known or node.op.startswith("QLinear")]
