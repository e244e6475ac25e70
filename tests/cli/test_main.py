"""The command line as a whole: help, exit codes, streams."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from edgecc import __version__
from edgecc.cli import main
from edgecc.registry import load_registry

Run = Callable[..., "Outcome"]  # noqa: F821 - of conftest.py
Save = Callable[[str], Path]


def test_help_lists_every_command(edgecc: Run) -> None:
    done = edgecc("--help")
    assert (done.code, done.err) == (0, "")
    assert all(f"\n  {name} " in done.out for name in main.COMMANDS)


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_and_option_has_help(name: str, edgecc: Run) -> None:
    assert edgecc(name, "--help").code == 0
    command = main.cli.get_command(click.Context(main.cli), name)
    assert command is not None
    assert command.help
    assert [p.name for p in command.params if isinstance(p, click.Option) and not p.help] == []


def test_version(edgecc: Run) -> None:
    assert edgecc("--version").out == f"edgecc, version {__version__}\n"


def test_no_arguments_show_the_help(edgecc: Run) -> None:
    done = edgecc()
    assert done.code == 2
    assert "Usage: edgecc" in done.err


def test_unknown_command_gets_a_near_miss(edgecc: Run) -> None:
    done = edgecc("cmpile", "m.onnx")
    assert (done.code, done.out) == (2, "")
    assert "unknown command 'cmpile'\n  try: did you mean 'compile'" in done.err


def test_a_bug_shows_its_traceback_and_exits_with_1(edgecc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("edgecc.registry.default_registry", fail)
    done = edgecc("passes")
    assert done.code == 1
    assert "ZeroDivisionError: a bug" in done.err
    assert "This is a bug in edgecc. Please report it" in done.err


def test_interruption_shows_no_traceback(edgecc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edgecc.registry.default_registry", interrupt)
    done = edgecc("passes")
    assert (done.code, done.out) == (130, "")
    assert "Traceback" not in done.err


# -------------------------------------------------------------------------------------- as a process of its own


def test_process_exits_with_0_and_keeps_stdout_for_results(shell: Run, small: Path) -> None:
    done = shell("compile", small, "-o", "out.tflite", "--json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["output"] == "out.tflite"


def test_process_exits_with_2_for_a_wrong_request(shell: Run, small: Path) -> None:
    done = shell("compile", small, "-t", "tflight")
    assert (done.code, done.out) == (2, "")
    assert done.err == "error: unknown target 'tflight'\n  try: did you mean 'tflite'?\n"


def test_process_exits_with_3_for_an_unsupported_model(shell: Run, save: Save) -> None:
    done = shell("compile", save("g (float[4] x) => (float[4] y) { y = my.domain.Frobnicate(x) }"), "-t", "onnxruntime")
    assert (done.code, done.out) == (3, "")
    assert "1 node cannot be compiled for onnxruntime" in done.err
    assert "Traceback" not in done.err


@pytest.mark.skipif(sys.platform == "win32", reason="closed pipes are different there")
@pytest.mark.parametrize("words", [["passes"], ["passes", "--json"], ["--help"], ["compile", "--help"]])
def test_closed_pipe_is_no_error(words: list[str]) -> None:
    """`edgecc passes | head -1`."""
    command = [sys.executable, "-m", "edgecc", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_behind_the_output_is_an_error() -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run([sys.executable, "-m", "edgecc", "passes", "--json"], stdout=full, check=False)
    assert done.returncode != 0


def test_what_is_registered_for_the_end_of_the_process_runs(tmp_path: Path) -> None:
    """Temporary folders of plugins are removed there, for example."""
    code = (
        "import atexit, pathlib, sys; sys.argv = ['edgecc', 'targets', '--json']\n"
        "atexit.register(pathlib.Path('left').touch)\n"
        "from edgecc.cli.main import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0
    assert json.loads(done.stdout)
    assert (tmp_path / "left").exists()


def test_plugins_can_be_selected(shell: Run) -> None:
    done = shell("targets", "--json", EDGECC_PLUGINS="tflite")
    assert [row["target"] for row in json.loads(done.out)] == ["tflite"]


def test_target_of_a_plugin_that_was_left_out_says_so(shell: Run, small: Path) -> None:
    done = shell("compile", small, "-t", "tensorrt", EDGECC_PLUGINS="builtin")
    assert done.code == 2
    assert "target 'tensorrt' is not there because EDGECC_PLUGINS leaves its plugin out" in done.err
    assert "add 'tensorrt' to it" in done.err


def test_target_of_a_plugin_that_is_not_installed_says_what_installs_it(
    edgecc: Run, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgecc.compiler.default_registry", lambda: load_registry([]))
    done = edgecc("compile", small, "-t", "tensorrt")
    assert done.code == 2
    assert done.err == "error: target 'tensorrt' is not installed\n  try: pip install edgecc-tensorrt\n"
