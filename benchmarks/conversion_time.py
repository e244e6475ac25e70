"""`edgecc convert x.tflite x.onnx` as a whole process, against tf2onnx.

Run it with `python -m benchmarks.conversion_time [SOURCE.tflite] [--peer PYTHON]`, where PYTHON is an interpreter with
tf2onnx and TensorFlow; without one the peer is left out. Processor time counts where the machine is busy.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
from pathlib import Path

from rich.table import Table

from benchmarks.measuring import ROOT, edgecc_command, machine, run, seconds, show

#: 1.9 MB.
MODEL = ROOT.parent / "shared" / "data" / "mlperf_tiny" / "pretrainedResnet_large_float.tflite"
ROUNDS, PEER_ROUNDS = 9, 3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path, nargs="?", default=MODEL)
    parser.add_argument("--peer", metavar="PYTHON", help="an interpreter with tf2onnx and TensorFlow")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        output = str(Path(folder) / "out.onnx")
        commands = {"edgecc convert": edgecc_command("convert", str(arguments.source), output)}
        if arguments.peer:
            words = [arguments.peer, "-m", "tf2onnx.convert", "--tflite", str(arguments.source), "--output", output]
            commands["tf2onnx"] = [*words, "--opset", "17"]
        _show(arguments.source, _in_turns(commands))


def _in_turns(commands: dict[str, list[str]]) -> dict[str, list[tuple[float, float]]]:
    """Wall and processor seconds of each process, after one round that is not counted."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for count in range(ROUNDS + 1):
        for name, command in commands.items():
            if name != "edgecc convert" and count > PEER_ROUNDS:
                continue
            before = _processor_seconds()
            wall = seconds(lambda command=command: run(command))
            if count:
                times[name].append((wall, _processor_seconds() - before))
    return times


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _show(source: Path, times: dict[str, list[tuple[float, float]]]) -> None:
    columns = ("process", "median", "fastest", "processor, median", "processor, fastest", "times edgecc's", "goal")
    table = Table(*columns, title=f"{source.name}, {source.stat().st_size / 1e6:.1f} MB ({machine()})")
    own = statistics.median(cpu for _, cpu in times["edgecc convert"])
    for name, taken in times.items():
        walls, cpus = zip(*taken, strict=True)
        middle = statistics.median(cpus)
        shown = (statistics.median(walls), min(walls), middle, min(cpus))
        goal = "under 1 s" if name == "edgecc convert" else ""
        table.add_row(name, *(f"{value:.2f} s" for value in shown), f"{middle / own:.1f}", goal)
    show(table)


if __name__ == "__main__":
    main()
