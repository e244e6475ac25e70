"""Operators for which XNNPACK, the runtime's default, has no fast kernel, written as ones for which it has.

The last look at the finished graph: orders of axes are decided, integers are in place, and only float operators are
touched. Each rewrite takes one operator and gives what stands for it, or nothing where the operator is well served.
The ratios in their comments are of LiteRT 2.3 on one x86 core; `benchmarks/exports/race.py` measures whole models.
"""

from __future__ import annotations

from collections.abc import Callable

from edgecc_tflite.fast_kernels.affine import scale_and_shift
from edgecc_tflite.fast_kernels.depthwise import split_taps
from edgecc_tflite.fast_kernels.dilated import split_by_tap
from edgecc_tflite.fast_kernels.strides import slice_of_blocks
from edgecc_tflite.fast_kernels.upsampling import convolve_by_phase
from edgecc_tflite.ir import Graph, Operator
from edgecc_tflite.layout.cleanup import drop_unused, merge_reshapes

__all__ = ["use_fast_kernels"]

_REWRITES: dict[str, Callable[[Operator], list[Operator]]] = {
    "CONV_2D": split_by_tap,
    "DEPTHWISE_CONV_2D": split_taps,
    "STRIDED_SLICE": slice_of_blocks,
    "TRANSPOSE_CONV": convolve_by_phase,
}


def use_fast_kernels(graph: Graph) -> None:
    """Rewrite a graph, and the graphs inside it, in place; results differ by rounding only."""
    for part in graph.nested():
        scale_and_shift(part)
        rewritten = [_REWRITES[op.builtin](op) if op.builtin in _REWRITES else [] for op in part.operators]
        if not any(rewritten):
            continue
        part.operators = [new for old, ops in zip(part.operators, rewritten, strict=True) for new in ops or [old]]
        merge_reshapes(part)
        drop_unused(part)
