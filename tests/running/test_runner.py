from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgecc.data.feed_check import check_feeds
from edgecc.errors import DataError, InvalidModelError, OptionError, RunnerError, UnavailableError, UnknownNameError
from edgecc.running.runner import Runner
from edgecc.running.worker_process import describe_exit
from edgecc.signature import TensorSpec

MakeRunner = Callable[..., Runner]
X = np.arange(6, dtype=np.float32).reshape(2, 3)
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


def has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_infer(make_runner: MakeRunner) -> None:
    with make_runner() as runner:
        assert [str(spec) for spec in runner.inputs] == ["x: float32[2, 3]"]
        assert [str(spec) for spec in runner.outputs] == ["y: float32[2, 3]"]
        outputs = runner.infer({"x": X})
    assert list(outputs) == ["y"]
    np.testing.assert_array_equal(outputs["y"], 2 * X)


def test_nothing_starts_before_the_runner_is_entered(make_runner: MakeRunner) -> None:
    runner = make_runner("def __init__(self, path, options): raise RuntimeError('touched')")
    with pytest.raises(RunnerError, match="the runner is not open") as caught:
        runner.infer({"x": X})
    assert "with edgecc.runner(...) as r" in caught.value.hint


def test_a_runner_can_be_entered_again(make_runner: MakeRunner) -> None:
    runner = make_runner()
    pids = set()
    for _ in range(2):
        with runner:
            pids.add(runner.pid)
            runner.infer({"x": X})
    assert len(pids) == 2


def test_the_same_process_loads_the_file_again(make_runner: MakeRunner) -> None:
    with make_runner("def info(self):\n    return {**super().info(), 'text': open(self.path).read()}") as runner:
        first = runner.pid, runner.info["text"], runner.infer({"x": X})["y"]
        runner.artifact.write_text("another")
        runner.reload()
        assert (runner.pid, runner.info["text"]) == (first[0], "another")
        np.testing.assert_array_equal(runner.infer({"x": X})["y"], first[2])


def test_options_and_threads_reach_the_session(make_runner: MakeRunner) -> None:
    with make_runner(threads=3, options={"provider": "cuda"}) as runner:
        assert runner.info["options"] == {"threads": 3, "provider": "cuda"}


def test_unknown_and_wrong_options_are_refused_before_anything_starts(make_runner: MakeRunner) -> None:
    with pytest.raises(UnknownNameError, match="unknown option 'provder'") as caught:
        make_runner(options={"provder": "cuda"})
    assert caught.value.hint == "did you mean 'provider'?"
    with pytest.raises(OptionError, match="option 'provider' of runtime 'fake'"):
        make_runner(options={"provider": 3})


def test_time_without_feeds_and_with(make_runner: MakeRunner) -> None:
    with make_runner("def run(self):\n    time.sleep(0.002)\n    super().run()") as runner:
        seconds = runner.time(4)
        assert len(seconds) == 4
        assert all(0.002 <= s < 1 for s in seconds)
        assert len(runner.time(2, feeds={"x": X}, warmup=2)) == 2
        measured = runner.measurements()
    assert measured.first_run_seconds is not None
    assert measured.first_run_seconds >= 0.002
    assert 0 <= measured.load_seconds < 1


def test_time_stops_early_and_goes_on_late(make_runner: MakeRunner) -> None:
    with make_runner("def run(self):\n    time.sleep(0.01)") as runner:
        assert 1 <= len(runner.time(1000, max_seconds=0.05)) < 10
        assert len(runner.time(1000, max_seconds=0.0)) == 1
        assert sum(runner.time(1, min_seconds=0.05)) >= 0.05


def test_what_a_runtime_prints_does_not_reach_the_protocol(make_runner: MakeRunner) -> None:
    body = """
def run(self):
    print("garbage on stdout", flush=True)
    os.write(1, b"\\x00ecc1 more garbage")
    os.system("echo garbage of a child")
    super().run()
"""
    with make_runner(body) as runner:
        np.testing.assert_array_equal(runner.infer({"x": X})["y"], 2 * X)


def test_a_runtime_that_reads_stdin_gets_nothing(make_runner: MakeRunner) -> None:
    with make_runner("def run(self):\n    assert os.read(0, 10) == b''\n    super().run()") as runner:
        np.testing.assert_array_equal(runner.infer({"x": X})["y"], 2 * X)


def test_much_output_does_not_block(make_runner: MakeRunner) -> None:
    with make_runner("def run(self):\n    os.write(2, b'noise\\n' * 200_000)\n    super().run()") as runner:
        np.testing.assert_array_equal(runner.infer({"x": X})["y"], 2 * X)


@posix
@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            "os.kill(os.getpid(), signal.SIGSEGV)",
            r"the runtime crashed: SIGSEGV \(a bad memory access in the runtime\)",
        ),
        ("os.abort()", r"the runtime crashed: SIGABRT \(the runtime gave up\)"),
        ("os.kill(os.getpid(), signal.SIGKILL)", r"SIGKILL \(.*lack of memory\)"),
        ("os._exit(7)", "the runtime crashed: it ended with exit status 7"),
    ],
    ids=["segfault", "abort", "kill", "exit"],
)
def test_crash_while_running(make_runner: MakeRunner, body: str, text: str) -> None:
    lines = f"def run(self):\n    print('last words', flush=True)\n    {body}"
    with make_runner(lines) as runner:
        with pytest.raises(RunnerError, match=text) as caught:
            runner.infer({"x": X})
        assert "last words" in caught.value.why
        assert caught.value.where.startswith("running ")
        with pytest.raises(RunnerError, match="the runtime has ended already"):
            runner.infer({"x": X})


@posix
def test_crash_while_loading(make_runner: MakeRunner) -> None:
    runner = make_runner("def __init__(self, path, options):\n    os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(RunnerError, match="SIGSEGV") as caught, runner:
        pass
    assert caught.value.where.startswith("loading ")


@posix
def test_a_worker_killed_from_outside(make_runner: MakeRunner) -> None:
    with make_runner() as runner:
        os.kill(runner.pid, signal.SIGKILL)
        with pytest.raises(RunnerError, match="SIGKILL"):
            runner.infer({"x": X})


def test_exception_while_loading(make_runner: MakeRunner) -> None:
    runner = make_runner("def __init__(self, path, options):\n    raise RuntimeError('not a flatbuffer')")
    with pytest.raises(RunnerError, match="the runtime failed loading the artifact") as caught, runner:
        pass
    assert caught.value.why == "not a flatbuffer"
    assert caught.value.exit_code == 1


def test_exception_while_running_leaves_the_worker_usable(make_runner: MakeRunner) -> None:
    body = "def run(self):\n    if self.x[0, 0] < 0: raise ValueError('negative')\n    super().run()"
    with make_runner(body) as runner:
        with pytest.raises(RunnerError, match="the runtime failed running") as caught:
            runner.infer({"x": X - 9})
        assert caught.value.why == "ValueError: negative"
        np.testing.assert_array_equal(runner.infer({"x": X})["y"], 2 * X)


def test_unavailable_device(make_runner: MakeRunner) -> None:
    text = "raise Unavailable('no CUDA device is visible\\npip install a-driver')"
    with pytest.raises(UnavailableError) as caught, make_runner(f"def __init__(self, path, options):\n    {text}"):
        pass
    assert caught.value.what == "no CUDA device is visible"
    assert caught.value.hint == "pip install a-driver"


def test_runtime_that_cannot_be_imported(make_runner: MakeRunner) -> None:
    body = "def __init__(self, path, options):\n    import no_such_runtime"
    with pytest.raises(UnavailableError, match="the runtime cannot be imported") as caught, make_runner(body):
        pass
    assert "no_such_runtime" in caught.value.why


def test_backend_that_does_not_run_here(make_runner: MakeRunner) -> None:
    runner = make_runner(missing="there is no GPU")
    with pytest.raises(UnavailableError, match="fake artifacts do not run here") as caught, runner:
        pass
    assert (caught.value.why, caught.value.hint) == ("there is no GPU", "buy one")


def test_missing_artifact(make_runner: MakeRunner) -> None:
    runner = make_runner()
    runner.artifact.unlink()
    with pytest.raises(InvalidModelError, match=r"model\.fake does not exist"), runner:
        pass


def test_hang(make_runner: MakeRunner) -> None:
    runner = make_runner("def run(self):\n    print('thinking', flush=True)\n    time.sleep(60)", timeout=1.0)
    with runner:
        pid = runner.pid
        with pytest.raises(RunnerError, match="did not answer within 1 s and was ended") as caught:
            runner.infer({"x": X})
        assert "thinking" in caught.value.why
        assert "larger timeout" in caught.value.hint
        assert has_ended(pid)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_no_worker_stays_behind_an_exception(make_runner: MakeRunner, error: type[BaseException]) -> None:
    pids = []

    def fail() -> None:
        with make_runner() as runner:
            pids.append(runner.pid)
            raise error

    with pytest.raises(error):
        fail()
    assert has_ended(pids[0])


@posix
@pytest.mark.usefixtures("ctrl_c_works")
def test_ctrl_c_while_the_runtime_is_busy(make_runner: MakeRunner) -> None:
    pids = []

    def run_long() -> None:
        with make_runner("def run(self):\n    time.sleep(60)") as runner:
            pids.append(runner.pid)
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            try:
                runner.infer({"x": X})
            finally:
                with pytest.raises(RunnerError, match="the runtime has ended already"):
                    runner.infer({"x": X})

    before = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    start = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            run_long()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - start < 10
    assert has_ended(pids[0])


def test_python_settings_are_not_inherited(make_runner: MakeRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.setenv("PYTHONINSPECT", "1")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("SOMETHING_ELSE", "1")
    body = "def info(self):\n    return {**super().info(), 'env': dict(os.environ)}"
    with make_runner(body) as runner:
        environment = runner.info["env"]
    assert not {"PYTHONWARNINGS", "PYTHONINSPECT"} & set(environment)
    assert environment["PYTHONPATH"] == "/somewhere"
    assert environment["SOMETHING_ELSE"] == "1"


def test_artifact_paths_with_odd_characters(make_runner: MakeRunner) -> None:
    body = "def info(self):\n    return {**super().info(), 'path': self.path}"
    with make_runner(body, name="mödel 'one' $x.fake") as runner:
        assert Path(runner.info["path"]).name == "mödel 'one' $x.fake"


def test_describe_exit() -> None:
    assert describe_exit(3) == "it ended with exit status 3"
    if sys.platform != "win32":
        assert describe_exit(-signal.SIGHUP) == "SIGHUP"
        assert describe_exit(-200) == "ended by signal 200"


# ------------------------------------------------------------------------------------------------------------- feeds

IMAGE = TensorSpec("image", "float32", (1, 3, 8, 6))
QUANTIZED = TensorSpec("q", "int8", (4,))
OPEN = TensorSpec("tokens", "int64", ("batch", 5))


@pytest.mark.parametrize(
    ("feeds", "spec", "what", "detail"),
    [
        ({"imgae": np.zeros((1, 3, 8, 6), np.float32)}, IMAGE, "no input 'imgae'", "did you mean 'image'?"),
        ({"zzz": np.zeros(1)}, IMAGE, "no input 'zzz'", "the inputs are: image"),
        ({}, IMAGE, "no value is given for input 'image'", "one array per input"),
        ({"image": np.zeros((3, 8, 6))}, IMAGE, r"takes shape \[1, 3, 8, 6\], got \[3, 8, 6\]", "x[None]"),
        ({"image": np.zeros((1, 8, 6, 3))}, IMAGE, r"got \[1, 8, 6, 3\]", "x.transpose(0, 3, 1, 2)"),
        ({"image": np.zeros((4, 3, 8, 6))}, IMAGE, r"got \[4, 3, 8, 6\]", "the batch is fixed to 1"),
        ({"image": np.full((1, 3, 8, 6), 1e300)}, IMAGE, "takes float32, got float64", "beyond the range of float32"),
        ({"image": np.zeros((1, 3, 8, 6), complex)}, IMAGE, "got complex128", "would change the values"),
        ({"q": np.array([0.5, 1, 2, 3])}, QUANTIZED, "takes int8, got float64", "np.round(x / scale + zero_point)"),
        ({"q": np.array([0, 1, 2, 200])}, QUANTIZED, "takes int8, got int64", "from 0 to 200, which int8"),
        ({"tokens": np.full((2, 5), 2**64 - 1, np.uint64)}, OPEN, "takes int64, got uint64", "int64 does not hold"),
    ],
)
def test_feeds_that_do_not_fit(feeds: dict[str, np.ndarray], spec: TensorSpec, what: str, detail: str) -> None:
    with pytest.raises(DataError, match=what) as caught:
        check_feeds(feeds, [spec], where="m.tflite")
    assert detail in str(caught.value)
    assert caught.value.where == "m.tflite"


@pytest.mark.parametrize(
    ("values", "spec"),
    [
        (np.random.default_rng(0).random((1, 3, 8, 6)), IMAGE),
        (np.full((1, 3, 8, 6), 7, np.uint8), IMAGE),
        (np.full((1, 3, 8, 6), 7, np.int64), IMAGE),
        (np.full((1, 3, 8, 6), np.inf), IMAGE),
        (np.array([-128, 0, 1, 127]), QUANTIZED),
        (np.array([True, False, True, True]), QUANTIZED),
        (np.ones((9, 5), np.int32), OPEN),
        (np.ones((5, 9), np.int64).T, OPEN),
    ],
)
def test_feeds_that_are_converted(values: np.ndarray, spec: TensorSpec) -> None:
    converted = check_feeds({spec.name: values}, [spec])[spec.name]
    assert converted.dtype.name == spec.dtype
    assert converted.flags.c_contiguous
    assert converted.shape == values.shape
    np.testing.assert_allclose(converted.astype(np.float64), values.astype(np.float64), rtol=1e-6)


def test_scalar_feed_keeps_its_rank() -> None:
    spec = TensorSpec("s", "float32", ())
    assert check_feeds({"s": np.float32(2)}, [spec])["s"].shape == ()  # type: ignore[dict-item]


def test_a_number_that_float32_cannot_hold_is_refused() -> None:
    with pytest.raises(DataError, match="takes float32, got int64"):
        check_feeds({"s": np.array([2**24 + 1])}, [TensorSpec("s", "float32", (1,))])
