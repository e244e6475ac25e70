"""Words line up: a pass's name, file, class, test file and doc heading are the same word."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import edgecc.passes
from edgecc.builtin import edgecc_passes
from edgecc.passes.base import Pass

ROOT = Path(__file__).resolve().parents[2]
PASSES = [entry.load() for entry in edgecc_passes()]


def defined_passes() -> set[type[Pass]]:
    """Every concrete pass that a module of `edgecc.passes` defines."""
    found = set()
    for info in pkgutil.iter_modules(edgecc.passes.__path__):
        module = importlib.import_module(f"edgecc.passes.{info.name}")
        classes = [cls for _, cls in inspect.getmembers(module, inspect.isclass) if cls.__module__ == module.__name__]
        found |= {cls for cls in classes if issubclass(cls, Pass) and not inspect.isabstract(cls)}
    return found


def test_every_pass_is_registered() -> None:
    assert defined_passes() == set(PASSES)


def test_the_list_of_passes_is_sorted() -> None:
    names = [cls.name for cls in PASSES]
    assert names == sorted(names)


@pytest.mark.parametrize("cls", PASSES, ids=lambda cls: str(cls.name))
def test_words_line_up(cls: type[Pass]) -> None:
    word = cls.name.replace("-", "_")
    assert cls.__module__ == f"edgecc.passes.{word}"
    assert cls.__name__.lower() == word.replace("_", "")
    assert (ROOT / "tests" / "passes" / f"test_{word}.py").is_file()
    assert f"\n## {cls.name}\n" in (ROOT / "docs" / "passes.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("cls", PASSES, ids=lambda cls: str(cls.name))
def test_docstring_shows_the_graph(cls: type[Pass]) -> None:
    doc = inspect.getdoc(cls) or ""
    assert "Before" in doc
    assert "After" in doc


@pytest.mark.parametrize("cls", PASSES, ids=lambda cls: str(cls.name))
def test_every_option_is_described(cls: type[Pass]) -> None:
    doc = inspect.getdoc(cls) or ""
    undescribed = [key for key, info in cls.model_fields.items() if not info.description and f"    {key}: " not in doc]
    assert undescribed == []
