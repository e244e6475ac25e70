"""The hooks that a plugin can implement.

A plugin is a module named by an entry point in the group `edgecc`; it implements hooks with `@hookimpl`:

    from edgecc.hookspecs import hookimpl

    @hookimpl
    def edgecc_passes():
        from my_plugin.remove_dropout import RemoveDropout
        return [RemoveDropout]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import click

    from edgecc.backend import Backend
    from edgecc.backend_entry import BackendEntry
    from edgecc.importers.base import Importer
    from edgecc.passes.base import Pass
    from edgecc.passes.entry import PassEntry
    from edgecc.passes.pipeline import Instrument
    from edgecc.presets import Preset
    from edgecc.rewriting.rewrite import Rewrite

GROUP = "edgecc"
hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def edgecc_importers() -> list[type[Importer]]:
    """Importers: which files they read, and how."""
    raise AssertionError("a specification is never called")


@hookspec
def edgecc_passes() -> list[type[Pass] | PassEntry]:
    """Passes, by class, or by entries that name what is imported when it is needed."""
    raise AssertionError("a specification is never called")


@hookspec
def edgecc_presets() -> list[Preset]:
    """Lists of passes for `-O NAME`; one with the name of another, such as `1`, adds its passes to that one."""
    raise AssertionError("a specification is never called")


@hookspec
def edgecc_rewrites() -> list[Rewrite]:
    """Further patterns for passes that rewrite by pattern; `extends` names the pass."""
    raise AssertionError("a specification is never called")


@hookspec
def edgecc_backends() -> list[type[Backend] | BackendEntry]:
    """Backends, each with its target, by class, or by entries that name what is imported when it is needed."""
    raise AssertionError("a specification is never called")


@hookspec
def edgecc_lowerings() -> list[object]:
    """Lowering rules for backends that are tables of rules, such as `edgecc_tflite.lowerings.base.LoweringRule`.

    A rule is an object with `backend` (the backend's name); the backend takes those that are its own.
    """
    raise AssertionError("a specification is never called")


@hookspec
def edgecc_instruments() -> list[type[Instrument]]:
    """Classes whose objects watch passes run; made without arguments, once per compilation."""
    raise AssertionError("a specification is never called")


@hookspec
def edgecc_commands() -> list[click.Command]:
    """Commands added to `edgecc`."""
    raise AssertionError("a specification is never called")
