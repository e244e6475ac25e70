from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgecc.running import worker
from edgecc.running.runner import Runner

MakeRunner = Callable[..., Runner]
#: cython_runtime: numpy before version 2 makes it.
ALLOWED = {"numpy", "cython_runtime", "edgecc_session", "__main__", "__mp_main__"}


@pytest.mark.parametrize(
    "values",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.array(3, np.int64),
        np.zeros((0, 4), np.uint8),
        np.array([True, False]),
        np.asfortranarray(np.arange(6, dtype=np.float16).reshape(2, 3)),
        np.array(["a", "längst"]),
    ],
    ids=["matrix", "scalar", "empty", "bool", "fortran", "text"],
)
def test_frame_returns_what_was_written(values: np.ndarray) -> None:
    stream = io.BytesIO()
    worker.write_frame(stream, {"request": "infer", "n": 3}, {"x/ä": values})
    stream.seek(0)
    frame = worker.read_frame(stream)
    assert frame is not None
    header, arrays = frame
    assert header == {"request": "infer", "n": 3}
    assert arrays["x/ä"].dtype == values.dtype
    np.testing.assert_array_equal(arrays["x/ä"], values)
    assert worker.read_frame(stream) is None


def test_frame_with_strings_as_objects() -> None:
    stream = io.BytesIO()
    worker.write_frame(stream, {}, {"x": np.array(["a", "bc"], dtype=object)})
    stream.seek(0)
    frame = worker.read_frame(stream)
    assert frame is not None
    assert frame[1]["x"].tolist() == ["a", "bc"]


def test_pickled_arrays_are_refused() -> None:
    text = json.dumps({"arrays": ["x"]}).encode()
    pickled = io.BytesIO()
    np.save(pickled, np.array([{}], dtype=object), allow_pickle=True)
    contents = pickled.getvalue()
    frame = b"ecc1" + len(text).to_bytes(8, "little") + text + len(contents).to_bytes(8, "little") + contents
    with pytest.raises(ValueError, match="allow_pickle"):
        worker.read_frame(io.BytesIO(frame))


@pytest.mark.parametrize("junk", [b"hello, world", b"ecc1\x05\x00", b"ecc1" + b"\xff" * 8])
def test_bytes_that_are_no_frame(junk: bytes) -> None:
    with pytest.raises(worker.ProtocolError):
        worker.read_frame(io.BytesIO(junk))


def test_worker_imports_nothing_but_numpy_and_the_standard_library(make_runner: MakeRunner) -> None:
    body = """
def info(self):
    tops = sorted({name.partition(".")[0] for name in sys.modules})
    return {**super().info(), "modules": [t for t in tops if t not in sys.stdlib_module_names]}
"""
    with make_runner(body) as runner:
        # Editable installs put finders named after themselves into every interpreter.
        found = {name for name in runner.info["modules"] if not name.startswith(("__editable__", "_virtualenv", "_"))}
    assert found <= ALLOWED


def test_worker_runs_as_a_copied_script(tmp_path: Path, make_runner: MakeRunner) -> None:
    session = make_runner().backend.session_file()
    copied = tmp_path / "device" / "worker.py"
    copied.parent.mkdir()
    copied.write_bytes(Path(worker.__file__).read_bytes())
    requests = io.BytesIO()
    worker.write_frame(requests, {"request": "load"})
    worker.write_frame(requests, {"request": "infer"}, {"x": np.ones((2, 3), np.float32)})
    command = [sys.executable, str(copied), str(session), "model.fake", '{"threads": 1}']
    done = subprocess.run(command, input=requests.getvalue(), capture_output=True, timeout=60, cwd=tmp_path, check=True)
    answers = io.BytesIO(done.stdout)
    loaded, inferred = worker.read_frame(answers), worker.read_frame(answers)
    assert loaded is not None
    assert loaded[0]["info"]["tool"] == "numpy"
    assert inferred is not None
    np.testing.assert_array_equal(inferred[1]["y"], np.full((2, 3), 2, np.float32))
    assert worker.read_frame(answers) is None


def test_memory_of_this_process() -> None:
    now, most = worker.memory()
    if sys.platform.startswith("linux"):
        assert now is not None
        assert most is not None
        assert 1 << 20 < now <= most


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux says it")
def test_peak_memory_is_the_workers_own(make_runner: MakeRunner) -> None:
    held = np.ones(300 << 20, np.uint8)  # what `ru_maxrss` of a child would start from
    with make_runner("def run(self):\n    self.big = np.ones(50 << 20, np.uint8)\n    super().run()") as runner:
        runner.infer({"x": np.zeros((2, 3), np.float32)})
        measured = runner.measurements()
    assert held[0] == 1
    assert measured.rss_before_load is not None
    assert measured.peak_rss is not None
    grown = measured.peak_rss - measured.rss_before_load
    assert 50 << 20 <= grown < 80 << 20
    assert measured.peak_rss < 200 << 20


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX process groups")
def test_worker_ends_with_a_killed_parent(tmp_path: Path, make_runner: MakeRunner) -> None:
    session = make_runner("def run(self):\n    time.sleep(60)").backend.session_file()
    script = f"""
import sys, numpy as np
from pathlib import Path
from edgecc.running.worker_process import WorkerProcess
process = WorkerProcess(Path({str(session)!r}), Path({str(tmp_path)!r}), {{"threads": 1}})
process.ask("loading", 30, {{"request": "load"}})
print(process.pid, flush=True)
process.ask("running", 60, {{"request": "infer"}}, {{"x": np.zeros((2, 3), np.float32)}})
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 20
    while _is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _is_alive(pid)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A container without an init process keeps the entry of a process that has ended.
    state = Path(f"/proc/{pid}/stat")
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")
