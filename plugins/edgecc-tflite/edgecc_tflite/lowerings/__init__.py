"""The table of lowering rules: one family of operators per file, one row per operator."""

from __future__ import annotations

from edgecc_tflite.lowerings import (
    activation,
    conv,
    elementwise,
    index,
    matmul,
    normalization,
    pool,
    reduce,
    resize,
    shape,
)
from edgecc_tflite.lowerings.base import LoweringRule, RuleTable

_FAMILIES = (elementwise, activation, conv, pool, reduce, matmul, normalization, shape, index, resize)


def builtin_rules() -> RuleTable:
    """The rules that ship with edgecc; add others with `RuleTable.extended`."""
    return RuleTable(rule for family in _FAMILIES for rule in family.RULES)


__all__ = ["LoweringRule", "RuleTable", "builtin_rules"]
