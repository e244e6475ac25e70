"""What pruning a large model takes: the whole process, with default options and 512 unlabelled samples."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

import edgecc
from benchmarks.measuring import edgecc_command, machine, run, show
from edgecc.data.npz import write_npz

SAMPLES = 512
#: Most seconds on two cores, and bytes.
SECONDS, MEMORY = 180, 3e9


def scale(arguments: Sequence[str]) -> None:
    """Print wall time, CPU seconds and peak memory of `edgecc compile MODEL --prune 0.3` for each model.

    Args:
        arguments: paths of models with one input [1 or any, channels, height, width].
    """
    table = Table("model", "wall", "CPU", "peak memory", title=f"--target tflite --prune 0.3 ({machine()})")
    for argument in arguments:
        with tempfile.TemporaryDirectory() as folder:
            wall, cpu, peak = measured(Path(argument), Path(folder))
        verdict = "reached" if wall <= SECONDS and peak <= MEMORY else "MISSED"
        goal = f"goal {SECONDS} s, {MEMORY / 1e9:g} GB {verdict}"
        table.add_row(Path(argument).name, f"{wall:.0f} s", f"{cpu:.0f} s", f"{peak / 1e9:.2f} GB ({goal})")
    show(table)


def measured(source: Path, folder: Path) -> tuple[float, float, int]:
    """Wall and CPU seconds and peak bytes of one process; the peak is that of the largest process so far."""
    spec = edgecc.load(source).signature.inputs[0]
    shape = (SAMPLES, *(int(size) for size in spec.shape[1:]))
    values = np.lib.format.open_memmap(folder / "images.npy", "w+", np.float32, shape)
    rng = np.random.default_rng(0)
    for index in range(SAMPLES):
        values[index] = image(rng, shape[1:])
    data = folder / "images.npz"
    write_npz(data, {spec.name: values})
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    options = ("--target", "tflite", "--output", str(folder / "smaller.tflite"))
    run(edgecc_command("compile", str(source), *options, "--prune", "0.3", "--calibration", str(data)))
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, after.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def image(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """Noise [channels, height, width] whose amplitude falls with the frequency, as that of photographs does."""
    height, width = shape[1:]
    frequency = np.hypot(np.fft.fftfreq(height)[:, np.newaxis], np.fft.rfftfreq(width)[np.newaxis])
    spectrum = np.fft.rfft2(rng.standard_normal(shape)) / np.maximum(frequency, 1 / max(height, width))
    smooth = np.fft.irfft2(spectrum, s=(height, width))
    # Colours go together, and some images are brighter than others.
    mixed = smooth + smooth.mean(axis=0)
    found: np.ndarray = (mixed - mixed.mean()) / mixed.std() + 0.5 * rng.standard_normal((shape[0], 1, 1))
    return found
