"""Measures artifacts side by side, each in a process of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

from edgecc.artifact import Artifact
from edgecc.data.feeds import random_feeds
from edgecc.errors import OptionError, RunnerError, UnavailableError
from edgecc.running.runner import TIMEOUT, Runner, runners_for

if TYPE_CHECKING:
    from edgecc.measuring.metrics import Fidelity
    from edgecc.signature import Signature

P = ParamSpec("P")

#: Called with steps done, steps in all, and what comes next.
StepProgress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Ratio:
    """Time relative to the first artifact, paired: medians of the same round are divided.

    Attributes:
        median: over the rounds.
        low, high: of single rounds. Where they enclose 1, the difference is noise.
    """

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}..{self.high:.2f})"


@dataclass(frozen=True)
class BenchmarkResult:
    """How fast, how large, how much memory. All times in seconds, all sizes in bytes.

    Attributes:
        artifact: path.
        target: name of the backend that ran it.
        tool: the runtime.
        versions: of the runtime.
        device: what it ran on.
        threads: of the runtime.
        warmup: runs before the first one that counts; each round has one more.
        iterations: runs that count.
        mean, median, p90, p99, std, min: of one run; only the runtime's own call is timed.
        first_run: the first run of all.
        load: from the path to a session that can run; the runtime's import is not in it.
        peak_rss: most resident memory of the process, the runtime itself and one set of feeds included.
        rss_before_load: resident memory with the runtime imported and nothing loaded.
        artifact_bytes: of the file and external weights.
        accelerated_fraction: share of operators that a delegate or fused kernel took; None if the runtime does not say.
        ratio: time relative to the first artifact; None for the first one.
        fidelity: to the source, by output; filled in by who compared.
        info: what else the session says.
        error: why it could not be measured; times are None then.
        unavailable: whether the error is that the runtime or its device is not on this machine.
    """

    artifact: str
    target: str
    tool: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    device: str = ""
    threads: int = 1
    warmup: int = 0
    iterations: int = 0
    mean: float | None = None
    median: float | None = None
    p90: float | None = None
    p99: float | None = None
    std: float | None = None
    min: float | None = None
    first_run: float | None = None
    load: float | None = None
    peak_rss: int | None = None
    rss_before_load: int | None = None
    artifact_bytes: int | None = None
    accelerated_fraction: float | None = None
    ratio: Ratio | None = None
    fidelity: dict[str, Fidelity] | None = None
    info: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    unavailable: bool = False

    @property
    def runs_per_second(self) -> float | None:
        return 1.0 / self.mean if self.mean else None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        values = asdict(self)
        if self.fidelity is not None:
            values["fidelity"] = {name: item.to_dict() for name, item in self.fidelity.items()}
        return values


class _Track:
    """One artifact on its way through the rounds."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.warmup: list[float] = []
        self.rounds: list[list[float]] = []
        self.error = ""
        self.unavailable = False
        self.facts: dict[str, Any] = {}

    @property
    def seconds(self) -> float:
        """What counts so far."""
        return sum(map(sum, self.rounds))

    @property
    def longest(self) -> float:
        return max(max(part) for part in (self.warmup, *self.rounds))

    def attempt(self, step: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Do a step unless one has failed; a failure of the runtime is a result."""
        if self.error:
            return
        try:
            step(*args, **kwargs)
        except RunnerError as error:
            self.error = str(error)
            self.unavailable = isinstance(error, UnavailableError)


def benchmark(
    artifacts: str | Path | Runner | Sequence[str | Path | Runner],
    *,
    target: str = "",
    threads: int = 1,
    options: Mapping[str, object] | None = None,
    warmup: int = 5,
    iterations: int = 100,
    rounds: int = 5,
    min_seconds: float = 0.0,
    max_seconds: float = 30.0,
    feeds: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
    timeout: float = TIMEOUT,
    progress: StepProgress = lambda done, total, text: None,
) -> list[BenchmarkResult]:
    """Measure artifacts, one process each, in turns: A B C, A B C, ... so that a noisy moment hits all of them.

    Args:
        artifacts: paths, or runners that are not entered (their threads and options are their own).
        target: whose runtime runs the paths; by the report beside a file or its suffix if empty.
        threads: of the runtime.
        options: of the runtime.
        warmup: runs before the first round.
        iterations: runs that count, over all rounds.
        rounds: turns of each artifact; each begins with one run that does not count, unless one fills the turn.
        min_seconds: go on past `iterations` until the runs of an artifact took this long together.
        max_seconds: stop an artifact early when its runs took this long together; at least one is timed.
        feeds: inputs for all artifacts; random ones if None.
        seed: of random inputs.
        timeout: seconds that loading or one request may take.
        progress: called before each step.

    Returns:
        One result per artifact, in order; one that cannot run or crashed has `error`.

    Raises:
        RequestError: a file is missing, a suffix means nothing, or `feeds` do not fit.
    """
    if iterations < 1 or warmup < 0 or rounds < 1 or threads < 1:
        raise OptionError("iterations, rounds and threads are at least 1 and warmup is at least 0", where="benchmark")
    if not max_seconds > 0:  # NaN too
        raise OptionError(f"max_seconds is {max_seconds:g}; it must be more than 0", where="benchmark")
    rounds = min(rounds, iterations)
    tracks = [_Track(runner) for runner in runners_for(artifacts, target, threads, options, timeout)]
    total, done = len(tracks) * (rounds + 1), 0
    with contextlib.ExitStack() as stack:
        for track in tracks:
            progress(done, total, f"loading {track.runner.artifact.name}")
            track.attempt(_load, track, stack, feeds, seed, warmup, max_seconds)
            done += 1
        for index in range(rounds):
            count = iterations // rounds + (index < iterations % rounds)
            for track in tracks:
                progress(done, total, f"measuring {track.runner.artifact.name}")
                if track.seconds < max_seconds:
                    track.attempt(_measure, track, count, min_seconds / rounds, max_seconds / rounds)
                done += 1
        for track in tracks:
            track.attempt(_finish, track)
        progress(done, total, "done")
    return [_result(track, tracks[0], warmup) for track in tracks]


def _load(
    track: _Track,
    stack: contextlib.ExitStack,
    feeds: Mapping[str, np.ndarray] | None,
    seed: int,
    warmup: int,
    max_seconds: float,
) -> None:
    runner = stack.enter_context(track.runner)
    track.facts["info"] = runner.info
    given = feeds if feeds is not None else random_feeds(runner.signature, seed, sizes=_single(runner.signature))
    track.warmup = runner.time(1, feeds=given, warmup=max(0, warmup - 1), max_seconds=max_seconds)


def _single(signature: Signature) -> dict[str, int]:
    """One sample where the batch is open."""
    return {spec.shape[0]: 1 for spec in signature.inputs if spec.shape and isinstance(spec.shape[0], str)}


def _measure(track: _Track, count: int, min_seconds: float, max_seconds: float) -> None:
    # A run that fills its turn alone is too long for another's work to show in it.
    warmup = 0 if track.longest > max_seconds else 1
    track.rounds.append(track.runner.time(count, warmup=warmup, min_seconds=min_seconds, max_seconds=max_seconds))


def _finish(track: _Track) -> None:
    track.facts.update(asdict(track.runner.measurements()))


def _result(track: _Track, first: _Track, warmup: int) -> BenchmarkResult:
    runner, info = track.runner, dict(track.facts.get("info", {}))
    common: dict[str, Any] = {
        "artifact": str(runner.artifact),
        "target": runner.backend.name,
        "tool": str(info.pop("tool", "")),
        "device": str(info.pop("device", "")),
        "threads": int(info.pop("threads", runner.threads)),
        "warmup": warmup,
        "artifact_bytes": Artifact(runner.artifact).nbytes,
    }
    common["versions"] = {common["tool"]: str(info.pop("version"))} if "version" in info else {}
    common["accelerated_fraction"] = info.pop("accelerated_fraction", None)
    if track.error:
        return BenchmarkResult(**common, info=info, error=track.error, unavailable=track.unavailable)
    times = np.array([seconds for part in track.rounds for seconds in part])
    p90, p99 = np.percentile(times, [90, 99])
    return BenchmarkResult(
        **common,
        info=info,
        iterations=len(times),
        mean=float(times.mean()),
        median=float(np.median(times)),
        p90=float(p90),
        p99=float(p99),
        std=float(times.std(ddof=1)) if len(times) > 1 else 0.0,
        min=float(times.min()),
        first_run=track.facts["first_run_seconds"],
        load=track.facts["load_seconds"],
        peak_rss=track.facts["peak_rss"],
        rss_before_load=track.facts["rss_before_load"],
        ratio=None if track is first or first.error else paired_ratio(first.rounds, track.rounds),
    )


def paired_ratio(reference: Sequence[Sequence[float]], rounds: Sequence[Sequence[float]]) -> Ratio:
    """Median of a round over the reference's median of the same round; the median, least and most over the rounds.

    Rounds that only one of them had time for do not count.
    """
    ratios = [float(np.median(b) / np.median(a)) for a, b in zip(reference, rounds, strict=False)]
    return Ratio(float(np.median(ratios)), min(ratios), max(ratios))
