"""All rules, by ONNX operator."""

from __future__ import annotations

from edgecc_torch.rules import (
    convolution,
    elementwise,
    indexing,
    linear,
    movement,
    normalization,
    pooling,
    quantization,
    recurrent,
    reduction,
    resizing,
    sizes,
)
from edgecc_torch.rules.base import Rule

RULES: dict[str, Rule] = {
    **elementwise.RULES,
    **linear.RULES,
    **convolution.RULES,
    **pooling.RULES,
    **normalization.RULES,
    **reduction.RULES,
    **movement.RULES,
    **indexing.RULES,
    **resizing.RULES,
    **recurrent.RULES,
    **quantization.RULES,
    **sizes.MAKERS,
}

#: For nodes that read sizes: shapes stay Python numbers.
SIZE_RULES: dict[str, Rule] = sizes.RULES
