"""Every error is in the drawn tree, is raised somewhere, and has a test on its text."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from edgecc import errors

ROOT = Path(__file__).resolve().parents[2]
CODE = "\n".join(
    path.read_text(encoding="utf-8")
    for path in [*ROOT.glob("edgecc/**/*.py"), *ROOT.glob("plugins/*/edgecc_*/**/*.py")]
)
TESTS = "\n".join(
    path.read_text(encoding="utf-8") for path in [*ROOT.glob("tests/**/*.py"), *ROOT.glob("plugins/*/tests/**/*.py")]
)
CLASSES = {
    name: cls
    for name, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, errors.EdgeccError) and cls.__module__ == errors.__name__
}
#: Only bases: what is raised is one of their children.
BASES = {"EdgeccError", "RequestError"}


def drawn_tree() -> dict[str, tuple[str, int | None]]:
    """Class to its parent and exit code ("" and None where nothing is drawn), as the module's docstring shows them."""
    tree: dict[str, tuple[str, int | None]] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([│├└─ ]*)(\w+Error)\b(?:.*exit (\d))?", line)
        if found is None:
            continue
        depth = len(found[1]) // 4
        path = [*path[:depth], found[2]]
        tree[found[2]] = (path[depth - 1] if depth else "", int(found[3]) if found[3] else None)
    return tree


def test_drawn_tree_is_the_tree() -> None:
    drawn = drawn_tree()
    assert set(drawn) == set(CLASSES)
    for name, (parent, _) in drawn.items():
        expected = parent or "Exception"
        assert CLASSES[name].__base__.__name__ == expected, name


def test_drawn_exit_codes_are_the_exit_codes() -> None:
    codes = {name: code for name, (_, code) in drawn_tree().items() if code is not None}
    assert {name: CLASSES[name].exit_code for name in codes} == codes
    assert {cls.exit_code for cls in CLASSES.values()} == {1, 2, 3, 4}


@pytest.mark.parametrize("name", sorted(set(CLASSES) - BASES))
def test_error_is_raised(name: str) -> None:
    assert re.search(rf"\braise (?:errors\.)?{name}\(", CODE), f"nothing raises {name}"


@pytest.mark.parametrize("name", sorted(set(CLASSES) - BASES))
def test_error_text_is_tested(name: str) -> None:
    """`pytest.raises(X, match=...)`, or `raises(X) as caught` followed by a look at the text."""
    with_match = rf"raises\(\s*(?:errors\.)?{name},\s*match="
    with_text = rf"raises\(\s*(?:errors\.)?{name}\s*\) as (\w+):(?:.*\n){{1,12}}?.*(?:str\(\1|\1\.value)"
    assert re.search(with_match, TESTS) or re.search(with_text, TESTS), f"no test looks at the text of {name}"


def test_page_lists_every_error_with_its_exit_code() -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(\w+)` \|.*\| (\d) \|$", page, re.MULTILINE))
    assert listed == {name: str(cls.exit_code) for name, cls in CLASSES.items() if name != "EdgeccError"}
