"""int8 models against the reference's files and ONNX Runtime's own quantizer.

Run it with `python -m benchmarks.quantization [PART ...]`, all parts if none is named; it needs ../shared/data.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from rich.table import Table

import edgecc
from benchmarks.measuring import machine, show
from benchmarks.models import mobilenet_v2, resnet50
from benchmarks.quantization_minilm import minilm
from benchmarks.quantization_tasks import MODELS, TASKS, Inputs
from edgecc.measuring.metrics import fidelity

#: Rounds of the latency race, and runs in a row in each.
ROUNDS, RUNS = 40, 5


# --------------------------------------------------------------------------------------------------------- accuracy


def accuracy(folder: Path) -> None:
    """The float model, our int8 files for TFLite and ONNX Runtime, and the reference's."""
    columns = ["accuracy float", "ours", "reference", "SQNR ours", "reference", "bytes ours", "reference"]
    table = Table("TFLite int8", *columns, "ONNX Runtime", "top-1 agree", title="Calibrated on up to 256 samples")
    for name, task in TASKS.items():
        inputs = task.inputs()
        ours, other = (quantized(task.source, target, inputs, folder) for target in ("tflite", "onnxruntime"))
        expected, lite = in_onnxruntime(task.source, inputs.test), in_tflite(ours, inputs.test)
        reference, ort = in_tflite(task.reference, inputs.test), in_onnxruntime(other, inputs.test)
        shown = [right(values, inputs) for values in (expected, lite, reference)]
        shown += [f"{fidelity(expected, values).sqnr_db:.1f} dB" for values in (lite, reference)]
        shown += [f"{path.stat().st_size:,}" for path in (ours, task.reference)]
        agree = f"{100 * np.mean(lite.argmax(1) == ort.argmax(1)):.2f} %" if name != "auto-encoder" else ""
        table.add_row(name, *shown, f"{fidelity(expected, ort).sqnr_db:.1f} dB", agree)
    show(table)


def quantized(source: Path, target: str, inputs: Inputs, folder: Path, step: str = "quantize-static") -> Path:
    suffix = {"tflite": ".tflite", "onnxruntime": ".onnx", "tensorrt": ".engine"}[target.partition(":")[0]]
    output = folder / f"{source.stem}.int8{suffix}"
    return edgecc.compile(source, target, output, passes=[step], calibration=inputs.calibration).path


def right(outputs: np.ndarray, inputs: Inputs) -> str:
    if inputs.labels is None:
        return ""
    return f"{100 * np.mean(outputs.argmax(1) == inputs.labels):.2f} %"


def in_onnxruntime(path: Path, samples: np.ndarray) -> np.ndarray:
    session = session_of(path)
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: sample[None]})[0].reshape(1, -1) for sample in samples])


def in_tflite(path: Path, samples: np.ndarray) -> np.ndarray:
    """Real numbers in and out, whatever the file takes."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (first,), (last,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for sample in samples:
        interpreter.set_tensor(first["index"], stored(sample, first).reshape(first["shape"]))
        interpreter.invoke()
        found.append(real(interpreter.get_tensor(last["index"]), last).reshape(-1))
    return np.stack(found)


def stored(values: np.ndarray, details: dict[str, Any]) -> np.ndarray:
    if details["dtype"] == np.float32:
        return values
    (scale, zero_point), limits = details["quantization"], np.iinfo(details["dtype"])
    return np.clip(np.rint(values / scale) + zero_point, limits.min, limits.max).astype(details["dtype"])


def real(values: np.ndarray, details: dict[str, Any]) -> np.ndarray:
    if details["dtype"] == np.float32:
        return values
    scale, zero_point = details["quantization"]
    return (values.astype(np.float32) - zero_point) * np.float32(scale)


# ---------------------------------------------------------------------------------------------------------- latency


def latency(folder: Path) -> None:
    """One thread, interleaved: the float model, ours, and ONNX Runtime's quantizer with both types of data.

    Ours twice: all in integers, and measured, where layers that integers make slower stay float (`--quantize int8`).
    """
    columns = ["float32", "integers", "measured", "quantize_static", "same, uint8"]
    columns += ["integers / float", "measured / float", "measured / peer", "fastest", "in integers"]
    table = Table("ONNX Runtime", *columns)
    for name, source, inputs in raced(folder):
        ours = folder / f"{source.stem}.measured.onnx"
        result = edgecc.compile(source, "onnxruntime", ours, quantize="int8", calibration=inputs.calibration)
        quantization = None if result.losses is None else result.losses.quantization
        share = 0.0 if quantization is None else quantization.integer_macs
        files = {"float": source, "integers": quantized(source, "onnxruntime", inputs, folder), "measured": ours}
        files |= {kind: peer(source, inputs, folder, kind) for kind in ("QInt8", "QUInt8")}
        times = race(files, inputs.test[:8])
        middle = {kind: statistics.median(taken) for kind, taken in times.items()}
        shown = [f"{1e6 * seconds:,.0f} us" for seconds in middle.values()]
        ratios = [
            middle["integers"] / middle["float"],
            middle["measured"] / middle["float"],
            middle["measured"] / middle["QInt8"],
            min(times["measured"]) / min(times["QInt8"]),
        ]
        table.add_row(name, *shown, *(f"{ratio:.2f}" for ratio in ratios), f"{100 * share:.0f} %")
    table.title = f"Median latency ({machine()})"
    show(table)


def raced(folder: Path) -> Iterator[tuple[str, Path, Inputs]]:
    for name, task in TASKS.items():
        yield name, task.source, task.inputs()
    shapes = {"MobileNetV2": mobilenet_v2(1.0, 224, 1000), "ResNet-50": resnet50(1.0, 224, 1000)}
    for name, model in shapes.items():
        path = folder / f"{name}.onnx"
        onnx.save(model, path)
        images = np.random.default_rng(0).standard_normal((16, 3, 224, 224)).astype(np.float32)
        yield name, path, Inputs(images, images)


def peer(source: Path, inputs: Inputs, folder: Path, kind: str) -> Path:
    """ONNX Runtime's own quantizer as its documentation has it: preprocessing, QDQ, per channel."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    name = onnx.load(source).graph.input[0].name

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rest = iter(inputs.calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            sample = next(self.rest, None)
            return None if sample is None else {name: sample[None]}

    prepared, output = folder / "prepared.onnx", folder / f"{source.stem}.{kind}.onnx"
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(output),
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType[kind],
    )
    return output


def race(files: dict[str, Path], samples: np.ndarray) -> dict[str, list[float]]:
    sessions = {kind: session_of(path) for kind, path in files.items()}
    times: dict[str, list[float]] = {kind: [] for kind in files}
    for count in range(ROUNDS + 1):
        for kind, session in sessions.items():
            feeds = {session.get_inputs()[0].name: samples[count % len(samples)][None]}
            start = time.perf_counter()
            for _ in range(RUNS):
                session.run(None, feeds)
            if count:
                times[kind].append((time.perf_counter() - start) / RUNS)
    return times


def session_of(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


# ---------------------------------------------------------------------------------------------------------- TensorRT


def tensorrt(folder: Path) -> None:
    """Whether engines are built, without a GPU too; ONNX Runtime's own quantizer's files beside ours."""
    table = Table("TensorRT int8", "ours", "quantize_static", title="Engines")
    for name, source, inputs in raced(folder):
        few = Inputs(inputs.calibration[:16], inputs.test)
        ours = quantized(source, "tensorrt:batch=[1,1,1]", few, folder)
        try:
            theirs = edgecc.compile(
                peer(source, few, folder, "QInt8"), "tensorrt:batch=[1,1,1]", folder / "peer.engine"
            ).path
            found = f"{theirs.stat().st_size:,} bytes"
        except edgecc.EdgeccError as error:
            found = str(error).splitlines()[0]
        table.add_row(name, f"{ours.stat().st_size:,} bytes", found)
    show(table)


# ------------------------------------------------------------------------------------------------------------ repair


def equalization(folder: Path) -> None:
    """equalize-layers on a network whose channels were rescaled."""
    from benchmarks import quantization_repair

    quantization_repair.equalization(folder)


def repair(folder: Path) -> None:
    """What each pass that repairs accuracy gains."""
    from benchmarks import quantization_repair

    quantization_repair.repair(folder)


PARTS = {
    "accuracy": accuracy,
    "latency": latency,
    "tensorrt": tensorrt,
    "equalization": equalization,
    "repair": repair,
    "minilm": minilm,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=list(PARTS), choices=[*PARTS, []])
    given = parser.parse_args()
    if not MODELS.is_dir():
        sys.exit(f"{MODELS} is not there")
    with tempfile.TemporaryDirectory() as folder:
        for part in given.parts or PARTS:
            PARTS[part](Path(folder))


if __name__ == "__main__":
    main()
