"""A broken plugin, installed as pip would, breaks nothing but itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RAISES_AT_IMPORT = "raise ImportError('libfrob.so.3: cannot open shared object file')"
RAISES_IN_HOOK = """
from edgecc import hookimpl

@hookimpl
def edgecc_passes():
    raise RuntimeError('no license for frob')
"""
MISSPELLED_HOOK = """
from edgecc import hookimpl

@hookimpl
def edgecc_pases():
    return []
"""
WRONG_ARGUMENT = """
from edgecc import hookimpl

@hookimpl
def edgecc_passes(registry):
    return []
"""
TAKES_A_NAME = """
from edgecc import Pass, hookimpl

class FusePad(Pass):
    name = "fuse-pad"

    def run(self, model, ctx):
        return False

@hookimpl
def edgecc_passes():
    return [FusePad]
"""
BROKEN = {
    "import": (RAISES_AT_IMPORT, "ImportError: libfrob.so.3: cannot open shared object file"),
    "hook": (RAISES_IN_HOOK, "RuntimeError: no license for frob"),
    "misspelled": (MISSPELLED_HOOK, "unknown hook 'edgecc_pases'"),
    "argument": (WRONG_ARGUMENT, "Argument(s) {'registry'} are declared in the hookimpl but can not be found"),
}


def install(code: str, site: Path) -> None:
    (site / "edgecc_frob.py").write_text(code, encoding="utf-8")
    info = site / "edgecc_frob-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: edgecc-frob\nVersion: 1.2\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[edgecc]\nfrob = edgecc_frob\n", encoding="utf-8")


def edgecc(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-m", "edgecc", *words]
    return subprocess.run(command, cwd=site, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(params=BROKEN)
def broken(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """A folder with a plugin that is broken in one way, and what must be said about it."""
    code, reason = BROKEN[request.param]
    install(code, tmp_path)
    shutil.copy(ROOT / "examples" / "digits" / "digits.onnx", tmp_path)
    return tmp_path, reason


def test_plugins_shows_why(broken: tuple[Path, str]) -> None:
    site, reason = broken
    done = edgecc(site, "plugins", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["plugin"]: row for row in json.loads(done.stdout)}
    assert reason in rows["frob"]["problem"]
    assert "pip install --force-reinstall edgecc-frob" in rows["frob"]["problem"]
    assert (rows["frob"]["package"], rows["frob"]["version"]) == ("edgecc-frob", "1.2")
    assert all(not row["problem"] for name, row in rows.items() if name != "frob")


def test_everything_else_works(broken: tuple[Path, str]) -> None:
    site, _ = broken
    for words in (["--help"], ["passes"], ["targets"], ["compile", "digits.onnx", "-o", "digits.tflite"]):
        done = edgecc(site, *words)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr


def test_asking_for_what_it_would_bring_says_why_it_is_not_there(broken: tuple[Path, str]) -> None:
    site, reason = broken
    done = edgecc(site, "compile", "digits.onnx", "-t", "tflite", "--pass", "frob")
    assert done.returncode == 2
    assert reason in done.stderr
    assert "edgecc-frob" in done.stderr
    assert "Traceback" not in done.stderr


def test_other_names_hint_at_it(tmp_path: Path) -> None:
    """The pass may have another name than the plugin that would bring it."""
    install(RAISES_AT_IMPORT, tmp_path)
    done = edgecc(tmp_path, "passes", "sparkle")
    assert done.returncode == 2
    assert "unknown pass 'sparkle'" in done.stderr
    assert "plugin frob is broken: ImportError: libfrob.so.3" in done.stderr


def test_a_name_that_two_plugins_bring_names_both(tmp_path: Path) -> None:
    install(TAKES_A_NAME, tmp_path)
    done = edgecc(tmp_path, "passes", "fuse-pad")
    assert done.returncode == 2
    assert "pass 'fuse-pad' is brought by two plugins: edgecc and edgecc-frob" in done.stderr
    assert "EDGECC_PLUGINS=" in done.stderr
    assert edgecc(tmp_path, "passes", "fold-batchnorm").returncode == 0


def test_plugins_works_when_two_plugins_bring_one_name(tmp_path: Path) -> None:
    """It is the command that the hint sends people to."""
    install(TAKES_A_NAME, tmp_path)
    done = edgecc(tmp_path, "plugins", "--json")
    assert done.returncode == 0, done.stderr
    problems = {row["plugin"]: row["problem"] for row in json.loads(done.stdout)}
    assert "pass 'fuse-pad' is brought by two plugins: edgecc and edgecc-frob" in problems["frob"]
    assert problems["builtin"] == ""


def test_selecting_plugins_leaves_it_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(TAKES_A_NAME, tmp_path)
    monkeypatch.setenv("EDGECC_PLUGINS", "tflite")
    assert edgecc(tmp_path, "passes").returncode == 0
