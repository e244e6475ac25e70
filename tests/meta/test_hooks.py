"""Every hook is documented under its exact signature, with an example that works."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from edgecc import Model, PassContext, PassPipeline, Preset, Replacement, Rewrite, hookspecs
from edgecc.errors import PassContractError, UnknownNameError
from edgecc.loading import load_model
from edgecc.passes.fuse_gelu import FuseGelu
from edgecc.registry import Plugin, Registry
from edgecc.rewriting.matching import Match
from edgecc.rewriting.patterns import Op, Value

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "hooks.md").read_text(encoding="utf-8")
HOOKS = {name: hook for name, hook in inspect.getmembers(hookspecs, inspect.isfunction) if name.startswith("edgecc_")}
SQUARES = "g (float[1,4] x) => (float[1,4] y) <float two = {2}> { y = Pow(x, two) }"


def signature(name: str) -> str:
    """`edgecc_passes() -> list[type[Pass]]`."""
    return f"{name}{inspect.signature(HOOKS[name])}".replace("'", "")


def example(name: str, folder: Path) -> Registry:
    """A registry with nothing but the plugin in the hook's section of the page."""
    section = PAGE.split(f"## `{signature(name)}`\n", 1)[1].split("\n## ")[0]
    code = re.search(r"^```python\n(.*?)^```", section, flags=re.DOTALL | re.MULTILINE)
    assert code is not None, f"no example for {name}"
    file = folder / f"example_{name}.py"
    file.write_text(code[1], encoding="utf-8")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # pydantic looks up a class's module by its name.
    sys.modules[file.stem] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[file.stem]
    registry = Registry()
    registry.add(Plugin("example", "edgecc-example", "1.0", file.stem), module)
    assert [plugin.error for plugin in registry.plugins] == [""]
    assert registry.plugins[0].hooks == (name,)
    return registry


def check_passes(registry: Registry, folder: Path) -> None:
    model = Model.from_text(SQUARES)
    step = registry.pass_class("square-to-mul")()
    result = PassPipeline([step]).run(model, PassContext(None, np.random.default_rng(0)))
    assert result.records[0].changed
    assert [node.op for node in model.nodes()] == ["Mul"]


def check_backends(registry: Registry, folder: Path) -> None:
    backend = registry.backend_for_suffix(".txt")
    assert backend.name == "text"
    compiled = backend.compile(Model.from_text(SQUARES), backend.target())
    assert b"Pow" in bytes(compiled.files[".txt"])


def check_importers(registry: Registry, folder: Path) -> None:
    (folder / "m.onnxtxt").write_text(SQUARES)
    assert [node.op for node in load_model(folder / "m.onnxtxt", registry).nodes()] == ["Pow"]
    (folder / "wide.onnxtxt").write_text(SQUARES, "utf-16")
    wide = load_model(folder / "wide.onnxtxt", registry, options={"encoding": "utf-16"})
    assert [node.op for node in wide.nodes()] == ["Pow"]
    with pytest.raises(UnknownNameError, match="unknown option 'encodign'") as caught:
        load_model(folder / "m.onnxtxt", registry, options={"encodign": "utf-16"})
    assert "encoding" in caught.value.hint


def check_lowerings(registry: Registry, folder: Path) -> None:
    pytest.importorskip("edgecc_tflite")
    assert [rule.op for rule in registry.lowerings("tflite")] == ["Rectify"]
    assert registry.lowerings("another") == []


def check_instruments(registry: Registry, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from edgecc.passes.eliminate_identity import EliminateIdentity

    model = Model.from_text("g (float[4] x) => (float[4] y) { a = Identity(x)  y = Relu(a) }")
    pipeline = PassPipeline([EliminateIdentity()], instruments=[cls() for cls in registry.instruments])
    pipeline.run(model, PassContext(None, np.random.default_rng(0)))
    assert capsys.readouterr().out == "eliminate-identity: 1 nodes\n"


def check_commands(registry: Registry, folder: Path) -> None:
    Model.from_text(SQUARES).save(folder / "m.onnx")
    done = CliRunner().invoke(click.Group(commands=registry.commands), ["count", str(folder / "m.onnx")])
    assert (done.exit_code, done.output) == (0, "1\n")


def with_builtins(registry: Registry) -> Registry:
    """The same registry with edgecc's own passes and presets."""
    import edgecc.builtin

    registry.add(Plugin("builtin", "edgecc", "1.0", "edgecc.builtin"), edgecc.builtin)
    return registry


def plugin_with(registry: Registry, hook: str, *items: object) -> None:
    """Add a plugin whose hook returns these."""

    def implementation() -> list[object]:
        return list(items)

    implementation.__name__ = hook
    module = types.ModuleType(f"plugin_of_{hook}")
    setattr(module, hook, hookspecs.hookimpl(implementation))
    registry.add(Plugin(module.__name__, "edgecc-other", "1.0", module.__name__), module)


def check_presets(registry: Registry, folder: Path) -> None:
    plugin_with(with_builtins(registry), "edgecc_passes", example("edgecc_passes", folder).pass_class("square-to-mul"))
    assert registry.preset("squares").passes == ("square-to-mul",)
    assert "square-to-mul" in registry.preset("1").passes
    assert len(registry.preset("1").passes) > 1
    assert [plugin.error for plugin in registry.plugins] == ["", "", ""]


@pytest.mark.parametrize(
    ("preset", "problem"),
    [
        (3, "edgecc_presets gave 3, which is no Preset"),
        (Preset("x", "fold-batchnorm"), "are not a tuple of texts: 'fold-batchnorm'"),  # type: ignore[arg-type]
        (Preset("x", ("no-such",)), "names pass 'no-such', and there is no such pass"),
        (Preset("0", ("fold-batchnorm",)), "'0' means that nothing runs"),
        (Preset("1", ("convert-float16",)), "'1' keeps values, and pass 'convert-float16' does not"),
    ],
)
def test_rubbish_presets_break_their_own_plugin_only(preset: object, problem: str) -> None:
    registry = with_builtins(Registry())
    plugin_with(registry, "edgecc_presets", Preset("good", ("fuse-pad",)), preset)
    assert set(registry.presets) == {"0", "1"}
    assert problem in next(plugin.error for plugin in registry.plugins if plugin.name != "builtin")


def check_rewrites(registry: Registry, folder: Path) -> None:
    (rewrite,) = with_builtins(registry).rewrites("fuse-gelu")
    assert registry.rewrites("fuse-pad") == []
    constants = "<float root = {1.41421356}, float one = {1}, float half = {0.5}>"
    model = Model.from_text(
        f"""g (float[4] x) => (float[4] y) {constants} {{
        a = Div(x, root) b = Erf(a) n = Neg(b) c = Sub(one, n) d = Mul(x, c) y = Mul(d, half) }}"""
    )
    ctx = PassContext(None, np.random.default_rng(0))
    assert not PassPipeline([FuseGelu()]).run(model, ctx).records[0].changed
    PassPipeline([FuseGelu().with_rewrites([rewrite])]).run(model, ctx)
    assert [node.op for node in model.nodes()] == ["Gelu"]


class Relus(Rewrite):
    """Two Relus in a row."""

    pattern = Op("Relu", Op("Relu", Value()))
    extends = "fuse-gelu"
    answer: object = None

    def replacement(self, found: Match, model: Model, ctx: PassContext) -> Replacement | str:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer  # type: ignore[return-value]


class NoPattern(Relus):
    """It has lost what it looks for."""

    extends = "merge-casts"


class Stray(Relus):
    """Nobody asks for it."""

    extends = "no-such"


@pytest.mark.parametrize(
    ("rewrite", "problem"),
    [
        (Relus, "which is no Rewrite"),
        (NoPattern(), "extends 'merge-casts', which has no patterns"),
        (Stray(), "extends 'no-such', and there is no such pass"),
    ],
)
def test_rubbish_rewrites_break_their_own_plugin_only(rewrite: object, problem: str) -> None:
    registry = with_builtins(Registry())
    plugin_with(registry, "edgecc_rewrites", rewrite)
    assert registry.rewrites("fuse-gelu") == []
    assert problem in next(plugin.error for plugin in registry.plugins if plugin.name != "builtin")


@pytest.mark.parametrize(("answer", "what"), [(ValueError("bad"), "raised ValueError: bad"), (7, "returned 7")])
def test_a_rewrite_that_fails_is_named(answer: object, what: str) -> None:
    rewrite = Relus()
    rewrite.answer = answer
    model = Model.from_text("g (float[4] x) => (float[4] y) { a = Relu(x) y = Relu(a) }")
    with pytest.raises(PassContractError, match=f"rewrite Relus {what}"):
        PassPipeline([FuseGelu().with_rewrites([rewrite])]).run(model, PassContext(None, np.random.default_rng(0)))


CHECKS: dict[str, Callable[..., None]] = {
    "edgecc_backends": check_backends,
    "edgecc_commands": check_commands,
    "edgecc_importers": check_importers,
    "edgecc_instruments": check_instruments,
    "edgecc_lowerings": check_lowerings,
    "edgecc_passes": check_passes,
    "edgecc_presets": check_presets,
    "edgecc_rewrites": check_rewrites,
}


def test_every_hook_has_a_test() -> None:
    assert set(CHECKS) == set(HOOKS)


@pytest.mark.parametrize("name", sorted(HOOKS))
def test_hook_is_documented(name: str) -> None:
    assert f"\n## `{signature(name)}`\n" in PAGE
    assert inspect.getdoc(HOOKS[name])


def test_page_documents_nothing_else() -> None:
    assert len(re.findall(r"^## `", PAGE, flags=re.MULTILINE)) == len(HOOKS)


@pytest.mark.parametrize("name", sorted(HOOKS))
def test_example_works(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    check = CHECKS[name]
    extra = [request.getfixturevalue("capsys")] if "capsys" in inspect.signature(check).parameters else []
    check(example(name, tmp_path), tmp_path, *extra)
