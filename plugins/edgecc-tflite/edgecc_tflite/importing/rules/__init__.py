"""The table of import rules: one family of operators per file, one row per operator."""

from __future__ import annotations

import functools

from edgecc_tflite.importing.base import ImportRule, ImportTable
from edgecc_tflite.importing.rules import (
    conv,
    elementwise,
    index,
    matmul,
    padding,
    pool,
    reduce,
    resize,
    shape,
    slicing,
)

_FAMILIES: tuple[tuple[ImportRule, ...], ...] = (
    conv.RULES,
    elementwise.RULES,
    index.RULES,
    matmul.RULES,
    padding.RULES,
    pool.RULES,
    reduce.RULES,
    resize.RULES,
    shape.RULES,
    slicing.RULES,
)


@functools.cache
def builtin_rules() -> ImportTable:
    """The rules that ship with edgecc."""
    return ImportTable(rule for family in _FAMILIES for rule in family)
