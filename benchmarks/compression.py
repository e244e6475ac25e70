"""Networks with real data that passes make smaller, what that costs and saves, and curves of both."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import edgecc
from edgecc.inspection import inspect_model
from edgecc.measuring.benchmark import Ratio, benchmark

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
NETWORKS = {
    "resnet8": "pretrainedResnet.onnx",
    "large": "pretrainedResnet_large_float.onnx",
    "keywords": "kws_float.onnx",
}
#: Unlabelled images that passes see, and those behind them, on which edgecc says what was lost.
SAMPLES, HELD_OUT = 512, 64
#: Of recordings, the latter.
_RECORDINGS_APART = 32
#: Runs of the test inputs at once.
BATCH = 200


@dataclass(frozen=True)
class Network:
    """A network and what it says about the test inputs.

    Attributes:
        path: of the ONNX file.
        calibration: unlabelled inputs that passes see.
        held_out: others, on which edgecc says what was lost.
        images, labels: of the test.
        classes: that the source says.
        macs: of the source.
    """

    path: Path
    calibration: np.ndarray
    held_out: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    classes: np.ndarray
    macs: int


@dataclass(frozen=True)
class Outcome:
    """What passes made of a network.

    Attributes:
        fewer: how many times fewer multiply-accumulates.
        size: bytes of the ONNX file.
        bytes: the same relative to the source.
        times: of one input relative to the source, by target; empty where it was not measured.
        drop: in points of accuracy on the test.
        agreement: share of the test on which the classes are the source's.
    """

    fewer: float
    size: int
    bytes: float
    times: Mapping[str, Ratio]
    drop: float
    agreement: float


def classes_of(path: Path, images: np.ndarray) -> np.ndarray:
    """What a compiled model says about each input."""
    with edgecc.runner(path) as runner:
        name = runner.signature.inputs[0].name
        found = [
            next(iter(runner.infer({name: images[start : start + BATCH]}).values())).argmax(axis=1)
            for start in range(0, len(images), BATCH)
        ]
    return np.concatenate(found)


def opened(name: str, folder: Path) -> Network:
    """One of the networks; the compiled source is left in the folder."""
    if name == "keywords":
        files, apart, most = ("kws_calib200.npz", "kws_test400.npz"), _RECORDINGS_APART, None
    else:
        files, apart, most = ("cifar10_train4000_unlabelled.npz", "cifar10_test2000.npz"), HELD_OUT, SAMPLES + HELD_OUT
    with np.load(DATA / files[0]) as train, np.load(DATA / files[1]) as test:
        calibration, held_out = np.split(train["x"][:most].astype(np.float32), [-apart])
        images, labels = test["x"].astype(np.float32), test["y"]
    path = DATA / "mlperf_tiny" / NETWORKS[name]
    source = edgecc.compile(path, "onnxruntime", folder / "source.onnx")
    classes = classes_of(source.path, images)
    return Network(path, calibration, held_out, images, labels, classes, inspect_model(source.model).macs)


def smaller(network: Network, passes: Sequence[str], folder: Path, latency: bool) -> Outcome:
    """Run passes on a network and measure what is left.

    Args:
        network: opened in the folder.
        passes: as `edgecc.compile` takes them.
        folder: for files.
        latency: whether to take times.
    """
    source, output = folder / "source.onnx", folder / "smaller.onnx"
    data, apart = network.calibration, network.held_out
    result = edgecc.compile(network.path, "onnxruntime", output, passes=list(passes), calibration=data, held_out=apart)
    found = classes_of(result.path, network.images)
    size = output.stat().st_size
    return Outcome(
        network.macs / inspect_model(result.model).macs,
        size,
        size / source.stat().st_size,
        _times(source, output, network.images[0], folder) if latency else {},
        100 * float((network.classes == network.labels).mean() - (found == network.labels).mean()),
        100 * float((found == network.classes).mean()),
    )


def _times(source: Path, output: Path, image: np.ndarray, folder: Path) -> dict[str, Ratio]:
    """Of one input, relative to the source, on both runtimes, in turns."""
    found = {}
    for target, suffix in (("onnxruntime", ".onnx"), ("tflite", ".tflite")):
        files = []
        for path in (source, output):
            name = edgecc.load(path).signature.inputs[0].name
            fixed = folder / f"{path.stem}.one{suffix}"
            files.append(edgecc.compile(path, target, fixed, shapes={name: (1, *image.shape)}).path)
        results = benchmark(list(files), iterations=400, rounds=20)
        if results[1].ratio is None:
            sys.exit(f"{target}: {results[1].error}")
        found[target] = results[1].ratio
    return found


def columns(latency: bool) -> list[str]:
    """Titles of what `row` shows."""
    shown = ["fewer MACs", "drop", "may drop", "agreement", "bytes", "of source"]
    return [*shown, "ONNX Runtime", "TFLite"] if latency else shown


def row(outcome: Outcome, goal: float | None) -> list[str]:
    """An outcome in a table, with the most points that may be lost."""
    verdict = "" if goal is None else f"{goal} {'reached' if outcome.drop <= goal else 'MISSED'}"
    return [
        f"{outcome.fewer:.2f}x",
        f"{outcome.drop:.2f}",
        verdict,
        f"{outcome.agreement:.1f} %",
        f"{outcome.size:,}",
        f"{outcome.bytes:.2f}",
        *(str(ratio) for ratio in outcome.times.values()),
    ]


def draw(curves: Mapping[str, Sequence[Outcome]], title: str, path: Path) -> None:
    """Points lost against what is left of multiply-accumulates, bytes and, where it was measured, time, as a PNG.

    Args:
        curves: outcomes by what was done.
        title: above the panels.
        path: of the picture; without Matplotlib, a line says how to get one.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        print(f"no {path}: pip install matplotlib", file=sys.stderr)
        return
    measures: dict[str, Callable[[Outcome], float]] = {
        "multiply-accumulates": lambda outcome: 1 / outcome.fewer,
        "bytes of the ONNX file": lambda outcome: outcome.bytes,
    }
    if all(outcome.times for outcomes in curves.values() for outcome in outcomes):
        measures["time, ONNX Runtime"] = lambda outcome: outcome.times["onnxruntime"].median
        measures["time, TFLite"] = lambda outcome: outcome.times["tflite"].median
    figure = Figure(figsize=(4 * len(measures), 3.6), layout="constrained")
    for panel, (measure, share) in zip(figure.subplots(1, len(measures), sharey=True), measures.items(), strict=True):
        for label, outcomes in curves.items():
            points = sorted((share(outcome), outcome.drop) for outcome in outcomes)
            panel.plot(*zip(*points, strict=True), marker="o", label=label)
        panel.set_xlabel(f"{measure}, share of the source's")
        panel.grid(alpha=0.3)
    figure.axes[0].set_ylabel("points of accuracy lost")
    figure.axes[0].legend()
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    print(f"wrote {path}")


def folder_of(arguments: Sequence[str]) -> Path | None:
    """Where `--curves=FOLDER` wants pictures."""
    given = [argument.partition("=")[2] for argument in arguments if argument.startswith("--curves=")]
    return Path(given[-1]) if given else None
