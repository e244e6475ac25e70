"""What `factorize-low-rank` costs in accuracy and saves in work, bytes and time.

Run it with `python -m benchmarks.low_rank [networks|autoencoder|minilm ...] [--no-latency] [--curves=FOLDER]`; it
needs ../shared/data, and the last one MINILM, the file that `python -m benchmarks.exports.minilm` writes. Passes see
512 unlabelled images, 256 spectra of synthetic machines or 512 sentences; what is shown is of the test sets. The
standard error of a drop is about 0.6 points. `--curves` draws points lost against what is left, with Matplotlib.
`python -m benchmarks.low_rank latency` measures time alone, of larger networks too.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

import edgecc
from benchmarks.compression import DATA, Outcome, columns, draw, folder_of, opened, row, smaller
from benchmarks.measuring import machine, show
from benchmarks.quantization import in_onnxruntime
from benchmarks.quantization_minilm import TOKENS, correlation, session
from benchmarks.quantization_tasks import TASKS
from benchmarks.smaller_latency import LOW_RANK
from benchmarks.smaller_latency import latency as print_latency
from edgecc.measuring.metrics import fidelity
from edgecc.rewriting.linear import LINEAR
from edgecc.rewriting.reading import constant


@dataclass(frozen=True)
class Setting:
    """Passes to run, and the most points that accuracy may drop."""

    passes: tuple[str, ...]
    goal: float | None = None


def low_rank(factor: float, options: str = "") -> str:
    return f"factorize-low-rank:macs={1 / factor:.6f}{options}"


def both(light: float, factor: float) -> tuple[str, ...]:
    """Fewer channels first, then low rank, for so many times fewer multiply-accumulates in all."""
    return (f"prune-channels:macs={1 / light:.6f}", low_rank(factor / light))


NETWORKS = {
    "large": (
        Setting((low_rank(1.5),), 1.7),
        Setting((low_rank(1.5, ",forms=[channel,spatial,tucker]"),)),
        Setting(both(1.1, 1.5), 1.7),
        Setting((low_rank(2.0),), 3.5),
        Setting((low_rank(2.0, ",forms=[channel,spatial,tucker]"),)),
        Setting(both(1.2, 2.0), 3.2),
        Setting((low_rank(2.0, ",multiple=8"),)),
        Setting(("factorize-low-rank:energy=0.98",)),
        Setting(("factorize-low-rank:rank=evbmf",)),
    ),
    "resnet8": (
        Setting((low_rank(1.3),), 2.8),
        Setting(both(1.1, 1.3), 2.8),
        Setting((low_rank(1.5),), 5.5),
        Setting(both(1.1, 1.5), 4.7),
    ),
}


def networks(folder: Path, latency: bool, pictures: Path | None) -> None:
    """The CIFAR-10 networks of MLPerf Tiny."""
    table = Table("network", "passes", *columns(latency))
    for name, settings in NETWORKS.items():
        network = opened(name, folder)
        curves: dict[str, list[Outcome]] = {}
        for setting in settings:
            outcome = smaller(network, setting.passes, folder, latency)
            way = " + ".join(step.partition(":")[0] for step in setting.passes)
            curves.setdefault(way, []).append(outcome)
            table.add_row(name, " ".join(setting.passes), *row(outcome, setting.goal))
        if pictures is not None:
            draw(curves, f"{name}: low rank", pictures / f"low_rank_{name}.png")
    table.title = f"512 unlabelled images; time relative to the source, interleaved, one thread ({machine()})"
    show(table)


def autoencoder(folder: Path, *_: object) -> None:
    """MLPerf Tiny's, with half of its parameters: how far outputs are from the float model's on inputs in range."""
    task = TASKS["auto-encoder"]
    inputs = task.inputs()
    expected = in_onnxruntime(task.source, inputs.test)
    table = Table("passes", "parameters", "of source", "SQNR", "goal", title="auto-encoder")
    whole = edgecc.load(task.source).parameter_count
    for step in ("factorize-low-rank:params=0.75", "factorize-low-rank:params=0.49", "factorize-low-rank:params=0.3"):
        result = edgecc.compile(
            task.source, "onnxruntime", folder / "smaller.onnx", passes=[step], calibration=inputs.calibration
        )
        found = fidelity(expected, in_onnxruntime(result.path, inputs.test)).sqnr_db
        left = result.model.parameter_count
        goal = f"20 dB {'reached' if found >= 20 else 'MISSED'}" if left <= whole / 2 else ""
        table.add_row(step, f"{left:,}", f"{left / whole:.3f}", f"{found:.1f} dB", goal)
    show(table)


#: What is done to the sentence encoder: hidden units and heads, heads alone, layers alone, factors.
ENCODER = (
    "prune-channels:params=0.75",
    "prune-heads:ratio=0.25",
    "prune-layers:blocks=1",
    "factorize-low-rank:params=0.75",
)


def minilm(folder: Path, *_: object) -> None:
    """A sentence encoder: the rank correlation of its cosines with what people say (STS-B, test)."""
    source = Path(os.environ.get("MINILM", ""))
    if not source.is_file():
        print("minilm: MINILM does not name the file that python -m benchmarks.exports.minilm writes", file=sys.stderr)
        return
    table = Table("passes", "layers' weights", "Spearman", "drop", "may drop", title="all-MiniLM-L6-v2")
    best = whole = 0.0
    for passes in ((), *((step,) for step in ENCODER)):
        result = edgecc.compile(
            source,
            "onnxruntime",
            folder / "smaller.onnx",
            passes=list(passes),
            shapes=dict.fromkeys(("input_ids", "attention_mask"), (1, TOKENS)),
            calibration=sentences() if passes else None,
        )
        found, weights = correlation(session(result.path)), _weights(result.model)
        best, whole = best or found, whole or weights
        goal = f"0.02 {'reached' if best - found <= 0.02 else 'MISSED'}" if weights <= 0.751 * whole else ""
        table.add_row(" ".join(passes), f"{weights / whole:.3f}", f"{found:.4f}", f"{best - found:+.4f}", goal)
    show(table)


def sentences(orders: int = 3) -> dict[str, np.ndarray]:
    """Unlabelled sentences, several in a row of tokens, in a few random orders.

    One sentence takes ten of the 64 tokens: alone, nine of ten rows that layers are fitted to would be of padding.
    """
    with np.load(DATA / "stsb_calib512_tokens.npz") as data:
        pairs = zip(data["input_ids"], data["attention_mask"], strict=True)
        found = [tokens[mask.astype(bool)] for tokens, mask in pairs]
    rng = np.random.default_rng(0)
    rows: list[list[int]] = []
    for _ in range(orders):
        rows.append([])
        for index in rng.permutation(len(found)):
            if len(rows[-1]) + len(found[index]) > TOKENS:
                rows.append([])
            rows[-1] += found[index].tolist()
    ids = np.array([row + [0] * (TOKENS - len(row)) for row in rows], np.int64)
    return {"input_ids": ids, "attention_mask": (ids != 0).astype(np.int64)}


def _weights(model: edgecc.Model) -> int:
    """Values in the weights of matrix products."""
    found = [constant(node, 1) for node in model.nodes(*LINEAR)]
    return sum(values.size for values in found if values is not None)


PARTS = {"networks": networks, "autoencoder": autoencoder, "minilm": minilm}


def main(arguments: Sequence[str]) -> None:
    if arguments[:1] == ["latency"]:
        print_latency(arguments[1:], LOW_RANK)
        return
    latency = "--no-latency" not in arguments
    for name in [name for name in arguments if not name.startswith("--")] or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            PARTS[name](Path(folder), latency, folder_of(arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
