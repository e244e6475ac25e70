"""What the projects declare is what they import. That the floors are true is tried by hand: see CONTRIBUTING.md."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECTS = {"edgecc": ROOT, **{path.name.replace("-", "_"): path for path in sorted(ROOT.glob("plugins/edgecc-*"))}}
#: Distributions by module where the names differ.
DISTRIBUTIONS = {"google": "protobuf", "ai_edge_litert": "ai-edge-litert"}
#: Imported only where they are there.
OPTIONAL = {"tflite-runtime", "tensorrt", "torch", "edgecc-torch", "jax", "edgecc-jax", "pytest", "hypothesis"}


def declared(project: Path) -> dict[str, str]:
    """Floors by distribution."""
    requirements = tomllib.loads((project / "pyproject.toml").read_text())["project"]["dependencies"]
    parts = [re.match(r"([\w-]+)(?:>=([\d.]+))?", requirement) for requirement in requirements]
    return {part[1].replace("_", "-"): part[2] for part in parts if part}


def modules(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


@pytest.mark.parametrize("package", PROJECTS)
def test_what_is_imported_is_declared(package: str) -> None:
    files = (PROJECTS[package] / package).rglob("*.py")
    imported = {name.partition(".")[0] for file in files for name in modules(ast.parse(file.read_text()))}
    foreign = imported - set(sys.stdlib_module_names) - {package}
    needed = {DISTRIBUTIONS.get(name, name.replace("_", "-")) for name in foreign} - OPTIONAL
    through_core = set() if package == "edgecc" else set(declared(ROOT))
    assert needed <= set(declared(PROJECTS[package])) | through_core


def test_projects_agree_about_floors() -> None:
    floors: dict[str, set[str]] = {}
    for project in PROJECTS.values():
        for name, floor in declared(project).items():
            floors.setdefault(name, set()).add(floor)
    assert {name: found for name, found in floors.items() if len(found) > 1} == {}


@pytest.mark.parametrize("package", PROJECTS)
def test_licence_goes_with_every_package(package: str) -> None:
    assert (PROJECTS[package] / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    settings = tomllib.loads((PROJECTS[package] / "pyproject.toml").read_text())
    assert "LICENSE" in settings["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
