"""Every architecture through `.pt2`: in, to each target, and out again, compared with eager PyTorch.

Needs torch and the plugins: `python -m benchmarks.exports.check_torch [--torchscript] [PATTERN ...]`. Each is
exported with an open batch, and run at batches 1 and 3. TensorRT engines are built, where its SDK is installed, and run
where there is a GPU. `back` is the model written as a PyTorch program again. With `--torchscript` the architectures are
traced instead and come in through TorchScript, at batch 1.
"""

from __future__ import annotations

import fnmatch
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import edgecc
from benchmarks.exports.models import ARCHITECTURES, Architecture
from benchmarks.exports.running import relative_error
from edgecc.registry import default_registry

BOUND = 1e-4
BATCHES = (1, 3)
#: Column to target and its options.
TARGETS = {
    "onnxruntime": "onnxruntime",
    "tflite": "tflite",
    "tensorrt": "tensorrt:batch=[1,3,4]",
    "back": "torch",
}


def saved(architecture: Architecture, module: nn.Module, path: Path, *, torchscript: bool) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        if torchscript:
            torch.jit.save(torch.jit.trace(module, architecture.example(1), check_trace=False), path)
            return
        # An exporter that sees batch 1 takes it for a constant.
        example = architecture.example(2)
        shapes = [{0: torch.export.Dim("batch")} for _ in example]
        torch.export.save(torch.export.export(module, example, dynamic_shapes=shapes), path)


def compared(artifact: Path, model: edgecc.Model, architecture: Architecture, module: nn.Module, batches: Any) -> str:
    """The largest difference to eager PyTorch, relative to the largest value; what happened instead, if anything."""
    worst = 0.0
    names = [spec.name for spec in model.signature.inputs]
    with edgecc.runner(artifact) as runner:
        for batch in batches:
            example = architecture.example(batch)
            with torch.no_grad():
                expected = module(*example)
            first = expected[0] if isinstance(expected, tuple) else expected
            feeds = {name: values.numpy() for name, values in zip(names, example, strict=True)}
            found = runner.infer(feeds)[model.signature.outputs[0].name]
            worst = max(worst, relative_error(first.numpy(), np.asarray(found)))
    return f"{worst:.1e}" + ("" if worst <= BOUND else " WRONG")


def row(name: str, folder: Path, *, torchscript: bool) -> list[str]:
    architecture = ARCHITECTURES[name]
    module = architecture.model().eval()
    path = folder / f"{name}.{'pt' if torchscript else 'pt2'}"
    saved(architecture, module, path, torchscript=torchscript)
    batches = (1,) if torchscript else BATCHES
    shapes = {}
    if torchscript:
        names = [a.name for a in torch.jit.load(path).forward.schema.arguments[1:]]
        shapes = dict(zip(names, (tuple(x.shape) for x in architecture.example(1)), strict=True))
    start = time.perf_counter()
    try:
        model = edgecc.load(path, shapes)
    except edgecc.EdgeccError as error:
        return [name, "", str(error).replace("\n", " / "), *[""] * (len(TARGETS) - 1)]
    seconds = time.perf_counter() - start
    return [
        name,
        f"{seconds:.1f}",
        *(cell(name, target, model, architecture, module, folder, batches) for target in TARGETS),
    ]


def cell(
    name: str,
    column: str,
    model: edgecc.Model,
    architecture: Architecture,
    module: nn.Module,
    folder: Path,
    batches: Any,
) -> str:
    spec = TARGETS[column] if len(batches) > 1 else TARGETS[column].partition(":")[0]
    target = spec.partition(":")[0]
    backend = default_registry().backends.get(target)
    if backend is None or not backend.can_compile():
        return "not installed"
    output = folder / f"{name}.{column}{backend.target.suffixes[0]}"
    try:
        edgecc.compile(model, target=spec, output=output)
        if not backend.can_run():
            return f"built, {output.stat().st_size / 1e6:.0f} MB"
        return compared(output, model, architecture, module, batches)
    except edgecc.EdgeccError as error:
        return str(error).replace("\n", " / ")
    finally:
        output.unlink(missing_ok=True)


def main() -> None:
    patterns = [word for word in sys.argv[1:] if not word.startswith("--")] or ["*"]
    chosen = [name for name in ARCHITECTURES if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
    torch.set_num_threads(1)
    print(" | ".join(["architecture", "import s", *TARGETS]))
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            print(" | ".join(row(name, Path(folder), torchscript="--torchscript" in sys.argv)), flush=True)


if __name__ == "__main__":
    main()
