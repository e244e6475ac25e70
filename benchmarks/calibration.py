"""Time and memory of calibration, against ONNX Runtime's own calibrators; each in a process of its own.

Run it with `python -m benchmarks.calibration [time|memory|order ...] [--model M.onnx --data D.npz]`; without a model,
MobileNetV2 at 64 x 64 on random images. ONNX Runtime's percentile calibrator keeps every activation of every sample:
some 7 GB for 1,024 of those images.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from rich.table import Table

from benchmarks.measuring import ROOT, machine, show
from benchmarks.models import mobilenet_v2

MIB = 1 << 20
FEW, MANY = 64, 1024
#: What one process does; it prints seconds of calibrating (without imports) and its own peak as JSON.
_CHILD = """
import json, sys, time
tool, model, data, samples, seed = sys.argv[1:]
from benchmarks.calibration import calibrators
action = calibrators()[tool]
start, cpu = time.perf_counter(), time.process_time()
digest = action(model, data, int(samples), int(seed))
seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
lines = open("/proc/self/status").read().splitlines()
peak = int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
print(json.dumps({"seconds": seconds, "cpu": cpu, "peak": peak * 1024, "digest": digest}))
"""


def calibrators() -> dict[str, object]:
    return {
        "edgecc min-max": lambda *given: edgecc("min-max", *given),
        "edgecc mse": lambda *given: edgecc("mse", *given),
        "onnxruntime min-max": lambda *given: onnxruntime("MinMax", *given),
        "onnxruntime percentile": lambda *given: onnxruntime("Percentile", *given),
        "imports": lambda *given: imports(),
    }


def imports() -> str:
    """What every process needs before it has read anything."""
    import onnxruntime.quantization.calibrate

    import edgecc.statistics.sweep

    return onnxruntime.quantization.calibrate.__name__ + edgecc.statistics.sweep.__name__


def edgecc(method: str, model: str, data: str, samples: int, seed: int) -> str:
    """All computed tensors; a seed other than 0 shuffles the samples and changes the groups of tensors."""
    import hashlib

    from edgecc.api import load
    from edgecc.data.feeds import load_feeds
    from edgecc.data.sources import ArraySource
    from edgecc.quantization.ranges import choose_range, request_for
    from edgecc.statistics.sweep import MEMORY, sweep
    from edgecc.statistics.table_json import to_text

    network = load(model)
    dataset = load_feeds(data, network.signature)
    source = ArraySource(dataset, samples)
    memory = MEMORY
    if seed:
        order = np.random.default_rng(seed).permutation(samples)
        arrays = {name: np.asarray(values)[order] for name, values in dataset.arrays.items()}
        source, memory = ArraySource.of(arrays, network.signature, data, samples), MEMORY // (8 * seed)
    names = [tensor.name for tensor in observed(network)]
    table = sweep(network, [request_for(method, name) for name in names], source, memory=memory)
    ask = table.range if method == "min-max" else table.histogram
    ranges = [choose_range(method, ask(name)) for name in names]
    return hashlib.sha256((to_text(table) + repr(ranges)).encode()).hexdigest()


def observed(network: object) -> list[object]:
    """Float tensors that nodes compute, and the inputs: what ONNX Runtime's calibrators watch too."""
    tensors = [tensor for tensor in network.tensors() if tensor.dtype == np.float32]
    return [tensor for tensor in tensors if getattr(tensor, "values", None) is None]


def onnxruntime(method: str, model: str, data: str, samples: int, seed: int) -> str:
    from onnxruntime.quantization.calibrate import CalibrationDataReader, CalibrationMethod, create_calibrator

    from edgecc.data.npz import read_npz, read_rows

    arrays = read_npz(Path(data))
    inputs = [info.name for info in onnx.load(model, load_external_data=False).graph.input]

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.index = 0

        def get_next(self) -> dict[str, np.ndarray] | None:
            self.index += 1
            if self.index > samples:
                return None
            return {name: read_rows(arrays[name], self.index - 1, self.index) for name in inputs}

    with tempfile.TemporaryDirectory() as folder:
        calibrator = create_calibrator(
            model, None, str(Path(folder) / "augmented.onnx"), calibrate_method=CalibrationMethod[method]
        )
        calibrator.collect_data(Reader())
        return str(len(calibrator.compute_data().data))


# ------------------------------------------------------------------------------------------------------- the processes


def calibrate(tool: str, model: str, data: str, samples: int, seed: int = 0) -> dict[str, float]:
    command = [sys.executable, "-c", _CHILD, tool, model, data, str(samples), str(seed)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if finished.returncode:
        sys.exit(f"{tool}, {samples} samples: {finished.stderr or 'killed'}")
    return json.loads(finished.stdout.splitlines()[-1])


def time(model: str, data: str) -> None:
    """Processes in turns, imports included, on as many samples as make the sweep outlast the start."""
    tools = {"onnxruntime min-max": 256, "edgecc min-max": 256, "edgecc mse": 256, "onnxruntime percentile": FEW}
    taken: dict[str, list[dict[str, float]]] = {tool: [] for tool in tools}
    for _ in range(5):
        for tool, samples in tools.items():
            taken[tool].append(calibrate(tool, model, data, samples))
    peer = taken["onnxruntime min-max"]
    columns = [f"{how} {what}" for what in ("seconds", "cpu") for how in ("median", "fastest", "median ratio", "ratio")]
    table = Table("", "samples", *columns, title=f"Time ({machine()})")
    for tool, samples in tools.items():
        row = []
        for what in ("seconds", "cpu"):
            mine, others = ([run[what] for run in runs] for runs in (taken[tool], peer))
            row += [f"{statistics.median(mine):.2f}", f"{min(mine):.2f}"]
            ratios = [statistics.median(mine) / statistics.median(others), min(mine) / min(others)]
            row += [f"{ratio:.2f}" for ratio in ratios] if samples == 256 else ["", ""]
        table.add_row(tool, str(samples), *row)
    show(table)


def memory(model: str, data: str) -> None:
    """Peaks of whole processes; the goals are at most 20 MB between few and many, and 1/20 of percentile's at many."""
    base = calibrate("imports", model, data, 0)["peak"]
    table = Table("", f"{FEW} samples", f"{MANY} samples", "difference", title=f"Peak memory in MiB ({machine()})")
    table.add_row("imports alone", f"{base / MIB:.0f}", f"{base / MIB:.0f}", "")
    peaks: dict[str, float] = {}
    for tool in ("edgecc min-max", "edgecc mse", "onnxruntime min-max", "onnxruntime percentile"):
        few, many = (calibrate(tool, model, data, samples)["peak"] for samples in (FEW, MANY))
        peaks[tool] = many
        table.add_row(tool, f"{few / MIB:.0f}", f"{many / MIB:.0f}", f"{(many - few) / MIB:.1f}")
    show(table)
    ratio = peaks["onnxruntime percentile"] / peaks["edgecc mse"]
    print(f"percentile's peak at {MANY} samples is {ratio:.1f} times that of edgecc mse")


def order(model: str, data: str) -> None:
    """The same table, bit for bit, for shuffled samples and other groups of tensors."""
    found: Mapping[str, set[str]] = {
        tool: {str(calibrate(tool, model, data, 256, seed)["digest"]) for seed in range(4)}
        for tool in ("edgecc min-max", "edgecc mse")
    }
    for tool, digests in found.items():
        print(f"{tool}: {len(digests)} different table(s) and ranges from 4 orders and groupings of 256 samples")


PARTS = {"time": time, "memory": memory, "order": order}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=list(PARTS), choices=[*PARTS, []])
    parser.add_argument("--model")
    parser.add_argument("--data")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model, data = given.model, given.data
        if not model:
            model, data = str(Path(folder) / "model.onnx"), str(Path(folder) / "data.npz")
            onnx.save(mobilenet_v2(width=1.0, size=64, classes=1000), model)
            images = np.random.default_rng(0).standard_normal((MANY, 3, 64, 64)).astype(np.float32)
            np.savez(data, input=images)
        for part in given.parts or PARTS:
            PARTS[part](model, data)


if __name__ == "__main__":
    main()
