"""Pass quantize-weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from edgecc.passes.base import Loss, Pass, PassContext, check_ignore, check_ops

if TYPE_CHECKING:
    from edgecc.model import Model, Node
    from edgecc.quantization.weight_places import WeightPlace, WeightStore

#: Weights that share a scale in four bits: kernels of ONNX Runtime, TFLite and TensorRT take this length.
BLOCK = 32


class QuantizeWeights(Pass):
    """Store weights in 8 or 4 bits and compute in float; needs no data.

    Weights of convolutions and matrix products and tables that Gather reads rows of (embeddings). Scales are those of
    the least squared error: one for each output channel or row; for 4-bit matrices one for each run of 32 weights along
    the axis that products sum along. Tables stay at 8 bits. A Gemm reads its weights untransposed afterwards.

    Before: y = MatMul(x, w)   e = Gather(t, ids)
    After:  d = DequantizeLinear<axis=1>(w8, s)   y = MatMul(x, d)
            g = Gather(t8, ids)   f = Cast<to=1>(g)   r = Gather(ts, ids)   e = Mul(f, r)
    """

    name: ClassVar[str] = "quantize-weights"
    loss: ClassVar[Loss] = Loss.LOSSY
    quantizes: ClassVar[bool] = True
    # What stays float there may be stored small here.
    after: ClassVar[tuple[str, ...]] = (
        "expand-qoperators",
        "fold-batchnorm",
        "fuse-matmul-add",
        "quantize-static",
        "mixed-precision",
    )
    before: ClassVar[tuple[str, ...]] = ("convert-float16",)

    dtype: Literal["int8", "int4"] = Field(default="int8", description="type that weights are stored in")
    block_size: int | None = Field(
        default=None,
        ge=0,
        description="weights of a matrix that share a scale; 0 for one per channel, 32 for int4 if not given",
    )
    per_channel: bool = Field(default=True, description="without blocks: a scale per output channel, or one in all")
    min_elements: int = Field(default=1024, ge=1, description="smaller weights stay float")
    ignore: tuple[str, ...] = Field(default=(), description="patterns of names of nodes whose weights stay float")
    ignore_ops: tuple[str, ...] = Field(default=(), description="operators whose weights stay float")

    def run(self, model: Model, ctx: PassContext) -> bool:
        from edgecc.quantization.weight_places import WEIGHTED, WeightStore, choose, weight_place

        check_ignore(self, self.ignore, model)
        check_ops(self, self.ignore_ops, model, WEIGHTED)
        chosen = choose(model, ctx, lambda node: self._refuses(node, model))
        store = WeightStore(model, 8 if self.dtype == "int8" else 4)
        for node in chosen:
            place = weight_place(node)
            assert place is not None
            ctx.done(node, f"its weights are {'int8' if node.op == 'Gather' else self.dtype}")
            self._store(place, store, ctx)
        return bool(chosen)

    def _store(self, place: WeightPlace, store: WeightStore, ctx: PassContext) -> None:
        scheme = ctx.target.quantization_scheme() if ctx.target is not None else None
        if place.node.op == "Gather":
            store.store_table(place, scheme, per_channel=self.per_channel)
            return
        block = self.block_size if self.block_size is not None else BLOCK * (self.dtype == "int4")
        store.store(place, per_channel=self.per_channel, block=block if place.node.op in ("Gemm", "MatMul") else 0)

    def _refuses(self, node: Node, model: Model) -> str:
        """Why the node's weights stay float."""
        from edgecc.model import matches_any
        from edgecc.quantization.weight_places import unfit

        if node.op in self.ignore_ops or (self.ignore and matches_any(node, self.ignore)):
            return "it is excluded"
        return unfit(node, self.min_elements) or ("it is in a subgraph" if model.is_inner(node) else "")
