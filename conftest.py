"""Options and fixtures of every test in the repository."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

SHARED_DATA = Path(__file__).resolve().parent.parent / "shared" / "data"


# In CI, Hypothesis draws the same examples every time: what it finds there can be run again here with CI=true.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    slow = pytest.mark.skip(reason="slow; run with --slow")
    absent = pytest.mark.skip(reason="../shared/data is not on this machine")
    for item in items:
        if item.get_closest_marker("slow") and not config.getoption("--slow"):
            item.add_marker(slow)
        if item.get_closest_marker("shared_data") and not SHARED_DATA.is_dir():
            item.add_marker(absent)


@pytest.fixture
def ctrl_c_works() -> Iterator[None]:
    """Python's own handler of SIGINT: a process started in the background ignores the signal."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real models and data beside the checkout; use with `@pytest.mark.shared_data`."""
    return SHARED_DATA
