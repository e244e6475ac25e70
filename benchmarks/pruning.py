"""Accuracy without labels or training: `prune-channels` on the CIFAR-10 networks, against channels chosen by magnitude.

Run it with `python -m benchmarks.pruning [resnet8|large ...]`; it needs ../shared/data. 512 unlabelled images are what
passes see; accuracy is that on the 2,000 test images, whose standard error is about 0.6 points for a difference.
`python -m benchmarks.pruning latency` measures time instead (`benchmarks/smaller_latency.py`).
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

import edgecc
from benchmarks.measuring import show
from benchmarks.smaller_latency import PRUNING, latency
from edgecc.inspection import inspect_model

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
NETWORKS = {"resnet8": "pretrainedResnet.onnx", "large": "pretrainedResnet_large_float.onnx"}
FACTORS = {"resnet8": (1.3, 1.5), "large": (1.3, 1.5, 2.0)}
#: Each way to prune, as the options behind the budget.
WAYS = {
    "magnitude, no repair": "criterion=magnitude,repair=false",
    "magnitude + repair": "criterion=magnitude",
    "obs + repair (default)": "",
}
SAMPLES = 512
#: Behind those: edgecc says on them what was lost, and all of the others are for passes.
HELD_OUT = 64
#: Runs of the test images at once.
BATCH = 200


@dataclass(frozen=True)
class Network:
    """A network and what it says about the test images.

    Attributes:
        path: of the ONNX file.
        images, labels: of the test.
        classes: that the source says.
        macs: of the source.
    """

    path: Path
    images: np.ndarray
    labels: np.ndarray
    classes: np.ndarray
    macs: int


def classes_of(path: Path, images: np.ndarray) -> np.ndarray:
    """What a compiled model says about each image."""
    with edgecc.runner(path) as runner:
        name = runner.signature.inputs[0].name
        found = [
            next(iter(runner.infer({name: images[start : start + BATCH]}).values())).argmax(axis=1)
            for start in range(0, len(images), BATCH)
        ]
    return np.concatenate(found)


def opened(name: str, folder: Path) -> Network:
    with np.load(DATA / "cifar10_test2000.npz") as test:
        images, labels = test["x"].astype(np.float32), test["y"]
    path = DATA / "mlperf_tiny" / NETWORKS[name]
    source = edgecc.compile(path, "onnxruntime", folder / "source.onnx")
    return Network(path, images, labels, classes_of(source.path, images), inspect_model(source.model).macs)


def measured(network: Network, factor: float, options: str, folder: Path) -> list[str]:
    """One row: what is left, and what it costs."""
    with np.load(DATA / "cifar10_train4000_unlabelled.npz") as train:
        images, apart = np.split(train["x"][: SAMPLES + HELD_OUT].astype(np.float32), [SAMPLES])
    name = edgecc.load(network.path).signature.inputs[0].name
    step = f"prune-channels:macs={1 / factor:.6f}{',' + options if options else ''}"
    output = folder / "pruned.onnx"
    data, held_out = {name: images}, {name: apart}
    result = edgecc.compile(network.path, "onnxruntime", output, passes=[step], calibration=data, held_out=held_out)
    found = classes_of(result.path, network.images)
    drop = 100 * float((network.classes == network.labels).mean() - (found == network.labels).mean())
    agreement = 100 * float((found == network.classes).mean())
    saved = network.macs / inspect_model(result.model).macs
    return [f"{saved:.2f}x", f"{drop:.2f}", f"{agreement:.1f} %", f"{result.path.stat().st_size:,}"]


def main() -> None:
    if sys.argv[1:2] == ["latency"]:
        latency(sys.argv[2:], PRUNING)
        return
    table = Table("network", "way", "fewer MACs", "drop in points", "agreement", "bytes", title="pruning")
    for name in sys.argv[1:] or NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            network = opened(name, Path(folder))
            for factor in FACTORS[name]:
                for way, options in WAYS.items():
                    table.add_row(name, way, *measured(network, factor, options, Path(folder)))
    show(table)


if __name__ == "__main__":
    main()
