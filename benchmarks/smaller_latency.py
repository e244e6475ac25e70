"""What fewer multiply-accumulates and bytes are in time: artifacts against their source, in turns, on both runtimes.

    python -m benchmarks.pruning latency [large|resnet50|mobilenet_v2|FILE.onnx ...]
    python -m benchmarks.low_rank latency [the same]

`large` is the larger ResNet of MLPerf Tiny (../shared/data), with units chosen from its calibration images; the others
have random weights, which make no difference to time, and lose units by magnitude. Times are of one sample and one
thread, the least of all runs: on a busy machine the least is steady to a hundredth for runs of a few milliseconds,
where medians are anything; those are printed beside it. Larger networks want a quiet machine. The goal is that of half
the multiply-accumulates: at most 0.65 of the time.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from rich.table import Table

import edgecc
from benchmarks.measuring import machine, show
from benchmarks.models import mobilenet_v2, resnet50
from edgecc.inspection import inspect_model
from edgecc.measuring.benchmark import benchmark
from edgecc.measuring.racing import least_ratio

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
LARGE = DATA / "mlperf_tiny" / "pretrainedResnet_large_float.onnx"
MODELS: Mapping[str, Callable[[], onnx.ModelProto]] = {
    "resnet50": lambda: resnet50(width=1.0, size=224, classes=1000),
    "mobilenet_v2": lambda: mobilenet_v2(width=1.0, size=224, classes=1000),
}
#: Images that units of the larger ResNet are chosen from; samples of random values for the others' ranks.
SAMPLES, RANDOM = 128, 4
#: At half of the multiply-accumulates.
GOAL = 0.65
TARGETS = {"onnxruntime": ".onnx", "tflite": ".tflite"}


@dataclass(frozen=True)
class Way:
    """A pass that makes models smaller.

    Attributes:
        text: its name in the table.
        trained: options of the pass where units are chosen from data.
        random: likewise for random weights.
    """

    text: str
    trained: str
    random: str


PRUNING = (
    Way("prune-channels, 1.5x", "prune-channels:macs=0.6667,repair=false", "prune-channels:macs=0.6667,{by}"),
    Way("prune-channels, 2x", "prune-channels:macs=0.5,repair=false", "prune-channels:macs=0.5,{by}"),
    Way(
        "2x, any number of channels",
        "prune-channels:macs=0.5,repair=false,multiple=1",
        "prune-channels:macs=0.5,{by},multiple=1",
    ),
    Way(
        "2x, multiples of 8",
        "prune-channels:macs=0.5,repair=false,multiple=8",
        "prune-channels:macs=0.5,{by},multiple=8",
    ),
)
LOW_RANK = (
    Way(
        "factorize-low-rank, 1.5x", "factorize-low-rank:macs=0.6667,epochs=0", "factorize-low-rank:macs=0.6667,epochs=0"
    ),
    Way("factorize-low-rank, 2x", "factorize-low-rank:macs=0.5,epochs=0", "factorize-low-rank:macs=0.5,epochs=0"),
)
_MAGNITUDE = "criterion=magnitude,repair=false"


def latency(names: Sequence[str], ways: Sequence[Way]) -> None:
    """Print a table."""
    columns = ("network", "way", "MACs left", "bytes left", *(f"{name}: time left" for name in TARGETS), "medians")
    table = Table(*columns, title=f"of one sample, one thread, in turns with the source ({machine()})")
    for name in names or ("large", *MODELS):
        with tempfile.TemporaryDirectory() as folder:
            for row in _rows(name, ways, Path(folder)):
                table.add_row(Path(name).name, *row)
                # The large ones take minutes.
                print(Path(name).name, *row, sep=" | ", file=sys.stderr)
    show(table)


def _rows(name: str, ways: Sequence[Way], folder: Path) -> Iterator[list[str]]:
    source: Path | onnx.ModelProto = LARGE if name == "large" else MODELS[name]() if name in MODELS else Path(name)
    spec = edgecc.load(source).signature.inputs[0]
    # Sizes that are open are one sample, and whatever the file says.
    fixed = (1, *(size if isinstance(size, int) else 1 for size in spec.shape[1:]))
    shapes = {spec.name: fixed}
    calibration: np.ndarray | str = "random"
    samples: int | None = RANDOM
    if name == "large":
        with np.load(DATA / "cifar10_train4000_unlabelled.npz") as train:
            calibration, samples = train["x"][:SAMPLES].astype(np.float32), None

    def compiled(stem: str, passes: Sequence[str]) -> dict[str, edgecc.CompileResult]:
        """For both targets; what passes made is used twice."""
        data = calibration if passes else None
        first = edgecc.compile(
            *(source, "onnxruntime", folder / f"{stem}.onnx"),
            passes=passes,
            shapes=shapes,
            calibration=data,
            samples=samples,
            measure=False,
        )
        return {
            "onnxruntime": first,
            "tflite": edgecc.compile(first.model, "tflite", folder / f"{stem}.tflite"),
        }

    whole = compiled("source", ())
    for way in ways:
        step = way.trained if name == "large" else way.random.format(by=_MAGNITUDE)
        yield [way.text, *_compared(whole, compiled("smaller", (step,)))]


def _compared(whole: Mapping[str, edgecc.CompileResult], smaller: Mapping[str, edgecc.CompileResult]) -> list[str]:
    """Shares of multiply-accumulates, of bytes, and of time on each target."""
    first, second = next(iter(whole.values())), next(iter(smaller.values()))
    work = inspect_model(second.model).macs / inspect_model(first.model).macs
    bytes_left = [smaller[target].artifact.nbytes / whole[target].artifact.nbytes for target in TARGETS]
    cells = [f"{work:.3f}", " / ".join(f"{share:.2f}" for share in bytes_left)]
    medians = []
    for target in TARGETS:
        paths = [whole[target].path, smaller[target].path]
        results = benchmark(paths, iterations=400, rounds=20, max_seconds=8)
        if results[0].error or results[1].error or results[1].ratio is None:
            cells.append(results[0].error or results[1].error)
            continue
        share = least_ratio(results[0], results[1])
        verdict = "" if work > 0.51 else " reached" if share <= GOAL else f" MISSED {GOAL}"
        cells.append(f"{share:.2f}{verdict}")
        medians.append(str(results[1].ratio))
    return [*cells, " / ".join(medians)]
