"""Race against another converter, onnx2tf: conversion as whole processes, and the files, in turns and on one thread.

Run it with `python -m benchmarks.exports.race FOLDER --peer EXECUTABLE --peer-files FOLDER [--conversion ROUNDS]
[--seconds SECONDS] [PATTERN ...]`. The peer's files are made once and kept; the folder is the only state.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.exports.running import (
    count_operators,
    error_in_any_layout,
    expected_outputs,
    feed,
    feed_in_any_layout,
    interpreter,
    random_feeds,
    reference_session,
)
from benchmarks.measuring import ROOT, edgecc_command, machine

BOUND = 1e-4
NAN = float("nan")

#: Runs the rest of argv and prints its seconds and the most KiB resident. A process of its own, because what the kernel
#: reports of a child is never less than its parent had.
_WITNESS = """
import os, sys, time
start = time.perf_counter()
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[
    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0), (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)])
_, status, usage = os.wait4(process, 0)
print(time.perf_counter() - start, usage.ru_maxrss, os.waitstatus_to_exitcode(status))
"""


@dataclass
class Process:
    """What a converter took: seconds of each round, and the most bytes resident in any."""

    seconds: list[float] = field(default_factory=list)
    peak: int = 0


@dataclass
class Side:
    """One contestant's result for one model."""

    conversion: Process = field(default_factory=Process)
    error: float = NAN
    transposes: int = 0
    milliseconds: list[float] = field(default_factory=list)
    failure: str = ""

    @property
    def verdict(self) -> str:
        if self.failure:
            return self.failure
        return f"{'right' if self.error <= BOUND else 'WRONG'} {self.error:.0e}"


@dataclass
class Row:
    name: str
    ours: Side = field(default_factory=Side)
    peer: Side = field(default_factory=Side)

    HEAD = (
        "model | ours | peer | TRANSPOSE inside: ours | peer | ours ms | peer ms | latency ratio | of fastest |"
        " ours convert s | peer convert s | times faster | ours MiB | peer MiB | memory ratio"
    )

    @property
    def latency(self) -> float:
        return _ratio(self.ours.milliseconds, self.peer.milliseconds, statistics.median)

    @property
    def fastest(self) -> float:
        return _ratio(self.ours.milliseconds, self.peer.milliseconds, min)

    @property
    def speedup(self) -> float:
        return _ratio(self.peer.conversion.seconds, self.ours.conversion.seconds, statistics.median)

    @property
    def memory(self) -> float:
        return self.ours.conversion.peak / self.peer.conversion.peak if self.peer.conversion.peak else NAN

    def __str__(self) -> str:
        ours, peer = self.ours, self.peer
        fields = (
            self.name, ours.verdict, peer.verdict, str(ours.transposes), str(peer.transposes),
            f"{_median(ours.milliseconds):.2f}", f"{_median(peer.milliseconds):.2f}",
            f"{self.latency:.3f}", f"{self.fastest:.3f}",
            f"{_median(ours.conversion.seconds):.2f}", f"{_median(peer.conversion.seconds):.2f}",
            f"{self.speedup:.1f}", f"{ours.conversion.peak >> 20}", f"{peer.conversion.peak >> 20}",
            f"{self.memory:.2f}",
        )  # fmt: skip
        return " | ".join(fields)


def race(path: Path, arguments: argparse.Namespace, work: Path) -> Row:
    row = Row(path.stem)
    output, kept = work / f"{path.stem}.tflite", arguments.peer_files / path.stem
    ours = edgecc_command("compile", str(path), "--target", "tflite", "-o", str(output))
    if not list(kept.glob("*_float32.tflite")):
        witness(peer_command(arguments.peer, path, kept), Process())
    if not witness(ours, Process() if arguments.conversion else row.ours.conversion):
        row.ours.failure = "refused"
    for number in range(arguments.conversion):
        scratch = work / f"{path.stem}.{number}"
        witness(ours, row.ours.conversion)
        witness(peer_command(arguments.peer, path, scratch), row.peer.conversion)
    peer = next(iter(kept.glob("*_float32.tflite")), None)
    if peer is None:
        row.peer.failure = "refused"
    run_both(path, output, peer, row, arguments.seconds)
    return row


def witness(command: list[str], process: Process) -> bool:
    """Run a process to its end; False if it fails."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    finished = subprocess.run(
        [sys.executable, "-c", _WITNESS, *command], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    seconds, peak, code = finished.stdout.split()
    process.seconds.append(float(seconds))
    process.peak = max(process.peak, int(peak) * 1024)
    return code == "0"


def peer_command(executable: Path, path: Path, folder: Path) -> list[str]:
    return [str(executable), "-i", str(path.resolve()), "-o", str(folder.resolve())]


def run_both(path: Path, output: Path, peer: Path | None, row: Row, seconds: float) -> None:
    session = reference_session(path)
    feeds = random_feeds(session, 1, 0)
    expected = expected_outputs(session, feeds)
    del session
    contestants: list[tuple[Any, Side]] = []
    for file, side, set_inputs in ((output, row.ours, feed), (peer, row.peer, feed_in_any_layout)):
        if side.failure or file is None:
            continue
        try:
            loaded = interpreter(file)
            set_inputs(loaded, feeds)
            loaded.invoke()
        except (RuntimeError, ValueError) as error:
            side.failure = f"does not run: {str(error).splitlines()[0][:80]}"
            continue
        side.error = error_in_any_layout(expected, loaded)
        _, side.transposes = count_operators(file)
        contestants.append((loaded, side))
    take_turns(contestants, seconds)


def take_turns(contestants: list[tuple[Any, Side]], seconds: float) -> None:
    """Milliseconds of each, A B A B ..., for so long and at least ten times, after two rounds that do not count."""
    end = time.perf_counter() + seconds
    number = 0
    while number < 12 or time.perf_counter() < end:
        for loaded, side in contestants:
            start = time.perf_counter()
            loaded.invoke()
            if number > 1:
                side.milliseconds.append((time.perf_counter() - start) * 1e3)
        number += 1


def summary(rows: list[Row]) -> Iterator[str]:
    yield f"peer's files right: {sum(row.peer.error <= BOUND for row in rows)} of {len(rows)}"
    yield f"ours right: {sum(row.ours.error <= BOUND for row in rows)} of {len(rows)}"
    latencies = [row.latency for row in rows]
    yield f"latency: {_geometric(latencies):.3f} of the peer's (geometric mean), of fastest runs" + (
        f" {_geometric(row.fastest for row in rows):.3f}; over 1.03: "
        + ", ".join(f"{row.name} {row.latency:.2f}" for row in rows if row.latency > 1.03)
    )
    yield f"conversion: {_geometric(row.speedup for row in rows):.1f} times faster (geometric mean)"
    yield f"peak memory: {_geometric(row.memory for row in rows):.2f} of the peer's, worst " + (
        f"{max((row.memory for row in rows if row.memory == row.memory), default=NAN):.2f}"
    )


def _median(values: list[float]) -> float:
    return statistics.median(values) if values else NAN


def _ratio(a: list[float], b: list[float], of: Any) -> float:
    return float(of(a) / of(b)) if a and b else NAN


def _geometric(values: Iterable[float]) -> float:
    known = [value for value in values if value == value]
    return statistics.geometric_mean(known) if known else NAN


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the exported models")
    parser.add_argument("patterns", nargs="*", default=["*.one"], help="such as 'resnet*.script.one'")
    parser.add_argument("--peer", type=Path, required=True, help="the onnx2tf executable")
    parser.add_argument("--peer-files", type=Path, required=True, help="where its files are kept")
    parser.add_argument("--conversion", type=int, default=0, metavar="ROUNDS", help="measure conversion so often")
    parser.add_argument("--seconds", type=float, default=6.0, help="how long both files of a model run")
    arguments = parser.parse_intermixed_args()
    files = sorted(arguments.folder.glob("*.onnx"))
    chosen = [f for f in files if any(fnmatch.fnmatch(f.stem, pattern) for pattern in arguments.patterns)]
    print(f"{machine()}\n{Row.HEAD}")
    rows = []
    for path in chosen:
        with tempfile.TemporaryDirectory() as work:
            rows.append(race(path, arguments, Path(work)))
        print(rows[-1], flush=True)
    print("\n".join(summary(rows)))


if __name__ == "__main__":
    main()
