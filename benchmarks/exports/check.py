"""Compile the exported models to TFLite and say what came out: right or not, what is left in the graph, how fast.

Run it with `python -m benchmarks.exports.check FOLDER [--latency] [PATTERN ...]`, such as `resnet*.script.*`.
"""

from __future__ import annotations

import contextlib
import fnmatch
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.measuring import peak_memory

BOUND = 1e-4
BATCHES = (1, 2, 5)
MIB = 1 << 20
Feeds = dict[str, np.ndarray]


@dataclass
class Row:
    """What is known of one file."""

    name: str
    error: float = float("nan")
    operators: Counter[str] = field(default_factory=Counter)
    transposes: int = 0
    nbytes: int = 0
    seconds: float = 0.0
    peak: int = 0
    milliseconds: float = float("nan")
    peer_milliseconds: float = float("nan")
    failure: str = ""

    HEAD = (
        "model | error | TRANSPOSE inside | RESHAPE | operators | MB | compile s | peak MiB | ms | ONNX Runtime ms |"
        " ratio | failure"
    )

    def __str__(self) -> str:
        ratio = self.milliseconds / self.peer_milliseconds
        fields = (
            self.name, f"{self.error:.1e}", self.transposes, self.operators["RESHAPE"], self.operators.total(),
            f"{self.nbytes / 1e6:.1f}", f"{self.seconds:.2f}", f"{self.peak / MIB:.0f}", f"{self.milliseconds:.2f}",
            f"{self.peer_milliseconds:.2f}", f"{ratio:.2f}", self.failure,
        )  # fmt: skip
        return " | ".join(str(value) for value in fields)


def check(path: Path, output: Path, latency: bool) -> Row:
    row = Row(path.name.removesuffix(".onnx"))
    start = time.perf_counter()
    try:
        row.peak = peak_memory("compile", str(path), "--target", "tflite", "-o", str(output))
    except SystemExit as error:
        message = str(error).rsplit("main()\n", 1)[-1]
        row.failure = "refused: " + " / ".join(line.strip() for line in message.splitlines()[:6])
        return row
    row.seconds = time.perf_counter() - start
    row.nbytes = output.stat().st_size
    count(output, row)
    try:
        row.error = compare(path, output, BATCHES if ".open" in path.name else (1,))
    except (RuntimeError, ValueError) as error:
        row.failure = f"does not run: {str(error).splitlines()[0]}"
        return row
    if not row.error <= BOUND:
        row.failure = "WRONG"
    if latency:
        row.milliseconds, row.peer_milliseconds = race(path, output)
    return row


def count(output: Path, row: Row) -> None:
    """Operators by name, and TRANSPOSE that neither reads an input of the model nor writes an output."""
    from ai_edge_litert import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    model = schema.ModelT.InitFromPackedBuf(output.read_bytes(), 0)
    for graph in model.subgraphs:
        for op in graph.operators:
            name = names[model.operatorCodes[op.opcodeIndex].builtinCode]
            row.operators[name] += 1
            row.transposes += (
                name == "TRANSPOSE" and op.inputs[0] not in graph.inputs and op.outputs[0] not in graph.outputs
            )


def compare(path: Path, output: Path, batches: tuple[int, ...]) -> float:
    """The largest difference, relative to the largest value of that output."""
    session = _onnxruntime(path)
    interpreter = _interpreter(output)
    worst = 0.0
    for batch in batches:
        for seed in (0, 1):
            feeds = _feeds(session, batch, seed)
            expected = dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))
            found = _run(interpreter, feeds)
            for name, values in expected.items():
                if values.shape != found[name].shape:
                    raise ValueError(f"{name} has shape {found[name].shape}, should be {values.shape}")
                worst = max(worst, float(np.abs(values - found[name]).max() / np.abs(values).max()))
                if np.isnan(found[name]).any():
                    return float("nan")
    return worst


def race(path: Path, output: Path, rounds: int = 15) -> tuple[float, float]:
    """Median milliseconds of both at batch 1, one thread each, in turns."""
    session, interpreter = _onnxruntime(path), _interpreter(output)
    feeds = _feeds(session, 1, 0)
    _run(interpreter, feeds)
    contestants: tuple[Callable[[], object], ...] = (interpreter.invoke, lambda: session.run(None, feeds))
    times: list[list[float]] = [[], []]
    for number in range(rounds + 2):
        for place, action in enumerate(contestants):
            start = time.perf_counter()
            action()
            if number > 1:
                times[place].append(time.perf_counter() - start)
    first, second = (statistics.median(taken) * 1e3 for taken in times)
    return first, second


def _onnxruntime(path: Path):  # type: ignore[no-untyped-def]
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _interpreter(output: Path):  # type: ignore[no-untyped-def]
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(output), num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def _feeds(session, batch: int, seed: int) -> Feeds:  # type: ignore[no-untyped-def]
    random = np.random.default_rng(seed)
    feeds: Feeds = {}
    for spec in session.get_inputs():
        shape = [dim if isinstance(dim, int) else batch for dim in spec.shape]
        if spec.name == "mask":
            lengths = random.integers(shape[1] // 2, shape[1] + 1, (shape[0], 1))
            feeds[spec.name] = (np.arange(shape[1]) < lengths).astype(np.int64)
        elif "int" in spec.type:
            feeds[spec.name] = random.integers(0, 500, shape)
        else:
            feeds[spec.name] = random.standard_normal(shape, dtype=np.float32)
    return feeds


def _run(interpreter, feeds: Feeds) -> Feeds:  # type: ignore[no-untyped-def]
    details = {detail["name"]: detail for detail in interpreter.get_input_details()}
    changed = False
    for name, values in feeds.items():
        detail = details[name]
        if tuple(detail["shape"]) != values.shape:
            interpreter.resize_tensor_input(detail["index"], values.shape, strict=True)
            changed = True
    if changed:
        interpreter.allocate_tensors()
    for name, values in feeds.items():
        interpreter.set_tensor(details[name]["index"], values)
    interpreter.invoke()
    return {detail["name"]: interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()}


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def main() -> None:
    folder, *rest = sys.argv[1:]
    patterns = [word for word in rest if not word.startswith("--")] or ["*"]
    files = sorted(Path(folder).glob("*.onnx"))
    chosen = [f for f in files if any(fnmatch.fnmatch(f.stem, pattern) for pattern in patterns)]
    print(Row.HEAD)
    with _folder() as work:
        for path in chosen:
            print(check(path, work / f"{path.stem}.tflite", "--latency" in rest), flush=True)


if __name__ == "__main__":
    main()
