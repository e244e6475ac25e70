"""The text of errors; `meta/test_errors.py` holds that the drawn tree is the tree."""

from __future__ import annotations

import pytest

from edgecc.errors import EdgeccError, OptionError, UnknownNameError, Unsupported, UnsupportedError


def test_message_has_one_line_per_thing_to_say() -> None:
    error = OptionError("ratio is 2", where="pass prune", why="it must be below 1", hint="prune:ratio=0.5")
    assert str(error) == "ratio is 2\n  where: pass prune\n  why: it must be below 1\n  try: prune:ratio=0.5"


def test_what_is_empty_is_left_out() -> None:
    assert str(EdgeccError("it broke")) == "it broke"
    assert str(EdgeccError("it broke", hint="mend it")) == "it broke\n  try: mend it"


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("tflit", ["tflite", "tensorrt"], "did you mean 'tflite'?"),
        ("prun", ["prune-a", "prune-b"], "did you mean 'prune-b' or 'prune-a'?"),
        ("zzz", ["b", "a"], "known: a, b"),
        ("zzz", [], "no target is installed"),
    ],
)
def test_unknown_name(name: str, known: list[str], hint: str) -> None:
    error = UnknownNameError("target", name, known)
    assert str(error) == f"unknown target {name!r}\n  try: {hint}"
    assert error.exit_code == 2


def test_unknown_name_with_its_own_hint() -> None:
    assert UnknownNameError("target", "x", ["y"], hint="ask").hint == "ask"


def test_unsupported_lists_every_node() -> None:
    error = UnsupportedError(
        "tflite", [Unsupported("a", "Conv", "4-D weights"), Unsupported("b", "Loop", "no loops", "unroll it")]
    )
    assert str(error) == (
        "2 nodes cannot be compiled for tflite\n  node: a (Conv): 4-D weights\n  node: b (Loop): no loops; unroll it"
    )
    assert error.exit_code == 3
    assert str(UnsupportedError("tflite", [Unsupported("a", "Conv", "no")])).startswith("1 node cannot")
