from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgecc.errors import DataError, InvalidModelError, OptionError
from edgecc.measuring.benchmark import benchmark, paired_ratio
from edgecc.running.runner import Runner

MakeRunner = Callable[..., Runner]
LOGGING = """
def run(self):
    super().run()
    with open({log!r}, "a") as stream:
        stream.write({letter!r})
"""


def test_times_and_facts(make_runner: MakeRunner) -> None:
    runner = make_runner("def run(self):\n    time.sleep(0.002)\n    super().run()", threads=2)
    (result,) = benchmark([runner], warmup=2, iterations=11, rounds=3)
    assert result.error == ""
    assert (result.artifact, result.target, result.tool) == (str(runner.artifact), "fake", "numpy")
    assert (result.device, result.threads) == ("cpu", 2)
    assert result.versions == {"numpy": np.__version__}
    assert (result.warmup, result.iterations, result.artifact_bytes) == (2, 11, 5)
    assert result.min is not None
    assert result.median is not None
    assert result.p90 is not None
    assert result.p99 is not None
    assert result.mean is not None
    assert 0.002 <= result.min <= result.median <= result.p90 <= result.p99 < 1
    assert result.runs_per_second == pytest.approx(1 / result.mean)
    assert result.first_run is not None
    assert result.load is not None
    assert result.ratio is None
    assert "tool" not in result.info
    if sys.platform.startswith("linux"):
        assert result.peak_rss is not None
        assert result.rss_before_load is not None
        assert result.peak_rss >= result.rss_before_load > 1 << 20
    assert json.loads(json.dumps(result.to_dict()))["iterations"] == 11


def test_artifacts_take_turns(make_runner: MakeRunner, tmp_path: Path) -> None:
    log = tmp_path / "log"
    runners = [make_runner(LOGGING.format(log=str(log), letter=letter)) for letter in "AB"]
    benchmark(runners, warmup=2, iterations=6, rounds=3)
    # Two warm-up runs; then rounds of one run that does not count and two that do.
    assert log.read_text() == "AABB" + "AAABBB" * 3


def test_iterations_are_spread_over_the_rounds(make_runner: MakeRunner, tmp_path: Path) -> None:
    log = tmp_path / "log"
    runner = make_runner(LOGGING.format(log=str(log), letter="A"))
    (result,) = benchmark([runner], warmup=0, iterations=7, rounds=5)
    assert result.iterations == 7
    assert len(log.read_text()) == 1 + 7 + 5
    (result,) = benchmark([runner], warmup=0, iterations=2, rounds=5)
    assert result.iterations == 2


def test_time_limit(make_runner: MakeRunner) -> None:
    runner = make_runner("def run(self):\n    time.sleep(0.02)")
    (result,) = benchmark([runner], warmup=0, iterations=1000, rounds=2, max_seconds=0.2)
    assert 2 <= result.iterations <= 12


def test_a_run_longer_than_its_turn(make_runner: MakeRunner) -> None:
    body = """
def run(self):
    time.sleep(0.1)
    with open(self.path + ".log", "a") as stream:
        stream.write("A")
"""
    runner = make_runner(body)
    (result,) = benchmark([runner], warmup=5, iterations=1000, rounds=5, max_seconds=0.25)
    assert result.iterations == 3
    # At most three runs to warm up, and the one whose time says how long a run is.
    assert len(Path(f"{runner.artifact}.log").read_text()) <= 3 + 1 + 3


def test_ratio_is_relative_to_the_first(make_runner: MakeRunner) -> None:
    slow = make_runner("def run(self):\n    time.sleep(0.02)")
    slower = make_runner("def run(self):\n    time.sleep(0.04)")
    first, second = benchmark([slow, slower], warmup=0, iterations=6, rounds=3)
    assert first.ratio is None
    assert second.ratio is not None
    assert second.ratio.low <= second.ratio.median <= second.ratio.high
    assert 1.2 < second.ratio.median < 2.5


def test_paired_ratio_by_hand() -> None:
    ratio = paired_ratio([[1, 2, 9], [4, 4, 4], [1, 1, 1]], [[2, 2, 2], [2, 2, 2], [3, 3, 9]])
    assert (ratio.median, ratio.low, ratio.high) == (1.0, 0.5, 3.0)
    assert str(ratio) == "1.00 (0.50..3.00)"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_crash_is_a_result(make_runner: MakeRunner) -> None:
    counting = """
count = 0
def run(self):
    self.count += 1
    if self.count == 6: os.kill(os.getpid(), signal.SIGSEGV)
"""
    results = benchmark([make_runner(counting), make_runner()], warmup=0, iterations=8, rounds=4)
    assert "SIGSEGV" in results[0].error
    assert results[0].median is None
    assert results[0].tool == "numpy"
    assert results[1].error == ""
    assert results[1].iterations == 8
    assert results[1].ratio is None


def test_what_cannot_run_here_says_what_is_missing(make_runner: MakeRunner) -> None:
    results = benchmark([make_runner(), make_runner(missing="there is no GPU")], iterations=2, rounds=1)
    assert results[0].error == ""
    assert "fake artifacts do not run here" in results[1].error
    assert "there is no GPU" in results[1].error
    assert "buy one" in results[1].error
    assert results[1].artifact_bytes == 5


def test_feeds_are_random_by_seed_or_given(make_runner: MakeRunner, tmp_path: Path) -> None:
    body = f"def run(self):\n    np.save({str(tmp_path / 'x.npy')!r}, self.x)\n    super().run()"
    seen = []
    for seed in (0, 0, 1):
        benchmark([make_runner(body)], iterations=1, rounds=1, seed=seed)
        seen.append(np.load(tmp_path / "x.npy"))
    np.testing.assert_array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[0], seen[2])
    given = np.full((2, 3), 5, np.float32)
    benchmark([make_runner(body)], iterations=1, rounds=1, feeds={"x": given})
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), given)


def test_open_batch_is_one(make_runner: MakeRunner) -> None:
    body = """
inputs = [{"name": "x", "shape": [-1, 3], "dtype": "float32"}]
def run(self):
    assert self.x.shape == (1, 3), self.x.shape
"""
    (result,) = benchmark([make_runner(body)], iterations=1, rounds=1)
    assert result.error == ""


def test_progress(make_runner: MakeRunner) -> None:
    steps: list[tuple[int, int, str]] = []
    benchmark([make_runner()], iterations=2, rounds=2, progress=lambda *step: steps.append(step))
    assert steps == [
        (0, 3, "loading model.fake"),
        (1, 3, "measuring model.fake"),
        (2, 3, "measuring model.fake"),
        (3, 3, "done"),
    ]


def test_wrong_requests(make_runner: MakeRunner, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="iterations, rounds and threads are at least 1"):
        benchmark([make_runner()], iterations=0)
    for seconds in (0.0, -1.0, float("nan")):
        with pytest.raises(OptionError, match=r"max_seconds is .*; it must be more than 0"):
            benchmark([make_runner()], max_seconds=seconds)
    with pytest.raises(DataError, match="no input 'z'"):
        benchmark([make_runner()], feeds={"z": np.zeros(1)})
    runner = make_runner()
    runner.artifact.unlink()
    with pytest.raises(InvalidModelError, match="does not exist"):
        benchmark([runner])
