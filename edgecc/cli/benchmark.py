"""`edgecc benchmark`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecc.cli.options import json_option, parse_key_values, runtime_option
from edgecc.cli.output import exit_code, format_bytes, format_seconds, log, print_json, print_table, progress_bar

if TYPE_CHECKING:
    from edgecc.measuring.benchmark import BenchmarkResult

_COLUMNS = [
    "artifact",
    "target",
    "size",
    "median",
    "p90",
    "p99",
    "per second",
    "first run",
    "load",
    "peak memory",
    "ratio",
]


@click.command("benchmark")
@click.argument("artifacts", nargs=-1, required=True, metavar="ARTIFACT...")
@click.option("-t", "--target", default="", help="Whose runtime runs them; by report or suffix if not given.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1), help="Of the runtime.")
@click.option("--iterations", default=100, show_default=True, type=click.IntRange(1), help="Runs that count.")
@click.option(
    "--warmup", default=5, show_default=True, type=click.IntRange(0), help="Runs before the first that counts."
)
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1), help="Turns that artifacts take.")
@click.option("--max-seconds", default=30.0, show_default=True, help="Stop an artifact early after this time.")
@runtime_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    artifacts: tuple[str, ...],
    target: str,
    threads: int,
    iterations: int,
    warmup: int,
    rounds: int,
    max_seconds: float,
    runtime: tuple[str, ...],
    as_json: bool,
) -> None:
    """Measure artifacts, each in a process of its own, in turns: latency, load time, peak memory, size.

    An artifact whose runtime or device is not on this machine is a row that says so; one that fails makes the exit
    code 1.
    """
    from edgecc.measuring.benchmark import benchmark

    with progress_bar("benchmark") as bar:
        results = benchmark(
            artifacts,
            target=target,
            threads=threads,
            options=parse_key_values(runtime),
            warmup=warmup,
            iterations=iterations,
            rounds=rounds,
            max_seconds=max_seconds,
            progress=bar.update,
        )
    if as_json:
        print_json([result.to_dict() for result in results])
    else:
        _print(results)
    ctx.exit(exit_code([(result.error, result.unavailable) for result in results]))


def _print(results: list[BenchmarkResult]) -> None:
    print_table(_COLUMNS, [_row(result) for result in results], right=_COLUMNS[2:])
    for result in results:
        if result.error:
            log(f"{Path(result.artifact).name} was not measured: {result.error}")


def _row(result: BenchmarkResult) -> list[str]:
    rate = result.runs_per_second
    return [
        Path(result.artifact).name,
        result.target,
        format_bytes(result.artifact_bytes),
        format_seconds(result.median),
        format_seconds(result.p90),
        format_seconds(result.p99),
        "-" if rate is None else f"{rate:.0f}",
        format_seconds(result.first_run),
        format_seconds(result.load),
        format_bytes(result.peak_rss),
        "-" if result.ratio is None else str(result.ratio),
    ]
