"""tests/plugin_example is found through its entry point, works like a pass of our own, and passes its own tests."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "tests" / "plugin_example"
PROJECT = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what `pip install -e` leaves: the metadata with the entry points; the code stays where it is."""
    folder = tmp_path_factory.mktemp("site")
    info = folder / f"{PROJECT['name'].replace('-', '_')}-{PROJECT['version']}.dist-info"
    info.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {PROJECT['name']}\nVersion: {PROJECT['version']}\n"
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    lines = [f"{name} = {module}" for name, module in PROJECT["entry-points"]["edgecc"].items()]
    (info / "entry_points.txt").write_text("\n".join(["[edgecc]", *lines]) + "\n", encoding="utf-8")
    return folder


def python(site: Path, *words: str, folder: Path = ROOT) -> str:
    path = os.pathsep.join([str(site), str(EXAMPLE)])
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_edgecc_finds_it(site: Path) -> None:
    plugins = {row["plugin"]: row for row in json.loads(python(site, "-m", "edgecc", "plugins", "--json"))}
    assert plugins["remove_dropout"]["package"] == "edgecc-remove-dropout"
    assert plugins["remove_dropout"]["version"] == "0.1.0"
    assert plugins["remove_dropout"]["problem"] == ""
    passes = {row["name"]: row for row in json.loads(python(site, "-m", "edgecc", "passes", "--json"))}
    assert passes["remove-dropout"]["from"] == "edgecc-remove-dropout"
    assert passes["remove-dropout"]["loss"] == "exact"


def test_edgecc_runs_it(site: Path, tmp_path: Path) -> None:
    from edgecc.model import Model

    Model.from_text("g (float[1,4] x) => (float[1,4] y) { d = Dropout(x) y = Relu(d) }").save(tmp_path / "m.onnx")
    words = ["m.onnx", "-o", "out.onnx", "-O0", "--pass", "remove-dropout", "--verify"]
    python(site, "-m", "edgecc", "compile", *words, folder=tmp_path)
    report = json.loads((tmp_path / "out.onnx.report.json").read_text(encoding="utf-8"))
    assert report["passes"][0]["pass"] == "remove-dropout"
    assert report["passes"][0]["changed"] is True
    assert [node.op for node in Model.load(tmp_path / "out.onnx").nodes()] == ["Relu"]


def test_its_own_tests_pass(site: Path) -> None:
    output = python(site, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder=EXAMPLE)
    assert re.search(r"^\d+ passed", output, flags=re.MULTILINE), output


def test_the_page_shows_the_same_code() -> None:
    page = (ROOT / "docs" / "writing_a_pass.md").read_text(encoding="utf-8")
    code = (EXAMPLE / "edgecc_remove_dropout" / "plugin.py").read_text(encoding="utf-8")
    assert code in page
