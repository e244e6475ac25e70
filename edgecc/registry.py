"""Registry: everything that plugins bring, typed, built once.

pluggy is seen by nothing but this module and `hookspecs`.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy

from edgecc import hookspecs
from edgecc.backend_entry import BackendEntry, BackendTable
from edgecc.distributions import name_and_version
from edgecc.errors import PluginError, UnknownNameError
from edgecc.passes.entry import PassTable

if TYPE_CHECKING:
    import click

    from edgecc.backend import Backend
    from edgecc.importers.base import Importer
    from edgecc.passes.base import Pass
    from edgecc.passes.pipeline import Instrument
    from edgecc.presets import Preset
    from edgecc.rewriting.rewrite import Rewrite

T = TypeVar("T")

#: First-party plugins and what installs them, for the hint when one is missing.
_FIRST_PARTY = {
    "tflite": "pip install edgecc-tflite",
    "onnxruntime": "pip install edgecc-onnxruntime",
    "tensorrt": "pip install edgecc-tensorrt",
    "torch": "pip install edgecc-torch",
}
#: Suffix to the target whose users know it, for the same hint where the target is only implied.
_FIRST_PARTY_SUFFIXES = {
    ".tflite": "tflite",
    ".onnx": "onnxruntime",
    ".ort": "onnxruntime",
    ".engine": "tensorrt",
    ".pt2": "torch",
}
#: Comma-separated names of the plugins to load; everything if unset. The quickest way to find a plugin that misbehaves.
SELECT_VARIABLE = "EDGECC_PLUGINS"


@dataclass(frozen=True)
class Plugin:
    """One entry point.

    Attributes:
        name: of the entry point.
        distribution, version: of the package that declares it.
        module: what it names.
        error: why it could not be loaded; "" if it was.
        hooks: names of the hooks it implements.
    """

    name: str
    distribution: str
    version: str
    module: str
    error: str = ""
    hooks: tuple[str, ...] = ()


@dataclass
class Registry:
    """Names to what plugins bring; `owner` says which plugin brought `kind name`.

    Attributes:
        plugins: every one that was looked at, broken ones with their reason.
        left_out: names of those that SELECT_VARIABLE leaves out.
    """

    plugins: list[Plugin] = field(default_factory=list)
    left_out: tuple[str, ...] = ()
    _implementations: dict[str, list[tuple[Plugin, Any]]] = field(default_factory=dict)
    _conflicts: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, plugin: Plugin, module: object) -> None:
        """Register a plugin's module; a plugin that cannot be registered is kept with its error."""
        manager = pluggy.PluginManager(hookspecs.GROUP)
        manager.add_hookspecs(hookspecs)
        try:
            manager.register(module, plugin.name)
            manager.check_pending()
        except pluggy.PluginValidationError as error:
            self.plugins.append(_failed(plugin, error))
            return
        hooks = []
        for caller in manager.get_hookcallers(module) or ():
            hooks.append(caller.name)
            for implementation in caller.get_hookimpls():
                self._implementations.setdefault(caller.name, []).append((plugin, implementation.function))
        self.plugins.append(
            Plugin(plugin.name, plugin.distribution, plugin.version, plugin.module, "", tuple(sorted(hooks)))
        )

    def fail(self, plugin: Plugin, error: BaseException) -> None:
        """Keep a plugin that could not be imported, with its reason."""
        self.plugins.append(_failed(plugin, error))

    @functools.cached_property
    def importers(self) -> dict[str, type[Importer]]:
        return self._collect("edgecc_importers", "importer", lambda cls: str(cls.name))

    @functools.cached_property
    def passes(self) -> PassTable:
        return PassTable(self._collect("edgecc_passes", "pass", lambda item: str(item.name)))

    @functools.cached_property
    def backends(self) -> BackendTable:
        def name_of(item: type[Backend] | BackendEntry) -> str:
            return str(item.name if isinstance(item, BackendEntry) else item.target.name)

        def prepare(name: str, backend: Backend) -> None:
            backend.plugin_lowerings = functools.partial(self.lowerings, name)

        def fail(name: str, error: Exception) -> None:
            self._mark_broken(self._owners["target", name], error)

        return BackendTable(self._collect("edgecc_backends", "target", name_of), prepare, fail)

    @functools.cached_property
    def commands(self) -> dict[str, click.Command]:
        return self._collect("edgecc_commands", "command", lambda command: str(command.name))

    @functools.cached_property
    def instruments(self) -> list[type[Instrument]]:
        return [cls for _, cls in self._items("edgecc_instruments")]

    @functools.cached_property
    def presets(self) -> dict[str, Preset]:
        """By name; several plugins may add to one."""
        from edgecc.presets import Preset, merged

        return merged(preset for _, preset in self._valid("edgecc_presets", Preset, self._preset_problem))

    def preset(self, name: str) -> Preset:
        if name not in self.presets:
            raise UnknownNameError("preset", name, self.presets, where="-O")
        return self.presets[name]

    def rewrites(self, pass_name: str) -> list[Rewrite]:
        """The patterns that plugins add to a pass."""
        return [rewrite for rewrite in self._rewrites if rewrite.extends == pass_name]

    @functools.cached_property
    def _rewrites(self) -> list[Rewrite]:
        if not self._implementations.get("edgecc_rewrites"):
            return []  # without importing what rewrites are made of
        from edgecc.rewriting.rewrite import Rewrite

        # mypy takes an abstract class for no value of type[T], although nothing is made of it here.
        valid = self._valid("edgecc_rewrites", Rewrite, self._rewrite_problem)  # type: ignore[type-abstract]
        return [rewrite for _, rewrite in valid]

    def _valid(self, hook: str, kind: type[T], problem_of: Callable[[T], str]) -> Iterable[tuple[Plugin, T]]:
        """What plugins bring of that kind; one that brings anything else is broken, and all that it brings left out."""
        brought: dict[str, list[tuple[Plugin, T]]] = {}
        for plugin, item in self._items(hook):
            is_kind = isinstance(item, kind)
            problem = problem_of(item) if is_kind else f"{hook} gave {item!r}, which is no {kind.__name__}"
            if problem:
                self._mark_broken(plugin, TypeError(problem))
            elif is_kind:
                brought.setdefault(plugin.name, []).append((plugin, item))
        broken = {plugin.name for plugin in self.plugins if plugin.error}
        return [pair for name, pairs in brought.items() if name not in broken for pair in pairs]

    def _preset_problem(self, preset: Preset) -> str:
        from edgecc.options import parse_spec
        from edgecc.passes.base import Loss
        from edgecc.presets import BUILTIN, DEFAULT, NOTHING

        if preset in BUILTIN:
            return ""  # a test looks at these: it would import every pass here
        if not isinstance(preset.passes, tuple) or not all(isinstance(spec, str) for spec in preset.passes):
            return f"the passes of preset {preset.name!r} are not a tuple of texts: {preset.passes!r}"
        if preset.name == NOTHING and preset.passes:
            return f"preset {NOTHING!r} means that nothing runs, so that it takes no passes"
        for name in (parse_spec(spec)[0] for spec in preset.passes):
            if name not in self.passes:
                return f"preset {preset.name!r} names pass {name!r}, and there is no such pass"
            if preset.name == DEFAULT and self.passes[name].loss is Loss.LOSSY:
                return f"preset {DEFAULT!r} keeps values, and pass {name!r} does not"
        return ""

    def _rewrite_problem(self, rewrite: Rewrite) -> str:
        from edgecc.rewriting.rewrite import RewritePass

        what = f"rewrite {type(rewrite).__name__}"
        if not hasattr(rewrite, "pattern"):
            return f"{what} has no pattern"
        extended = self.passes.get(rewrite.extends)
        if extended is None:
            return f"{what} extends {rewrite.extends!r}, and there is no such pass"
        return "" if issubclass(extended, RewritePass) else f"{what} extends {rewrite.extends!r}, which has no patterns"

    def lowerings(self, backend: str) -> list[Any]:
        """The rules that plugins add to the table of one backend."""
        return [rule for _, rule in self._items("edgecc_lowerings") if getattr(rule, "backend", "") == backend]

    def owner(self, kind: str, name: str) -> Plugin | None:
        """The plugin that brought `kind` ("pass", "target", "importer", "command") of that name."""
        getattr(self, {"pass": "passes", "target": "backends", "importer": "importers", "command": "commands"}[kind])
        return self._owners.get((kind, name))

    def pass_class(self, name: str) -> type[Pass]:
        return self._get("pass", self.passes, name)

    def backend(self, name: str) -> Backend:
        return self._get("target", self.backends, name)

    def backend_for_suffix(self, suffix: str) -> Backend:
        """The backend whose target writes files of that suffix."""
        found = self.backends.of_suffix(suffix.lower())
        if found is not None:
            return self.backend(found.name)
        if suffix.lower() in _FIRST_PARTY_SUFFIXES:
            return self.backend(_FIRST_PARTY_SUFFIXES[suffix.lower()])  # says why it is not there
        known = [s for backend in self.backends.values() for s in backend.target.suffixes]
        # .bin is not .engine mistyped.
        raise UnknownNameError("file suffix", suffix, known, likeness=0.75)

    @functools.cached_property
    def _owners(self) -> dict[tuple[str, str], Plugin]:
        return {}

    def _items(self, hook: str) -> Iterable[tuple[Plugin, Any]]:
        for plugin, function in self._implementations.get(hook, ()):
            try:
                found = list(function())
            except Exception as error:  # a plugin may raise anything; it must not end the program
                self._mark_broken(plugin, error)
                continue
            yield from ((plugin, item) for item in found)

    def _mark_broken(self, plugin: Plugin, error: Exception) -> None:
        self.plugins = [p for p in self.plugins if p.name != plugin.name]
        self.plugins.append(_failed(plugin, error))

    def _collect(self, hook: str, kind: str, name_of: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for plugin, item in self._items(hook):
            try:
                name = name_of(item)
            except AttributeError as error:
                self._mark_broken(plugin, error)
                continue
            if name in found:
                self._note_conflict(kind, name, plugin)
                continue
            self._owners[kind, name] = plugin
            found[name] = item
        return found

    def _note_conflict(self, kind: str, name: str, second: Plugin) -> None:
        """Two plugins claim a name: an error for who asks for it, and for nobody else."""
        first = self._owners[kind, name]
        what = f"{kind} {name!r} is brought by two plugins: {first.distribution} and {second.distribution}"
        self._conflicts[kind, name] = what
        self.plugins = [replace(p, error=what) if _same_plugin(p, second) else p for p in self.plugins]

    def _get(self, kind: str, found: Mapping[str, T], name: str) -> T:
        if (kind, name) in self._conflicts:
            hint = f"uninstall one, or choose with {SELECT_VARIABLE}=... (edgecc plugins lists their names)"
            raise PluginError(self._conflicts[kind, name], hint=hint)
        if name in found:
            return found[name]
        broken = next(
            (
                p
                for p in self.plugins
                if p.error and name in (p.name, p.distribution, p.distribution.removeprefix("edgecc-"))
            ),
            None,
        )
        if broken is not None:
            raise PluginError(
                f"{kind} {name!r} is not there because plugin {broken.distribution or broken.name} is broken",
                why=broken.error,
                hint=f"pip install --force-reinstall {broken.distribution or broken.name}",
            )
        if name in self.left_out:
            hint = f"unset {SELECT_VARIABLE}, or add {name!r} to it"
            raise PluginError(
                f"{kind} {name!r} is not there because {SELECT_VARIABLE} leaves its plugin out", hint=hint
            )
        if kind == "target" and name in _FIRST_PARTY:
            raise PluginError(f"target {name!r} is not installed", hint=_FIRST_PARTY[name])
        unknown = UnknownNameError(kind, name, found)
        # It may be what a plugin would have brought, had it loaded.
        unknown.why = "; ".join(f"plugin {p.name} is broken: {p.error}" for p in self.plugins if p.error)
        raise unknown


def _same_plugin(first: Plugin, second: Plugin) -> bool:
    return (first.name, first.distribution) == (second.name, second.distribution)


def _failed(plugin: Plugin, error: BaseException) -> Plugin:
    reason = f"{type(error).__name__}: {error}"
    return Plugin(plugin.name, plugin.distribution, plugin.version, plugin.module, reason, plugin.hooks)


@functools.cache
def default_registry() -> Registry:
    """The registry of everything installed, built at first use."""
    return load_registry(importlib.metadata.entry_points(group=hookspecs.GROUP))


def load_registry(entry_points: Sequence[importlib.metadata.EntryPoint] | importlib.metadata.EntryPoints) -> Registry:
    """Load entry points one by one; one that fails is kept with its reason and stops nothing else."""
    names = [entry_point.name for entry_point in entry_points]
    wanted = _selected(names)
    registry = Registry(left_out=tuple(name for name in names if name not in wanted))
    for entry_point in sorted(entry_points, key=lambda e: (e.name != "builtin", e.name)):
        distribution = entry_point.dist
        name, version = name_and_version(distribution) if distribution else ("", "")
        plugin = Plugin(entry_point.name, name, version, entry_point.value)
        if plugin.name not in wanted:
            continue
        try:
            module = entry_point.load()
        except (Exception, SystemExit) as error:  # whatever a broken plugin raises at import
            registry.fail(plugin, error)
            continue
        registry.add(plugin, module)
    return registry


def _selected(names: Sequence[str]) -> set[str]:
    """The names of the plugins to load; edgecc's own are always among them."""
    selected = os.environ.get(SELECT_VARIABLE)
    if selected is None:
        return set(names)
    wanted = {name.strip() for name in selected.split(",") if name.strip()} | {"builtin"}
    for name in sorted(wanted - {"builtin"}):
        if name not in names:
            raise UnknownNameError("plugin", name, names, where=SELECT_VARIABLE)
    return wanted
