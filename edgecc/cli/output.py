"""How commands print: tables and JSON to stdout, progress to stderr."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID
    from rich.status import Status

#: Progress bars appear on work that lasts longer than this.
_PATIENCE_SECONDS = 1.0
#: A bar is drawn again after this.
_REFRESH_SECONDS = 0.1


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "", right: Sequence[str] = ()
) -> None:
    """A table on stdout.

    Args:
        columns: headings.
        rows: one text per column.
        title: printed above; nothing if empty.
        right: columns whose texts are numbers, aligned to the right.
    """
    click.echo(_fitted(columns, rows, title, right) if sys.stdout.isatty() else _plain(columns, rows, title, right))


def _plain(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str, right: Sequence[str]) -> str:
    """For a pipe, which has no width: no column is cut or wrapped, and rich need not be imported."""
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    lines = [title] if title else []
    for row in (columns, *rows):
        cells = zip(row, columns, widths, strict=True)
        aligned = [cell.rjust(width) if name in right else cell.ljust(width) for cell, name, width in cells]
        lines.append("  ".join(aligned).rstrip())
    return "\n".join(lines)


def _fitted(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str, right: Sequence[str]) -> str:
    """For a terminal of some width."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console(highlight=False)
    # Printed by click: rich ends the program with 1 when the pipe is closed (`edgecc passes | head`).
    with console.capture() as printed:
        console.print(table)
    return "\n".join(line.rstrip() for line in printed.get().splitlines())


def format_bytes(count: float | None) -> str:
    """`93.1 kB`, powers of 1000; `-` for None."""
    if count is None:
        return "-"
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("GB is the last unit")


def format_seconds(seconds: float | None) -> str:
    """`1.234 ms`, `56.7 us` or `2.31 s`; `-` for None."""
    if seconds is None:
        return "-"
    if seconds < 1e-3:
        return f"{seconds * 1e6:.1f} us"
    if seconds < 1:
        return f"{seconds * 1e3:.3f} ms"
    return f"{seconds:.2f} s"


class ProgressBar:
    """A bar on stderr, shown only on a terminal and only once the work has lasted a second."""

    def __init__(self, description: str) -> None:
        self._description = description
        self._start = time.monotonic()
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None

    def update(self, done: int, total: int, description: str = "") -> None:
        if self._bar is None and (not sys.stderr.isatty() or time.monotonic() - self._start < _PATIENCE_SECONDS):
            return
        if self._bar is None:
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self._description, total=total)
        if self._task is not None:
            self._bar.update(self._task, completed=done, total=total, description=description or self._description)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()


@contextmanager
def progress_bar(description: str) -> Iterator[ProgressBar]:
    bar = ProgressBar(description)
    try:
        yield bar
    finally:
        bar.close()


class StatusLine:
    """Shows what is being done; nothing where there is no terminal.

    Args:
        line: on a terminal.
    """

    def __init__(self, line: Status | None = None) -> None:
        self._line = line
        self._shown = 0.0

    def __call__(self, text: str) -> None:
        if self._line is not None:
            self._line.update(text)

    def work(self, text: str, done: int, total: int) -> None:
        """The same with a bar; the total is 0 if nobody knows it."""
        if self._line is None or (time.monotonic() - self._shown < _REFRESH_SECONDS and done != total):
            return
        from rich.progress_bar import ProgressBar as Bar
        from rich.table import Table

        self._shown = time.monotonic()
        row = Table.grid(padding=(0, 1))
        row.add_row(text, Bar(total or None, done, width=40), f"{done} of {total}" if total else f"{done}")
        self._line.update(row)


@contextmanager
def status() -> Iterator[StatusLine]:
    """A line on stderr that says what is being done, on a terminal, once the work has lasted a second."""
    if not sys.stderr.isatty():
        yield StatusLine()
        return
    from rich.console import Console
    from rich.status import Status

    line = Status("", console=Console(stderr=True))
    timer = threading.Timer(_PATIENCE_SECONDS, line.start)
    timer.daemon = True
    timer.start()
    try:
        yield StatusLine(line)
    finally:
        timer.cancel()
        line.stop()


def log(text: str) -> None:
    """A line on stderr."""
    click.echo(text, err=True)


def exit_code(errors: Sequence[tuple[str, bool]]) -> int:
    """1 if something failed that should have worked here.

    Args:
        errors: the error text of each row ("" for none) and whether it only says what this machine lacks.
    """
    return int(any(text and not unavailable for text, unavailable in errors))
