"""The names that `import edgecc` gives: declared once, importable, never shadowed."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import edgecc

SOURCE = Path(edgecc.__file__).read_text(encoding="utf-8")


def imports_for_type_checkers() -> dict[str, str]:
    """Name to module, as written in the TYPE_CHECKING block."""
    blocks = [node for node in ast.parse(SOURCE).body if isinstance(node, ast.If)]
    found = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in found for alias in node.names}


def test_all_is_sorted_and_complete() -> None:
    assert list(edgecc.__all__) == sorted(edgecc.__all__)
    assert set(edgecc.__all__) == set(edgecc._HOME)


def test_type_checkers_see_the_same_names() -> None:
    assert imports_for_type_checkers() == edgecc._HOME


@pytest.mark.parametrize("name", edgecc.__all__)
def test_name_is_importable_and_documented(name: str) -> None:
    thing = getattr(edgecc, name)
    assert thing is getattr(importlib.import_module(edgecc._HOME[name]), name)
    if inspect.isclass(thing) or inspect.isfunction(thing):
        assert inspect.getdoc(thing), f"edgecc.{name} has no docstring"


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'edgecc' has no attribute 'complie'"):
        _ = edgecc.complie


def test_no_submodule_shadows_a_public_name() -> None:
    """Importing `edgecc.x` sets attribute `x` of the package, whatever `edgecc.x` was before."""
    code = """
import importlib, pkgutil, types
import edgecc
for module in pkgutil.walk_packages(edgecc.__path__, "edgecc."):
    if module.name != "edgecc.running.worker":  # a script: it closes the streams of the process that runs it
        importlib.import_module(module.name)
shadowed = [name for name in edgecc.__all__ if isinstance(getattr(edgecc, name), types.ModuleType)]
print(" ".join(shadowed))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_a_framework_without_its_plugin(framework: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(edgecc.EdgeccError, match=f"edgecc-{framework} is not installed") as caught:
        getattr(edgecc, f"from_{framework}")(object(), ())
    assert caught.value.exit_code == 2
    assert caught.value.hint == f"pip install edgecc-{framework}"
