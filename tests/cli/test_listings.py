"""`edgecc passes`, `edgecc targets` and `edgecc plugins`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

Run = Callable[..., "Outcome"]  # noqa: F821 - of conftest.py


def test_passes(edgecc: Run) -> None:
    done = edgecc("passes")
    assert (done.code, done.err) == (0, "")
    assert re.search(r"^fold-batchnorm +[0-9]+ +rounding +edgecc ", done.out, re.MULTILINE)
    assert re.search(r"^convert-float16 +lossy +edgecc ", done.out, re.MULTILINE)


def test_one_pass(edgecc: Run) -> None:
    out = edgecc("passes", "fold-batchnorm").out
    assert out.startswith("fold-batchnorm (rounding)\n")
    assert "Before:" in out
    assert "Attributes:" not in out
    assert "patterns of node names to leave alone" in out


def test_one_pass_as_json_has_its_schema(edgecc: Run) -> None:
    facts = json.loads(edgecc("passes", "convert-float16", "--json").out)
    assert facts["loss"] == "lossy"
    assert facts["schema"]["properties"]["keep_io"]["type"] == "boolean"


def test_targets(edgecc: Run) -> None:
    done = edgecc("targets")
    assert (done.code, done.err) == (0, "")
    assert "tflite       .tflite" in done.out


def test_one_target(edgecc: Run) -> None:
    out = edgecc("targets", "tflite").out
    assert out.startswith("tflite (.tflite)\n")
    assert "io_layout" in out
    assert '"keep"' in out


def test_plugins(edgecc: Run) -> None:
    rows = {row["plugin"]: row for row in json.loads(edgecc("plugins", "--json").out)}
    assert rows["builtin"] == {
        "plugin": "builtin",
        "package": "edgecc",
        "version": "0.1.0",
        "brings": "importers, passes, presets",
        "problem": "",
    }
    assert rows["tflite"]["brings"] == "backends, importers, passes"
    assert rows["onnxruntime"]["brings"] == "backends, passes"


@pytest.mark.parametrize(
    ("words", "what", "hint"),
    [
        (("passes", "fold-batchnrm"), "unknown pass 'fold-batchnrm'", "did you mean 'fold-batchnorm'?"),
        (("targets", "tfltie"), "unknown target 'tfltie'", "did you mean 'tflite'?"),
    ],
)
def test_unknown_name(words: tuple[str, str], what: str, hint: str, edgecc: Run) -> None:
    done = edgecc(*words)
    assert (done.code, done.out) == (2, "")
    assert what in done.err
    assert hint in done.err


@pytest.mark.parametrize("command", ["passes", "targets", "plugins"])
def test_json_of_listings_parses(command: str, edgecc: Run) -> None:
    assert len(json.loads(edgecc(command, "--json").out)) > 1
