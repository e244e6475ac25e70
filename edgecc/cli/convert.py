"""`edgecc convert`."""

from __future__ import annotations

from pathlib import Path

import click

from edgecc.cli.options import importer_option, json_option, parse_key_values, parse_shapes, shape_option
from edgecc.cli.output import status


@click.command("convert")
@click.argument("source")
@click.argument("out")
@click.option("-t", "--target", metavar="T[:key=value,...]", help="Read from OUT's suffix if not given.")
@click.option("-O", "optimize", metavar="LEVEL", help="Preset of passes that run first: -O1 (default), -O0 for none.")
@click.option("--verify", is_flag=True, help="Execute the model before and after every pass that must keep its values.")
@shape_option
@importer_option
@json_option
def command(
    source: str,
    out: str,
    target: str | None,
    optimize: str | None,
    verify: bool,
    shapes: tuple[str, ...],
    importer: tuple[str, ...],
    as_json: bool,
) -> None:
    """Convert SOURCE to the format that OUT's suffix names: the same values, nothing compressed."""
    from edgecc.api import target_for_output
    from edgecc.cli.compile import print_result
    from edgecc.compiler import run_recipe
    from edgecc.recipe import make_recipe

    chosen = target or target_for_output(Path(out))
    values = {
        "source": source,
        "target": chosen,
        "output": out,
        "shapes": parse_shapes(shapes),
        "importer": parse_key_values(importer),
        "verify": verify,
    }
    recipe = make_recipe(values if optimize is None else {**values, "optimize": optimize})
    with status() as progress:
        result = run_recipe(recipe, progress=progress)
    print_result(result, as_json=as_json)
