"""Compile a trained model for three runtimes, measure them on this machine, compare them with the source.

Run it with `python examples/digits/demo.py`; README.md beside it says what the model is.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

import edgecc

HERE = Path(__file__).parent
SOURCE = HERE / "digits.onnx"
TEST_DATA = HERE / "digits.npz"  # 400 images that the model was not trained on, and their labels
ARTIFACTS = {"onnxruntime": "digits.onnx", "tflite": "digits.tflite", "tensorrt": "digits.engine"}


def main() -> None:
    folder = Path("demo-output")
    folder.mkdir(exist_ok=True)

    # 1. Compile: one call per target. Beside each file lies a report of what was done.
    compiled, problems = [], {}
    for target, name in ARTIFACTS.items():
        try:
            compiled.append(edgecc.compile(SOURCE, target=target, output=folder / name).path)
        except edgecc.EdgeccError as error:
            problems[target] = str(error)  # such as a plugin that has no wheel for this platform

    # 2. Benchmark: each artifact runs in a process of its own, and they take turns.
    measured = edgecc.benchmark(compiled, iterations=2000)

    # 3. Compare: the source and every artifact see the same images.
    compared = edgecc.compare(compiled, source=SOURCE, data=TEST_DATA)

    title = f"{SOURCE.name}: {SOURCE.stat().st_size / 1e3:.0f} kB, accuracy {compared.accuracy:.2%}"
    table = Table("target", title=title, box=None, pad_edge=False)
    for column in ("size", "median", "p90", "peak RAM", "SQNR", "max error", "accuracy"):
        table.add_column(column, justify="right", no_wrap=True)
    for speed, fidelity in zip(measured, compared.comparisons, strict=True):
        size = f"{speed.artifact_bytes / 1e3:.0f} kB"
        if problem := speed.error or fidelity.error:
            problems[speed.target] = problem
            table.add_row(speed.target, size, "see below")
            continue
        logits = fidelity.outputs["logits"]
        table.add_row(
            speed.target,
            size,
            f"{speed.median * 1e6:.1f} us",
            f"{speed.p90 * 1e6:.1f} us",
            f"{speed.peak_rss / 1e6:.0f} MB",
            f"{logits.sqnr_db:.0f} dB",
            f"{logits.max_abs:.1e}",
            f"{fidelity.accuracy:.2%}",
        )
    console = Console(highlight=False)
    console.print(table)
    for target, problem in problems.items():
        console.print(f"[bold]{target}[/bold]: {problem}")
    console.print(f"The files, each with its report, are in {folder}/.")


if __name__ == "__main__":
    main()
