"""The table of lowering rules: one family of operators per file, one row per operator."""

from __future__ import annotations

from dataclasses import replace

from edgecc_tflite.lowerings import (
    activation,
    bitwise,
    control_flow,
    conv,
    conv_transpose,
    deformable,
    detection,
    einsum,
    elementwise,
    index,
    matmul,
    matrices,
    normalization,
    padding,
    pool,
    quantization,
    ranking,
    recurrent,
    reduce,
    resize,
    roi_pool,
    sampling,
    scatter,
    shape,
    slicing,
    spectral,
    trigonometry,
    unique,
)
from edgecc_tflite.lowerings.base import LoweringRule, RuleTable
from edgecc_tflite.lowerings.detours import HALF, detoured

_FAMILIES = (
    detection,
    sampling,
    deformable,
    roi_pool,
    einsum,
    matrices,
    ranking,
    unique,
    scatter,
    trigonometry,
    elementwise,
    bitwise,
    activation,
    conv,
    conv_transpose,
    pool,
    reduce,
    matmul,
    recurrent,
    control_flow,
    normalization,
    shape,
    index,
    slicing,
    spectral,
    padding,
    resize,
    quantization,
)


def builtin_rules() -> RuleTable:
    """The rules that ship with edgecc; add others with `RuleTable.extended`.

    What has no float16 kernel computes in float32; the table of operators does not repeat that CAST in every row.
    """
    return RuleTable(replace(detoured(rule, HALF), emits=rule.emits) for family in _FAMILIES for rule in family.RULES)


__all__ = ["LoweringRule", "RuleTable", "builtin_rules"]
