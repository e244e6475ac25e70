"""A sentence encoder, quantized in every way: how well cosines of its embeddings agree with people (STS-B).

`python -m benchmarks.exports.minilm` writes the model; its path is in the variable MINILM.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.table import Table

import edgecc
from benchmarks.measuring import ROOT, machine, show

DATA = ROOT.parent / "shared" / "data"
TOKENS = 64
CALIBRATED = 128
#: Passes, and the most that the rank correlation may drop.
MODES: dict[str, tuple[tuple[str, ...], float]] = {
    "float": ((), 0.0),
    "dynamic": (("quantize-dynamic",), 0.002),
    "static int8": (("quantize-static",), 0.006),
    "int8 weights": (("quantize-weights",), 0.0),
    "int4 weights": (("quantize-weights:dtype=int4",), 0.02),
}
Run = Callable[[np.ndarray, np.ndarray], np.ndarray]


def minilm(folder: Path) -> None:
    """Every mode on both runtimes, one sentence at a time, one thread."""
    source = Path(os.environ.get("MINILM", ""))
    if not source.is_file():
        print("minilm: MINILM does not name the file that python -m benchmarks.exports.minilm writes", file=sys.stderr)
        return
    table = Table("mode", "ONNX Runtime", "drop", "bytes", "TFLite", "drop", "bytes", "may drop")
    best: dict[str, float] = {}
    for mode, (passes, allowed) in MODES.items():
        cells = []
        for target, suffix in (("onnxruntime", ".onnx"), ("tflite", ".tflite")):
            path = compiled(source, target, folder / f"{mode.replace(' ', '-')}{suffix}", passes)
            found = correlation(session(path))
            drop = best.setdefault(target, found) - found
            cells += [f"{found:.5f}", f"{drop:+.5f}", f"{path.stat().st_size:,}"]
        table.add_row(mode, *cells, f"{allowed:.3f}" if allowed else "")
    table.title = f"all-MiniLM-L6-v2, Spearman on 500 pairs of STS-B ({machine()})"
    show(table)


def compiled(source: Path, target: str, output: Path, passes: tuple[str, ...]) -> Path:
    shapes = dict.fromkeys(("input_ids", "attention_mask"), (1, TOKENS))
    static = any(step.startswith("quantize-static") for step in passes)
    return edgecc.compile(
        source,
        target,
        output,
        passes=list(passes),
        shapes=shapes,
        calibration=str(DATA / "stsb_calib512_tokens.npz") if static else None,
        samples=CALIBRATED if static else None,
    ).path


def session(path: Path) -> Run:
    """From one sentence's tokens and mask to the tokens' vectors."""
    return _tflite(path) if path.suffix == ".tflite" else _onnxruntime(path)


def _onnxruntime(path: Path) -> Run:
    from benchmarks.quantization import session_of

    loaded = session_of(path)

    def run(tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
        feeds = {"input_ids": tokens[None].astype(np.int64), "attention_mask": mask[None].astype(np.int64)}
        found: np.ndarray = loaded.run(None, feeds)[0][0]
        return found

    return run


def _tflite(path: Path) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    from benchmarks.quantization import real

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    inputs = {details["name"]: details for details in interpreter.get_input_details()}
    (last,) = interpreter.get_output_details()

    def run(tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
        for name, values in (("input_ids", tokens), ("attention_mask", mask)):
            interpreter.set_tensor(inputs[name]["index"], values[None].astype(inputs[name]["dtype"]))
        interpreter.invoke()
        return real(interpreter.get_tensor(last["index"]), last)[0]

    return run


def correlation(run: Run) -> float:
    """Spearman's, between the cosines of the pairs' embeddings (means over tokens) and how similar people find them."""
    data = np.load(DATA / "stsb_test500_tokens.npz")
    first, second = (
        np.stack([embedding(run, *pair) for pair in zip(data[name], data[f"{name}m"], strict=True)]) for name in "ab"
    )
    return float(np.corrcoef(ranks((first * second).sum(1)), ranks(data["y"]))[0, 1])


def embedding(run: Run, tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
    mean: np.ndarray = run(tokens, mask)[mask.astype(bool)].mean(0)
    return mean / np.linalg.norm(mean)


def ranks(values: np.ndarray) -> np.ndarray:
    """From 1; equal values share the mean of theirs."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[index])
