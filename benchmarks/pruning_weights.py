"""What `prune-weights` costs in accuracy on the CIFAR-10 networks, and what the files compress to.

Run it with `python -m benchmarks.pruning_weights [resnet8|large|keywords ...]`; it needs ../shared/data. The pass sees
512 unlabelled images; accuracy is that on the 2,000 test images, whose standard error is about 0.6 points for a
difference.
"""

from __future__ import annotations

import sys
import tempfile
import zlib
from pathlib import Path

from rich.table import Table

import edgecc
from benchmarks.compression import NETWORKS, Network, classes_of, opened
from benchmarks.measuring import show

WAYS = (
    "sparsity=0.5",
    "sparsity=0.7,criterion=magnitude,allocation=uniform,repair=false",
    "sparsity=0.7,criterion=magnitude",
    "sparsity=0.7,allocation=uniform",
    "sparsity=0.7",
    "sparsity=0.8",
    "pattern=2:4,criterion=magnitude,repair=false",
    "pattern=2:4",
)


def measured(network: Network, options: str, folder: Path) -> list[str]:
    """One row: the drop in points, agreement with the source, and bytes as they are and compressed."""
    step = f"prune-weights:{options}"
    result = edgecc.compile(
        network.path, "onnxruntime", folder / "sparse.onnx", passes=[step], calibration=network.calibration
    )
    found = classes_of(result.path, network.images)
    drop = 100 * float((network.classes == network.labels).mean() - (found == network.labels).mean())
    agreement = 100 * float((found == network.classes).mean())
    stored = result.path.read_bytes()
    return [f"{drop:.2f}", f"{agreement:.1f} %", f"{len(stored):,}", f"{len(zlib.compress(stored, 9)):,}"]


def main() -> None:
    table = Table("network", "prune-weights", "drop in points", "agreement", "bytes", "compressed (zlib)")
    for name in sys.argv[1:] or NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            network = opened(name, Path(folder))
            source = (Path(folder) / "source.onnx").read_bytes()
            table.add_row(name, "", "", "", f"{len(source):,}", f"{len(zlib.compress(source, 9)):,}")
            for options in WAYS:
                table.add_row(name, options, *measured(network, options, Path(folder)))
    show(table)


if __name__ == "__main__":
    main()
