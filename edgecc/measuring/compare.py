"""Runs artifacts and their source on the same feeds: what was lost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec

import numpy as np

from edgecc.artifact import Artifact, check_readable
from edgecc.data.feeds import Batch, load_feeds, random_feeds
from edgecc.errors import DataError, InvalidModelError, OptionError, RunnerError, UnavailableError
from edgecc.measuring.correspondence import Boundary
from edgecc.measuring.metrics import AccuracyMeter, Fidelity, FidelityMeter, score
from edgecc.measuring.parity import Parity, ParityMeter
from edgecc.provenance import sha256_of, source_files
from edgecc.running.runner import TIMEOUT, Runner, runners_for
from edgecc.signature import Signature, TensorSpec

P = ParamSpec("P")

#: Random samples when no data is given.
RANDOM_SAMPLES = 4


@dataclass(frozen=True)
class Comparison:
    """One artifact against the source.

    Attributes:
        artifact: path.
        target: name of the backend that ran it.
        outputs: fidelity by the source's output names, in its order.
        accuracy: top-1 on the labels; None without labels.
        notes: what the user should know about how it was compared.
        error: why it could not be compared.
        unavailable: whether the error is that the runtime or its device is not on this machine.
    """

    artifact: str
    target: str
    outputs: dict[str, Fidelity] = field(default_factory=dict)
    accuracy: float | None = None
    notes: tuple[str, ...] = ()
    error: str = ""
    unavailable: bool = False


@dataclass(frozen=True)
class CompareResult:
    """All artifacts against their source.

    Attributes:
        source: path of the reference.
        data: where the feeds came from.
        samples: how many times the model ran, or how many samples of the data it saw.
        accuracy: the source's own top-1; None without labels.
        comparisons: one per artifact, in order.
        parity: artifacts against each other, a row for each output of each pair.
    """

    source: str
    data: str
    samples: int
    accuracy: float | None
    comparisons: tuple[Comparison, ...]
    parity: tuple[Parity, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        rows = [
            {**vars(row), "outputs": {name: item.to_dict() for name, item in row.outputs.items()}}
            for row in self.comparisons
        ]
        return {**vars(self), "comparisons": rows, "parity": [row.to_dict() for row in self.parity]}


@dataclass
class _Track:
    """One artifact on its way through the samples."""

    runner: Runner
    boundary: Boundary = field(default_factory=Boundary)
    meters: dict[str, FidelityMeter] = field(default_factory=dict)
    accuracy: AccuracyMeter = field(default_factory=AccuracyMeter)
    outputs: dict[str, np.ndarray] = field(default_factory=dict)
    error: str = ""
    unavailable: bool = False

    def attempt(self, step: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Do a step unless one has failed; the others go on."""
        if self.error:
            return
        try:
            step(*args, **kwargs)
        except (RunnerError, DataError, OptionError) as error:
            self.error = str(error)
            self.unavailable = isinstance(error, UnavailableError)


def compare(
    artifacts: str | Path | Runner | Sequence[str | Path | Runner],
    source: str | Path | Runner | None = None,
    data: str | Path | Mapping[str, np.ndarray] | None = None,
    *,
    target: str = "",
    samples: int | None = None,
    seed: int = 0,
    threads: int = 1,
    options: Mapping[str, object] | None = None,
    timeout: float = TIMEOUT,
    progress: Callable[[int, int, str], None] = lambda done, total, text: None,
) -> CompareResult:
    """Run the source in ONNX Runtime and every artifact in its own runtime, and compare outputs by name.

    Args:
        artifacts: paths, or runners that are not entered.
        source: the reference; what the first artifact's report names if None.
        data: an `.npz` file (see `edgecc.data.feeds`), or one set of feeds; random feeds if None.
        target: whose runtime runs the paths; by the report beside a file or its suffix if empty.
        samples: how many; RANDOM_SAMPLES, or all of the data, if None.
        seed: of random feeds.
        threads: of the runtimes.
        options: of the artifacts' runtimes.
        timeout: seconds that loading or one request may take.
        progress: called with samples done, samples in all, and a sentence.

    Raises:
        RequestError: the source is not known, a file is missing, or the data does not fit.
        RunnerError: the source itself does not run.
    """
    tracks = [_Track(runner) for runner in runners_for(artifacts, target, threads, options, timeout)]
    notes: list[str] = []
    reference = source if isinstance(source, Runner) else _source_runner(source, tracks, threads, timeout, notes)
    accuracy, seen = AccuracyMeter(), 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(reference)
        for track in tracks:
            track.attempt(_open, track, reference, stack)
        signature = _closed(reference.signature, [t.boundary for t in tracks if not t.error])
        batches, total, text = _feeds(data, signature, samples, seed)
        parity = ParityMeter({str(t.runner.artifact): _steps(t.runner.artifact) for t in tracks})
        for batch in batches:
            progress(seen, total, f"comparing on {text}")
            expected = _first(reference.infer(batch.feeds), batch)
            score(accuracy, expected, batch.labels)
            for track in tracks:
                track.attempt(_add, track, batch, expected)
            parity.add([(str(track.runner.artifact), track.outputs) for track in tracks if not track.error])
            seen += batch.count
        progress(seen, total, "done")
    if accuracy.problem:
        notes.append(f"no accuracy: {accuracy.problem}")
    rows = tuple(_comparison(track, notes) for track in tracks)
    return CompareResult(str(reference.artifact), text, seen, accuracy.result(), rows, parity.result())


def _steps(artifact: Path) -> dict[str, float]:
    """What one step of each quantized output stands for."""
    steps = Artifact.open(artifact).report.get("output_steps", {})
    return {str(name): float(step) for name, step in steps.items()}


def _open(track: _Track, reference: Runner, stack: contextlib.ExitStack) -> None:
    runner = stack.enter_context(track.runner)
    report = Artifact.open(runner.artifact).report
    track.boundary = Boundary.between(reference.signature, runner.signature, report.get("correspondence", ()))
    track.meters = {spec.name: FidelityMeter() for spec in reference.outputs}


def _add(track: _Track, batch: Batch, expected: Mapping[str, np.ndarray]) -> None:
    outputs = track.boundary.outputs(track.runner.infer(track.boundary.inputs(batch.feeds)))
    outputs = _first(outputs, batch)
    for name, values in expected.items():
        if outputs[name].shape != values.shape:
            raise OptionError(
                f"output {name!r} has shape {list(outputs[name].shape)}, the source's has {list(values.shape)}",
                where=str(track.runner.artifact),
            )
        track.meters[name].add(values, outputs[name])
    track.outputs = outputs
    score(track.accuracy, outputs, batch.labels)


def _first(outputs: Mapping[str, np.ndarray], batch: Batch) -> dict[str, np.ndarray]:
    """Without what the repeated samples at the end of the data gave."""
    size = _rows(batch.feeds)
    if batch.count == size:
        return dict(outputs)
    padded = {name: values.ndim > 0 and len(values) == size for name, values in outputs.items()}
    return {name: values[: batch.count] if padded[name] else values for name, values in outputs.items()}


def _feeds(
    data: str | Path | Mapping[str, np.ndarray] | None, signature: Signature, samples: int | None, seed: int
) -> tuple[Iterator[Batch], int, str]:
    """Batches, the number of samples, and what they are in words."""
    if data is None:
        runs, rows = samples or RANDOM_SAMPLES, _rows(random_feeds(signature, seed))
        batches = (Batch(random_feeds(signature, seed + index), rows, None) for index in range(runs))
        return batches, runs * rows, f"random values (seed {seed})"
    if isinstance(data, Mapping):
        feeds = {name: np.asarray(values) for name, values in data.items()}
        return iter([Batch(feeds, _rows(feeds), None)]), _rows(feeds), "the given feeds"
    dataset = load_feeds(data, signature)
    count = len(dataset) if samples is None else min(samples, len(dataset))
    return dataset.batches(samples), count, str(data)


def _rows(feeds: Mapping[str, np.ndarray]) -> int:
    """Samples in one set of feeds."""
    return max((len(values) for values in feeds.values() if values.ndim), default=1)


def _closed(signature: Signature, boundaries: Sequence[Boundary]) -> Signature:
    """The source's inputs, with dimensions that it leaves open as the artifacts fix them."""
    specs = []
    for spec in signature.inputs:
        shape = list(spec.shape)
        for boundary in boundaries:
            fixed = boundary.source_shape(spec.name)
            shape = [b if isinstance(a, str) and isinstance(b, int) else a for a, b in zip(shape, fixed, strict=True)]
        specs.append(TensorSpec(spec.name, spec.dtype, tuple(shape)))
    return Signature(tuple(specs), signature.outputs)


def _source_runner(
    source: str | Path | None, tracks: Sequence[_Track], threads: int, timeout: float, notes: list[str]
) -> Runner:
    from edgecc.registry import default_registry

    path = Path(source) if source is not None else recorded_source([t.runner.artifact for t in tracks], notes)
    if path.suffix not in (".onnx", ".ort"):
        raise InvalidModelError(
            f"{path} cannot be run as the source",
            why="ONNX Runtime runs .onnx files",
            hint="name an .onnx file with --source",
        )
    backend = default_registry().backend("onnxruntime")
    # Node by node: ONNX Runtime's own fusions (integer kernels for Q/DQ among them) are not what the source says.
    return Runner(path, backend, threads=threads, options={"optimize": "none"}, timeout=timeout)


def recorded_source(artifacts: Sequence[Path], notes: list[str]) -> Path:
    """The source that the reports beside the artifacts name; a note is added if it has changed since.

    It lies where it lay seen from the artifact, or where it was when the artifact was compiled.

    Raises:
        RequestError: no report names one that is still there.
    """
    reason = ""
    for artifact in artifacts:
        check_readable(artifact)
        report = Artifact.open(artifact).report
        if report.get("model_sha256"):
            reason = f"{artifact.name} was compiled from a model in memory"
            continue
        name = report.get("recipe", {}).get("source", "")
        if not name:
            continue
        moved = source_files(report, artifact)
        here = [Path(name), *(file.resolve() for file in moved[1:])]
        found = [files for files in (moved, here) if files and all(file.is_file() for file in files)]
        unchanged = [files for files in found if sha256_of(files) == report.get("source_sha256")]
        if unchanged:
            return unchanged[0][0]
        if found:
            notes.append(f"{found[0][0]} has changed since {artifact.name} was compiled from it")
            return found[0][0]
        reason = f"{artifact.name} was compiled from {name}, which is not there"
    raise InvalidModelError("the source to compare with is not known", why=reason, hint="name it: --source MODEL.onnx")


def _comparison(track: _Track, notes: Sequence[str]) -> Comparison:
    name, target = str(track.runner.artifact), track.runner.backend.name
    all_notes = (*track.boundary.notes, *notes)
    if track.error:
        return Comparison(name, target, notes=all_notes, error=track.error, unavailable=track.unavailable)
    figures = {output: meter.result() for output, meter in track.meters.items()}
    return Comparison(name, target, figures, track.accuracy.result(), all_notes)
