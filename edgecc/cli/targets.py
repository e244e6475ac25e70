"""`edgecc targets`."""

from __future__ import annotations

import inspect

import click

from edgecc.cli.options import json_option
from edgecc.cli.output import print_json, print_table


@click.command("targets")
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """List targets and whether they can be compiled and run here, or show one with its options."""
    from edgecc.options import describe, doc_of
    from edgecc.registry import default_registry

    registry = default_registry()
    if name:
        backend = registry.backend(name)
        target = backend.target
        if as_json:
            print_json(
                {
                    "name": name,
                    "doc": inspect.getdoc(target),
                    "schema": target.model_json_schema(),
                    "runtime_schema": backend.runtime.model_json_schema(),
                }
            )
            return
        click.echo(f"{name} ({' '.join(target.suffixes)})\n\n{doc_of(target)}\n")
        print_table(["option", "type", "default", "what"], describe(target))
        if backend.runtime.model_fields:
            click.echo()
            print_table(["runtime option", "type", "default", "what"], describe(backend.runtime))
        return
    rows = []
    for target_name, backend in sorted(registry.backends.items()):
        compiles, runs = backend.can_compile(), backend.can_run()
        reason = compiles.reason or runs.reason
        hint = compiles.hint or runs.hint
        owner = registry.owner("target", target_name)
        rows.append(
            [
                target_name,
                " ".join(backend.target.suffixes),
                "yes" if compiles else "no",
                "yes" if runs else "no",
                owner.distribution if owner else "",
                f"{reason}; {hint}" if hint else reason,
            ]
        )
    columns = ["target", "files", "compiles here", "runs here", "from", "why not"]
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
        return
    print_table(columns, rows)
    for plugin in registry.plugins:
        if plugin.error:
            click.echo(f"plugin {plugin.name} ({plugin.distribution}) is broken: {plugin.error}", err=True)
