"""Pass quantize-static."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator

from edgecc.errors import OptionError
from edgecc.passes.base import Loss, Pass, PassContext, check_ignore, check_ops

if TYPE_CHECKING:
    from edgecc.model import Model, Node
    from edgecc.quantization.grids import Grid
    from edgecc.quantization.quantizer import Precision, Quantizer
    from edgecc.quantization.scheme import QuantizationScheme
    from edgecc.statistics.answers import HistogramStatistic, RangeStatistic
    from edgecc.statistics.requests import Request


#: By the words of option `layers`.
PRECISIONS: dict[str, Precision] = {"int8": "int8", "int16": "int16", "float16": "float16", "float32": "float32"}


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
    quantizes: ClassVar[bool] = True
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
    layers: tuple[str, ...] = Field(
        default=(),
        description="precision of single nodes, each PATTERN:PRECISION: int8, int16, float32, or float16, in which "
        "weights are stored",
    )
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

    @field_validator("layers")
    @classmethod
    def _readable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for item in value:
            pattern, _, precision = item.rpartition(":")
            if not pattern or precision not in PRECISIONS:
                raise ValueError(f"{item!r} is not PATTERN:PRECISION, the latter one of {', '.join(PRECISIONS)}")
        return value

    def statistics(self, model: Model) -> Iterable[Request]:
        from edgecc.quantization.plan import measured_tensors
        from edgecc.quantization.ranges import request_for

        if _is_quantized(model):
            return []
        return [request_for(self.range, name) for name in measured_tensors(model, self._kept(model))]

    def run(self, model: Model, ctx: PassContext) -> bool:
        if self._is_done(model, ctx):
            return False
        quantizer, choice = self._quantizer(model, ctx), self._choice(model)
        plan = quantizer.plan(model, choice)
        for node in model.all_nodes():
            if id(node) in plan.dynamic:
                ctx.done(node, "its data is rounded at run time, and its result is float")
            elif id(node) in plan.reasons:
                ctx.skip(node, plan.reasons[id(node)])
        return quantizer.quantize(model, choice, plan)

    def _quantizer(self, model: Model, ctx: PassContext) -> Quantizer:
        """What quantizes this model, or a copy of it, for the target."""
        from edgecc.quantization.float_results import rounding_sqnr
        from edgecc.quantization.plan import measured_tensors
        from edgecc.quantization.quantizer import Quantizer
        from edgecc.quantization.ranges import choose_range
        from edgecc.statistics.answers import Excluded, HistogramStatistic

        def range_of(name: str, levels: int, symmetric: bool) -> tuple[float, float]:
            statistic = self._statistic(name, ctx)
            return choose_range(self.range, statistic, levels=levels, symmetric=symmetric, percent=self.percent)

        excluded = {name: self._statistic(name, ctx).excluded for name in measured_tensors(model, self._kept(model))}
        unbounded = {name for name, count in excluded.items() if count != Excluded()}

        def sqnr_of(name: str, grid: Grid) -> float:
            statistic = self._statistic(name, ctx)
            return rounding_sqnr(statistic, grid) if isinstance(statistic, HistogramStatistic) else float("inf")

        return Quantizer(
            self._scheme(ctx), self.activations, self.per_channel, range_of, unbounded, sqnr_of, self.least_sqnr
        )

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
        wanted = (self.activations, *("int16" for item in self.layers if item.endswith(":int16")))
        for dtype in wanted:
            if dtype not in scheme.activations:
                raise OptionError(
                    f"target {ctx.target.name if ctx.target else 'none'} has no kernels for {dtype} activations",
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
        return kept | {key for key, precision in self._layers(model).items() if precision in ("float16", "float32")}

    def _choice(self, model: Model) -> dict[int, Precision]:
        """The precision of the nodes that do not get that of all, by id."""
        kept: dict[int, Precision] = dict.fromkeys(self._kept(model), "float32")
        return kept | self._layers(model)

    def _layers(self, model: Model) -> dict[int, Precision]:
        """What option `layers` says, by id of a node."""
        from edgecc.model import matches_any

        found: dict[int, Precision] = {}
        for item in self.layers:
            pattern, _, precision = item.rpartition(":")
            check_ignore(self, (pattern,), model, option="layers")
            found |= {id(node): PRECISIONS[precision] for node in model.nodes() if matches_any(node, (pattern,))}
        return found

    def _statistic(self, name: str, ctx: PassContext) -> HistogramStatistic | RangeStatistic:
        """What is known of a tensor."""
        if self.range == "min-max":
            return ctx.statistics.range(name)
        return ctx.statistics.moving_range(name) if self.range == "moving-average" else ctx.statistics.histogram(name)


def _is_quantized(model: Model) -> list[Node]:
    """Nodes that say that the model is quantized."""
    known = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")
    return [node for node in model.nodes() if node.op in known or node.op.startswith("QLinear")]
