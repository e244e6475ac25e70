"""Runner: executes an artifact in a process of its own.

Each backend ships a session file, which needs numpy and its runtime only and defines

    class Session:
        inputs, outputs: list[dict]     name, shape (-1 where open), dtype (numpy's name)
        def __init__(self, path: str, options: dict) -> None
        def set_inputs(self, feeds: dict[str, np.ndarray]) -> None
        def run(self) -> None           exactly what is timed
        def get_outputs(self) -> dict[str, np.ndarray]
        def info(self) -> dict          tool, version, device, threads, accelerated_fraction (or None) and its own

The file imports its runtime when it is imported, or in a function `prepare()`, which is called before anything is
measured. An exception whose class is called `Unavailable` says that the runtime or its device is not on this machine;
further lines of its text are what to do about it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecc.artifact import check_readable
from edgecc.data.feed_check import check_feeds
from edgecc.errors import RunnerError, UnavailableError, UnknownNameError
from edgecc.running.worker_process import WorkerProcess
from edgecc.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from edgecc.backend import Backend

#: Seconds that loading or one request may take.
TIMEOUT = 300.0
_A_DAY = 86400.0


@dataclass(frozen=True)
class Measurements:
    """What the worker measured beside single iterations; None where the system does not say.

    Attributes:
        load_seconds: from the artifact's path to a session that can run; the runtime's import is not in it.
        first_run_seconds: the first run of all, which often allocates and packs.
        peak_rss: most resident bytes of the worker.
        rss_before_load: resident bytes with the runtime imported and nothing loaded.
    """

    load_seconds: float
    first_run_seconds: float | None
    peak_rss: int | None
    rss_before_load: int | None


class Runner:
    """Runs one artifact; a context manager. Until it is entered, neither the file nor the device is touched.

    with Runner(Path("m.tflite"), backend) as runner:
        outputs = runner.infer({"x": x})
    """

    def __init__(
        self,
        artifact: str | Path,
        backend: Backend,
        *,
        threads: int = 1,
        options: Mapping[str, object] | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        """Remember what to run.

        Args:
            artifact: the compiled file.
            backend: whose runtime runs it.
            threads: of the runtime.
            options: the runtime's own.
            timeout: seconds that loading or one request may take before the worker is ended.

        Raises:
            UnknownNameError, OptionError: the runtime has no such option, or it takes no such value.
        """
        self.artifact = Path(artifact)
        self.backend = backend
        self.threads = threads
        self.timeout = timeout
        self._options = backend.session_options(threads, options or {})
        self._worker: WorkerProcess | None = None
        self._loaded: dict[str, Any] = {}
        self._fed = False

    def __enter__(self) -> Runner:
        check_readable(self.artifact)
        available = self.backend.can_run()
        if not available:
            raise UnavailableError(
                f"{self.backend.name} artifacts do not run here",
                where=str(self.artifact),
                why=available.reason,
                hint=available.hint,
            )
        self._worker = WorkerProcess(self.backend.session_file(), self.artifact, self._options)
        try:
            self._loaded, _ = self._worker.ask("loading", self.timeout, {"request": "load"})
        except BaseException:
            self._worker.kill()
            self._worker = None
            raise
        self._fed = False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        process, self._worker = self._worker, None
        if process is None:
            return
        if kind is None:
            process.close()
        else:
            process.kill()

    def reload(self) -> None:
        """Load the file again, which holds something else now, in the same process.

        Raises:
            RunnerError: the runtime failed or crashed.
        """
        self._loaded, _ = self._entered().ask("loading", self.timeout, {"request": "load"})
        self._fed = False

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What the artifact takes, in order."""
        self._entered()
        return tuple(map(_spec, self._loaded["inputs"]))

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What the artifact gives, in order."""
        self._entered()
        return tuple(map(_spec, self._loaded["outputs"]))

    @property
    def signature(self) -> Signature:
        return Signature(self.inputs, self.outputs)

    @property
    def info(self) -> dict[str, Any]:
        """What the session says of itself: tool, version, device, threads, accelerated_fraction and its own facts."""
        self._entered()
        return dict(self._loaded["info"])

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._entered().pid

    def infer(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run once.

        Args:
            feeds: one array per input; converted only where that keeps the values' meaning.

        Raises:
            DataError: a name, type or shape does not fit.
            RunnerError: the runtime failed, crashed or hung.
        """
        process = self._entered()
        arrays = check_feeds(feeds, self.inputs, where=str(self.artifact))
        _, outputs = process.ask("running", self.timeout, {"request": "infer"}, arrays)
        self._fed = True
        return outputs

    def time(
        self,
        iterations: int,
        *,
        feeds: Mapping[str, np.ndarray] | None = None,
        warmup: int = 0,
        min_seconds: float = 0.0,
        max_seconds: float = _A_DAY,
    ) -> list[float]:
        """Seconds of each of `iterations` runs; only the session's `run` is between the two readings of the clock.

        Args:
            iterations: how many.
            feeds: inputs; those of the last call if None, and zeros if there was none.
            warmup: runs before, not counted.
            min_seconds: go on past `iterations` until the runs took this long together.
            max_seconds: stop early then; at least one run is timed.
        """
        process = self._entered()
        if feeds is None and not self._fed:
            feeds = _zeros(self.inputs)
        arrays = None if feeds is None else check_feeds(feeds, self.inputs, where=str(self.artifact))
        request = {
            "request": "time",
            "iterations": iterations,
            "warmup": warmup,
            "min_seconds": min_seconds,
            "max_seconds": max_seconds,
        }
        allowed = self.timeout + (max_seconds if max_seconds < _A_DAY else min_seconds)
        answer, _ = process.ask("running", allowed, request, arrays)
        self._fed = True
        return [nanoseconds / 1e9 for nanoseconds in answer["nanoseconds"]]

    def measurements(self) -> Measurements:
        """Load time, first run and memory so far."""
        answer, _ = self._entered().ask("measuring", self.timeout, {"request": "info"})
        return Measurements(
            answer["load_seconds"], answer["first_run_seconds"], answer["peak_rss"], answer["rss_before_load"]
        )

    def _entered(self) -> WorkerProcess:
        if self._worker is None:
            where = str(self.artifact)
            raise RunnerError("the runner is not open", where=where, hint="with edgecc.runner(...) as r: ...")
        return self._worker


def runners_for(
    artifacts: str | Path | Runner | Sequence[str | Path | Runner],
    target: str,
    threads: int,
    options: Mapping[str, object] | None,
    timeout: float,
) -> list[Runner]:
    """A runner for each path, by the target's name, the report beside the file or its suffix; runners stay as they are.

    Artifacts of several targets share `options`: each runtime is given those that it has.

    Raises:
        UnknownNameError: an option that none of the runtimes has.
    """
    from edgecc.api import backend_of

    items = [artifacts] if isinstance(artifacts, str | Path | Runner) else list(artifacts)
    given = dict(options or {})
    backends = [None if isinstance(item, Runner) else backend_of(Path(item), target) for item in items]
    known = {name for backend in backends if backend is not None for name in backend.runtime.model_fields}
    for name in given:
        if name not in known:
            raise UnknownNameError("runtime option", name, known)
    runners = []
    for item, backend in zip(items, backends, strict=True):
        if isinstance(item, Runner):
            runners.append(item)
            continue
        assert backend is not None
        own = {name: value for name, value in given.items() if name in backend.runtime.model_fields}
        runners.append(Runner(item, backend, threads=threads, options=own, timeout=timeout))
    return runners


def _spec(entry: Mapping[str, Any]) -> TensorSpec:
    name = str(entry["name"])
    shape = tuple(d if d >= 0 else f"{name}_{axis}" for axis, d in enumerate(map(int, entry["shape"])))
    return TensorSpec(name, str(entry["dtype"]), shape)


def _zeros(inputs: tuple[TensorSpec, ...]) -> dict[str, np.ndarray]:
    return {spec.name: np.zeros([d if isinstance(d, int) else 1 for d in spec.shape], spec.dtype) for spec in inputs}
