from __future__ import annotations

import numpy as np
import pytest

from edgecc.errors import OptionError, PassContractError, PassOrderError
from edgecc.model import Model
from edgecc.passes.base import Pass, PassContext, Property
from edgecc.passes.eliminate_identity import EliminateIdentity
from edgecc.passes.fold_batchnorm import FoldBatchNorm
from edgecc.passes.pipeline import PassPipeline, Rounds, check_order


def context() -> PassContext:
    return PassContext(None, np.random.default_rng(0))


RELU = "g (float[2] x) => (float[2] y) { a = Relu(x) y = Neg(a) }"


def run(*passes: Pass, text: str = RELU, **options: object) -> tuple[Model, object]:
    model = Model.from_text(text)
    return model, PassPipeline(passes, **options).run(model, PassContext(None, np.random.default_rng(0)))  # type: ignore[arg-type]


class Nothing(Pass):
    name = "nothing"

    def run(self, model: Model, ctx: PassContext) -> bool:
        return False


class First(Nothing):
    name = "first"


class Second(Nothing):
    name = "second"
    after = ("first",)
    level: int = 0


class Third(Nothing):
    name = "third"
    after = ("second",)


class Early(Nothing):
    name = "early"
    before = ("first",)


class Giver(Nothing):
    name = "giver"
    ensures = (Property.FLOAT16,)


class Taker(Nothing):
    name = "taker"
    requires = (Property.FLOAT16,)


# --------------------------------------------------------------------------------------------------------------- order


def test_passes_run_in_the_written_order() -> None:
    order: list[str] = []

    class Note(Nothing):
        name = "note"
        word: str = ""

        def run(self, model: Model, ctx: PassContext) -> bool:
            order.append(self.word)
            return False

    run(Note(word="b"), Note(word="a"), Note(word="c"))
    assert order == ["b", "a", "c"]


def test_right_orders_are_accepted() -> None:
    check_order([First(), Second(), Third()])
    check_order([Early(), Nothing(), First()])
    check_order([Giver(), Taker()])
    check_order([Second()])
    check_order([])


def test_wrong_order_prints_a_right_one() -> None:
    with pytest.raises(PassOrderError) as caught:
        PassPipeline([Third(), Second(level=2), First(), Early()])
    error = caught.value
    assert error.exit_code == 2
    assert "must run before" in error.what
    assert error.where == "third second first early"
    assert error.hint == "use this order: --pass early --pass first --pass second:level=2 --pass third"


def test_a_wrong_order_lists_what_the_user_wrote() -> None:
    with pytest.raises(PassOrderError) as caught:
        PassPipeline([Rounds((Nothing(),)), Second(), First(), Early()])
    assert caught.value.where == "second first early"
    assert caught.value.hint == "use this order: --pass early --pass first --pass second"
    second, first = Second(), First()
    with pytest.raises(PassOrderError) as caught:
        PassPipeline([Rounds((Nothing(),)), second, first, Giver()], asked=[second, first])
    assert caught.value.where == "second first"
    assert caught.value.hint == "use this order: --pass first --pass second"


def test_passes_that_are_free_keep_their_places() -> None:
    with pytest.raises(PassOrderError) as caught:
        check_order([Nothing(), Second(), First(), Giver()])
    assert caught.value.hint == "use this order: --pass nothing --pass first --pass second --pass giver"


def test_what_a_pass_requires_must_be_ensured_before() -> None:
    with pytest.raises(PassOrderError, match="pass 'giver' must run before 'taker'"):
        check_order([Taker(), Giver()])


def test_orders_that_contradict_each_other() -> None:
    class Late(Nothing):
        name = "late"
        after = ("early-too",)

    class EarlyToo(Nothing):
        name = "early-too"
        after = ("late",)

    with pytest.raises(PassOrderError, match="no order can work: late before early-too before late"):
        check_order([Late(), EarlyToo()])


def test_fold_batchnorm_before_float16() -> None:
    from edgecc.passes.convert_float16 import ConvertFloat16

    with pytest.raises(PassOrderError, match="use this order: --pass fold-batchnorm --pass convert-float16"):
        check_order([ConvertFloat16(), FoldBatchNorm()])


# ------------------------------------------------------------------------------------------------------------ contract


def test_requirement_that_does_not_hold() -> None:
    with pytest.raises(PassOrderError, match="pass 'taker' needs a model with float16") as caught:
        run(Taker())
    assert caught.value.hint == "run a pass that ensures float16 first, or drop 'taker'"


def test_promise_that_does_not_hold() -> None:
    with pytest.raises(PassContractError, match="pass 'giver' does not ensure float16 although it declares it"):
        run(Giver())


def test_broken_graph() -> None:
    class Dangle(Pass):
        name = "dangle"

        def run(self, model: Model, ctx: PassContext) -> bool:
            node = model.nodes("Neg")[0]
            model.set_input(node, 0, model.variable("nowhere", np.float32, [2]))
            return True

    with pytest.raises(PassContractError) as caught:
        run(Dangle())
    assert "pass 'dangle' left a broken graph: tensor 'nowhere' is read before anything writes it" in caught.value.what
    assert caught.value.where == "node 'Neg_1' (Neg)"


def test_broken_graph_of_a_pass_that_says_it_changed_nothing() -> None:
    class Cut(Pass):
        name = "cut"

        def run(self, model: Model, ctx: PassContext) -> bool:
            model.remove(model.nodes("Relu")[0])
            return False

    with pytest.raises(PassContractError, match="pass 'cut' left a broken graph: tensor 'a' is read before"):
        run(Cut())


@pytest.mark.parametrize("value", [None, 1, "yes"])
def test_result_that_is_no_bool(value: object) -> None:
    class Vague(Pass):
        name = "vague"

        def run(self, model: Model, ctx: PassContext) -> bool:
            return value  # type: ignore[return-value]

    with pytest.raises(PassContractError, match=f"pass 'vague' returned {value!r}") as caught:
        run(Vague())
    assert caught.value.why == "run() must return True or False"


def test_exception_in_a_pass() -> None:
    class Raise(Pass):
        name = "raise"

        def run(self, model: Model, ctx: PassContext) -> bool:
            raise KeyError("weights")

    with pytest.raises(PassContractError, match="pass 'raise' raised KeyError: 'weights'") as caught:
        run(Raise())
    assert "bug in the pass" in caught.value.hint
    assert isinstance(caught.value.__cause__, KeyError)


def test_errors_for_the_user_pass_through() -> None:
    with pytest.raises(OptionError, match="matches no node"):
        run(EliminateIdentity(ignore=("nothing",)))


# ----------------------------------------------------------------------------------------------------- what it reports


def test_records() -> None:
    text = "g (float[2] x) => (float[2] y) { a = Identity(x) b = Relu(a) y = Identity(b) }"
    model, result = run(EliminateIdentity(), Nothing(), text=text)
    assert [(r.spec, r.changed, r.nodes_before, r.nodes_after) for r in result.records] == [  # type: ignore[attr-defined]
        ("eliminate-identity", True, 3, 1),
        ("nothing", False, 1, 1),
    ]
    assert all(record.seconds >= 0 for record in result.records)  # type: ignore[attr-defined]
    assert [node.op for node in model.nodes()] == ["Relu"]


def test_spec_can_be_run_again() -> None:
    assert PassPipeline([First(), Second(level=3)]).spec() == ["first", "second:level=3"]


def test_cleanup_follows_a_change() -> None:
    class Double(Pass):
        name = "double"

        def run(self, model: Model, ctx: PassContext) -> bool:
            two = model.constant("two", np.array([2.0], np.float32))
            three = model.constant("three", np.array([3.0], np.float32))
            six = model.variable("six", np.float32, None)
            doubled = model.variable("doubled", np.float32, None)
            node = model.nodes("Neg")[0]
            model.add("Mul", [node.inputs[0], six], [doubled])
            model.add("Mul", [two, three], [six])
            model.set_input(node, 0, doubled)
            return True

    model, _ = run(Double())
    assert [node.op for node in model.nodes()] == ["Relu", "Mul", "Neg"]
    assert model.nodes("Mul")[0].outputs[0].shape == [2]


def test_instruments_watch_every_pass() -> None:
    seen: list[tuple[object, ...]] = []

    class Watch:
        def before_pass(self, step: Pass, model: Model) -> None:
            seen.append(("before", step.name, len(model.nodes())))

        def after_pass(self, step: Pass, model: Model, changed: bool, seconds: float) -> None:
            seen.append(("after", step.name, len(model.nodes()), changed, seconds >= 0))

    run(
        EliminateIdentity(),
        Nothing(),
        text="g (float[2] x) => (float[2] y) { a = Identity(x) y = Relu(a) }",
        instruments=[Watch()],
    )
    assert seen == [
        ("before", "eliminate-identity", 2),
        ("after", "eliminate-identity", 1, True, True),
        ("before", "nothing", 1),
        ("after", "nothing", 1, False, True),
    ]


def test_verifier_sees_only_passes_that_changed_something() -> None:
    checked: list[str] = []

    class Spy:
        def check(self, step: Pass, before: Model, after: Model) -> None:
            checked.append(step.name)
            assert len(before.nodes()) > len(after.nodes())

    text = "g (float[2] x) => (float[2] y) { a = Identity(x) y = Relu(a) }"
    run(Nothing(), EliminateIdentity(), text=text, verifier=Spy())
    assert checked == ["eliminate-identity"]


class ReluToAbs(Pass):
    """Before: y = Relu(x)   After: y = Abs(x)"""

    name = "relu-to-abs"

    def run(self, model: Model, ctx: PassContext) -> bool:
        return _rename(model, "Relu", "Abs")


class AbsToNeg(Pass):
    """Before: y = Abs(x)   After: y = Neg(x)"""

    name = "abs-to-neg"

    def run(self, model: Model, ctx: PassContext) -> bool:
        for node in model.nodes("Neg"):
            ctx.skip(node, "it is Neg already")
        return _rename(model, "Abs", "Neg")


class NegToRelu(Pass):
    """Before: y = Neg(x)   After: y = Relu(x)"""

    name = "neg-to-relu"

    def run(self, model: Model, ctx: PassContext) -> bool:
        return _rename(model, "Neg", "Relu")


def _rename(model: Model, old: str, new: str) -> bool:
    found = model.nodes(old)
    for node in found:
        model.replace(node, new, list(node.inputs))
    return bool(found)


RELU = "g (float[2] x) => (float[2] y) { [r] y = Relu(x) }"


def test_rounds_run_until_nothing_changes() -> None:
    """In the written order the first pass comes too late for what the second one makes."""
    model = Model.from_text(RELU)
    result = PassPipeline([Rounds((AbsToNeg(), ReluToAbs()))]).run(model, context())
    assert [node.op for node in model.nodes()] == ["Neg"]
    assert [(record.spec, record.changed) for record in result.records] == [("abs-to-neg", True), ("relu-to-abs", True)]
    assert [skip.reason for skip in result.skips] == ["it is Neg already"]


def test_passes_that_undo_each_other_are_named() -> None:
    pipeline = PassPipeline([Rounds((ReluToAbs(), AbsToNeg(), NegToRelu()))])
    with pytest.raises(
        PassContractError, match="go on changing the model after 32 rounds: relu-to-abs, abs-to-neg, neg"
    ):
        pipeline.run(Model.from_text(RELU), context())


def test_order_is_checked_across_rounds() -> None:
    class First(AbsToNeg):
        name = "first"
        before = ("relu-to-abs",)

    with pytest.raises(PassOrderError, match="'first' must run before 'relu-to-abs'"):
        PassPipeline([Rounds((ReluToAbs(),)), First()])


def test_a_pass_that_keeps_types_saves_their_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    class Typed(ReluToAbs):
        keeps_types = True

    for step, times in ((ReluToAbs(), 1), (Typed(), 0)):
        model = Model.from_text(RELU)
        inferred = []
        monkeypatch.setattr(Model, "infer_shapes", lambda self, seen=inferred: seen.append(self))
        assert PassPipeline([step]).run(model, context()).records[0].changed
        assert len(inferred) == times


def test_random_numbers_come_from_the_seed_or_go_on_with_a_generator() -> None:
    first, second = PassContext(None, 3).rng.random(4), PassContext(None, 3).rng.random(4)
    assert first.tolist() == second.tolist()
    assert first.tolist() != PassContext(None, 4).rng.random(4).tolist()
    rng = np.random.default_rng(3)
    assert PassContext(None, rng).rng is rng
