"""Every file of the MLPerf Tiny models, through the importers: outputs on real inputs against LiteRT or Keras.

Run it with `python -m benchmarks.mlperf_tiny [PATTERN ...]`, such as '*int8*'. Each file becomes an ONNX model, a
TFLite file and a TensorRT engine, as far as their plugins are installed; Keras's files need edgecc-keras. Real
inputs are what shared/data has: the models' own for ResNet, keyword spotting and the wake word; CIFAR-10's images,
enlarged, for visual wake words; the wake word's spectrograms, spread over more bands, for the auto-encoder.
"""

from __future__ import annotations

import fnmatch
import importlib.util
import sys
import tempfile
from pathlib import Path

import numpy as np
from rich.table import Table

import edgecc
from benchmarks.measuring import ROOT, machine, show
from edgecc.errors import EdgeccError

DATA = ROOT.parent / "shared" / "data"
MODELS = DATA / "mlperf_tiny"
SAMPLES = 200
#: Files by what is fed to them.
FILES = {
    "images": (
        *("pretrainedResnet.tflite", "pretrainedResnet_quant.tflite", "pretrainedResnet.h5"),
        *("pretrainedResnet_large_float.tflite", "pretrainedResnet_large_int8.tflite"),
    ),
    "keywords": ("kws_ref_model.tflite", "kws_saved_model", "kws_ref_model_float32.tflite"),
    "people": ("vww_96_float.tflite", "vww_96_int8.tflite", "vww_96.h5"),
    "machines": ("ad01_fp32.tflite", "ad01_int8.tflite", "ad01.h5"),
    "wake words": ("str_ww_ref_model.tflite", "str_ww_ref_model.h5"),
}


def main() -> None:
    patterns = sys.argv[1:] or ["*"]
    columns = ("file", "samples", "ONNX Runtime", "LiteRT again", "TensorRT")
    table = Table(*columns, title=f"Furthest from LiteRT or Keras ({machine()})")
    for kind, files in FILES.items():
        for name in files:
            if any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
                table.add_row(name, *_row(MODELS / name, _inputs(kind)))
    show(table)


def _inputs(kind: str) -> np.ndarray:
    """Real values, as the float models take them, of shape (samples, ...)."""
    if kind == "keywords":
        values = np.load(DATA / "kws_test400.npz")["x"][:SAMPLES]
    elif kind in ("images", "people"):
        values = np.load(DATA / "cifar10_test2000.npz")["x"][:SAMPLES]
    else:
        values = np.load(MODELS / "str_ww_calibration_samples.npz")["specs"]
    if kind == "people":
        # Enlarged three times; the model wants 0 to 1.
        values = values.repeat(3, axis=1).repeat(3, axis=2) / 255
    if kind == "machines":
        values = _spectra(values[:, :, 0])
    return np.ascontiguousarray(values, np.float32)


def _spectra(bands: np.ndarray) -> np.ndarray:
    """Five frames of 128 bands from -80 to 10 dB, of 40 bands from 0 to 1."""
    places = np.linspace(0, bands.shape[2] - 1, 128)
    low = places.astype(int)
    high, part = np.minimum(low + 1, bands.shape[2] - 1), places - low
    spread = bands[:, :, low] * (1 - part) + bands[:, :, high] * part
    windows: np.ndarray = spread[:, 10:15].reshape(len(bands), -1) * 90 - 80
    return windows


def _row(path: Path, values: np.ndarray) -> list[str]:
    is_file = path.suffix == ".tflite"
    if not is_file and importlib.util.find_spec("tensorflow") is None:
        return [str(len(values)), "needs TensorFlow", "", ""]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if is_file:
            values = _stored(path, values)
            expected = _run(path, values)
        else:
            from edgecc_keras.testing.reference import reference

            expected = next(iter(reference(path, folder / "expected.npz", values)[1].values()))
        shape = {edgecc.load(path).signature.inputs[0].name: (1, *values.shape[1:])}
        found = [_compiled(path, folder / f"m{suffix}", shape, values, expected) for suffix in (".onnx", ".tflite")]
        return [str(len(values)), *found, _engine(path, folder / "m.engine", shape)]


def _stored(path: Path, values: np.ndarray) -> np.ndarray:
    """What the file's input stores: integers where it is quantized."""
    from ai_edge_litert.interpreter import Interpreter

    entry = Interpreter(str(path)).get_input_details()[0]
    scale, zero_point = entry["quantization"]
    if not scale:
        return values
    limits = np.iinfo(entry["dtype"])
    stored: np.ndarray = np.clip(np.rint(values / scale) + zero_point, limits.min, limits.max).astype(entry["dtype"])
    return stored


def _compiled(
    path: Path, out: Path, shape: dict[str, tuple[int, ...]], values: np.ndarray, expected: np.ndarray
) -> str:
    try:
        edgecc.compile(path, output=out, shapes=shape)
    except EdgeccError as error:
        return f"{type(error).__name__}: {error.what}"[:40]
    return _difference(_run(out, values), expected)


def _run(path: Path, values: np.ndarray) -> np.ndarray:
    """The first output, sample by sample."""
    with edgecc.runner(path) as runner:
        name = runner.inputs[0].name
        return np.concatenate([next(iter(runner.infer({name: sample[None]}).values())) for sample in values])


def _difference(found: np.ndarray, expected: np.ndarray) -> str:
    if expected.dtype.kind == "f":
        return f"{np.max(np.abs(found - expected)) / np.max(np.abs(expected)):.1e} of the largest"
    steps = np.abs(found.astype(int) - expected)
    return f"{steps.max()} steps, {np.mean(steps > 0):.2%} of values"


def _engine(path: Path, out: Path, shape: dict[str, tuple[int, ...]]) -> str:
    if importlib.util.find_spec("tensorrt_rtx") is None and importlib.util.find_spec("tensorrt") is None:
        return "not installed"
    try:
        edgecc.compile(path, output=out, shapes=shape)
    except EdgeccError as error:
        return f"{type(error).__name__}: {error.what}"[:40]
    return f"builds, {out.stat().st_size / 1e6:.1f} MB"


if __name__ == "__main__":
    main()
