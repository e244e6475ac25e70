"""Pages are right: generated ones are fresh, and the code in the others runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import edgecc

ROOT = Path(__file__).resolve().parents[2]
GENERATE = ROOT / "docs" / "generate.py"
RUN_PAGE = Path(__file__).with_name("run_page.py")
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")])
PAGES_WITH_CODE = [page for page in PAGES if re.search(r"^```(python|sh)\n", page.read_text("utf-8"), re.MULTILINE)]


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_generated_pages_are_fresh(tmp_path: Path) -> None:
    done = run([str(GENERATE), "--check"], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_generated_pages_are_deterministic(tmp_path: Path) -> None:
    code = f"import runpy; print(runpy.run_path({str(GENERATE)!r})['pages']())"
    assert run(["-c", code], tmp_path).stdout == run(["-c", code], tmp_path).stdout


@pytest.mark.parametrize("page", PAGES_WITH_CODE, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_of_page_runs(page: Path, tmp_path: Path) -> None:
    """In a folder with the digits model and its data, as someone who follows the page has it."""
    for file in ("digits.onnx", "digits.npz", "digits_calibration.npz"):
        shutil.copy(ROOT / "examples" / "digits" / file, tmp_path)
    done = run([str(RUN_PAGE), str(page)], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_page_of_the_report_lists_every_field(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    digits = ROOT / "examples" / "digits" / "digits.onnx"
    result = edgecc.compile(digits, target="onnxruntime", output=tmp_path / "m.onnx")
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == list(result.artifact.report)


def test_make_targets_of_the_pages_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        name for page in PAGES for name in re.findall(r"^make ([\w-]+)|`make ([\w-]+)", page.read_text("utf-8"), re.M)
    }
    assert {a or b for a, b in named} <= targets


def test_projects_that_the_pages_install_exist() -> None:
    """`pip install -e plugins/edgecc-tflite`, or by the name that the project has."""
    names = {path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml")} | {"edgecc"}
    for page in PAGES:
        for line in re.findall(r"^pip install (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE):
            for word in line.partition("#")[0].split():
                known = word.startswith("-") or (ROOT / word.partition("[")[0].strip('"')).is_dir() or word in names
                assert known, f"{page.name}: pip install {line}"
