"""What repairs accuracy that quantization cost: parts `equalization` and `repair` of benchmarks.quantization."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from rich.table import Table

import edgecc
from benchmarks.measuring import show
from benchmarks.quantization import in_onnxruntime, in_tflite, right
from benchmarks.quantization_tasks import TASKS, Inputs
from edgecc.measuring.metrics import fidelity

#: Channels are multiplied by factors between this and its inverse, evenly on a logarithmic scale.
HARDEST = 32.0
#: Top-1 that may be lost against the model whose channels were not rescaled, in points.
ALLOWED = 1.0
#: Random rescalings.
SEEDS = range(5)


def equalization(folder: Path) -> None:
    """A depthwise network whose channels were rescaled, with one scale for all weights of a layer."""
    task = TASKS["DS-CNN"]
    inputs = task.inputs()
    expected = in_onnxruntime(task.source, inputs.test)
    step = "quantize-static:per_channel=false"
    plain = _tried(task.source, [step], inputs, folder)
    columns = ["source", "top-1 float", "largest difference", "per tensor", "SQNR", "with equalize-layers", "SQNR", ""]
    table = Table(*columns, title=f"DS-CNN, channels times {1 / HARDEST:g} to {HARDEST:g}, one scale per tensor")
    table.add_row("as it is", right(expected, inputs), "", *_shown(plain, expected, inputs), "", "", "")
    for seed in SEEDS:
        source = folder / f"rescaled{seed}.onnx"
        rescaled(task.source, seed).save(source)
        outputs = in_onnxruntime(source, inputs.test)
        broken = _tried(source, [step], inputs, folder)
        repaired = _tried(source, ["equalize-layers", step], inputs, folder)
        lost = 100 * (np.mean(plain.argmax(1) == inputs.labels) - np.mean(repaired.argmax(1) == inputs.labels))
        table.add_row(
            f"rescaled, seed {seed}",
            right(outputs, inputs),
            f"{np.abs(outputs - expected).max():.1e}",
            *_shown(broken, expected, inputs),
            *_shown(repaired, expected, inputs),
            f"{'reached' if lost <= ALLOWED else 'MISSED'}: {-lost:+.2f} points",
        )
    show(table)


def rescaled(source: Path, seed: int) -> edgecc.Model:
    """The same function with channels of random sizes."""
    from edgecc.quantization.equalization import Division
    from edgecc.quantization.rescaling import rescale
    from edgecc.rewriting.channel_regions import linear_source, regions

    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as scratch:
        model = edgecc.compile(source, "onnxruntime", Path(scratch) / "optimized.onnx").model
    found = [region for region in regions(model, lambda node: linear_source(node, model)) if not region.refused]
    factors = [HARDEST ** rng.uniform(-1, 1, region.count) for region in found]
    reason = rescale([Division(region, values) for region, values in zip(found, factors, strict=True)], model)
    assert not reason, reason
    model.cleanup()
    return model


def _tried(source: Path, passes: list[str], inputs: Inputs, folder: Path) -> np.ndarray:
    path = edgecc.compile(source, "tflite", folder / "tried.tflite", passes=passes, calibration=inputs.calibration).path
    return in_tflite(path, inputs.test)


def _shown(outputs: np.ndarray, expected: np.ndarray, inputs: Inputs) -> list[str]:
    return [right(outputs, inputs), f"{fidelity(expected, outputs).sqnr_db:.1f} dB"]


#: Passes in front of and behind the one that quantizes.
REPAIRS = {
    "nothing": ((), ()),
    "smooth-activations": (("smooth-activations",), ()),
    "equalize-layers": (("equalize-layers",), ()),
    "equalize-layers:absorb=true": (("equalize-layers:absorb=true",), ()),
    "correct-bias": ((), ("correct-bias",)),
    "round-weights:method=adaround": ((), ("round-weights:method=adaround",)),
    "round-weights": ((), ("round-weights",)),
    "round-weights correct-bias": ((), ("round-weights", "correct-bias")),
    "equalize-layers round-weights correct-bias": (("equalize-layers",), ("round-weights", "correct-bias")),
}
#: What quantizes.
QUANTIZERS = ("quantize-static", "quantize-static:per_channel=false")


def repair(folder: Path, quantizers: tuple[str, ...] = QUANTIZERS) -> None:
    """SQNR of the output against the float model, and top-1, of each repair on each model; TFLite."""
    for quantizer in quantizers:
        table = Table(quantizer, *TASKS, title="TFLite: SQNR of the output on the test set, and top-1")
        rows = {name: [name] for name in REPAIRS}
        for task in TASKS.values():
            inputs = task.inputs()
            expected = in_onnxruntime(task.source, inputs.test)
            for name, (before, behind) in REPAIRS.items():
                outputs = _tried(task.source, [*before, quantizer, *behind], inputs, folder)
                top, sqnr = _shown(outputs, expected, inputs)
                rows[name].append(f"{sqnr} {top}")
        for row in rows.values():
            table.add_row(*row)
        show(table)
