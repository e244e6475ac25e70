"""Time and memory of compiling, against the import of what compiling is built on.

Run it with `python -m benchmarks.compile_time [process|warm|chains|memory ...]`.
"""

from __future__ import annotations

import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnx
from rich.table import Table

import edgecc
from benchmarks.measuring import (
    Clock,
    edgecc_command,
    in_turns,
    machine,
    peak_memory,
    python,
    seconds,
    show,
    show_times,
)
from benchmarks.models import convolution_chain, elementwise_chain, mobilenet_v2

TARGETS = {"tflite": ".tflite", "onnxruntime": ".onnx", "tensorrt": ".engine"}
PEER = "import onnx, onnx_graphsurgeon, onnxruntime, ai_edge_litert.schema_py_generated"
MIB = 1 << 20


def process(folder: Path) -> None:
    """`edgecc compile` of MobileNetV2 as a user waits for it."""
    source = save(folder, mobilenet_v2(width=1.0, size=224, classes=1000))
    commands = {PEER: python(PEER)}
    for target, suffix in TARGETS.items():
        output = str(folder / f"out{suffix}")
        commands[f"edgecc compile --target {target}"] = edgecc_command(
            "compile", source, "--target", target, "-o", output
        )
    goals = {"edgecc compile --target tflite": 2.0}
    title = f"MobileNetV2, {Path(source).stat().st_size / 1e6:.1f} MB ({machine()})"
    show_times(title, in_turns(commands, rounds=9), PEER, goals)


def warm(folder: Path) -> None:
    """The same inside a process that has compiled before."""
    source = save(folder, mobilenet_v2(width=1.0, size=224, classes=1000))
    table = Table("target", "first", "median of 9 more", "goal", title=f"MobileNetV2 in one process ({machine()})")
    for target, suffix in TARGETS.items():
        output = folder / f"out{suffix}"
        first, *more = (compile_seconds(source, target, output) for _ in range(10))
        goal = "under 0.400 s" if target == "tflite" else ""
        table.add_row(target, f"{first:.3f} s", f"{statistics.median(more):.3f} s", goal)
    show(table)


def chains(folder: Path) -> None:
    """Time per node must not grow with the number of nodes.

    Python's garbage collector walks all nodes again and again: the command switches it off, a program may not.
    """
    makers: dict[str, Callable[[int], onnx.ModelProto]] = {
        "Add, Tanh": elementwise_chain,
        "Conv, BatchNormalization, Relu, Add": convolution_chain,
    }
    edgecc.compile(save(folder, elementwise_chain(8)), target="tflite", output=folder / "out.tflite")
    columns = ("chain of", "nodes", "target", "CPU per node", "against 1k", "with collector", "against 1k")
    table = Table(*columns, title=f"Chains ({machine()})")
    for name, make in makers.items():
        sources = {nodes: save(folder, make(nodes), f"{nodes}") for nodes in (1000, 4000, 16000)}
        for target in ("tflite", "onnxruntime"):
            first: list[float] = []
            for nodes, source in sources.items():
                per_node = [cpu_seconds(source, target, folder, collect) / nodes for collect in (False, True)]
                first = first or per_node
                pairs = [
                    (f"{taken * 1e6:.0f} us", f"{taken / one:.2f}") for taken, one in zip(per_node, first, strict=True)
                ]
                table.add_row(name, str(nodes), target, *pairs[0], *pairs[1])
    show(table)


def cpu_seconds(source: str, target: str, folder: Path, collect: bool) -> float:
    """The least of three compilations."""
    if not collect:
        gc.disable()
    try:
        output = folder / f"out{TARGETS[target]}"
        return min(compile_seconds(source, target, output, time.process_time) for _ in range(3))
    finally:
        gc.enable()
        gc.collect()


def memory(folder: Path) -> None:
    """Peak of the whole process against four times the model's bytes and 250 MB."""
    table = Table("model", "MB", "target", "peak MiB", "bound MiB", "of bound", title=f"Peak memory ({machine()})")
    for width in (1.0, 2.0, 4.0):
        source = save(folder, mobilenet_v2(width=width, size=64, classes=1000), f"{width}")
        nbytes = Path(source).stat().st_size
        for target, suffix in TARGETS.items():
            peak = peak_memory("compile", source, "--target", target, "-o", str(folder / f"out{suffix}"))
            bound = 4 * nbytes + 250e6
            row = (f"{nbytes / 1e6:.0f}", target, f"{peak / MIB:.0f}", f"{bound / MIB:.0f}", f"{peak / bound:.2f}")
            table.add_row(f"MobileNetV2 {width:g}x", *row)
    show(table)


def compile_seconds(source: str, target: str, output: Path, clock: Clock = time.perf_counter) -> float:
    return seconds(lambda: edgecc.compile(source, target=target, output=output), clock)


def save(folder: Path, model: onnx.ModelProto, name: str = "model") -> str:
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    return str(path)


PARTS = {"process": process, "warm": warm, "chains": chains, "memory": memory}


def main() -> None:
    for name in sys.argv[1:] or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            PARTS[name](Path(folder))


if __name__ == "__main__":
    main()
