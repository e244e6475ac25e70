"""ConvertFloat16: a typed float16 model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from edgecc.passes.base import Loss, Pass, PassContext, check_ignore

if TYPE_CHECKING:
    from edgecc.model import Model, Node
    from edgecc.precision.policy import Rule
    from edgecc.precision.slots import Slots
    from edgecc.statistics.requests import Request
    from edgecc.statistics.table import StatisticTable

#: Operators that stay float32 unless asked otherwise.
KEEP_FLOAT32_OPS: tuple[str, ...] = (
    # exp overflows float16 at 11.1; powers, squares and reciprocals leave its range from ordinary inputs
    *("Exp", "Pow", "Reciprocal", "Softplus"),
    # relative error near 1, and inputs whose own range may be far beyond the result's
    *("Log", "Sqrt"),
    # normalized exponentials: sums of many terms of very different size
    *("Softmax", "LogSoftmax", "SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss"),
    # sums lose small terms and overflow; a mean sums first (the statistics of a decomposed LayerNorm among them)
    *("ReduceSum", "ReduceMean", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp"),
    *("ReduceSumSquare", "CumSum", "LpPool", "GlobalLpPool"),
    # statistics inside, without the stash_type attribute that would ask for float32 ones
    *("InstanceNormalization", "LpNormalization", "MeanVarianceNormalization", "LRN"),
    # arguments that are large angles or exact integers
    *("Sin", "Cos", "Tan", "Mod", "Range"),
    # coordinates: float16 has no more than 2048 positions
    *("GridSample", "AffineGrid", "RoiAlign"),
    # long chains of cancelling terms
    *("Det", "DFT", "STFT", "MelWeightMatrix"),
)


class ConvertFloat16(Pass):
    """Compute in float16 where that is safe, with Casts where it meets float32.

    Constants out of float16's range, precision-critical operators, arithmetic on indices and nodes with subgraphs stay
    float32, each with its reason in the report. Integer tensors are untouched, and so is what a quantized model
    computes with integers, between DequantizeLinear and QuantizeLinear. With calibration data, or statistics of an
    earlier compilation, what reads or writes values that came near the ends of float16's range stays float32 too.

    Before: a = Conv(x, w)  y = Softmax(a)
    After:  h = Cast<to=10>(x)  a = Conv(h, w_float16)  s = Cast<to=1>(a)  y = Softmax(s)
    """

    name: ClassVar[str] = "convert-float16"
    loss: ClassVar[Loss] = Loss.LOSSY
    # No ensures: a model without float weights, or with unsafe ones only, has none in float16 afterwards.

    keep_io: bool = Field(default=True, description="inputs and outputs of the model keep their types")
    keep_float32_ops: tuple[str, ...] = Field(default=KEEP_FLOAT32_OPS, description="operators that stay float32")
    headroom: float = Field(
        default=8.0, ge=1, description="measured values may be this much smaller than float16's largest one, or more"
    )
    ignore: tuple[str, ...] = Field(default=(), description="patterns of names of nodes that stay float32")

    def needs_statistics(self) -> bool:
        # Without data, constants alone say what fits.
        return False

    def statistics(self, model: Model) -> Iterable[Request]:
        from edgecc.precision.policy import all_slots
        from edgecc.precision.slots import is_float32
        from edgecc.statistics.requests import Range

        slots = all_slots(model)
        found: dict[str, None] = {}
        for node in model.nodes():
            own = slots[id(node)]
            tensors = [node.inputs[i] for i in own.inputs] + [node.outputs[i] for i in own.outputs]
            found |= {t.name: None for t in tensors if is_float32(t) and getattr(t, "values", None) is None}
        return [Range(name) for name in found]

    def run(self, model: Model, ctx: PassContext) -> bool:
        from edgecc.precision.choose import choose_half
        from edgecc.precision.policy import all_slots
        from edgecc.precision.retype import Retyper, drop_idle_casts

        check_ignore(self, self.ignore, model)
        self._check_ops()
        slots = all_slots(model)
        half, reasons = choose_half(model, slots, self.rules(model, ctx.statistics), keep_io=self.keep_io)
        for node in model.nodes():
            if id(node) in reasons:
                ctx.skip(node, reasons[id(node)])
        if not half:
            return False
        Retyper(model, slots, half, self.keep_io).run()
        drop_idle_casts(model)
        return True

    def rules(self, model: Model, statistics: StatisticTable) -> list[Rule]:
        """What may keep a node float32; the first objection is the one reported."""
        from edgecc.precision import policy
        from edgecc.precision.islands import integer_islands

        ignored = {id(node) for node in model.nodes()} - {id(node) for node in model.nodes(ignore=self.ignore)}

        def is_ignored(node: Node, slots: Slots) -> str:
            del slots
            return "option ignore names it" if id(node) in ignored else ""

        return [
            is_ignored,
            integer_islands(model),
            policy.listed(self.keep_float32_ops),
            policy.unsafe_constants,
            policy.low_precision_statistics,
            policy.index_arithmetic(model),
            policy.measured(statistics, self.headroom),
        ]

    def _check_ops(self) -> None:
        import onnx

        from edgecc.errors import UnknownNameError

        known = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
        for op in self.keep_float32_ops:
            if op not in known:
                raise UnknownNameError("operator", op, known, where=f"option keep_float32_ops of pass {self.name}")
