"""Wall time and peak memory of whole processes, taken in turns so that a noisy machine does not decide."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

Clock = Callable[[], float]
ROOT = Path(__file__).resolve().parents[1]

#: Runs the rest of argv as `edgecc` and leaves the process's own peak in a file: a parent sees only a mixture.
_EDGECC_WITH_PEAK = """
import atexit, sys
def leave_peak():
    lines = open("/proc/self/status").read().splitlines()
    peak = next(line for line in lines if line.startswith("VmHWM"))
    open(sys.argv[0], "w").write(peak.split()[1])
sys.argv = sys.argv[1:]
atexit.register(leave_peak)
from edgecc.cli.main import main
main()
"""


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


def edgecc_command(*arguments: str) -> list[str]:
    """The command as the installed script runs it."""
    return python("from edgecc.cli.main import main; main()", *arguments)


def run(command: Sequence[str]) -> None:
    # An installed package has its bytecode beside it; where a setting keeps Python from writing any, nobody would.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    if finished.returncode:
        sys.exit(f"{' '.join(command)}\n{finished.stderr}")


def seconds(action: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    start = clock()
    action()
    return clock() - start


def in_turns(commands: Mapping[str, Sequence[str]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each process, A B C A B C ..., after one round that fills the caches and is not counted."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for count in range(rounds + 1):
        for name, command in commands.items():
            taken = seconds(lambda command=command: run(command))
            if count:
                times[name].append(taken)
    return times


def peak_memory(*arguments: str) -> int:
    """Most bytes resident in an `edgecc` process."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "peak"
        run(python(_EDGECC_WITH_PEAK, str(file), *arguments))
        return int(file.read_text()) * 1024


def show_times(title: str, times: Mapping[str, Sequence[float]], peer: str, goals: Mapping[str, float]) -> None:
    """A table of the times and their ratio to the peer's, by medians and by minima."""
    table = Table("process", "median", "fastest", "median ratio", "fastest ratio", "goal", title=title)
    other = times[peer]
    for name, taken in times.items():
        ratios = (statistics.median(taken) / statistics.median(other), min(taken) / min(other))
        goal = f"at most {goals[name]:.2f}" if name in goals else ""
        shown = ["the peer", "the peer"] if name == peer else [f"{ratio:.2f}" for ratio in ratios]
        table.add_row(name, f"{statistics.median(taken):.3f} s", f"{min(taken):.3f} s", *shown, goal)
    show(table)


def show(table: Table) -> None:
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def machine() -> str:
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}"
