"""House rules that hold for every source file."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_LINES = 500
FILES = sorted([*ROOT.glob("edgecc/**/*.py"), *ROOT.glob("plugins/*/edgecc_*/**/*.py")])
NAMES = [str(path.relative_to(ROOT)) for path in FILES]


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_source_file(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = text.count("\n")
    assert lines <= MAX_LINES, f"{lines} lines; split the file along what it does"
    tree = ast.parse(text)
    if not tree.body:
        return
    assert ast.get_docstring(tree), "no module docstring"
    if len(tree.body) > 1:
        futures = [n for n in tree.body if isinstance(n, ast.ImportFrom) and n.module == "__future__"]
        assert futures, "no `from __future__ import annotations`"


@pytest.mark.parametrize("path", sorted({p.parent for p in FILES}), ids=lambda p: str(p.relative_to(ROOT)))
def test_every_folder_of_sources_is_a_package(path: Path) -> None:
    assert (path / "__init__.py").is_file()
