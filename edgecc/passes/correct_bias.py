"""Pass correct-bias."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from edgecc.passes.base import Loss, Pass, PassContext, check_ignore
from edgecc.passes.observing import samples_of

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model, Node
    from edgecc.quantization.bias_shifts import Activation
    from edgecc.quantization.quantized_layers import QuantizedLayer
    from edgecc.quantization.scheme import QuantizationScheme


class CorrectBias(Pass):
    """Add to the biases of a quantized model what its layers' outputs lack on average.

    Rounding weights and data shifts the mean of what a layer computes, which later layers cannot make good.

    Before: d = DequantizeLinear(q, s, z)  v = DequantizeLinear(w8, t)  c = DequantizeLinear(b32, u)   y = Conv(d, v, c)
    After:  d = DequantizeLinear(q, s, z)  v = DequantizeLinear(w8, t)  c = DequantizeLinear(b32n, u)  y = Conv(d, v, c)

    with b32n = b32 + mean(float y - y) / u. Layer by layer in order, each with those before it corrected, from
    calibration samples (arXiv 1906.04721, section 4.2). A channel is corrected where its shift is larger than what the
    choice of samples makes of it, and where that brings what is read of it, an activation included, nearer to the float
    model. It runs behind what quantizes, whose scales and integers stay.
    """

    name: ClassVar[str] = "correct-bias"
    loss: ClassVar[Loss] = Loss.LOSSY
    after: ClassVar[tuple[str, ...]] = (
        "quantize-static",
        "quantize-weights",
        "quantize-dynamic",
        "round-weights",
        "mixed-precision",
    )
    needs_float_model: ClassVar[bool] = True

    samples: int = Field(default=64, gt=0, description="calibration samples to compare on, at most")
    ignore: tuple[str, ...] = Field(default=(), description="patterns of names of layers whose bias stays")

    def run(self, model: Model, ctx: PassContext) -> bool:
        from edgecc.quantization.quantized_layers import COMPARES, quantized_layers
        from edgecc.quantization.scheme import PORTABLE

        check_ignore(self, self.ignore, model)
        layers = quantized_layers(model, ctx, self.ignore)
        if not layers:
            return False
        data = samples_of(self, ctx, COMPARES)
        scheme = (ctx.target.quantization_scheme() if ctx.target is not None else None) or PORTABLE
        changed = False
        for index, layer in enumerate(layers):
            changed |= self._correct(layer, scheme, model, data, ctx)
            ctx.progress("correcting biases", index + 1, len(layers))
        return changed

    def _correct(
        self, layer: QuantizedLayer, scheme: QuantizationScheme, model: Model, data: CalibrationData, ctx: PassContext
    ) -> bool:
        import numpy as np

        from edgecc.cleanup import sort
        from edgecc.quantization.bias_shifts import observe
        from edgecc.quantization.biases import bias_of

        bias = bias_of(layer, model, scheme)
        if isinstance(bias, str):
            ctx.skip(layer.node, bias)
            return False
        if layer.output_axis() is None:
            ctx.skip(layer.node, "the shape of its output is not known")
            return False
        assert ctx.float_model is not None, "there are no layers without"
        outputs = observe(layer, bias.holder, ctx.float_model, model, data, self.samples)
        change = bias.representable(outputs.shift())
        change = np.where(outputs.improved(change, _activation(bias.holder, model)), change, 0.0)
        count = int(np.count_nonzero(change))
        if not count:
            return False
        ctx.done(layer.node, f"the bias of {count} of {change.size} channels was corrected")
        bias.add(change, model)
        # The next layer is observed in this graph, where a bias may be new.
        sort(model.graph)
        return True


def _activation(node: Node, model: Model) -> Activation:
    """What a node's output goes through before it is rounded."""
    import numpy as np

    from edgecc.quantization.plan import clamp_behind
    from edgecc.rewriting.limits import Limits, own_limits

    clamp = clamp_behind(node.outputs[0], model)
    limits = None if clamp is None else own_limits(clamp)
    if not isinstance(limits, Limits):
        return lambda values: values
    return lambda values: np.clip(values, np.float32(limits.low), np.float32(limits.high))
