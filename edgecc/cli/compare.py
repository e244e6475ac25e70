"""`edgecc compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecc.cli.options import json_option, parse_key_values, runtime_option
from edgecc.cli.output import exit_code, format_bytes, format_seconds, log, print_json, print_table, progress_bar

if TYPE_CHECKING:
    from edgecc.measuring.benchmark import BenchmarkResult
    from edgecc.measuring.compare import CompareResult, Comparison
    from edgecc.measuring.metrics import Fidelity
    from edgecc.measuring.parity import Parity

_FIDELITY = [
    "artifact",
    "output",
    "max error",
    "mean error",
    "relative",
    "SQNR",
    "cosine",
    "top-1 agreement",
    "accuracy",
]
_PARITY = ["artifacts", "output", "same top-1", "max LSB", "max error", "equal", "LSB"]
_COST = ["artifact", "target", "size", "median", "p90", "peak memory"]


@click.command("compare")
@click.argument("artifacts", nargs=-1, required=True, metavar="ARTIFACT...")
@click.option("--source", help="The reference model; the one that the first artifact's report names if not given.")
@click.option("--data", help="Samples to run (.npz, one array per input, `labels` beside them); random if not given.")
@click.option("--samples", type=click.IntRange(1), help="How many; all of the data if not given.")
@click.option("-t", "--target", default="", help="Whose runtime runs the artifacts; by report or suffix if not given.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1), help="Of the runtimes.")
@click.option("--latency/--no-latency", default=True, show_default=True, help="Measure time and memory too.")
@runtime_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    artifacts: tuple[str, ...],
    source: str | None,
    data: str | None,
    samples: int | None,
    target: str,
    threads: int,
    latency: bool,
    runtime: tuple[str, ...],
    as_json: bool,
) -> None:
    """Compare artifacts with their source on the same inputs: what was lost, and what it costs.

    Several are compared with each other as well: of one model quantized for several targets, on how many samples they
    agree in top-1, and the largest difference in steps of the output's integers (LSB).

    An artifact whose runtime or device is not on this machine is a row that says so; one that fails makes the exit
    code 1.
    """
    from edgecc.measuring.benchmark import benchmark
    from edgecc.measuring.compare import compare

    options = parse_key_values(runtime)
    with progress_bar("compare") as bar:
        result = compare(
            artifacts,
            source=source,
            data=data,
            target=target,
            samples=samples,
            threads=threads,
            options=options,
            progress=bar.update,
        )
    costs: list[BenchmarkResult] = []
    if latency:
        with progress_bar("benchmark") as bar:
            costs = benchmark(artifacts, target=target, threads=threads, options=options, progress=bar.update)
    if as_json:
        print_json({**result.to_dict(), "costs": [cost.to_dict() for cost in costs]})
    else:
        _print(result, costs)
    failures = [(row.error, row.unavailable) for row in result.comparisons]
    ctx.exit(exit_code([*failures, *((cost.error, cost.unavailable) for cost in costs)]))


def _print(result: CompareResult, costs: list[BenchmarkResult]) -> None:
    click.echo(f"against {result.source} on {result.data}")
    if result.accuracy is not None:
        click.echo(f"accuracy of the source: {result.accuracy:.2%}")
    rows = [row for comparison in result.comparisons for row in _fidelity_rows(comparison)]
    print_table(_FIDELITY, rows, right=_FIDELITY[2:])
    if result.parity:
        click.echo()
        parity = [_parity_row(row) for row in result.parity]
        print_table(_PARITY, parity, title="artifacts against each other", right=_PARITY[2:])
    if costs:
        click.echo()
        print_table(_COST, [_cost_row(cost) for cost in costs], right=_COST[2:])
    for comparison in result.comparisons:
        for note in comparison.notes:
            log(f"note: {Path(comparison.artifact).name}: {note}")
        if comparison.error:
            log(f"{Path(comparison.artifact).name} was not compared: {comparison.error}")


def _fidelity_rows(comparison: Comparison) -> list[list[str]]:
    name = Path(comparison.artifact).name
    if comparison.error:
        return [[name, *["-"] * (len(_FIDELITY) - 1)]]
    accuracy = "-" if comparison.accuracy is None else f"{comparison.accuracy:.2%}"
    return [[name, output, *_figures(values), accuracy] for output, values in comparison.outputs.items()]


def _figures(values: Fidelity) -> list[str]:
    return [
        f"{values.max_abs:.3g}",
        f"{values.mean_abs:.3g}",
        f"{values.relative:.3g}",
        f"{values.sqnr_db:.1f} dB",
        f"{values.cosine:.6f}",
        "-" if values.top1 is None else f"{values.top1:.2%}",
    ]


def _parity_row(row: Parity) -> list[str]:
    return [
        f"{Path(row.first).name}, {Path(row.second).name}",
        row.output,
        "-" if row.top1 is None else f"{row.top1:.2%}",
        "-" if row.max_steps is None else f"{row.max_steps:.1f}",
        f"{row.max_abs:.3g}",
        f"{row.equal:.2%}",
        "-" if row.step is None else f"{row.step:.3g}",
    ]


def _cost_row(cost: BenchmarkResult) -> list[str]:
    return [
        Path(cost.artifact).name,
        cost.target,
        format_bytes(cost.artifact_bytes),
        format_seconds(cost.median),
        format_seconds(cost.p90),
        format_bytes(cost.peak_rss),
    ]
