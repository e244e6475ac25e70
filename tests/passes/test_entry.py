"""Passes that are imported when they are needed."""

from __future__ import annotations

import subprocess
import sys
from typing import ClassVar

import numpy as np
import pytest

from edgecc.builtin import edgecc_passes
from edgecc.compiler import preset_passes
from edgecc.errors import PluginError
from edgecc.model import Model
from edgecc.passes.base import Loss, Pass, PassContext
from edgecc.passes.entry import DeferredPass, PassEntry
from edgecc.passes.pipeline import PassPipeline, Rounds, check_order
from edgecc.presets import BUILTIN, DEFAULT
from edgecc.registry import default_registry


def model(text: str) -> Model:
    return Model.from_text(text)


class NegToSub(Pass):
    """Makes an operator that the model had not."""

    name: ClassVar[str] = "neg-to-sub"

    def run(self, model: Model, ctx: PassContext) -> bool:
        for node in model.nodes("Neg"):
            source = node.inputs[0]
            model.replace(node, "Sub", [model.constant("zero", np.zeros((), np.float32)), source])
            return True
        return False


def deferred(name: str) -> DeferredPass:
    found = next(item for item in preset_passes(DEFAULT, default_registry()) if item.name == name)
    assert isinstance(found, DeferredPass)
    return found


def test_a_pass_without_its_operators_is_neither_made_nor_run() -> None:
    def fail() -> None:
        raise AssertionError("it was made")

    item = DeferredPass("merge-casts", frozenset({"Cast"}), fail)  # type: ignore[arg-type]
    pipeline = PassPipeline([Rounds((item,))])
    result = pipeline.run(
        model("g (float[2] x) => (float[2] y) { y = Relu(x) }"), PassContext(None, np.random.default_rng(0))
    )
    record = result.records[0]
    assert (record.spec, record.changed, record.nodes_before, record.nodes_after) == ("merge-casts", False, 1, 1)


def test_a_pass_is_made_once_another_one_has_made_its_operator() -> None:
    text = "g (float[2] x) => (float[2] y) { a = Neg(x) y = Exp(a) }"
    maker = NegToSub()
    late = DeferredPass(
        "eliminate-neutral-arithmetic", frozenset({"Sub"}), deferred("eliminate-neutral-arithmetic").make
    )
    result = PassPipeline([Rounds((late, maker))]).run(model(text), PassContext(None, np.random.default_rng(0)))
    assert [record.changed for record in result.records] == [False, True]
    assert "step" in vars(late), "there was a Sub in the second round"


def test_reasons_go_with_the_operators() -> None:
    """What a pass said of a node in an earlier round is forgotten when the model has none of its operators left."""
    text = "g (float[2,3] x) => (float[2,3] y) { a = Transpose<perm = [0, 1]>(x) y = Relu(a) }"
    ctx = PassContext(None, np.random.default_rng(0))
    graph = model(text)
    ctx.within("merge-transposes").skip(graph.nodes("Transpose")[0], "as said before")
    passes = tuple(p for p in preset_passes(DEFAULT, default_registry()) if p.name in ("eliminate-identity",))
    PassPipeline([Rounds((*passes, deferred("merge-transposes")))]).run(graph, ctx)
    assert ctx.skips == []


def test_wrong_entries_say_so() -> None:
    with pytest.raises(PluginError, match=r"cannot be imported from edgecc\.passes\.nowhere:X"):
        PassEntry("x", "edgecc.passes.nowhere:X").load()
    with pytest.raises(PluginError, match="is pass 'merge-casts', which its plugin lists as 'x'"):
        PassEntry("x", "edgecc.passes.merge_casts:MergeCasts").load()


def test_built_in_presets_are_in_order_and_keep_values() -> None:
    """The registry takes this for granted, since looking would import every pass."""
    known = {entry.name: entry.load() for entry in edgecc_passes()}
    for preset in BUILTIN:
        passes = [known[name]() for name in preset.passes]
        check_order(passes)
        assert all(step.loss is not Loss.LOSSY for step in passes)


def test_compiling_imports_no_pass_that_has_nothing_to_do() -> None:
    code = """
import sys
from edgecc.compiler import preset_passes
from edgecc.registry import default_registry
assert preset_passes("1", default_registry())
print([name for name in sys.modules if name.startswith(("edgecc.passes.fuse_", "edgecc.rewriting.rewrite"))])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
