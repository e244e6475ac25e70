"""Write ONNX files of every architecture with both of PyTorch's exporters, at batch 1 and with an open batch.

Needs torch, onnx and onnxscript; run it with `python -m benchmarks.exports.export FOLDER [NAME ...]`.
"""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path

import torch

from benchmarks.exports.models import ARCHITECTURES, Architecture

OPSET = 18


def export(architecture: Architecture, path: Path, *, dynamo: bool, open_batch: bool) -> None:
    """Write one file."""
    # An exporter that sees batch 1 takes it for a constant.
    example = architecture.example(2 if open_batch else 1)
    options: dict[str, object] = {}
    if open_batch and dynamo:
        options["dynamic_shapes"] = [{0: torch.export.Dim("batch")} for _ in example]
    elif open_batch:
        options["dynamic_axes"] = {name: {0: "batch"} for name in [*architecture.names, "output"]}
    torch.onnx.export(
        architecture.model(),
        example,
        str(path),
        input_names=architecture.names,
        output_names=["output"],
        opset_version=OPSET,
        dynamo=dynamo,
        external_data=False,
        verbose=False,
        **options,
    )


def main() -> None:
    warnings.simplefilter("ignore")
    folder, *names = sys.argv[1:]
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name in names or ARCHITECTURES:
        for dynamo in (False, True):
            for open_batch in (False, True):
                path = file_of(Path(folder), name, dynamo=dynamo, open_batch=open_batch)
                if path.exists():
                    continue
                start = time.perf_counter()
                try:
                    export(ARCHITECTURES[name], path, dynamo=dynamo, open_batch=open_batch)
                    print(f"{path.name}: {time.perf_counter() - start:.1f} s", flush=True)
                except Exception as error:
                    print(f"{path.name}: {type(error).__name__}: {str(error)[:300]}", flush=True)


def file_of(folder: Path, name: str, *, dynamo: bool, open_batch: bool) -> Path:
    exporter, batch = ("dynamo" if dynamo else "script"), ("open" if open_batch else "one")
    return folder / f"{name}.{exporter}.{batch}.onnx"


if __name__ == "__main__":
    main()
