"""What authors of passes and backends test with.

`check_pass` and `assert_skipped` hold a pass to its contract; `BackendConformance` is a class of pytest tests that a
backend's own tests subclass; `models` has small named models; `strategies` makes random ones for Hypothesis.
"""

from __future__ import annotations

import pytest

# Before the import: only then do failing assertions of the suite show their values.
pytest.register_assert_rewrite("edgecc.testing.conformance")

from edgecc.testing.checks import assert_skipped, check_contract, check_pass  # noqa: E402
from edgecc.testing.conformance import BackendConformance  # noqa: E402

__all__ = ["BackendConformance", "assert_skipped", "check_contract", "check_pass"]
