"""Every operator that LiteRT runs is imported, or there is a reason why it is not."""

from __future__ import annotations

import pytest

from edgecc_tflite.importing.coverage import ABSENT, to_markdown, with_kernels
from edgecc_tflite.importing.rules import builtin_rules
from edgecc_tflite.lowerings import builtin_rules as lowering_rules


@pytest.mark.parametrize("name", with_kernels())
def test_a_rule_or_a_reason(name: str) -> None:
    assert (builtin_rules().find(name) is None) == (name in ABSENT)


def test_what_the_backend_writes_is_imported() -> None:
    written = {builtin for rule in lowering_rules() for builtin in rule.emits}
    assert not [builtin for builtin in written if builtin_rules().find(builtin) is None]


def test_the_page_counts_what_is_imported() -> None:
    page = to_markdown(builtin_rules())
    count = len(with_kernels()) - len(ABSENT)
    assert f"for {len(with_kernels())} operators; {count} of them are imported" in page
    assert "| TFLite_Detection_PostProcess | NonMaxSuppression" in page
    assert "| SVDF | it keeps a state" in page
