"""Runs the code blocks of a page, in order, in the current folder: `python run_page.py PAGE.md`.

    ```python                 executed; all blocks of a page share their names
    ```python file=x.py       written to a file, which later blocks can import
    ```toml file=pyproject.toml
                              its project is installed, as far as entry points go
    ```sh                     lines that begin with `edgecc` or `pytest` are run, and must exit with 0, or with N after
                              a comment `# exit N`

Anything else is text. A page's Python is compiled with its own line numbers, so that tracebacks point into the page.
"""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the name after `file=`, its text, and the line on which the text begins."""

    language: str
    file: str
    text: str
    line: int


def blocks_of(page: str) -> list[Block]:
    """The fenced blocks of a page that name a language."""
    found = []
    for match in BLOCK.finditer(page):
        file = re.search(r"file=(\S+)", match[2])
        line = page.count("\n", 0, match.start(3)) + 1
        found.append(Block(match[1], file[1] if file else "", match[3], line))
    return found


def install(project: Path) -> None:
    """What pip would leave behind that makes the project's entry points known."""
    values = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    folder = project.parent / f"{values['name'].replace('-', '_')}-{values['version']}.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {values['name']}\nVersion: {values['version']}\n")
    groups = values.get("entry-points", {})
    lines = [
        line for group, names in groups.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in names.items()))
    ]
    (folder / "entry_points.txt").write_text("\n".join(lines) + "\n")
    importlib.invalidate_caches()


def run_shell(text: str) -> None:
    """Run the lines that call edgecc or pytest."""
    for line in text.replace("\\\n", " ").splitlines():
        command, _, comment = line.partition(" #")
        module = command.partition(" ")[0]
        if module not in ("edgecc", "pytest"):
            continue
        expected = re.search(r"exit (\d)", comment)
        call = [sys.executable, "-m", module, *shlex.split(command)[1:]]
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        if done.returncode != (int(expected[1]) if expected else 0):
            sys.exit(f"$ {command}\n{done.stdout}{done.stderr}exit {done.returncode}")


def run_page(page: Path) -> None:
    """Run every block of the page."""
    names: dict[str, object] = {"__name__": "__page__"}
    for block in blocks_of(page.read_text(encoding="utf-8")):
        if block.file:
            path = Path(block.file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
            if path.name == "pyproject.toml":
                install(path)
        elif block.language == "python":
            exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), names)
        elif block.language == "sh":
            run_shell(block.text)


if __name__ == "__main__":
    run_page(Path(sys.argv[1]))
