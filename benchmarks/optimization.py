"""`-O1` against onnxslim, onnxsim and onnxscript's optimizer: nodes, seconds, values and latency of whole models.

Run it with `python -m benchmarks.optimization FOLDER [PATTERN ...] [--rounds N] [--latency]` in an environment that has
edgecc, edgecc-onnxruntime, onnxslim, onnxsim and onnxscript; FOLDER is written by `benchmarks.exports.export`.
Every contestant is a process of its own that reads the file, optimizes it and writes another one, in turns.
"""

from __future__ import annotations

import argparse
import fnmatch
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from rich.table import Table

from benchmarks.exports.running import random_feeds, reference_session
from benchmarks.measuring import edgecc_command, machine, python, show

OURS = "edgecc"
CONTESTANTS = {
    OURS: lambda source, output: edgecc_command("convert", source, output),
    "onnxslim": lambda source, output: python("from onnxslim.cli import main; main()", source, output),
    "onnxsim": lambda source, output: python("from onnxsim import main; main()", source, output),
    "onnxscript": lambda source, output: python(
        "import sys, onnx, onnxscript.optimizer as o\n"
        "onnx.save(o.optimize(onnx.load(sys.argv[1]), onnx_shape_inference=True), sys.argv[2])",
        source,
        output,
    ),
}


@dataclass
class Outcome:
    """What one contestant made of one model."""

    nodes: int = 0
    error: float = float("nan")
    seconds: list[float] = field(default_factory=list)
    failure: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.seconds) if self.seconds else float("inf")


def count_nodes(graph: onnx.GraphProto) -> int:
    """Nodes, those of subgraphs included."""
    inner = [a.g for node in graph.node for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return len(graph.node) + sum(map(count_nodes, inner))


def optimize(source: Path, folder: Path, rounds: int) -> dict[str, Outcome]:
    """Every contestant in turns; the first round fills caches and counts only if it is the only one."""
    outcomes = {name: Outcome() for name in CONTESTANTS}
    for number in range(rounds + 1 if rounds > 1 else 1):
        for name, command in CONTESTANTS.items():
            start = time.perf_counter()
            done = subprocess.run(
                command(str(source), str(folder / f"{name}.onnx")), capture_output=True, text=True, timeout=900
            )
            if number or rounds == 1:
                outcomes[name].seconds.append(time.perf_counter() - start)
            if done.returncode:
                lines = (done.stderr or done.stdout).strip().splitlines() or ["failed"]
                outcomes[name].failure = lines[-1][:80]
    for name, outcome in outcomes.items():
        if not outcome.failure:
            outcome.nodes = count_nodes(onnx.load(folder / f"{name}.onnx", load_external_data=False).graph)
            outcome.error = error(source, folder / f"{name}.onnx")
    return outcomes


def error(source: Path, output: Path) -> float:
    """The largest difference, relative to the largest value of that output."""
    first, second = reference_session(source), reference_session(output)
    feeds = random_feeds(first, 2 if ".open" in source.name else 1, 0)
    pairs = zip(first.run(None, feeds), second.run(None, feeds), strict=True)
    return max(float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-30)) for a, b in pairs)


def latency_ratio(source: Path, output: Path, rounds: int = 21) -> float:
    """ONNX Runtime's time for ours over its time for the source, one thread each, in turns: median of the pairs."""
    first, second = reference_session(source), reference_session(output)
    feeds = random_feeds(first, 1, 0)
    ratios = []
    for number in range(rounds + 3):
        times = []
        for contestant in (first, second) if number % 2 else (second, first):
            start = time.perf_counter()
            contestant.run(None, feeds)
            times.append(time.perf_counter() - start)
        theirs, ours = times if number % 2 else times[::-1]
        if number > 2:
            ratios.append(ours / theirs)
    return statistics.median(ratios)


def row(source: Path, outcomes: dict[str, Outcome], ratio: float) -> list[str]:
    ours, peers = outcomes[OURS], [outcome for name, outcome in outcomes.items() if name != OURS]
    best = min(peer.nodes for peer in peers if peer.nodes)
    median = statistics.median(peer.median for peer in peers)
    cells = [
        "-".join((outcome.failure or str(outcome.nodes)).split("\n"))[:24] + f" / {outcome.median:.2f} s"
        for outcome in outcomes.values()
    ]
    nodes = count_nodes(onnx.load(source, load_external_data=False).graph)
    goal = "yes" if ours.nodes <= best and ours.median <= median and ours.error <= 1e-5 else "NO"
    return [source.stem, str(nodes), *cells, f"{ours.error:.1e}", f"{ours.median / median:.2f}", f"{ratio:.3f}", goal]


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("patterns", nargs="*", default=["*"])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--latency", action="store_true")
    chosen = parser.parse_args(arguments)
    table = Table(
        "model", "nodes", *CONTESTANTS, "error", "time / median", "latency", "goals", title=f"-O1 ({machine()})"
    )
    for source in sorted(chosen.folder.glob("*.onnx")):
        if not any(fnmatch.fnmatch(source.stem, pattern) for pattern in chosen.patterns):
            continue
        with tempfile.TemporaryDirectory() as folder:
            outcomes = optimize(source, Path(folder), chosen.rounds)
            failed = bool(outcomes[OURS].failure) or not chosen.latency
            ratio = float("nan") if failed else latency_ratio(source, Path(folder) / f"{OURS}.onnx")
        cells = row(source, outcomes, ratio)
        print(" | ".join(cells), flush=True)
        table.add_row(*cells)
    show(table)


if __name__ == "__main__":
    main(sys.argv[1:])
