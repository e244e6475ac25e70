"""The process that owns one artifact: `python worker.py SESSION_FILE ARTIFACT OPTIONS_JSON`.

Needs numpy and the runtime that SESSION_FILE imports, nothing else, so that this file and a session file copied to a
device run there over ssh. SESSION_FILE defines `Session(path, options)`, described in `edgecc.running.runner`.

A frame is a magic number, a JSON header and arrays as .npy, each with its length before it. Requests on stdin, one
answer each on stdout:

    load                                         -> what `info` gives; again: the file as it is now
    info                                         -> inputs, outputs, the session's info, times, memory
    infer   + one array per input                -> one array per output
    time    iterations, warmup, min/max seconds  -> nanoseconds of each iteration
    quit
"""

from __future__ import annotations

import gc
import importlib.util
import io
import json
import os
import pathlib
import signal
import struct
import sys
import threading
import time
import traceback
from typing import IO, Any

# Python puts this file's folder first on the path; its neighbours must not shadow the standard library's modules.
if sys.path and pathlib.Path(sys.path[0]).resolve() == pathlib.Path(__file__).resolve().parent:
    del sys.path[0]

import numpy as np

_MAGIC = b"ecc1"
_LENGTH = struct.Struct("<Q")
_MAX_HEADER = 1 << 28
_WATCH_SECONDS = 1.0


class ProtocolError(RuntimeError):
    """Bytes that are no frame."""


def write_frame(stream: IO[bytes], header: dict[str, Any], arrays: dict[str, np.ndarray] | None = None) -> None:
    """Send a header and named arrays; nothing is sent when one of them cannot be."""
    chunks = _encode(header, arrays or {})
    for chunk in chunks:
        stream.write(chunk)
    stream.flush()


def _encode(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> list[bytes | memoryview]:
    text = json.dumps({**header, "arrays": list(arrays)}, default=_plain).encode()
    chunks: list[bytes | memoryview] = [_MAGIC, _LENGTH.pack(len(text)), text]
    for values in arrays.values():
        buffer = io.BytesIO()
        # Strings are objects in some runtimes.
        plain = values.astype(str) if values.dtype == object else values
        np.lib.format.write_array(buffer, plain, allow_pickle=False)
        chunks += [_LENGTH.pack(buffer.tell()), buffer.getbuffer()]
    return chunks


def _plain(value: Any) -> Any:
    """What numpy scalars and arrays in a session's info are as JSON."""
    return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else str(value)


def read_frame(stream: IO[bytes]) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """The next frame; None where the stream ends."""
    magic = stream.read(len(_MAGIC))
    if not magic:
        return None
    if magic != _MAGIC:
        raise ProtocolError(f"expected a frame, got {magic!r}")
    size = _read_length(stream)
    if size > _MAX_HEADER:
        raise ProtocolError(f"a header of {size} bytes")
    header = json.loads(_read(stream, size))
    arrays = {}
    for name in header.pop("arrays"):
        contents = io.BytesIO(_read(stream, _read_length(stream)))
        arrays[name] = np.lib.format.read_array(contents, allow_pickle=False)
    return header, arrays


def _read_length(stream: IO[bytes]) -> int:
    return int(_LENGTH.unpack(_read(stream, _LENGTH.size))[0])


def _read(stream: IO[bytes], size: int) -> bytes:
    contents = stream.read(size)
    if len(contents) != size:
        raise ProtocolError("the stream ended within a frame")
    return contents


def memory() -> tuple[int | None, int | None]:
    """Resident bytes of this process, now and at most; None where the system does not say.

    On Linux from /proc: `ru_maxrss` starts from the parent's peak, which survives exec.
    """
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        lines = status.read_text(encoding="utf-8").splitlines()
        fields = dict(line.split(":", 1) for line in lines if line.startswith(("VmRSS", "VmHWM")))
        kilobytes = {key: int(value.split()[0]) for key, value in fields.items()}
        return kilobytes["VmRSS"] * 1024, kilobytes["VmHWM"] * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None, None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None, most if sys.platform == "darwin" else most * 1024


class Worker:
    """Answers requests about one artifact."""

    def __init__(self, session_file: str, artifact: str, options: dict[str, Any]) -> None:
        self._session_file = session_file
        self._artifact = artifact
        self._options = options
        self._session: Any = None
        self._load_seconds = 0.0
        self._first_run_seconds: float | None = None
        self._rss_before_load: int | None = None

    def answer(
        self, request: dict[str, Any], arrays: dict[str, np.ndarray]
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Header and arrays of the answer."""
        kind = request["request"]
        if kind == "load":
            self._load()
            return self._info(), {}
        if kind == "info":
            return self._info(), {}
        if arrays:
            self._session.set_inputs(arrays)
        if kind == "infer":
            self._run_once()
            return {}, self._session.get_outputs()
        if kind == "time":
            return {"nanoseconds": self._time(request)}, {}
        raise ProtocolError(f"unknown request {kind!r}")

    def _load(self) -> None:
        self._session = self._first_run_seconds = None
        spec = importlib.util.spec_from_file_location("edgecc_session", self._session_file)
        if spec is None or spec.loader is None:
            raise RuntimeError(f"{self._session_file} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        # The runtime's own import is neither the model's load time nor its memory.
        getattr(module, "prepare", lambda: None)()
        self._rss_before_load = memory()[0]
        start = time.perf_counter_ns()
        self._session = module.Session(self._artifact, self._options)
        self._load_seconds = (time.perf_counter_ns() - start) / 1e9

    def _info(self) -> dict[str, Any]:
        return {
            "inputs": self._session.inputs,
            "outputs": self._session.outputs,
            "info": self._session.info(),
            "load_seconds": self._load_seconds,
            "first_run_seconds": self._first_run_seconds,
            "rss_before_load": self._rss_before_load,
            "peak_rss": memory()[1],
        }

    def _run_once(self) -> int:
        start = time.perf_counter_ns()
        self._session.run()
        elapsed = time.perf_counter_ns() - start
        if self._first_run_seconds is None:
            self._first_run_seconds = elapsed / 1e9
        return elapsed

    def _time(self, request: dict[str, Any]) -> list[int]:
        """Time runs until there are enough of them and they took long enough, or far too long."""
        iterations, least = request["iterations"], int(request["min_seconds"] * 1e9)
        most = int(request["max_seconds"] * 1e9)
        for _ in range(request["warmup"]):
            most -= self._run_once()
            if most <= 0:
                break
        elapsed: list[int] = []
        total = 0
        gc.disable()
        try:
            while (len(elapsed) < iterations or total < least) and (total < most or not elapsed):
                elapsed.append(self._run_once())
                total += elapsed[-1]
        finally:
            gc.enable()
        return elapsed


def serve(worker: Worker, requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer until `quit` or the end of the stream; an exception is an answer too."""
    while True:
        frame = read_frame(requests)
        if frame is None or frame[0]["request"] == "quit":
            return
        try:
            write_frame(answers, *worker.answer(*frame))
        except BrokenPipeError:
            return
        except (Exception, SystemExit) as error:
            text = str(error) or type(error).__name__
            write_frame(answers, {"error": type(error).__name__, "text": text, "traceback": traceback.format_exc()})


def _take_streams() -> tuple[IO[bytes], IO[bytes]]:
    """Keep stdin and stdout for frames: whatever a runtime prints goes to stderr, whatever it reads is empty."""
    sys.stdout.flush()
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    if sys.platform == "win32":
        import msvcrt

        msvcrt.setmode(requests, os.O_BINARY)
        msvcrt.setmode(answers, os.O_BINARY)
    return os.fdopen(requests, "rb"), os.fdopen(answers, "wb")


def _end_with_parent(parent: int) -> None:
    """Do not outlive a parent that was killed while the runtime is busy."""
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os._exit(1)


def main(arguments: list[str]) -> None:
    """Serve the artifact until the parent is done with it."""
    session_file, artifact, options = arguments
    requests, answers = _take_streams()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    serve(Worker(session_file, artifact, json.loads(options)), requests, answers)
    # Some runtimes crash when the interpreter takes them down; their work is done.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
