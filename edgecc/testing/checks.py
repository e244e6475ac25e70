"""check_pass: everything that is asked of a pass, in one call."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecc.errors import PassContractError
from edgecc.options import build, parse_spec
from edgecc.passes.base import Loss, Pass, PassContext, Skip
from edgecc.passes.pipeline import PassPipeline

if TYPE_CHECKING:
    from edgecc.data.calibration import Calibration, CalibrationData
    from edgecc.data.feeds import Feeds
    from edgecc.model import Model
    from edgecc.signature import Signature
    from edgecc.target import Target

_SEEDS = (0, 1)
#: Random calibration samples for passes that ask about data.
_SAMPLES = 8


def check_pass(
    step: Pass,
    before: str | Model,
    after: str | Model | None = None,
    *,
    tolerance: float | None = None,
    skips: Sequence[str] | None = (),
    feeds: Mapping[str, np.ndarray] | None = None,
    target: Target | None = None,
    calibration: Calibration | None = None,
) -> Model:
    """Run a pass that must change the model, and check all that a pass promises.

    - it says that it changed the model, and says so only then; what it returns is a bool
    - the graph is whole afterwards, `requires` and `ensures` hold, no array shared with other models was written
    - the model's inputs and outputs keep names, order, types and shapes
    - ONNX Runtime gives the same: every bit for EXACT, up to `tolerance` for ROUNDING; LOSSY is not compared
      unless a tolerance is given
    - a second run changes nothing
    - what declares `keeps_types` leaves nothing for shape inference to find
    - `parse_spec(step.spec())` and JSON give an equal pass
    - the structure is `after`'s: operators, edges and attributes, up to names
    - the nodes that it left alone have the reasons in `skips`
    - where its plugin's `PassEntry` says which operators it needs, it does nothing without them

    Args:
        step: the pass.
        before: a model, or ONNX text such as `g (float[1,2] x) => (float[1,2] y) { y = Relu(x) }`; cleaned up first,
            as the pipeline does.
        after: the expected structure; not compared if None.
        tolerance: largest difference, relative to the largest value of the tensor. Written where it is used: a
            ROUNDING pass needs one, an EXACT one must have none.
        skips: a part of each expected reason, in any order; none may be missing or left over. None: any.
        feeds: given to the model instead of random values; also the only calibration sample then.
        target: what the pass is told to compile for.
        calibration: for a pass that asks about data: samples by input name, or a function that yields feeds; the
            feeds, or random values, if None.

    Returns:
        The model after the pass, for further assertions.
    """
    original = _as_model(before)
    model, reasons = _hold(step, original, tolerance, feeds, _Surroundings(target, calibration, feeds))
    if model.digest() == original.digest():
        raise AssertionError(f"{step.name} changed nothing{_list_reasons(reasons)}")
    _check_skips(step, reasons, skips)
    if after is not None:
        _check_structure(model, _as_model(after))
    return model


def check_contract(
    step: Pass,
    model: str | Model,
    *,
    tolerance: float | None = None,
    target: Target | None = None,
    calibration: Calibration | None = None,
) -> Model:
    """What `check_pass` checks, for a model that the pass may change or not: random models, whole networks.

    Args:
        step: the pass.
        model: a model or ONNX text.
        tolerance: as for `check_pass`.
        target: what the pass is told to compile for.
        calibration: for a pass that asks about data: samples by input name, or a function that yields feeds; the
            feeds, or random values, if None.

    Returns:
        The model after the pass.
    """
    return _hold(step, _as_model(model), tolerance, None, _Surroundings(target, calibration))[0]


def assert_skipped(
    step: Pass,
    before: str | Model,
    reason: str,
    *,
    target: Target | None = None,
    calibration: Calibration | None = None,
) -> Model:
    """Run a pass that must leave the model alone, and say why.

    Args:
        step: the pass.
        before: a model or ONNX text.
        reason: part of the reason of one skipped node; "" if the pass must not even mention one.
        target: what the pass is told to compile for.
        calibration: for a pass that asks about data: samples by input name, or a function that yields feeds; the
            feeds, or random values, if None.

    Returns:
        The unchanged model.
    """
    original = _as_model(before)
    model, reasons = _run(step, original, _Surroundings(target, calibration))
    if model.digest() != original.digest():
        raise AssertionError(f"{step.name} changed the model:\n{_diff(original, model)}")
    if reason and not any(reason in skip.reason for skip in reasons):
        raise AssertionError(f"{step.name} gave no reason with {reason!r}{_list_reasons(reasons)}")
    if not reason and reasons:
        raise AssertionError(f"{step.name} gave a reason where none is due{_list_reasons(reasons)}")
    _check_options(step)
    return model


@dataclass(frozen=True)
class _Surroundings:
    """What a pass is told beside the model."""

    target: Target | None
    calibration: Calibration | None = None
    feeds: Mapping[str, np.ndarray] | None = None

    def context(self, model: Model) -> PassContext:
        """One that asks about data sees the samples, or the feeds, or random values."""
        return PassContext(self.target, np.random.default_rng(0), calibration=self._data(model.signature))

    def _data(self, signature: Signature) -> CalibrationData:
        from edgecc.data.calibration import open_calibration
        from edgecc.data.sources import FunctionSource, RandomSource
        from edgecc.statistics.table import StatisticTable

        if self.calibration is not None:
            data = open_calibration(self.calibration, signature)
            assert not isinstance(data, StatisticTable), "a pass is tested on samples"
            return data
        if self.feeds is None:
            return RandomSource(signature, _SAMPLES, 0)
        feeds = self.feeds
        return FunctionSource(lambda: [feeds], signature, "feeds")


def _as_model(source: str | Model) -> Model:
    from edgecc.model import Model

    model = Model.from_text(source) if isinstance(source, str) else source.clone()
    model.cleanup()
    model.verify()
    return model


def _check_tolerance(step: Pass, tolerance: float | None) -> None:
    if step.loses() is Loss.ROUNDING and tolerance is None:
        raise AssertionError(f"{step.name} may round: write how much, check_pass(..., tolerance=1e-5)")
    if step.loses() is Loss.EXACT and tolerance is not None:
        raise AssertionError(f"{step.name} is declared exact: it gets no tolerance")


def _hold(
    step: Pass,
    original: Model,
    tolerance: float | None,
    feeds: Mapping[str, np.ndarray] | None,
    surroundings: _Surroundings,
) -> tuple[Model, list[Skip]]:
    """Run the pass and hold it to its contract; the model after it, and what it skipped."""
    _check_tolerance(step, tolerance)
    model, reasons = _run(step, original, surroundings)
    if model.digest() != original.digest():
        _check_values(step, original, model, tolerance, feeds)
    _check_signature(step, original, model)
    _check_types(step, model)
    _check_idempotent(step, model, surroundings)
    _check_options(step)
    return model, reasons


def _run(step: Pass, original: Model, surroundings: _Surroundings) -> tuple[Model, list[Skip]]:
    model = original.clone()
    digest = original.digest()
    try:
        result = PassPipeline([step]).run(model, surroundings.context(model))
    except PassContractError as error:
        raise AssertionError(str(error)) from error
    if original.digest() != digest:
        raise AssertionError(f"{step.name} wrote into an array that it shares with other models: make a new constant")
    changed = result.records[0].changed
    if changed != (model.digest() != digest):
        said = "changed the model and returned False" if not changed else "returned True and changed nothing"
        raise AssertionError(f"{step.name} {said}")
    if changed or result.skips:
        _check_needs(step, original)
    return model, result.skips


def _check_needs(step: Pass, model: Model) -> None:
    """A pass that its plugin lists by an entry has something to do only where the entry says so."""
    from edgecc.registry import default_registry

    passes = default_registry().passes
    if step.name not in passes or type(step) is not passes[step.name]:
        return
    operators = passes.operators(step.name)
    if operators and operators.isdisjoint(node.op for node in model.nodes()):
        raise AssertionError(f"{step.name} has something to do in a model without {', '.join(sorted(operators))}")


def _check_values(
    step: Pass, before: Model, after: Model, tolerance: float | None, feeds: Mapping[str, np.ndarray] | None
) -> None:
    from edgecc.passes.verification import compare, run

    if step.loses() is Loss.LOSSY and tolerance is None:
        return
    for given in [dict(feeds)] if feeds is not None else _random(step, before):
        expected = run(before, given)
        try:
            actual = run(after, given)
        except Exception as error:  # ONNX Runtime's errors share no base class beside Exception
            raise AssertionError(f"after {step.name} the model does not run:\n{after.to_text()}") from error
        for name, value in expected.items():
            text = compare(value, actual[name], tolerance) if name in actual else "is gone"
            if text:
                raise AssertionError(f"{step.name} changed values: output {name!r} {text}\n{_diff(before, after)}")


def _random(step: Pass, model: Model) -> list[Feeds]:
    from edgecc.data.feeds import random_feeds

    # Where every bit counts, also signed zeros, huge and tiny values: x + 0 and x * 0 are not what they seem to be.
    special = step.loses() is Loss.EXACT
    return [random_feeds(model.signature, seed, special=special) for seed in _SEEDS]


def _check_signature(step: Pass, before: Model, after: Model) -> None:
    if before.signature == after.signature:
        return
    raise AssertionError(f"{step.name} changed the signature:\n  {before.signature}\n  {after.signature}")


def _check_idempotent(step: Pass, model: Model, surroundings: _Surroundings) -> None:
    again = model.clone()
    result = PassPipeline([step]).run(again, surroundings.context(again))
    if result.records[0].changed or again.digest() != model.digest():
        raise AssertionError(f"a second run of {step.name} changes the model again:\n{_diff(model, again)}")


def _check_types(step: Pass, model: Model) -> None:
    """A pass that says so leaves nothing to infer: the driver relies on it."""
    if not step.keeps_types:
        return
    again = model.clone()
    again.infer_shapes()
    names: dict[str, str] = {}
    for tensor, inferred in zip(model.tensors(), again.tensors(), strict=True):
        if tensor.dtype != inferred.dtype or not _same_dimensions(tensor.shape, inferred.shape, names):
            raise AssertionError(
                f"{step.name} says that it keeps types, and {tensor.name!r} is {tensor.dtype}{tensor.shape} where "
                f"onnx infers {inferred.dtype}{inferred.shape}"
            )


def _same_dimensions(
    first: Sequence[int | str] | None, second: Sequence[int | str] | None, names: dict[str, str]
) -> bool:
    """Equal up to the names of open dimensions, if each name always means the same one."""
    if first is None or second is None or len(first) != len(second):
        return first is second
    for dim, other in zip(first, second, strict=True):
        if isinstance(dim, int) or isinstance(other, int):
            if dim != other:
                return False
        elif names.setdefault(dim, other) != other:
            return False
    return True


def _check_options(step: Pass) -> None:
    name, options = parse_spec(step.spec())
    if name != step.name or build(type(step), "pass", name, options) != step:
        raise AssertionError(f"the options of {step.name} are lost in its spec {step.spec()!r}")
    if type(step).model_validate_json(step.model_dump_json()) != step:
        raise AssertionError(f"the options of {step.name} are lost in JSON: {step.model_dump_json()}")


def _check_structure(model: Model, expected: Model) -> None:
    from edgecc.testing.structure import structure

    if structure(model) != structure(expected):
        raise AssertionError(f"the result (+) is not the expected model (-):\n{_diff(expected, model)}")


def _check_skips(step: Pass, reasons: Sequence[Skip], expected: Sequence[str] | None) -> None:
    if expected is None:
        return
    left = list(reasons)
    for part in expected:
        match = next((skip for skip in left if part in skip.reason), None)
        if match is None:
            raise AssertionError(f"{step.name} gave no reason with {part!r}{_list_reasons(reasons)}")
        left.remove(match)
    if left:
        raise AssertionError(f"{step.name} skipped more than expected{_list_reasons(left)}")


def _list_reasons(reasons: Sequence[Skip]) -> str:
    return "".join(f"\n  skipped {skip.node} ({skip.op}): {skip.reason}" for skip in reasons)


def _diff(old: Model, new: Model) -> str:
    from edgecc.testing.structure import structure

    return "\n".join(difflib.unified_diff(structure(old), structure(new), lineterm="", n=9))
