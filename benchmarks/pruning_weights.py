"""What `prune-weights` and `prune-layers` cost in accuracy on the CIFAR-10 networks, and what files become smaller.

Run it with `python -m benchmarks.pruning_weights [resnet8|large|keywords|tflite ...]`; it needs ../shared/data. Passes
see 512 unlabelled images or 168 recordings; accuracy is that on the 2,000 test images (400 recordings), whose standard
error is about 0.6 points for a difference (1 point).
"""

from __future__ import annotations

import sys
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

import edgecc
from benchmarks.compression import DATA, NETWORKS, Network, classes_of, opened
from benchmarks.measuring import machine, show
from edgecc.measuring.benchmark import benchmark

WAYS = (
    "prune-weights:sparsity=0.5",
    "prune-weights:sparsity=0.7,criterion=magnitude,allocation=uniform,repair=false",
    "prune-weights:sparsity=0.7,criterion=magnitude",
    "prune-weights:sparsity=0.7,allocation=uniform",
    "prune-weights:sparsity=0.7",
    "prune-weights:sparsity=0.8",
    "prune-weights:pattern=2:4,criterion=magnitude,repair=false",
    "prune-weights:pattern=2:4",
    "prune-layers:blocks=1,repair=false",
    "prune-layers:blocks=1",
)


def measured(network: Network, step: str, folder: Path) -> list[str]:
    """One row: the drop in points, agreement with the source, and bytes as they are and compressed."""
    output, data = folder / "sparse.onnx", network.calibration
    result = edgecc.compile(
        network.path, "onnxruntime", output, passes=[step], calibration=data, held_out=network.held_out
    )
    found = classes_of(result.path, network.images)
    drop = 100 * float((network.classes == network.labels).mean() - (found == network.labels).mean())
    agreement = 100 * float((found == network.classes).mean())
    stored = result.path.read_bytes()
    return [f"{drop:.2f}", f"{agreement:.1f} %", f"{len(stored):,}", f"{len(zlib.compress(stored, 9)):,}"]


def networks(names: Sequence[str]) -> None:
    """Accuracy, and what files compress to."""
    table = Table("network", "pass", "drop in points", "agreement", "bytes", "compressed (zlib)")
    for name in names or NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            network = opened(name, Path(folder))
            source = (Path(folder) / "source.onnx").read_bytes()
            table.add_row(name, "", "", "", f"{len(source):,}", f"{len(zlib.compress(source, 9)):,}")
            for step in WAYS:
                table.add_row(name, step, *measured(network, step, Path(folder)))
    show(table)


def tflite() -> None:
    """Weights stored without their zeros: bytes and time against the same weights stored whole, interleaved."""
    table = Table("zeros", "bytes", "without zeros", "share", "time", title=f"vww_96 (MobileNetV1 0.25); {machine()}")
    for zeros in (0.5, 0.7, 0.9):
        step = f"prune-weights:sparsity={zeros},criterion=magnitude,allocation=uniform,repair=false"
        with tempfile.TemporaryDirectory() as folder:
            paths = []
            for target in ("tflite", "tflite:sparse=true"):
                path = Path(folder) / f"{len(paths)}.tflite"
                source = DATA / "mlperf_tiny" / "vww_96_float.onnx"
                name = edgecc.load(source).signature.inputs[0].name
                paths.append(edgecc.compile(source, target, path, passes=[step], shapes={name: (1, 96, 96, 3)}).path)
            results = benchmark(list(paths), iterations=400, rounds=20)
            whole, sparse = (path.stat().st_size for path in paths)
        ratio = str(results[1].ratio) if results[1].ratio is not None else results[1].error
        table.add_row(f"{zeros:.0%}", f"{whole:,}", f"{sparse:,}", f"{sparse / whole:.2f}", ratio)
    show(table)


def main() -> None:
    names = [name for name in sys.argv[1:] if name != "tflite"]
    if names or len(sys.argv) == 1:
        networks(names)
    if len(sys.argv) == 1 or "tflite" in sys.argv[1:]:
        tflite()


if __name__ == "__main__":
    main()
