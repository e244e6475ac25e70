"""`edgecc compile`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecc.cli.losses import print_losses
from edgecc.cli.options import importer_option, json_option, parse_key_values, parse_shapes, shape_option
from edgecc.cli.output import format_bytes, log, print_json, print_table, status
from edgecc.options import parse_spec
from edgecc.recipe import QUANTIZE_PASSES, make_recipe, read_recipe

if TYPE_CHECKING:
    from edgecc.compiler import CompileResult

#: Reasons of skipped nodes printed before the rest is only counted; the report has all.
_LINES_SHOWN = 5


@click.command("compile")
@click.argument("source", required=False)
@click.option("-t", "--target", metavar="T[:key=value,...]", help="What to compile for; `edgecc targets` lists them.")
@click.option("-o", "--output", metavar="OUT", help="Artifact to write; its report goes to OUT.report.json.")
@click.option(
    "--recipe", "recipe_file", metavar="R.toml", help="Read the request from a file; flags override its keys."
)
@click.option("-O", "optimize", metavar="LEVEL", help="Preset of passes that run first: -O1 (default), -O0 for none.")
@click.option(
    "--pass", "passes", multiple=True, metavar="NAME[:key=value,...]", help="Run a pass; repeatable, in order."
)
@click.option(
    "--prune", metavar="SHARE", help="Let so much of the multiply-accumulates go, by channels; or latency=0.7 ..."
)
@click.option(
    "--low-rank", metavar="SHARE", help="Let so much of what is left go, by factorizing layers; or latency=0.7 ..."
)
@click.option("--quantize", type=click.Choice(sorted(QUANTIZE_PASSES)), help="Precision preset.")
@click.option(
    "--calibration", metavar="DATA", help="Samples: .npz, package.module:function, random, or statistics in .json."
)
@click.option("--samples", type=click.IntRange(min=1), help="How many of the samples are used (default: all).")
@click.option(
    "--held-out",
    metavar="DATA",
    help="Samples that what is lost is measured on (default: every eighth of --calibration).",
)
@click.option(
    "--max-drop",
    type=float,
    metavar="POINTS",
    help="Take a lossy pass back with which more points of top-1 agreement with SOURCE are lost in all.",
)
@click.option("--min-sqnr", type=float, metavar="DB", help="Take a lossy pass back with which an output has less.")
@click.option("--save-statistics", metavar="T.json", help="Write what was measured, for --calibration T.json.")
@shape_option
@importer_option
@click.option("--verify", is_flag=True, help="Execute the model before and after every pass that must keep its values.")
@click.option(
    "--measure/--no-measure",
    default=None,
    help="Keep layers in float that integers make slower on this machine, and whole that factors make slower "
    "(default: --quantize int8 and --low-rank for onnxruntime).",
)
@click.option("--seed", type=int, help="Of the random generator that passes may use.")
@click.option("--print-recipe", is_flag=True, help="Print what the flags mean as TOML, and stop.")
@json_option
def command(
    source: str | None,
    target: str | None,
    output: str | None,
    recipe_file: str | None,
    optimize: str | None,
    passes: tuple[str, ...],
    prune: str | None,
    low_rank: str | None,
    quantize: str | None,
    calibration: str | None,
    samples: int | None,
    held_out: str | None,
    max_drop: float | None,
    min_sqnr: float | None,
    save_statistics: str | None,
    shapes: tuple[str, ...],
    importer: tuple[str, ...],
    verify: bool,
    measure: bool | None,
    seed: int | None,
    print_recipe: bool,
    as_json: bool,
) -> None:
    """Compile SOURCE for a target."""
    values: dict[str, Any] = read_recipe(Path(recipe_file)) if recipe_file else {}
    flags = {
        "source": source,
        "target": target,
        "output": output,
        "passes": passes,
        "quantize": quantize,
        "calibration": calibration,
        "samples": samples,
        "held_out": held_out,
        "verify": verify,
    }
    values |= {key: value for key, value in flags.items() if value}
    # Here "" and 0 were given too: as no level and no share they must be refused, and a drop of 0 is none.
    stated = {
        "optimize": optimize,
        "prune": prune,
        "low_rank": low_rank,
        "max_drop": max_drop,
        "min_sqnr": min_sqnr,
        "measure": measure,
        "seed": seed,
    }
    values |= {key: value for key, value in stated.items() if value is not None}
    for table, given in (("shapes", parse_shapes(shapes)), ("importer", parse_key_values(importer))):
        known = values.get(table, {})
        if given:
            values[table] = {**(known if isinstance(known, dict) else {}), **given}
    if not values.get("target") and isinstance(values.get("output"), str) and values["output"]:
        from edgecc.api import target_for_output

        values["target"] = target_for_output(Path(values["output"]))
    recipe = make_recipe(values, where=recipe_file or "")
    if print_recipe:
        click.echo(recipe.to_toml(), nl=False)
        return
    from edgecc.compiler import run_recipe

    with status() as progress:
        result = run_recipe(recipe, progress=progress, work_progress=progress.work)
    if save_statistics:
        result.statistics.save(Path(save_statistics))
    print_result(result, as_json=as_json)


def print_result(result: CompileResult, *, as_json: bool) -> None:
    """What was written, what each pass did, what was left alone."""
    if as_json:
        print_json({"output": str(result.path), "report": result.artifact.report})
        return
    changed = [record for record in result.pipeline.records if record.changed]
    if changed:
        rows = [[r.spec, f"{r.nodes_before}", f"{r.nodes_after}", f"{r.seconds * 1e3:.0f} ms"] for r in changed]
        print_table(["pass", "nodes before", "after", "time"], rows, right=["nodes before", "after", "time"])
    # Those of -O1 are in the report, and `inspect --explain` tells: only who asks for a pass waits for an answer.
    asked = {parse_spec(spec)[0] for spec in result.recipe.all_passes}
    skips = [skip for skip in result.pipeline.skips if skip.pass_name in asked]
    for skip in skips[:_LINES_SHOWN]:
        log(f"left alone by {skip.pass_name}: {skip.node} ({skip.op}): {skip.reason}")
    if len(skips) > _LINES_SHOWN:
        log(f"... and {len(skips) - _LINES_SHOWN} more in {result.artifact.report_path}")
    if result.losses is not None:
        print_losses(result.losses)
    lost = result.artifact.report["not_carried"]
    for line in lost[:_LINES_SHOWN]:
        log(f"not carried: {line}")
    if len(lost) > _LINES_SHOWN:
        log(f"... and {len(lost) - _LINES_SHOWN} more in {result.artifact.report_path}")
    for note in result.notes:
        log(f"note: {note}")
    click.echo(f"{result.path}  {format_bytes(result.artifact.nbytes)}  ({result.recipe.target})")
