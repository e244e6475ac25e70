"""Pass round-weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from edgecc.passes.base import Loss, Pass, PassContext, check_ignore
from edgecc.passes.observing import samples_of

if TYPE_CHECKING:
    from edgecc.model import Model
    from edgecc.quantization.quantized_layers import QuantizedLayer
    from edgecc.statistics.answers import Array
    from edgecc.statistics.requests import Gram


class RoundWeights(Pass):
    """Choose the integer of each weight so that the layer's output, not the weight, changes least.

    Before: v = DequantizeLinear(w8, t)    y = Conv(d, v, c)
    After:  v = DequantizeLinear(w8n, t)   y = Conv(d, v, c)

    It runs behind what quantizes and keeps the scales; the integers are chosen afresh from the float weights. What
    counts is the mean square of (rounded w - w) x over what the layer reads in the float model, which the mean of x xᵀ
    says without keeping any x. `adaround` lets a weight go to the integer below or above (arXiv 2004.10568), `gptq`
    to any (arXiv 2210.17323); both round features in order, each making good what those before it did, and then
    move single integers for as long as that helps. A layer whose error falls by less than a twentieth stays.
    """

    name: ClassVar[str] = "round-weights"
    loss: ClassVar[Loss] = Loss.LOSSY
    after: ClassVar[tuple[str, ...]] = ("quantize-static", "quantize-weights", "quantize-dynamic", "mixed-precision")
    before: ClassVar[tuple[str, ...]] = ("correct-bias",)
    needs_float_model: ClassVar[bool] = True

    method: Literal["adaround", "gptq"] = Field(default="gptq", description="which integers a weight may become")
    samples: int = Field(default=256, gt=0, description="calibration samples to look at, at most")
    ignore: tuple[str, ...] = Field(default=(), description="patterns of names of layers whose weights stay")

    def run(self, model: Model, ctx: PassContext) -> bool:
        from edgecc.quantization.layer_products import batches, products_of
        from edgecc.quantization.quantized_layers import COMPARES, quantized_layers

        check_ignore(self, self.ignore, model)
        layers: dict[Gram, list[QuantizedLayer]] = {}
        for layer in quantized_layers(model, ctx, self.ignore):
            request = self._request(layer, ctx)
            if request is not None:
                layers.setdefault(request, []).append(layer)
        if not layers:
            return False
        data = samples_of(self, ctx, COMPARES)
        assert ctx.float_model is not None, "there are no layers without"
        sizes = {request: _sizes(found[0]) for request, found in layers.items()}
        changed, done = False, 0
        for batch in batches(sizes, _MEMORY):
            products = products_of(batch, ctx.float_model, data, self.samples)
            for request in batch:
                for layer in layers[request]:
                    changed |= self._round(layer, products[request], model, ctx)
                done += 1
                ctx.progress("rounding weights", done, len(sizes))
        return changed

    def _request(self, layer: QuantizedLayer, ctx: PassContext) -> Gram | None:
        """What the layer reads in the float model; None if it must be left alone."""
        from edgecc.statistics.layers import gram_of

        node = layer.source.node
        request = gram_of(node)
        reason = ""
        if request is None:
            reason = "what it sums over is not known"
        elif len(layer.weights.outputs[0].outputs) > 1:
            reason = "another node reads its weights"
        elif _sizes(layer)[1] > _MOST_FEATURES:
            reason = f"it sums {_sizes(layer)[1]} features, and products of {_MOST_FEATURES} are the most"
        if reason:
            ctx.skip(layer.node, reason)
        return None if reason else request

    def _round(self, layer: QuantizedLayer, products: Array, model: Model, ctx: PassContext) -> bool:
        from edgecc.quantization.rounding import cost, round_weights
        from edgecc.quantization.stored_weights import StoredWeights

        stored = StoredWeights.of(layer)
        if isinstance(stored, str):
            ctx.skip(layer.node, stored)
            return False
        choices = stored.choices if self.method == "gptq" else stored.choices.beside()
        integers = round_weights(choices, products)
        before, after = (float(cost(choices.error(values), products).sum()) for values in (stored.integers, integers))
        if not before or after > _WORTHWHILE * before:
            return False
        ctx.done(layer.node, f"the square error of its output fell to {100 * after / before:.0f} %")
        stored.update(integers, model)
        return True


#: Bytes of products that are kept at a time.
_MEMORY = 256_000_000
#: Features of a layer whose products are kept: 268 MB, and twice that while they are factorized.
_MOST_FEATURES = 8192
#: Part of a layer's error that may be left for its weights to change: running again finds nothing that is better.
_WORTHWHILE = 0.95


def _sizes(layer: QuantizedLayer) -> tuple[int, int]:
    """Groups and features of what the layer reads."""
    linear = layer.source
    if linear.node.op == "Conv":
        return linear.groups, linear.weights[0].size
    return 1, linear.inputs
