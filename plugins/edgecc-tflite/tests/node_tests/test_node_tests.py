"""onnx's backend node tests: what each of them comes to is written down, and every change is seen."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from .run_cases import ALLOWED, EXPECTATIONS, IMPORTED, _one_child, cases, moved, read, run, write

_HINT = """
a case moved; if that is meant:  python plugins/edgecc-tflite/tests/node_tests/run_cases.py --update
why it moved:                    python plugins/edgecc-tflite/tests/node_tests/run_cases.py NAME --why"""


LISTS = pytest.mark.parametrize(("path", "flags"), [(EXPECTATIONS, ()), (IMPORTED, ("--imported",))])


@pytest.mark.slow
@LISTS
def test_every_case_comes_to_what_is_expected(path: Path, flags: tuple[str, ...]) -> None:
    version, expected = read(path.read_text(encoding="utf-8"))
    known = sorted(cases())
    if version == onnx.__version__:
        assert sorted(expected) == known
    lines = moved(expected, run([name for name in known if name in expected], 2, flags))
    assert not lines, "\n".join(["", *lines, _HINT])


@LISTS
def test_no_bug_is_expected(path: Path, flags: tuple[str, ...]) -> None:
    version, expected = read(path.read_text(encoding="utf-8"))
    assert version
    assert set(expected.values()) <= set(ALLOWED)
    assert write(version, expected) == path.read_text(encoding="utf-8")


def test_a_few_cases_run() -> None:
    results = run(["test_relu", "test_bitcast_bool_to_uint8", "test_det_2d"], jobs=2)
    assert list(results) == ["test_relu", "test_bitcast_bool_to_uint8", "test_det_2d"]
    assert {results[name][0] for name in results} <= set(ALLOWED)
    assert results["test_relu"] == ("ok", "")


def test_a_few_files_are_imported() -> None:
    results = run(["test_relu", "test_adam", "test_basic_conv_with_padding"], 2, ("--imported",))
    assert [results[name][0] for name in results] == ["ok", "unwritten", "ok"]


def test_both_directions_are_seen() -> None:
    expected = {"a": "ok", "b": "unsupported", "c": "ok", "gone": "ok"}
    results = {
        "a": ("crash", "exit code -6"),
        "b": ("ok", ""),
        "c": ("ok", ""),
        "new": ("ok", ""),
        "bug": ("wrong", ""),
    }
    assert moved(expected, results) == ["a: ok -> crash: exit code -6", "b: unsupported -> ok", "bug: no bug -> wrong"]


def test_a_child_that_never_starts_says_why() -> None:
    with pytest.raises(RuntimeError, match="KeyError: 'no such case'"):
        list(_one_child(["no such case"]))
