"""The table of lowering rules: one family of operators per file, one row per operator."""

from __future__ import annotations

import functools
import importlib
from dataclasses import replace
from types import ModuleType

from edgecc_tflite.lowerings import (
    activation,
    conv,
    elementwise,
    index,
    matmul,
    normalization,
    padding,
    pool,
    reduce,
    shape,
    slicing,
)
from edgecc_tflite.lowerings.base import LoweringRule, RuleFamily, RuleTable
from edgecc_tflite.lowerings.detours import HALF, detoured

#: What most models need.
_COMMON = (activation, conv, elementwise, index, matmul, normalization, padding, pool, reduce, shape, slicing)

#: Families that are imported when a model has one of their operators, which is what each lists.
RARE = {
    "bitwise": "BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor",
    "control_flow": "Constant If Loop Scan",
    "conv_transpose": "ConvTranspose",
    "deformable": "DeformConv",
    "detection": "NonMaxSuppression",
    "einsum": "Einsum",
    "matrices": "Det EyeLike Trilu",
    "quantization": "DequantizeLinear QuantizeLinear",
    "ranking": "ArgMax ArgMin Compress CumSum Hardmax NonZero OneHot TopK",
    "recurrent": "GRU LSTM RNN",
    "resize": "Resize",
    "roi_pool": "MaxRoiPool",
    "sampling": "GridSample RoiAlign",
    "scatter": "Col2Im MaxUnpool ScatterElements ScatterND",
    "spectral": "BlackmanWindow DFT HammingWindow HannWindow STFT",
    "trigonometry": "Acos Acosh Asin Asinh Atan Atanh Cosh Sinh Tan",
    "unique": "Unique",
}


def builtin_rules() -> RuleTable:
    """The rules that ship with edgecc; add others with `RuleTable.extended`."""
    families = [
        RuleFamily(frozenset(operators.split()), functools.partial(_imported, name)) for name, operators in RARE.items()
    ]
    return RuleTable((rule for family in _COMMON for rule in rules_of(family)), families)


def rules_of(family: ModuleType) -> list[LoweringRule]:
    """A family's rows.

    What has no float16 kernel computes in float32; the table of operators does not repeat that CAST in every row.
    """
    return [replace(detoured(rule, HALF), emits=rule.emits) for rule in family.RULES]


def _imported(name: str) -> list[LoweringRule]:
    return rules_of(importlib.import_module(f"{__name__}.{name}"))


__all__ = ["RARE", "LoweringRule", "RuleTable", "builtin_rules", "rules_of"]
