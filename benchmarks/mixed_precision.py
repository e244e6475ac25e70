"""mixed-precision: accuracy at the outputs against the share of the work in int8, on samples held out from all choices.

Run it with `python -m benchmarks.mixed_precision [MODEL.onnx ...]`; without models, the MLPerf Tiny ones, which needs
../shared/data. Models that are given get random inputs. The peer is what is done by hand: the first and the last layer
stay float.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.markup import escape
from rich.table import Table

import edgecc
from benchmarks.measuring import show
from benchmarks.quantization_tasks import TASKS

#: dB that are asked for.
BUDGETS = (30, 35, 40, 45, 50)
_OPTIONS = "precisions=[int8,float32]"


def cases(paths: list[str]) -> Iterator[tuple[str, Path, np.ndarray, str]]:
    if not paths:
        for name, task in TASKS.items():
            yield name, task.source, task.inputs().calibration, ""
    for path in map(Path, paths):
        spec = edgecc.load(path).signature.inputs[0]
        shape = [32, *(dim if isinstance(dim, int) else 1 for dim in spec.shape[1:])]
        # Of large models, fewer samples: each layer is tried on them.
        yield path.stem, path, np.random.default_rng(0).standard_normal(shape).astype(np.float32), ",trials=2,checks=8"


def main() -> None:
    table = Table("model", "passes", "SQNR held out", "int8 MACs", "bytes", "seconds", title="mixed-precision, TFLite")
    with tempfile.TemporaryDirectory() as folder:
        for name, source, samples, more in cases(sys.argv[1:]):
            mixed = [f"mixed-precision:sqnr={budget},{_OPTIONS}{more}" for budget in BUDGETS]
            for step in ("quantize-static", "quantize-static:keep_first=true,keep_last=true", *mixed):
                start = time.perf_counter()
                result = edgecc.compile(source, "tflite", Path(folder) / "m.tflite", passes=step, calibration=samples)
                seconds, size = f"{time.perf_counter() - start:.1f}", f"{result.path.stat().st_size:,}"
                last = result.losses.kept if result.losses is not None else None
                if result.losses is None or last is None or result.losses.quantization is None:
                    table.add_row(name, escape(step), "all float", "0 %", size, seconds)
                    continue
                found = min(output.sqnr_db for output in last.outputs.values())
                share = f"{100 * result.losses.quantization.integer_macs:.0f} %"
                table.add_row(name, escape(step), f"{found:.1f} dB", share, size, seconds)
    show(table)


if __name__ == "__main__":
    main()
