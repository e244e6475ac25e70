"""Compile the exported models to TFLite and say what came out: right or not, what is left in the graph, how fast.

Run it with `python -m benchmarks.exports.check FOLDER [--latency] [PATTERN ...]`, such as `resnet*.script.*`.
"""

from __future__ import annotations

import contextlib
import fnmatch
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.exports.running import (
    count_operators,
    expected_outputs,
    feed,
    interpreter,
    outputs,
    random_feeds,
    reference_session,
    relative_error,
)
from benchmarks.measuring import peak_memory

BOUND = 1e-4
BATCHES = (1, 2, 5)
MIB = 1 << 20


@dataclass
class Row:
    """What is known of one file."""

    name: str
    error: float = float("nan")
    operators: Counter[str] = field(default_factory=Counter)
    transposes: int = 0
    nbytes: int = 0
    seconds: float = 0.0
    peak: int = 0
    milliseconds: float = float("nan")
    peer_milliseconds: float = float("nan")
    failure: str = ""

    HEAD = (
        "model | error | TRANSPOSE inside | RESHAPE | operators | MB | compile s | peak MiB | ms | ONNX Runtime ms |"
        " ratio | failure"
    )

    def __str__(self) -> str:
        ratio = self.milliseconds / self.peer_milliseconds
        fields = (
            self.name, f"{self.error:.1e}", self.transposes, self.operators["RESHAPE"], self.operators.total(),
            f"{self.nbytes / 1e6:.1f}", f"{self.seconds:.2f}", f"{self.peak / MIB:.0f}", f"{self.milliseconds:.2f}",
            f"{self.peer_milliseconds:.2f}", f"{ratio:.2f}", self.failure,
        )  # fmt: skip
        return " | ".join(str(value) for value in fields)


def check(path: Path, output: Path, latency: bool) -> Row:
    row = Row(path.name.removesuffix(".onnx"))
    start = time.perf_counter()
    try:
        row.peak = peak_memory("compile", str(path), "--target", "tflite", "-o", str(output))
    except SystemExit as error:
        message = str(error).rsplit("main()\n", 1)[-1]
        row.failure = "refused: " + " / ".join(line.strip() for line in message.splitlines()[:6])
        return row
    row.seconds = time.perf_counter() - start
    row.nbytes = output.stat().st_size
    row.operators, row.transposes = count_operators(output)
    try:
        row.error = compare(path, output, BATCHES if ".open" in path.name else (1,))
    except (RuntimeError, ValueError) as error:
        row.failure = f"does not run: {str(error).splitlines()[0]}"
        return row
    if not row.error <= BOUND:
        row.failure = "WRONG"
    if latency:
        row.milliseconds, row.peer_milliseconds = race(path, output)
    return row


def compare(path: Path, output: Path, batches: tuple[int, ...]) -> float:
    """The largest difference, relative to the largest value of that output."""
    session = reference_session(path)
    loaded = interpreter(output)
    worst = 0.0
    for batch in batches:
        for seed in (0, 1):
            feeds = random_feeds(session, batch, seed)
            feed(loaded, feeds)
            loaded.invoke()
            found = outputs(loaded)
            for name, values in expected_outputs(session, feeds).items():
                if values.shape != found[name].shape:
                    raise ValueError(f"{name} has shape {found[name].shape}, should be {values.shape}")
                worst = max(worst, relative_error(values, found[name]))
    return worst


def race(path: Path, output: Path, rounds: int = 15) -> tuple[float, float]:
    """Median milliseconds of both at batch 1, one thread each, in turns."""
    session, loaded = reference_session(path), interpreter(output)
    feeds = random_feeds(session, 1, 0)
    feed(loaded, feeds)
    contestants: tuple[Callable[[], object], ...] = (loaded.invoke, lambda: session.run(None, feeds))
    times: list[list[float]] = [[], []]
    for number in range(rounds + 2):
        for place, action in enumerate(contestants):
            start = time.perf_counter()
            action()
            if number > 1:
                times[place].append(time.perf_counter() - start)
    first, second = (statistics.median(taken) * 1e3 for taken in times)
    return first, second


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def main() -> None:
    folder, *rest = sys.argv[1:]
    patterns = [word for word in rest if not word.startswith("--")] or ["*"]
    files = sorted(Path(folder).glob("*.onnx"))
    chosen = [f for f in files if any(fnmatch.fnmatch(f.stem, pattern) for pattern in patterns)]
    print(Row.HEAD)
    with _folder() as work:
        for path in chosen:
            print(check(path, work / f"{path.stem}.tflite", "--latency" in rest), flush=True)


if __name__ == "__main__":
    main()
