"""check_pass must fail for a wrong pass: one wrong pass for each thing that it checks."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic import field_serializer

from edgecc.model import Model, value_of
from edgecc.passes.base import Loss, Pass, PassContext, Property
from edgecc.passes.eliminate_identity import EliminateIdentity
from edgecc.statistics import Range, Request
from edgecc.testing import assert_skipped, check_pass

BEFORE = "g (float[2,3] x) => (float[2,3] y) <float[3] c = {1, 2, 3}> { a = Identity(x) b = Mul(a, c) y = Relu(b) }"
AFTER = "g (float[2,3] x) => (float[2,3] y) <float[3] c = {1, 2, 3}> { t = Mul(x, c) y = Relu(t) }"


class Drop(Pass):
    """Remove the Identity: right, until a subclass does something wrong."""

    name = "drop"
    loss: ClassVar[Loss] = Loss.EXACT

    def run(self, model: Model, ctx: PassContext) -> bool:
        nodes = model.nodes("Identity")
        for node in nodes:
            model.bypass(node)
        self.spoil(model, ctx)
        return self.answer(bool(nodes))

    def spoil(self, model: Model, ctx: PassContext) -> None:
        """What a subclass does wrong to the model."""

    def answer(self, changed: bool) -> Any:
        return changed


def constant_of(model: Model) -> np.ndarray:
    values = value_of(model.nodes("Mul")[0].inputs[1])
    assert values is not None
    return values


def test_a_right_pass() -> None:
    model = check_pass(Drop(), BEFORE, AFTER)
    assert [node.op for node in model.nodes()] == ["Mul", "Relu"]
    check_pass(Drop(), Model.from_text(BEFORE), Model.from_text(AFTER))


def test_the_given_model_is_not_changed() -> None:
    model = Model.from_text(BEFORE)
    check_pass(Drop(), model)
    assert len(model.nodes()) == 3


def test_pass_that_changes_nothing() -> None:
    with pytest.raises(AssertionError, match="drop changed nothing"):
        check_pass(Drop(), AFTER)


def test_pass_that_denies_its_change() -> None:
    class Deny(Drop):
        def answer(self, changed: bool) -> bool:
            return False

    with pytest.raises(AssertionError, match="drop changed the model and returned False"):
        check_pass(Deny(), BEFORE)


def test_pass_that_claims_a_change() -> None:
    class Claim(Drop):
        def answer(self, changed: bool) -> bool:
            return True

    with pytest.raises(AssertionError, match="drop returned True and changed nothing"):
        check_pass(Claim(), AFTER)


def test_pass_that_does_not_answer() -> None:
    class Silent(Drop):
        def answer(self, changed: bool) -> None:
            return None

    with pytest.raises(AssertionError, match="drop' returned None"):
        check_pass(Silent(), BEFORE)


def test_pass_that_breaks_the_graph() -> None:
    class Break(Drop):
        def spoil(self, model: Model, ctx: PassContext) -> None:
            for node in model.nodes("Mul"):
                model.remove(node)

    with pytest.raises(AssertionError, match="left a broken graph"):
        check_pass(Break(), BEFORE)


def test_pass_that_raises() -> None:
    class Raise(Drop):
        def spoil(self, model: Model, ctx: PassContext) -> None:
            raise ZeroDivisionError

    with pytest.raises(AssertionError, match="drop' raised ZeroDivisionError"):
        check_pass(Raise(), BEFORE)


def test_pass_that_does_not_keep_its_promise() -> None:
    class Promise(Drop):
        ensures = (Property.FLOAT16,)

    with pytest.raises(AssertionError, match="does not ensure float16"):
        check_pass(Promise(), BEFORE)


def test_pass_that_changes_values() -> None:
    class Wrong(Drop):
        def spoil(self, model: Model, ctx: PassContext) -> None:
            for node in model.nodes("Mul"):
                node.op = "Add"

    with pytest.raises(
        AssertionError, match=r"drop changed values: output 'y' differs(.|\n)*-%3 = Mul(.|\n)*\+%2 = Add"
    ):
        check_pass(Wrong(), BEFORE)


def test_pass_that_changes_the_sign_of_zero() -> None:
    class DropAdd(Drop):
        def run(self, model: Model, ctx: PassContext) -> bool:
            nodes = model.nodes("Add")
            for node in nodes:
                model.bypass(node)
            return bool(nodes)

    text = "g (float[16] x) => (float[16] y) <float z = {0}> { a = Add(x, z) y = Neg(a) }"
    with pytest.raises(AssertionError, match="drop changed values"):
        check_pass(DropAdd(), text)


class Round(Drop):
    """Scale the constant, once."""

    name = "round"
    loss = Loss.ROUNDING
    factor: float = 1 + 1e-4

    def spoil(self, model: Model, ctx: PassContext) -> None:
        for node in model.nodes("Mul"):
            if node.inputs[1].name == "c":
                values = constant_of(model) * np.float32(self.factor)
                model.set_input(node, 1, model.constant("c_scaled", values.astype(np.float32)))


def test_tolerance_is_relative_to_the_largest_value() -> None:
    check_pass(Round(), BEFORE, tolerance=2e-4)
    with pytest.raises(AssertionError, match="round changed values: output 'y' differs by up to"):
        check_pass(Round(), BEFORE, tolerance=5e-5)


def test_tolerance_is_written_where_rounding_is_allowed_and_nowhere_else() -> None:
    with pytest.raises(AssertionError, match="round may round: write how much"):
        check_pass(Round(), BEFORE)
    with pytest.raises(AssertionError, match="drop is declared exact: it gets no tolerance"):
        check_pass(Drop(), BEFORE, tolerance=1e-5)


def test_lossy_passes_are_compared_only_if_asked() -> None:
    class Lossy(Round):
        loss = Loss.LOSSY

    check_pass(Lossy(factor=3.0), BEFORE)
    with pytest.raises(AssertionError, match="changed values"):
        check_pass(Lossy(factor=3.0), BEFORE, tolerance=0.5)


def test_given_feeds() -> None:
    class Wrong(Drop):
        def spoil(self, model: Model, ctx: PassContext) -> None:
            for node in model.nodes("Relu"):
                node.op = "Identity"

    positive = {"x": np.ones((2, 3), np.float32)}
    with pytest.raises(AssertionError, match="changed values"):
        check_pass(Wrong(), BEFORE)
    with pytest.raises(AssertionError, match="a second run of drop"):
        check_pass(Wrong(), BEFORE, feeds=positive)


def test_model_that_does_not_run_any_more() -> None:
    class Break(Drop):
        def spoil(self, model: Model, ctx: PassContext) -> None:
            for node in model.nodes("Mul"):
                node.op = "NoSuchOperator"

    with pytest.raises(AssertionError, match=r"after drop the model does not run:(.|\n)*NoSuchOperator"):
        check_pass(Break(), BEFORE)


def test_pass_that_changes_the_signature() -> None:
    class Rename(Drop):
        def spoil(self, model: Model, ctx: PassContext) -> None:
            model.inputs[0].name = "renamed"

    class Widen(Drop):
        def spoil(self, model: Model, ctx: PassContext) -> None:
            model.inputs[0].shape = ["N", 3]

    with pytest.raises(AssertionError, match="drop"):
        check_pass(Rename(), BEFORE)
    with pytest.raises(AssertionError, match="drop changed the signature"):
        check_pass(Widen(), BEFORE)


def test_pass_that_drops_an_output() -> None:
    class Forget(Drop):
        def spoil(self, model: Model, ctx: PassContext) -> None:
            del model.graph.outputs[1:]

    text = "g (float[2] x) => (float[2] y, float[2] z) { a = Identity(x) y = Relu(a) z = Neg(a) }"
    with pytest.raises(AssertionError, match="output 'z' is gone"):
        check_pass(Forget(), text)


def test_pass_that_goes_on_changing() -> None:
    class Again(Drop):
        def run(self, model: Model, ctx: PassContext) -> bool:
            node = model.nodes("Relu")[0]
            added = model.variable("again", np.float32, [2, 3])
            model.add("Relu", [node.inputs[0]], [added])
            model.set_input(node, 0, added)
            return True

    with pytest.raises(AssertionError, match=r"a second run of drop changes the model again:(.|\n)*\+"):
        check_pass(Again(), BEFORE)


def test_pass_that_writes_into_a_shared_array() -> None:
    class Overwrite(Drop):
        def spoil(self, model: Model, ctx: PassContext) -> None:
            values = constant_of(model)
            values.setflags(write=True)
            values *= 2

    model = Model.from_text(BEFORE)
    node = model.nodes("Mul")[0]
    model.set_input(node, 1, model.constant("d", np.array([1, 2, 3], np.float32)))
    with pytest.raises(AssertionError, match="drop wrote into an array that it shares with other models"):
        check_pass(Overwrite(), model)


def test_options_that_are_lost() -> None:
    class Lose(Drop):
        level: int = 1

        @field_serializer("level")
        def _lose(self, value: int) -> int:
            return 5

    with pytest.raises(AssertionError, match="the options of drop are lost in its spec"):
        check_pass(Lose(level=2), BEFORE)


def test_structure_that_is_not_the_expected_one() -> None:
    other = AFTER.replace("Relu(t)", "Abs(t)")
    with pytest.raises(AssertionError, match=r"is not the expected model(.|\n)*-y = Abs\(%2\)\n\+y = Relu\(%2\)"):
        check_pass(Drop(), BEFORE, other)


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        ("y = Concat<axis=0>(x, x)", "y = Concat<axis=1>(x, x)"),
        ("y = Sub(x, z)", "y = Sub(z, x)"),
        ("a = Neg(x) y = Add(a, a)", "a = Neg(x) b = Neg(x) y = Add(a, b)"),
        ("y = Reshape(x, s)", "y = Reshape(x, t)"),
        ("y = Clip(x, , m)", "y = Clip(x, m)"),
    ],
)
def test_structure_tells_apart(got: str, expected: str) -> None:
    from edgecc.testing.structure import structure

    head = "g (float[2,2] x, float[2,2] z) => (float[A,B] y) <int64[2] s = {4, 1}, int64[2] t = {1, 4}, float m = {1}>"
    assert structure(Model.from_text(f"{head} {{ {got} }}")) != structure(Model.from_text(f"{head} {{ {expected} }}"))


def test_structure_does_not_depend_on_names_or_order() -> None:
    from edgecc.testing.structure import structure

    first = "g (float[2] x) => (float[2] y) <float[2] c = {1, 2}> { a = Neg(x) b = Mul(x, c) y = Add(a, b) }"
    second = "h (float[2] x) => (float[2] y) <float[2] k = {1, 2}> { q = Mul(x, k) p = Neg(x) y = Add(p, q) }"
    assert structure(Model.from_text(first)) == structure(Model.from_text(second))


def test_structure_of_subgraphs() -> None:
    from edgecc.testing.structure import structure

    text = """g (float[2] x, bool c) => (float[2] y) {
        n = Neg(x)
        y = If (c) <then_branch = t () => (float[2] a) { r = Relu(n) a = Add(r, x) },
                    else_branch = e () => (float[2] b) { b = Neg(n) }>
    }"""
    renamed = text.replace("n = Neg(x)", "m = Neg(x)").replace("(n)", "(m)").replace("r = Relu", "w = Relu")
    assert structure(Model.from_text(text)) == structure(Model.from_text(renamed.replace("Add(r", "Add(w")))
    assert structure(Model.from_text(text)) != structure(Model.from_text(text.replace("Relu(n)", "Relu(x)")))
    assert any(line.startswith("    ") for line in structure(Model.from_text(text)))


# --------------------------------------------------------------------------------------------------------------- skips

KEPT = "g (float[2] x) => (float[2] y, float[2] z) { a = Relu(x) b = Identity(a) y = Neg(b) z = Identity(x) }"
REASON = "must both keep their names"


def test_expected_skips() -> None:
    check_pass(EliminateIdentity(), KEPT, skips=[REASON])
    check_pass(EliminateIdentity(), KEPT, skips=None)


def test_skip_that_was_not_expected() -> None:
    with pytest.raises(AssertionError, match=rf"skipped more than expected(.|\n)*{REASON}"):
        check_pass(EliminateIdentity(), KEPT)


def test_skip_that_is_missing() -> None:
    with pytest.raises(AssertionError, match=r"gave no reason with 'another reason'(.|\n)*must both keep"):
        check_pass(EliminateIdentity(), KEPT, skips=["another reason"])
    with pytest.raises(AssertionError, match="gave no reason with"):
        check_pass(EliminateIdentity(), KEPT, skips=[REASON, REASON])


def test_assert_skipped() -> None:
    text = "g (float[2] x) => (float[2] y) { y = Identity(x) }"
    assert_skipped(EliminateIdentity(), text, REASON)
    with pytest.raises(AssertionError, match="gave no reason with 'because'"):
        assert_skipped(EliminateIdentity(), text, "because")
    with pytest.raises(AssertionError, match="gave a reason where none is due"):
        assert_skipped(EliminateIdentity(), text, "")
    with pytest.raises(AssertionError, match="eliminate-identity changed the model"):
        assert_skipped(EliminateIdentity(), BEFORE, "")


class ClipToRange(Pass):
    """Clip what is computed to the range that it has."""

    name = "clip-to-range"
    loss: ClassVar[Loss] = Loss.LOSSY

    def statistics(self, model: Model) -> list[Request]:
        return [Range(node.outputs[0].name) for node in model.nodes("Neg")]

    def run(self, model: Model, ctx: PassContext) -> bool:
        nodes = [node for node in model.nodes("Neg") if not model.consumers(node.outputs[0])]
        for node in nodes:
            output = node.outputs[0]
            found = ctx.statistics.range(output.name)
            inner = model.variable("inner", np.dtype(np.float32), output.shape)
            model.set_output(node, 0, inner)
            ends = [model.constant("end", np.asarray(end, np.float32)) for end in (found.low, found.high)]
            model.add("Clip", [inner, *ends], [output])
        return bool(nodes)


@pytest.mark.parametrize("feeds", [None, {"x": np.array([1, 2], np.float32)}], ids=["random", "feeds"])
def test_passes_that_ask_about_data_are_calibrated(feeds: dict[str, np.ndarray] | None) -> None:
    # What it is compared on is among the samples: nothing is clipped.
    before = "g (float[2] x) => (float[2] y) { y = Neg(x) }"
    model = check_pass(ClipToRange(), before, tolerance=0.0, feeds=feeds)
    low = value_of(model.nodes("Clip")[0].inputs[1])
    assert low is not None
    assert low == -2 if feeds is not None else low < 0
