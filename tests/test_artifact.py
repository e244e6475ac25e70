"""Artifacts are written whole or not at all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgecc.artifact import Artifact, check_writable, report_bytes, report_path, write_files
from edgecc.errors import OutputError

IN_CHILD = "from pathlib import Path; from edgecc.artifact import write_files; from edgecc.errors import OutputError; "


def run_child(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", IN_CHILD + code, *arguments], capture_output=True, text=True, check=False
    )


def test_write_files_writes_all_and_leaves_no_temporary(tmp_path: Path) -> None:
    write_files({tmp_path / "a.bin": b"aa", tmp_path / "b.bin": bytearray(b"bb")})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.bin", "b.bin"]
    assert (tmp_path / "b.bin").read_bytes() == b"bb"


def test_written_file_has_ordinary_permissions(tmp_path: Path) -> None:
    write_files({tmp_path / "a.bin": b"x"})
    (tmp_path / "plain").write_bytes(b"x")
    assert (tmp_path / "a.bin").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.skipif(sys.platform == "win32", reason="resource limits are POSIX")
def test_full_disk_keeps_the_old_file_whole(tmp_path: Path) -> None:
    target = tmp_path / "m.bin"
    target.write_bytes(b"old")
    code = (
        "import resource, sys; sys.dont_write_bytecode = True\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_files({Path(sys.argv[1]): bytes(5000)})\n"
        "except OutputError as error: print(error)\n"
    )
    result = run_child(code, str(target))
    assert "cannot write" in result.stdout
    assert "free space or choose another -o OUT" in result.stdout
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["m.bin"]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_kill_while_writing_keeps_the_old_file_whole(tmp_path: Path) -> None:
    target = tmp_path / "m.bin"
    target.write_bytes(b"old")
    code = (
        "import os, sys\n"
        "os.replace = lambda *paths: (print('writing', flush=True), __import__('time').sleep(60))\n"
        "write_files({Path(sys.argv[1]): bytes(5000)})\n"
    )
    child = subprocess.Popen([sys.executable, "-c", IN_CHILD + code, str(target)], stdout=subprocess.PIPE, text=True)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == "writing"
        child.send_signal(signal.SIGKILL)
        child.wait(timeout=10)
    assert target.read_bytes() == b"old"


def test_second_file_fails_then_neither_is_written(tmp_path: Path) -> None:
    first = tmp_path / "a.bin"
    first.write_bytes(b"old")
    with pytest.raises(OutputError, match="cannot write"):
        write_files({first: b"new", tmp_path / "missing" / "b.bin": b"new"})
    assert first.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_check_writable_names_the_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        check_writable(tmp_path / "no" / "m.tflite")
    assert "does not exist" in str(caught.value)
    assert f"mkdir -p {tmp_path / 'no'}" in str(caught.value)


def test_check_writable_refuses_a_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        check_writable(tmp_path)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write everywhere")
def test_check_writable_says_why_a_folder_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        check_writable(tmp_path / "m.tflite")


def test_open_reads_the_report_beside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(b"1234")
    report_path(path).write_bytes(report_bytes({"target": "tflite", "b": 1, "a": 2}))
    artifact = Artifact.open(path)
    assert artifact.report["target"] == "tflite"
    assert artifact.nbytes == 4
    assert json.loads(artifact.report_path.read_text()) == artifact.report


def test_open_takes_a_file_without_or_with_a_broken_report(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(b"1234")
    assert Artifact.open(path).report == {}
    for broken in ("{broken", "[]", "null"):
        report_path(path).write_text(broken)
        assert Artifact.open(path).report == {}


def test_report_bytes_do_not_depend_on_insertion_order() -> None:
    assert report_bytes({"a": 1, "b": 2}) == report_bytes({"b": 2, "a": 1})
