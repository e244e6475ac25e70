"""Pass quantize-dynamic."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from edgecc.errors import OptionError
from edgecc.passes.base import Loss, Pass, PassContext, check_ignore, check_ops

if TYPE_CHECKING:
    from edgecc.model import Model, Node
    from edgecc.quantization.scheme import QuantizationScheme


class QuantizeDynamic(Pass):
    """Multiply integers whose scale for data is found at run time; needs no data.

    Weights become int8 with a scale per output channel; data is rounded to 8 bits in front of each product, over the
    range that it has this time. Which operators gain from that is the target's scheme. Tables that Gather reads rows of
    (embeddings) become int8 too. Before and After for ONNX Runtime; for TFLite what is float stays around the pair
    DynamicQuantizeLinear and DequantizeLinear, which its kernels take in.

    Before: y = MatMul(x, w)
    After:  q, s, z = DynamicQuantizeLinear(x)   i = MatMulInteger(q, w8, z, wz)
            f = Cast<to=1>(i)   u = Mul(s, ws)   y = Mul(f, u)
    """

    name: ClassVar[str] = "quantize-dynamic"
    loss: ClassVar[Loss] = Loss.LOSSY
    quantizes: ClassVar[bool] = True
    after: ClassVar[tuple[str, ...]] = (
        "expand-qoperators",
        "fold-batchnorm",
        "fuse-matmul-add",
        "quantize-static",
        "mixed-precision",
    )
    before: ClassVar[tuple[str, ...]] = ("convert-float16", "quantize-weights")

    per_channel: bool = Field(default=True, description="weights get a scale per output channel, or one in all")
    min_elements: int = Field(default=1024, ge=1, description="operators with fewer weights stay float")
    ignore: tuple[str, ...] = Field(default=(), description="patterns of names of nodes that stay float")
    ignore_ops: tuple[str, ...] = Field(default=(), description="operators that stay float")

    def run(self, model: Model, ctx: PassContext) -> bool:
        from edgecc.quantization.dynamic import DynamicRounding
        from edgecc.quantization.weight_places import WEIGHTED, WeightStore, choose, weight_place

        check_ignore(self, self.ignore, model)
        check_ops(self, self.ignore_ops, model, WEIGHTED)
        scheme = self._scheme(ctx)
        chosen = choose(model, ctx, lambda node: self._refuses(node, model, scheme))
        store = WeightStore(model, 8)
        rounding = DynamicRounding(model, store)
        for node in chosen:
            place = weight_place(node)
            assert place is not None
            if node.op == "Gather":
                ctx.done(node, "its rows are int8")
                store.store_table(place, scheme, per_channel=self.per_channel)
            elif scheme.dynamic == "integers":
                ctx.done(node, "a product of integers")
                rounding.as_integers(place, per_channel=self.per_channel)
            else:
                ctx.done(node, "its data is rounded at run time")
                rounding.as_pair(place, per_channel=self.per_channel)
        return bool(chosen)

    def _scheme(self, ctx: PassContext) -> QuantizationScheme:
        from edgecc.quantization.scheme import PORTABLE

        scheme = ctx.target.quantization_scheme() if ctx.target is not None else None
        if scheme is not None and not scheme.dynamic:
            assert ctx.target is not None
            raise OptionError(
                f"target {ctx.target.name} has no kernels that find the scale of their data at run time",
                where=f"pass {self.name}",
                hint="--quantize int8 with --calibration DATA, or --quantize int8-weights",
            )
        return scheme or PORTABLE

    def _refuses(self, node: Node, model: Model, scheme: QuantizationScheme) -> str:
        """Why the node stays float."""
        from edgecc.model import matches_any
        from edgecc.quantization.weight_places import unfit
        from edgecc.rewriting.reading import is_scaled_gemm, rank

        if node.op in self.ignore_ops or (self.ignore and matches_any(node, self.ignore)):
            return "it is excluded"
        if node.op != "Gather" and node.op not in scheme.dynamic_operators:
            return "the target's kernel for data rounded at run time is slower than that for float, or there is none"
        if reason := unfit(node, self.min_elements):
            return reason
        if is_scaled_gemm(node) or (node.op == "Gemm" and node.attrs.get("transA", 0)):
            return "it transposes its data, or scales its product"
        if node.op == "MatMul" and rank(node.inputs[1]) != 2:
            return "its weights are no matrix"
        return "it is in a subgraph" if model.is_inner(node) else ""
