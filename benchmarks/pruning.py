"""Accuracy without labels or training: `prune-channels` on small networks, against channels chosen by magnitude.

Run it with `python -m benchmarks.pruning [resnet8|large|keywords ...] [--default] [--latency] [--curves=FOLDER]`; it
needs ../shared/data. Passes see 512 unlabelled images, or 168 recordings; accuracy is that on the 2,000 test images
(the standard error of a difference is about 0.6 points) or 400 recordings (1 point). `--default` leaves out the other
ways, `--latency` takes times relative to the source, interleaved, one thread, and `--curves` draws points lost against
what is left, with Matplotlib. `python -m benchmarks.pruning latency` measures time alone, of larger networks too, and
`python -m benchmarks.pruning scale MODEL.onnx ...` what pruning large models takes, in seconds and memory.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from rich.table import Table

from benchmarks.compression import NETWORKS, Outcome, columns, draw, folder_of, opened, row, smaller
from benchmarks.measuring import machine, show
from benchmarks.pruning_scale import scale
from benchmarks.smaller_latency import PRUNING
from benchmarks.smaller_latency import latency as print_latency

#: How many times fewer multiply-accumulates, and the most points that the default may lose.
FACTORS: dict[str, dict[float, float | None]] = {
    "resnet8": {1.3: 4.2, 1.5: 8.5},
    "large": {1.3: 1.6, 1.5: 2.6, 2.0: 6.0},
    "keywords": {1.3: 2.0, 1.5: None},
}
DEFAULT = "obs + repair (default)"
#: Each way to prune, as the options behind the budget.
WAYS = {
    "magnitude, no repair": "criterion=magnitude,repair=false",
    "magnitude + repair": "criterion=magnitude",
    "obs + repair by closed forms alone": "epochs=0",
    DEFAULT: "",
}


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["latency"]:
        print_latency(arguments[1:], PRUNING)
        return
    if arguments[:1] == ["scale"]:
        scale(arguments[1:])
        return
    latency, pictures = "--latency" in arguments, folder_of(arguments)
    names = [name for name in arguments if not name.startswith("--")] or list(NETWORKS)
    ways = {DEFAULT: ""} if "--default" in arguments else WAYS
    table = Table("network", "way", *columns(latency), title=f"pruning ({machine()})")
    for name in names:
        curves: dict[str, list[Outcome]] = {way: [] for way in ways}
        with tempfile.TemporaryDirectory() as folder:
            network = opened(name, Path(folder))
            for factor, goal in FACTORS[name].items():
                for way, options in ways.items():
                    step = f"prune-channels:macs={1 / factor:.6f}{',' + options if options else ''}"
                    outcome = smaller(network, [step], Path(folder), latency)
                    curves[way].append(outcome)
                    table.add_row(name, way, *row(outcome, goal if way == DEFAULT else None))
        if pictures is not None:
            draw(curves, f"{name}: prune-channels", pictures / f"pruning_{name}.png")
    show(table)


if __name__ == "__main__":
    main(sys.argv[1:])
