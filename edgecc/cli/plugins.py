"""`edgecc plugins`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgecc.cli.options import json_option
from edgecc.cli.output import log, print_json, print_table
from edgecc.errors import PluginError

if TYPE_CHECKING:
    from edgecc.registry import Registry


@click.command("plugins")
@json_option
def command(as_json: bool) -> None:
    """List plugins, what they bring, and why a broken one is broken."""
    from edgecc.registry import default_registry

    registry = default_registry()
    _ask_all(registry)
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


def _ask_all(registry: Registry) -> None:
    """Let every hook run, as each does when it is first asked for: only then is it known which plugins fail."""
    registry.lowerings("")
    registry.rewrites("")
    for kind in ("passes", "presets", "backends", "importers", "commands", "instruments"):
        try:
            getattr(registry, kind)
        except PluginError as error:  # two plugins bring one name, and this list is where their names are looked up
            log(str(error))
