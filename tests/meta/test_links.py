"""Links and file names in the project's pages lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATTERNS = ("*.md", "docs/*.md", "plugins/*/*.md", "examples/**/*.md")
PAGES = sorted(path for pattern in PATTERNS for path in ROOT.glob(pattern))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
#: `edgecc/model.py`, `plugins/edgecc-tflite/`, `docs/passes.md`: words in code font that begin like a path of ours.
FILE_NAME = re.compile(r"`((?:edgecc|plugins|tests|docs|examples|benchmarks)/[\w./-]*)`")


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """GitHub's anchors of a page's headings."""
    headings = re.findall(r"^#+ +(.+)$", without_code(text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=[str(p.relative_to(ROOT)) for p in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    broken = []
    for link in LINK.findall(without_code(text)):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        goal = page.parent / file if file else page
        if not goal.exists() or (anchor and anchor not in anchors(goal.read_text(encoding="utf-8"))):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=[str(p.relative_to(ROOT)) for p in PAGES])
def test_named_files_exist(page: Path) -> None:
    """Names of files and folders from the repository's root, except those with a placeholder in capitals."""
    named = FILE_NAME.findall(without_code(page.read_text(encoding="utf-8")))
    missing = [name for name in named if not re.search(r"[A-Z]{3}", name) and not (ROOT / name).exists()]
    assert missing == []


def test_design_shows_every_room_of_the_house() -> None:
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    rooms = [path.parent for path in (ROOT / "edgecc").glob("*/__init__.py")]
    assert [room.name for room in rooms if f" {room.name}/" not in page] == []
