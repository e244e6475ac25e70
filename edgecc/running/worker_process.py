"""The parent's end of a worker: start it, ask it, notice that it crashed or hangs, never leave it behind."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from edgecc.errors import RunnerError, UnavailableError
from edgecc.running import worker

_STDERR_LINES = 200
_SHOWN_LINES = 12
_QUIT_SECONDS = 2.0
#: What a worker must not inherit: they change how its Python starts (`PYTHONINSPECT` would keep it alive) or what a
#: runtime's import may do (`PYTHONWARNINGS=error`). Where packages are found stays as it is here.
_KEPT_PYTHON = frozenset({"PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "PYTHONNOUSERSITE", "PYTHONPLATLIBDIR"})
_SIGNALS = {
    "SIGSEGV": "a bad memory access in the runtime",
    "SIGBUS": "a bad memory access in the runtime",
    "SIGABRT": "the runtime gave up",
    "SIGILL": "an instruction that this processor does not have",
    "SIGFPE": "an arithmetic error in the runtime",
    "SIGKILL": "killed from outside, most often by the system for lack of memory",
    "SIGTERM": "ended from outside",
}

Frame = tuple[dict[str, Any], dict[str, np.ndarray]]


class WorkerProcess:
    """One worker and the artifact it owns. Methods are called from one thread."""

    def __init__(self, session_file: Path, artifact: Path, options: Mapping[str, object]) -> None:
        self._artifact = artifact
        self._ended = ""
        self._stderr: deque[str] = deque(maxlen=_STDERR_LINES)
        self._answers: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        self._process = _start(session_file, artifact, options)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._requests = self._process.stdin
        self._threads = [
            threading.Thread(target=self._read_answers, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._read_stderr, args=(self._process.stderr,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(
        self, doing: str, timeout: float, header: Mapping[str, Any], arrays: dict[str, np.ndarray] | None = None
    ) -> Frame:
        """Send a request and wait for its answer.

        Args:
            doing: what the worker is asked for, for messages ("loading").
            timeout: seconds.
            header: the request; see `edgecc.running.worker`.
            arrays: what goes with it.

        Raises:
            UnavailableError: the runtime or its device is not on this machine.
            RunnerError: the runtime failed, crashed or did not answer in time.
        """
        if self._ended:
            raise RunnerError("the runtime has ended already", where=f"{doing} {self._artifact}", why=self._ended)
        answer: Frame | None = None
        try:
            worker.write_frame(self._requests, dict(header), arrays)
            answer = self._answers.get(timeout=timeout)
        except queue.Empty:
            raise self._hang(doing, timeout) from None
        except OSError:  # it has ended and reads no more
            pass
        except BaseException:  # Ctrl-C: an answer that nobody waited for must not be taken for the next one
            self._ended = "its work was interrupted"
            self.kill()
            raise
        if answer is None:
            raise self._crash(doing)
        if "error" in answer[0]:
            raise self._failure(doing, answer[0])
        return answer

    def close(self) -> None:
        """Let the worker go; end it if it does not."""
        with contextlib.suppress(OSError, ValueError):
            worker.write_frame(self._requests, {"request": "quit"})
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_QUIT_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End the worker now; nothing happens if it has ended."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join(_QUIT_SECONDS)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(OSError, ValueError):
                if stream is not None:
                    stream.close()

    def _read_answers(self, stream: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError, worker.ProtocolError):
            while (frame := worker.read_frame(stream)) is not None:
                self._answers.put(frame)
        self._answers.put(None)

    def _read_stderr(self, stream: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in stream:
                self._stderr.append(line.decode(errors="replace").rstrip())

    def _hang(self, doing: str, timeout: float) -> RunnerError:
        self._ended = f"it did not answer within {timeout:g} s"
        self.kill()
        return RunnerError(
            f"the runtime did not answer within {timeout:g} s and was ended",
            where=f"{doing} {self._artifact}",
            why=self._tail(),
            hint="give a larger timeout if the model is that slow",
        )

    def _crash(self, doing: str) -> RunnerError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_QUIT_SECONDS)
        ended_by_itself = self._process.poll() is not None
        self.kill()
        self._ended = describe_exit(self._process.returncode) if ended_by_itself else "it closed its output"
        return RunnerError(f"the runtime crashed: {self._ended}", where=f"{doing} {self._artifact}", why=self._tail())

    def _failure(self, doing: str, answer: Mapping[str, Any]) -> RunnerError:
        where, text = f"{doing} {self._artifact}", str(answer["text"])
        if answer["error"] == "Unavailable":
            what, _, hint = text.partition("\n")
            return UnavailableError(what, where=where, hint=hint.strip())
        if answer["error"] in ("ImportError", "ModuleNotFoundError"):
            return UnavailableError("the runtime cannot be imported", where=where, why=text)
        kind = "" if answer["error"] == "RuntimeError" else f"{answer['error']}: "
        return RunnerError(f"the runtime failed {doing} the artifact", where=where, why=kind + text)

    def _tail(self) -> str:
        lines = [line for line in self._stderr if line.strip()]
        return "\n       ".join(lines[-_SHOWN_LINES:])


def describe_exit(code: int) -> str:
    """An exit status in words: the signal's name where a signal ended the process."""
    if code >= 0:
        return f"it ended with exit status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        return f"ended by signal {-code}"
    return f"{name} ({_SIGNALS[name]})" if name in _SIGNALS else name


def _start(session_file: Path, artifact: Path, options: Mapping[str, object]) -> subprocess.Popen[bytes]:
    python = sys.executable
    if not python:
        raise RunnerError("this Python does not know its own executable", hint="run edgecc from an ordinary Python")
    command = [python, worker.__file__, str(session_file.resolve()), str(artifact.absolute())]
    try:
        return subprocess.Popen(
            [*command, json.dumps(dict(options))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
        )
    except OSError as error:
        raise RunnerError(f"cannot start {python}", why=error.strerror or str(error)) from error


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON") or key in _KEPT_PYTHON}
