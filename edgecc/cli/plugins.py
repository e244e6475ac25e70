"""`edgecc plugins`."""

from __future__ import annotations

import click

from edgecc.cli.options import json_option
from edgecc.cli.output import print_json, print_table


@click.command("plugins")
@json_option
def command(as_json: bool) -> None:
    """List plugins, what they bring, and why a broken one is broken."""
    from edgecc.registry import default_registry

    registry = default_registry()
    # Hooks run when they are first asked for: only then is it known which plugins fail.
    _ = (registry.passes, registry.backends, registry.importers, registry.commands, registry.instruments)
    columns = ["plugin", "package", "version", "brings", "problem"]
    rows = []
    for plugin in registry.plugins:
        brings = ", ".join(hook.removeprefix("edgecc_") for hook in plugin.hooks)
        problem = f"{plugin.error}; pip install --force-reinstall {plugin.distribution}" if plugin.error else ""
        rows.append([plugin.name, plugin.distribution, plugin.version, brings, problem])
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
        return
    print_table(columns, rows)
