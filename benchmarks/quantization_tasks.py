"""The MLPerf Tiny models with what they are calibrated and evaluated on.

Test sets are for evaluation only. There are no data for visual wake words and anomaly detection here: the first gets
CIFAR-10's photographs, three times as large, the second the spectra of synthetic machines; what counts is how far an
output is from the float model's on the same inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.measuring import ROOT

DATA = ROOT.parent / "shared" / "data"
MODELS = DATA / "mlperf_tiny"
SAMPLES = 256


@dataclass(frozen=True)
class Inputs:
    """What a model is calibrated on, what it is evaluated on, and the labels of the latter, if there are any."""

    calibration: np.ndarray
    test: np.ndarray
    labels: np.ndarray | None = None


@dataclass(frozen=True)
class Task:
    """A float model, the reference's int8 file, and the most that accuracy may drop, in points."""

    source: Path
    reference: Path
    inputs: Callable[[], Inputs]
    drop: float | None = None


def cifar() -> Inputs:
    train = np.load(DATA / "cifar10_train4000_unlabelled.npz")["x"][:SAMPLES]
    test = np.load(DATA / "cifar10_test2000.npz")
    return Inputs(train.astype(np.float32), test["x"].astype(np.float32), test["y"])


def keywords() -> Inputs:
    test = np.load(DATA / "kws_test400.npz")
    return Inputs(np.load(DATA / "kws_calib200.npz")["x"][:SAMPLES], test["x"], test["y"])


def photographs() -> Inputs:
    """96 x 96, from 0 to 1."""
    small = cifar()
    calibration, test = (np.repeat(np.repeat(x, 3, 1), 3, 2) / 255 for x in (small.calibration, small.test[:500]))
    return Inputs(calibration.astype(np.float32), test.astype(np.float32))


def machines() -> Inputs:
    """Five frames of 128 log-mel energies, as of ToyCar: 10 log10 of the power."""
    return Inputs(_spectra(SAMPLES, seed=0), _spectra(500, seed=1))


def _spectra(count: int, seed: int) -> np.ndarray:
    """Motors: a row of harmonics whose speed and loudness vary, in noise that falls with frequency; 16 kHz."""
    rng = np.random.default_rng(seed)
    mel, window = _mel_filters(), np.hanning(1024)
    found = []
    for _ in range(count):
        time = np.arange(1024 + 4 * 512) / 16_000
        speed = rng.uniform(40, 200)
        partials = range(1, int(rng.integers(5, 40)))
        tones = sum(
            np.sin(2 * np.pi * speed * k * time + rng.uniform(0, 6)) / k ** rng.uniform(0.5, 1.5) for k in partials
        )
        noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(time.size)) / np.arange(1, time.size // 2 + 2) ** 0.5)
        signal = 10 ** rng.uniform(-3, -0.5) * (tones + rng.uniform(0.2, 5) * noise)
        frames = [np.abs(np.fft.rfft(window * signal[start : start + 1024])) ** 2 for start in range(0, 2049, 512)]
        found.append(10 * np.log10(np.array(frames) @ mel.T + 1e-8))
    return np.array(found, np.float32).reshape(count, 640)


def _mel_filters() -> np.ndarray:
    """128 triangles over 513 frequencies."""
    mels = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 130)
    edges = 700 * (10 ** (mels / 2595) - 1)
    hertz = np.linspace(0, 8000, 513)
    rising = (hertz - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - hertz) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))[:, None]


TASKS = {
    "ResNet-8": Task(MODELS / "pretrainedResnet.onnx", MODELS / "pretrainedResnet_quant.tflite", cifar, 0.3),
    "larger ResNet": Task(
        MODELS / "pretrainedResnet_large_float.onnx", MODELS / "pretrainedResnet_large_int8.tflite", cifar, 0.3
    ),
    "DS-CNN": Task(MODELS / "kws_float.onnx", MODELS / "kws_ref_model.tflite", keywords, 0.5),
    "MobileNetV1 0.25": Task(MODELS / "vww_96_float.onnx", MODELS / "vww_96_int8.tflite", photographs),
    "auto-encoder": Task(MODELS / "ad01_fp32.onnx", MODELS / "ad01_int8.tflite", machines),
}
