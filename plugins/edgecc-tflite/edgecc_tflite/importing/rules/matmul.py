"""Matrix products."""

from __future__ import annotations

from edgecc_tflite.importing.base import ImportRule, Refusal
from edgecc_tflite.importing.context import Import
from edgecc_tflite.importing.rules.conv import bias_of, rounded


def _fully_connected(c: Import) -> None:
    """Gemm where the result is a matrix, MatMul where the axes in front are kept."""
    if c.option("weightsFormat"):
        raise Refusal("its weights are shuffled for one processor", "convert the model again for any processor")
    if c.rank(1) != 2 or c.shape(1)[1] <= 0:
        raise Refusal(f"its weights have shape {list(c.shape(1))}")
    bias, keeps = bias_of(c, 2, 0, 1), bool(c.option("keepNumDims")) and c.rank() > 2
    if keeps:
        product = c.add("MatMul", [rounded(c, c.x()), c.permuted(1, (1, 0))])
        c.give_active(product if bias is None else c.add("Add", [product, bias]))
        return
    x = c.x()
    if c.rank() != 2 or c.shape()[1] != c.shape(1)[1]:
        x = c.reshape(x, [-1, c.shape(1)[1]])
    inputs = [rounded(c, x), c.permuted(1, (0, 1)), *([bias] if bias is not None else [])]
    product = c.add("Gemm", inputs, transB=1)
    if c.out().rank != 2:
        product = c.reshape(product, _open_to_rest(c.out().shape))
    c.give_active(product)


def _open_to_rest(shape: tuple[int, ...]) -> list[int]:
    if sum(dim < 0 for dim in shape) > 1:
        raise Refusal(f"its output has several open dimensions: {list(shape)}")
    return list(shape)


def _batch_matmul(c: Import) -> None:
    a, b = (_side(c, index, bool(c.option(name))) for index, name in enumerate(("adjX", "adjY")))
    c.give(c.add("MatMul", [a, b]))


def _side(c: Import, index: int, is_transposed: bool) -> str:
    rank = c.rank(index)
    if rank < 2:
        raise Refusal(f"input {index} is no matrix")
    perm = [*range(rank - 2), rank - 1, rank - 2] if is_transposed else list(range(rank))
    return c.permuted(index, perm)


RULES = (
    ImportRule("FULLY_CONNECTED", _fully_connected, ("Gemm", "MatMul", "Add", "Reshape")),
    ImportRule("BATCH_MATMUL", _batch_matmul, ("MatMul", "Transpose")),
)
