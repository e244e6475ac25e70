"""`edgecc passes`."""

from __future__ import annotations

import inspect

import click

from edgecc.cli.options import json_option
from edgecc.cli.output import print_json, print_table


@click.command("passes")
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """List passes, or show one with its options."""
    from edgecc.options import describe, doc_of
    from edgecc.presets import DEFAULT
    from edgecc.registry import default_registry

    registry = default_registry()
    if name:
        cls = registry.pass_class(name)
        options = describe(cls)
        if as_json:
            print_json(
                {"name": name, "loss": cls.loss.value, "doc": inspect.getdoc(cls), "schema": cls.model_json_schema()}
            )
            return
        click.echo(f"{name} ({cls.loss.value})\n\n{doc_of(cls)}\n")
        print_table(["option", "type", "default", "what"], options)
        return
    order = {spec: str(number) for number, spec in enumerate(registry.preset(DEFAULT).passes, start=1)}
    rows = []
    for pass_name, cls in sorted(registry.passes.items()):
        owner = registry.owner("pass", pass_name)
        rows.append(
            [pass_name, order.get(pass_name, ""), cls.loss.value, owner.distribution if owner else "", first_line(cls)]
        )
    if as_json:
        print_json([dict(zip(("name", "o1", "loss", "from", "what"), row, strict=True)) for row in rows])
        return
    print_table(["pass", "-O1", "loss", "from", "what"], rows)


def first_line(thing: object) -> str:
    """The summary of a docstring."""
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")
