"""Names and versions are those that importlib.metadata tells."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from edgecc.distributions import name_and_version, version_of


def test_every_installed_distribution_is_told_as_the_standard_library_tells_it() -> None:
    found = list(importlib.metadata.distributions())
    assert len(found) > 5
    for distribution in found:
        assert name_and_version(distribution) == (distribution.metadata["Name"], distribution.version)


def test_version_by_name() -> None:
    assert version_of("numpy") == importlib.metadata.version("numpy")
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        version_of("no-such-distribution")


def test_a_readme_that_speaks_of_versions_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "thing-1.2.dist-info"
    folder.mkdir()
    text = "Metadata-Version: 2.4\nName: thing\nVersion: 1.2\n\nName: other\nVersion: 9\n"
    (folder / "METADATA").write_text(text, encoding="utf-8")
    assert name_and_version(importlib.metadata.Distribution.at(folder)) == ("thing", "1.2")
