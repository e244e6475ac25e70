"""Small models on disk, and two ways to run the command line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest

from edgecc.cli import main

ROOT = Path(__file__).resolve().parents[2]
HEADER = '<ir_version: 10, opset_import: ["" : 23, "my.domain" : 1]>\n'
SMALL = "g (float[1,4] x) => (float[1,4] y) { c = Identity(x)  y = Relu(c) }"


@dataclass(frozen=True)
class Outcome:
    """What a command line did."""

    code: int
    out: str
    err: str


@pytest.fixture
def edgecc(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Outcome]:
    """Run a command line in this process, in the test's own folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str | Path) -> Outcome:
        capsys.readouterr()
        code = main.run([str(word) for word in words])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture
def shell(tmp_path: Path) -> Callable[..., Outcome]:
    """Run a command line as a process of its own, in the test's own folder."""

    def run(*words: str | Path, **environment: str) -> Outcome:
        command = [sys.executable, "-m", "edgecc", *map(str, words)]
        env = {**os.environ, **environment}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Write a model, given as ONNX text, into the test's folder."""

    def write(text: str, name: str = "m.onnx") -> Path:
        onnx.save(onnx.parser.parse_model(HEADER + text), tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def small(save: Callable[..., Path]) -> Path:
    """A model that every target takes, with a node for `eliminate-identity` to remove."""
    return save(SMALL)


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """The trained model of `examples/digits`."""
    return Path(shutil.copy(ROOT / "examples" / "digits" / "digits.onnx", tmp_path))
