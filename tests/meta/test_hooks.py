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

from edgecc import Model, PassContext, PassPipeline, hookspecs
from edgecc.loading import load_model
from edgecc.registry import Plugin, Registry

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


def check_presets(registry: Registry, folder: Path) -> None:
    from edgecc.builtin import edgecc_presets

    assert registry.preset("squares").passes == ("square-to-mul",)
    theirs = Registry()
    for number, presets in enumerate((edgecc_presets(), list(registry.presets.values()))):
        module = types.ModuleType(f"plugin_{number}")
        module.edgecc_presets = hookspecs.hookimpl(lambda presets=presets: presets)  # type: ignore[attr-defined]
        module.edgecc_presets.__name__ = "edgecc_presets"
        theirs.add(Plugin(f"p{number}", "edgecc-example", "1.0", module.__name__), module)
    assert theirs.preset("1").passes[-1] == "square-to-mul"
    assert len(theirs.preset("1").passes) > 1


def check_rewrites(registry: Registry, folder: Path) -> None:
    from edgecc.passes.fuse_gelu import FuseGelu

    (rewrite,) = registry.rewrites("fuse-gelu")
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
