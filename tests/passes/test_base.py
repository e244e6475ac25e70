from __future__ import annotations

import json

import numpy as np
import pytest
from pydantic import ValidationError

from edgecc.errors import OptionError
from edgecc.model import Model, Node
from edgecc.passes.base import NodePass, Pass, PassContext, Property, Skip

RELU = "g (float[2] x) => (float[2] y) { a = Relu(x) y = Neg(a) }"


class Visit(NodePass):
    """Only looks."""

    name = "visit"
    ensures = (Property.NO_BATCHNORM,)
    depth: int = 1

    def candidates(self, model: Model) -> list[Node]:
        return model.nodes(ignore=self.ignore)

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        ctx.skip(node, f"depth {self.depth}")
        return False


def context() -> PassContext:
    return PassContext(None, np.random.default_rng(0))


def test_a_pass_is_a_value() -> None:
    assert Visit(depth=2) == Visit(depth=2)
    assert Visit(depth=2) != Visit()
    assert len({Visit(), Visit(), Visit(depth=2)}) == 2
    with pytest.raises(ValidationError, match="frozen"):
        Visit().depth = 3


def test_class_attributes_are_no_options() -> None:
    assert set(Visit.model_fields) == {"ignore", "depth"}
    with pytest.raises(ValidationError, match="loss"):
        Visit(loss="exact")  # type: ignore[call-arg]


def test_schema_for_forms_and_searches() -> None:
    properties = Visit.model_json_schema()["properties"]
    assert properties["depth"] == {"default": 1, "title": "Depth", "type": "integer"}
    assert json.loads(Visit(depth=2).model_dump_json()) == {"ignore": [], "depth": 2}


def test_spec() -> None:
    assert Visit().spec() == "visit"
    assert Visit(ignore=("a", "b"), depth=3).spec() == 'visit:ignore=["a","b"],depth=3'


def test_an_abstract_pass_cannot_be_made() -> None:
    class Half(Pass):
        name = "half"

    with pytest.raises(TypeError, match="abstract"):
        Half()  # type: ignore[abstract]


def test_skips_know_who_skipped_what_and_why() -> None:
    ctx = context()
    assert Visit().run(Model.from_text(RELU), ctx.within("visit")) is False
    assert ctx.skips == [Skip("visit", "Relu_0", "Relu", "depth 1"), Skip("visit", "Neg_1", "Neg", "depth 1")]


def test_a_reason_given_twice_is_kept_once() -> None:
    model, ctx = Model.from_text(RELU), context()
    Visit().run(model, ctx)
    Visit().run(model, ctx)
    assert len(ctx.skips) == 2


def test_ignore_by_pattern_and_by_origin() -> None:
    model, ctx = Model.from_text(RELU), context()
    model.nodes()[0].origins = ("old_name",)
    Visit(ignore=("old_*",)).run(model, ctx)
    assert [skip.node for skip in ctx.skips] == ["Neg_1"]


def test_ignore_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(OptionError) as caught:
        Visit(ignore=("Relu_0", "Conv*")).run(Model.from_text(RELU), context())
    assert caught.value.what == "pattern 'Conv*' of option 'ignore' matches no node"
    assert caught.value.where == "pass visit"
    assert "edgecc inspect" in caught.value.hint


def test_what_is_ignored_is_not_promised() -> None:
    assert Visit().promises() == (Property.NO_BATCHNORM,)
    assert Visit(ignore=("Relu_0",)).promises() == ()


@pytest.mark.parametrize(
    ("wanted", "text", "holds"),
    [
        (Property.STATIC_SHAPES, RELU, True),
        (Property.STATIC_SHAPES, RELU.replace("[2]", "[N]"), False),
        (Property.FLOAT16, RELU, False),
        (Property.FLOAT16, RELU.replace("float[", "float16["), True),
        (Property.NO_BATCHNORM, RELU, True),
        (
            Property.NO_BATCHNORM,
            """g (float[1,1,2,2] x) => (float[1,1,2,2] y) <float[1] s = {1}, float[1,1,1,1] w = {2}>
            { a = Conv(x, w) y = BatchNormalization(a, s, s, s, s) }""",
            False,
        ),
        (
            Property.NO_BATCHNORM,
            "g (float[1,1,2,2] x) => (float[1,1,2,2] y) <float[1] s = {1}> { y = BatchNormalization(x, s, s, s, s) }",
            True,
        ),
    ],
)
def test_property(wanted: Property, text: str, holds: bool) -> None:
    assert wanted.holds(Model.from_text(text)) is holds
