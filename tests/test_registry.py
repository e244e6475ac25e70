from __future__ import annotations

import importlib.metadata
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from edgecc.backend import Backend, Compiled
from edgecc.backend_entry import BackendEntry
from edgecc.errors import PluginError, UnknownNameError, Unsupported
from edgecc.hookspecs import hookimpl
from edgecc.model import Model
from edgecc.passes.base import Pass
from edgecc.registry import Plugin, Registry, default_registry, load_registry
from edgecc.target import Target


def make_pass(name: str) -> type[Pass]:
    return type("Made", (Pass,), {"name": name, "run": lambda self, model, ctx: False, "__module__": __name__})


def plugin(name: str) -> Plugin:
    return Plugin(name, f"edgecc-{name}", "1.0", f"edgecc_{name}")


def module(**hooks: Callable[[], object]) -> types.SimpleNamespace:
    named = {}
    for name, function in hooks.items():
        function.__name__ = name
        named[name] = hookimpl(function)
    return types.SimpleNamespace(**named)


def registry_of(**modules: object) -> Registry:
    registry = Registry()
    for name, content in modules.items():
        registry.add(plugin(name), content)
    return registry


def problems(registry: Registry) -> dict[str, str]:
    return {p.name: p.error for p in registry.plugins}


def entry_points(folder: Path, **modules: str) -> list[importlib.metadata.EntryPoint]:
    """Entry points of a distribution in the folder, one module each."""
    info = folder / "edgecc_sample-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: edgecc-sample\nVersion: 2.0\n")
    # Python keeps modules by name: each test has its own.
    prefix = f"sample_{folder.name}".replace("-", "_")
    lines = "\n".join(f"{name} = {prefix}_{name}" for name in modules)
    (info / "entry_points.txt").write_text(f"[edgecc]\n{lines}\n")
    for name, code in modules.items():
        (folder / f"{prefix}_{name}.py").write_text(code)
    (distribution,) = importlib.metadata.distributions(path=[str(folder)])
    return list(distribution.entry_points)


class WholeBackend(Backend):
    """A backend with every method that one must have; its target comes from the subclass."""

    def find_unsupported(self, model: Model, target: Target) -> list[Unsupported]:
        return []

    def compile(self, model: Model, target: Target) -> Compiled:
        return Compiled(files={})

    def versions(self) -> dict[str, str]:
        return {}

    def session_file(self) -> Path:
        return Path(__file__)


GOOD = "from edgecc.hookspecs import hookimpl\n@hookimpl\ndef edgecc_passes():\n    return []\n"


# ------------------------------------------------------------------------------------------------------------- loading


def test_entry_points_are_loaded_with_their_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = load_registry(entry_points(tmp_path, fine=GOOD))
    (found,) = registry.plugins
    assert (found.name, found.distribution, found.version) == ("fine", "edgecc-sample", "2.0")
    assert (found.error, found.hooks) == ("", ("edgecc_passes",))


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("raise RuntimeError('no GPU')", "RuntimeError: no GPU"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def broken(:", "SyntaxError: invalid syntax"),
        (GOOD.replace("edgecc_passes", "edgecc_pases"), "unknown hook 'edgecc_pases'"),
        (GOOD.replace("passes()", "passes(registry)"), "Argument(s) {'registry'}"),
    ],
)
def test_broken_plugin_is_kept_with_its_reason(
    code: str, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = load_registry(entry_points(tmp_path, bad=code, fine=GOOD))
    found = problems(registry)
    assert error in found["bad"]
    assert found["fine"] == ""
    assert registry.passes == {}


def test_selection_by_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    points = entry_points(tmp_path, one=GOOD, two=GOOD, builtin=GOOD)
    assert [p.name for p in load_registry(points).plugins] == ["builtin", "one", "two"]
    monkeypatch.setenv("EDGECC_PLUGINS", " two ")
    registry = load_registry(points)
    assert [p.name for p in registry.plugins] == ["builtin", "two"]
    assert registry.left_out == ("one",)
    monkeypatch.setenv("EDGECC_PLUGINS", "")
    assert [p.name for p in load_registry(points).plugins] == ["builtin"]


def test_selection_of_an_unknown_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("EDGECC_PLUGINS", "fin")
    with pytest.raises(UnknownNameError, match="unknown plugin 'fin'") as caught:
        load_registry(entry_points(tmp_path, fine=GOOD))
    assert caught.value.where == "EDGECC_PLUGINS"
    assert caught.value.hint == "did you mean 'fine'?"


def test_what_the_selection_leaves_out_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PluginError, match="target 'tflite' is not there because EDGECC_PLUGINS leaves its plugin out"):
        Registry(left_out=("tflite",)).backend("tflite")


def test_our_own_passes_are_there() -> None:
    registry = default_registry()
    assert {"convert-float16", "eliminate-identity", "fold-batchnorm", "fuse-pad"} <= set(registry.passes)
    owner = registry.owner("pass", "fold-batchnorm")
    assert owner is not None
    assert owner.distribution == "edgecc"
    assert default_registry() is registry


# ------------------------------------------------------------------------------------------------------------ asking it


def test_hook_that_raises() -> None:
    def fail() -> object:
        raise OSError("no license")

    registry = registry_of(bad=module(edgecc_passes=fail), fine=module(edgecc_passes=lambda: [make_pass("a")]))
    assert set(registry.passes) == {"a"}
    assert problems(registry) == {"bad": "OSError: no license", "fine": ""}


def test_hook_that_gives_no_list() -> None:
    registry = registry_of(bad=module(edgecc_passes=lambda: None), fine=module(edgecc_passes=lambda: [make_pass("a")]))
    assert set(registry.passes) == {"a"}
    assert problems(registry)["bad"].startswith("TypeError: 'NoneType' object is not iterable")


def test_pass_without_a_name() -> None:
    nameless = type("Nameless", (Pass,), {"run": lambda self, model, ctx: False, "__module__": __name__})
    registry = registry_of(bad=module(edgecc_passes=lambda: [nameless]))
    assert registry.passes == {}
    assert "name" in problems(registry)["bad"]


def test_backend_that_cannot_be_made() -> None:
    class HalfTarget(Target):
        name = "half"
        suffixes = (".half",)

    class Half(Backend):
        target = HalfTarget

    registry = registry_of(bad=module(edgecc_backends=lambda: [Half]))
    assert registry.backends == {}
    assert "abstract" in problems(registry)["bad"]
    with pytest.raises(PluginError, match="target 'bad' is not there because plugin edgecc-bad is broken"):
        registry.backend("bad")


def test_backend_entry_is_imported_when_its_target_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class TextTarget(Target):
        name = "text"
        suffixes = (".txt", ".md")

    class TextBackend(WholeBackend):
        target = TextTarget

    monkeypatch.setitem(sys.modules, "text_plugin", module(TextBackend=TextBackend))
    right = BackendEntry("text", "text_plugin:TextBackend", (".txt", ".md"))
    absent = BackendEntry("absent", "no_such_module:Absent", (".absent",))
    registry = registry_of(text=module(edgecc_backends=lambda: [right]), other=module(edgecc_backends=lambda: [absent]))
    assert isinstance(registry.backend("text"), TextBackend)
    assert registry.backend_for_suffix(".MD") is registry.backend("text")
    assert set(problems(registry).values()) == {""}, "nobody asked for the other one"
    assert list(registry.backends) == ["text"]
    assert "cannot be imported from no_such_module:Absent" in problems(registry)["other"]
    with pytest.raises(PluginError, match="plugin edgecc-other is broken"):
        registry.backend("other")
    with pytest.raises(UnknownNameError):
        registry.backend_for_suffix(".absent")


def test_backend_entry_that_is_not_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    class TextTarget(Target):
        name = "text"
        suffixes = (".txt",)

    class TextBackend(WholeBackend):
        target = TextTarget

    monkeypatch.setitem(sys.modules, "text_plugin", module(TextBackend=TextBackend))
    wrong = BackendEntry("text", "text_plugin:TextBackend", (".text",))
    registry = registry_of(bad=module(edgecc_backends=lambda: [wrong]))
    assert list(registry.backends) == []
    assert "('text', ('.txt',)), which its plugin lists as ('text', ('.text',))" in problems(registry)["bad"]


def test_name_brought_twice_is_an_error_for_who_asks_for_it() -> None:
    """It names both packages, `edgecc plugins` shows it, and every other name works."""
    registry = registry_of(
        one=module(edgecc_passes=lambda: [make_pass("same")]),
        two=module(edgecc_passes=lambda: [make_pass("same"), make_pass("other")]),
    )
    what = "pass 'same' is brought by two plugins: edgecc-one and edgecc-two"
    assert registry.pass_class("other").name == "other"
    assert [plugin.error for plugin in registry.plugins] == ["", what]
    with pytest.raises(PluginError) as caught:
        registry.pass_class("same")
    assert caught.value.what == what
    assert "EDGECC_PLUGINS" in caught.value.hint


def test_unknown_name_suggests_the_nearest() -> None:
    registry = registry_of(fine=module(edgecc_passes=lambda: [make_pass("fold-batchnorm"), make_pass("fuse-pad")]))
    assert registry.pass_class("fuse-pad").name == "fuse-pad"
    with pytest.raises(UnknownNameError) as caught:
        registry.pass_class("fold-batchnrom")
    assert str(caught.value) == "unknown pass 'fold-batchnrom'\n  try: did you mean 'fold-batchnorm'?"


def test_unknown_name_without_a_near_one_lists_all() -> None:
    registry = registry_of(fine=module(edgecc_passes=lambda: [make_pass("fold-batchnorm"), make_pass("fuse-pad")]))
    with pytest.raises(UnknownNameError, match="known: fold-batchnorm, fuse-pad"):
        registry.pass_class("xyz")


def test_missing_first_party_plugin_says_what_installs_it() -> None:
    with pytest.raises(PluginError, match="target 'tflite' is not installed") as caught:
        Registry().backend("tflite")
    assert caught.value.hint == "pip install edgecc-tflite"


@pytest.mark.parametrize(
    ("suffix", "target"), [(".tflite", "tflite"), (".engine", "tensorrt"), (".ort", "onnxruntime")]
)
def test_suffix_of_a_missing_first_party_plugin_says_what_installs_it(suffix: str, target: str) -> None:
    with pytest.raises(PluginError, match=f"target '{target}' is not installed") as caught:
        Registry().backend_for_suffix(suffix)
    assert caught.value.hint == f"pip install edgecc-{target}"


def test_unknown_suffix() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown file suffix '\.zip'"):
        default_registry().backend_for_suffix(".zip")
    with pytest.raises(UnknownNameError, match=r"unknown file suffix '\.bin'") as caught:
        default_registry().backend_for_suffix(".bin")
    assert caught.value.hint == "known: .engine, .onnx, .ort, .tflite"


def test_suffix_in_capitals() -> None:
    assert default_registry().backend_for_suffix(".TFLITE").name == "tflite"


def test_owner() -> None:
    registry = registry_of(fine=module(edgecc_passes=lambda: [make_pass("a")]))
    owner = registry.owner("pass", "a")
    assert owner is not None
    assert owner.distribution == "edgecc-fine"
    assert registry.owner("pass", "b") is None
    assert registry.owner("target", "a") is None


def test_lowerings_go_to_their_backend() -> None:
    rule, other = types.SimpleNamespace(backend="tflite"), types.SimpleNamespace(backend="another")
    registry = registry_of(fine=module(edgecc_lowerings=lambda: [rule, other, object()]))
    assert registry.lowerings("tflite") == [rule]


def test_backends_get_the_lowerings_of_their_own_registry() -> None:
    rule = types.SimpleNamespace(backend="onnxruntime")
    backends = module(edgecc_backends=lambda: [type(default_registry().backend("onnxruntime"))])
    made = registry_of(fine=backends, more=module(edgecc_lowerings=lambda: [rule])).backend("onnxruntime")
    assert made.plugin_lowerings() == [rule]
    assert registry_of(fine=backends).backend("onnxruntime").plugin_lowerings() == []
