"""The table of import rules: one family of operators per file, one row per operator."""

from __future__ import annotations

import functools

from edgecc_tflite.importing.base import ImportRule, ImportTable
from edgecc_tflite.importing.rules import (
    control_flow,
    conv,
    detection,
    elementwise,
    index,
    matmul,
    padding,
    pool,
    random,
    recurrent,
    reduce,
    resize,
    shape,
    slicing,
)

_FAMILIES: tuple[tuple[ImportRule, ...], ...] = (
    control_flow.RULES,
    conv.RULES,
    detection.RULES,
    elementwise.RULES,
    index.RULES,
    matmul.RULES,
    padding.RULES,
    pool.RULES,
    random.RULES,
    recurrent.RULES,
    reduce.RULES,
    resize.RULES,
    shape.RULES,
    slicing.RULES,
)


@functools.cache
def builtin_rules() -> ImportTable:
    """The rules that ship with edgecc."""
    return ImportTable(rule for family in _FAMILIES for rule in family)
