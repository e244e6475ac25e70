"""Pass mixed-precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from glob import escape
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from edgecc.errors import OptionError
from edgecc.passes.base import PassContext
from edgecc.passes.quantize_static import PRECISIONS, QuantizeStatic

if TYPE_CHECKING:
    from edgecc.data.feeds import Feeds
    from edgecc.model import Model
    from edgecc.quantization.mixing import Budget, Mix
    from edgecc.quantization.quantizer import Precision, Quantizer
    from edgecc.quantization.sensitivity import Unit


class MixedPrecision(QuantizeStatic):
    """Choose a precision for each layer, under a budget, by what it does to the network's outputs.

    Each layer (an operator with weights, and what follows until the next one) is quantized alone, and the outputs are
    compared with the float model's on calibration samples. Then layers get more bits, first those that lose most noise
    for what it costs, until the budget is met: the fewest that meet an accuracy, found by bisection on the whole
    model, or as many as fit into bytes. int16 is that of data, beside int8 weights, where the target has kernels;
    float16 is that of weights, which are stored so. The graph is then written as quantize-static does.

    Before: a = Conv(x, w)  y = MatMul(a, v)
    After:  q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  u = DequantizeLinear(w8, t)
            c = Conv(d, u)  p = QuantizeLinear(c, o, m)  a = DequantizeLinear(p, o, m)  y = MatMul(a, v)
    """

    name: ClassVar[str] = "mixed-precision"

    sqnr: float | None = Field(default=None, gt=0, description="budget: dB that every output must have; 30 if no other")
    agreement: float | None = Field(
        default=None, gt=0, le=100, description="budget: percent of the samples that keep their top-1"
    )
    bytes: float | None = Field(default=None, gt=0, le=1, description="budget: share of the float weights' bytes")
    precisions: tuple[Literal["int8", "int16", "float16", "float32"], ...] = Field(
        default=("int8", "int16", "float16", "float32"), description="what layers may be"
    )
    trials: int = Field(default=8, ge=1, description="samples that each layer is tried on alone")
    checks: int = Field(default=64, ge=1, description="samples that the whole model is held to the budget on")

    @field_validator("precisions")
    @classmethod
    def _any(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError(f"layers must be something: give one of {', '.join(PRECISIONS)}, or several")
        return value

    @model_validator(mode="after")
    def _one_budget(self) -> MixedPrecision:
        if sum(value is not None for value in (self.sqnr, self.agreement, self.bytes)) > 1:
            raise ValueError("sqnr, agreement and bytes are budgets: give one of them")
        return self

    def run(self, model: Model, ctx: PassContext) -> bool:
        from edgecc.quantization.mixing import Mixing, spread
        from edgecc.quantization.sensitivity import Trials, units_of

        if self._is_done(model, ctx):
            return False
        quantizer, base = self._quantizer(model, ctx), self._choice(model)
        plan = quantizer.plan(model, base)
        for node in model.all_nodes():
            if id(node) in plan.reasons:
                ctx.skip(node, plan.reasons[id(node)])
        units = units_of(model, plan)
        if not units:
            return False
        alone, whole = (Trials(model, quantizer, self._samples(ctx, count)) for count in (self.trials, self.checks))
        fixed = {node.name: base[id(node)] for node in model.nodes() if id(node) in base}
        allowed, budget = self._allowed(quantizer), self._budget()
        cannot = frozenset(_without_kernels(model, quantizer, units, allowed))
        mix = Mixing(units, alone, whole, fixed, allowed, cannot, budget, ctx.progress).run()
        self._report(model, units, mix, ctx)
        named = {**fixed, **spread(units, [choice.precision for choice in mix.choices])}
        choice = {id(node): named[node.name] for node in model.nodes() if node.name in named}
        final = quantizer.plan(model, choice)
        for node in model.nodes():
            # What its layer's int16 has no kernel for.
            if choice.get(id(node), "").startswith("int") and id(node) in final.reasons.keys() - plan.reasons.keys():
                ctx.skip(node, final.reasons[id(node)])
        return quantizer.quantize(model, choice, final)

    def _budget(self) -> Budget:
        from edgecc.quantization.mixing import Budget

        if self.agreement is not None:
            return Budget("agreement", self.agreement)
        return Budget("bytes", self.bytes) if self.bytes is not None else Budget("sqnr", self.sqnr or _SQNR)

    def _samples(self, ctx: PassContext, count: int) -> list[Feeds]:
        if ctx.calibration is None:
            raise OptionError(
                "layers are tried on samples, and there are only statistics of them",
                where=f"pass {self.name}",
                hint="add --calibration DATA.npz",
            )
        return list(islice(ctx.calibration.samples(), count))

    def _allowed(self, quantizer: Quantizer) -> list[Precision]:
        """Of `precisions`, what the target has."""
        known = (*quantizer.scheme.activations, "float16", "float32")
        allowed = [kind for kind in dict.fromkeys(self.precisions) if kind in known]
        if not allowed:
            raise OptionError(
                f"the target has none of the precisions {', '.join(self.precisions)}",
                where=f"pass {self.name}",
                hint=f"it has {', '.join(known)}",
            )
        return allowed

    def _report(self, model: Model, units: Sequence[Unit], mix: Mix, ctx: PassContext) -> None:
        """One change per layer, and how to get the same again without trying."""
        from edgecc.quantization.mixing import spread

        ctx.note(mix.note(self._budget()))
        nodes = {node.name: node for node in model.nodes()}
        for unit, choice in zip(units, mix.choices, strict=True):
            ctx.done(nodes[unit.nodes[0]], f"{choice.precision}: {_why(choice.error)}")
        chosen = spread(units, [choice.precision for choice in mix.choices])
        layers = tuple(f"{escape(name)}:{kind}" for name, kind in chosen.items() if kind != self.activations)
        options = {name: getattr(self, name) for name in QuantizeStatic.model_fields}
        static = QuantizeStatic.model_validate({**options, "layers": (*self.layers, *layers)})
        ctx.note(f"the same without trying again: --pass '{static.spec()}'")


def _why(noise: float) -> str:
    if math.isnan(noise):
        return "the budget is met with the cheapest precision everywhere"
    return f"alone it leaves {-10 * math.log10(noise):.1f} dB at the outputs" if noise else "alone it leaves no noise"


#: dB that every output must have if nothing else is asked for.
_SQNR = 30.0


def _without_kernels(
    model: Model, quantizer: Quantizer, units: Sequence[Unit], precisions: Sequence[Precision]
) -> list[tuple[int, str]]:
    """Places of units, with an integer type that what decides there has no kernels for; what follows may stay float."""
    found: list[tuple[int, str]] = []
    for precision in precisions:
        if precision.startswith("float"):
            continue
        known = {name for unit in units for name in unit.computing}
        plan = quantizer.plan(model, {id(node): precision for node in model.nodes() if node.name in known})
        refused = {node.name for node in model.nodes() if id(node) in plan.reasons}
        found += [(place, precision) for place, unit in enumerate(units) if refused & set(unit.deciding)]
    return found
