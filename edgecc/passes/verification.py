"""Verifier: executes the model before and after a pass (`--verify`)."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecc.errors import DataError, VerificationError
from edgecc.passes.base import Loss
from edgecc.reference_session import reference_session

if TYPE_CHECKING:
    from edgecc.data.feeds import Feeds
    from edgecc.model import Model
    from edgecc.passes.base import Pass

#: What a ROUNDING pass may change, relative to the largest value of the tensor. Folding one layer's normalization
#: moves a float32 result by some 1e-6; a hundred layers in a row stay well below this.
ROUNDING_TOLERANCE = 1e-4
#: The same where values are stored as float16 or bfloat16 somewhere in either model: 2^-11 or 2^-8 per operation.
HALF_TOLERANCE = 2e-2
#: Inner tensors fetched in one run when the first that differs is looked for: all at once may not fit into memory.
TENSORS_AT_ONCE = 32

_RANDOM = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli")


@dataclass(frozen=True)
class Difference:
    """Where two results part: the tensor, and by how much."""

    tensor: str
    text: str


class Verifier:
    """Runs both models in ONNX Runtime, its optimizations off, and compares what they give.

    An EXACT pass must leave every bit as it is (one NaN equals another); a ROUNDING pass may move values by
    `tolerance`, relative to the largest value of the tensor.

    Args:
        seed: of the random feeds.
        feeds: used instead of random ones.
        tolerance: of ROUNDING passes; by default ROUNDING_TOLERANCE, or HALF_TOLERANCE where a model stores halves.
        save_to: folder for the two models when they differ; a new temporary one if None.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        feeds: Mapping[str, np.ndarray] | None = None,
        tolerance: float | None = None,
        save_to: Path | None = None,
    ) -> None:
        self.seed = seed
        self.feeds = None if feeds is None else dict(feeds)
        self.tolerance = tolerance
        self.save_to = save_to

    def check(self, step: Pass, before: Model, after: Model) -> None:
        """Raise VerificationError unless both models give the same, as far as the pass's loss demands.

        A model with random operators is not checked: it does not give the same twice.
        """
        if any(node.op in _RANDOM for node in before.all_nodes()):
            return
        feeds = self._feeds(before)
        tolerance = self._tolerance(step, before, after)
        expected = _run_before(before, feeds)
        try:
            actual = run(after, feeds)
        except Exception as error:  # ONNX Runtime's errors share no base class beside Exception
            where = self._save(step, before, after, feeds)
            raise VerificationError(
                f"after pass {step.name!r} the model does not run any more",
                where=where,
                why=str(error).splitlines()[0],
                hint=_report_to_author(step),
            ) from error
        if _first_difference(expected, actual, tolerance) is None:
            return
        difference = _locate(before, after, feeds, tolerance) or _first_difference(expected, actual, tolerance)
        assert difference is not None, "the outputs differ"
        allowed = "nothing (it is exact)" if tolerance is None else f"{tolerance:g} of the largest value"
        raise VerificationError(
            f"pass {step.name!r} changed values: tensor {difference.tensor!r} {difference.text}",
            where=self._save(step, before, after, feeds),
            why=f"it may change {allowed}",
            hint=_report_to_author(step),
        )

    def _feeds(self, model: Model) -> Feeds:
        from edgecc.data.feeds import random_feeds

        return self.feeds if self.feeds is not None else random_feeds(model.signature, self.seed)

    def _tolerance(self, step: Pass, before: Model, after: Model) -> float | None:
        """None if every bit counts."""
        if step.loses() is Loss.EXACT:
            return None
        if self.tolerance is not None:
            return self.tolerance
        return HALF_TOLERANCE if _stores_halves(before) or _stores_halves(after) else ROUNDING_TOLERANCE

    def _save(self, step: Pass, before: Model, after: Model, feeds: Feeds) -> str:
        """Both models and the feeds, for whoever looks into it; returns where they are."""
        from edgecc.data.npz import write_npz

        folder = self.save_to or Path(tempfile.mkdtemp(prefix="edgecc-verify-"))
        paths = [folder / f"{step.name}.{when}.onnx" for when in ("before", "after")]
        for path, model in zip(paths, (before, after), strict=True):
            model.save(path)
        feeds_path = folder / f"{step.name}.feeds.npz"
        write_npz(feeds_path, feeds)
        return f"saved to {paths[0]}, {paths[1]} and {feeds_path}"


def run(model: Model, feeds: Mapping[str, np.ndarray], outputs: list[str] | None = None) -> dict[str, np.ndarray]:
    """What the model gives in ONNX Runtime on the CPU, its optimizations off; also inner tensors, by name."""
    import onnx

    # Large weights are fed: they pass no 2 GB limit and are not copied into a file first.
    proto = model.to_proto(detach=True)
    weights = _detached(model, {info.name for info in proto.graph.input})
    for name in [name for name, values in weights.items() if values.dtype.kind == "V"]:
        # int4 and others that numpy lacks cannot be fed: an initializer is an input's default.
        proto.graph.initializer.append(onnx.numpy_helper.from_array(weights.pop(name), name))
    names = [spec.name for spec in model.signature.outputs] if outputs is None else outputs
    known = {info.name for info in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    session = reference_session(proto, prepacking=False)
    wanted = {spec.name for spec in model.signature.inputs}
    given = {name: values for name, values in feeds.items() if name in wanted}
    return dict(zip(names, session.run(names, {**given, **weights}), strict=True))


def _detached(model: Model, inputs: set[str]) -> dict[str, np.ndarray]:
    from edgecc.model import value_of

    # Constants that only a subgraph reads are inputs of the detached main graph too.
    found = ((tensor.name, value_of(tensor)) for tensor in model.constants() if tensor.name in inputs)
    return {name: values for name, values in found if values is not None}


def _run_before(model: Model, feeds: Feeds) -> dict[str, np.ndarray]:
    try:
        return run(model, feeds)
    except Exception as error:  # ONNX Runtime's errors share no base class beside Exception
        raise DataError(
            "the model cannot be run for verification",
            why=str(error).splitlines()[0],
            hint="fix open dimensions with --shape NAME=..., or leave out --verify",
        ) from error


def _first_difference(
    expected: Mapping[str, Any], actual: Mapping[str, Any], tolerance: float | None
) -> Difference | None:
    for name, value in expected.items():
        text = compare(value, actual[name], tolerance)
        if text:
            return Difference(name, text)
    return None


def compare(expected: Any, actual: Any, tolerance: float | None) -> str:
    """How two values differ, in words; "" if they do not.

    Args:
        expected: an array, or what ONNX Runtime gives for a sequence or an optional.
        actual: the other.
        tolerance: relative to the largest value; None if every bit counts, beside those of NaN.
    """
    if not isinstance(expected, np.ndarray) or not isinstance(actual, np.ndarray):
        return "" if repr(expected) == repr(actual) else "is another sequence"
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return f"is {actual.dtype}{list(actual.shape)}, was {expected.dtype}{list(expected.shape)}"
    if expected.dtype.kind not in "fV":
        count = int((expected != actual).sum())
        return f"differs in {count} of {expected.size} values" if count else ""
    if tolerance is None:
        return _compare_bits(expected, actual)
    return _compare_close(expected.astype(np.float64), actual.astype(np.float64), tolerance)


def _compare_bits(expected: np.ndarray, actual: np.ndarray) -> str:
    bits = np.dtype(f"u{expected.dtype.itemsize}")
    both_nan = np.isnan(expected) & np.isnan(actual)
    different = (np.ascontiguousarray(expected).view(bits) != np.ascontiguousarray(actual).view(bits)) & ~both_nan
    count = int(different.sum())
    if not count:
        return ""
    place = np.unravel_index(int(np.argmax(different)), different.shape)
    return (
        f"differs in {count} of {expected.size} values; "
        f"at {[int(i) for i in place]} it is {actual[place]}, was {expected[place]}"
    )


def _compare_close(expected: np.ndarray, actual: np.ndarray, tolerance: float) -> str:
    finite = np.isfinite(expected)
    if not np.array_equal(expected[~finite], actual[~finite], equal_nan=True) or not np.isfinite(actual[finite]).all():
        return "has NaN or infinite values in other places"
    if not finite.any():
        return ""
    worst = float(np.abs(expected[finite] - actual[finite]).max())
    largest = float(np.abs(expected[finite]).max())
    if worst <= tolerance * largest:
        return ""
    share = f" ({worst / largest:.2g} of the largest value, {largest:.3g})" if largest else ", where all was zero"
    return f"differs by up to {worst:.3g}{share}"


def _locate(before: Model, after: Model, feeds: Feeds, tolerance: float | None) -> Difference | None:
    """The first tensor, in the order of execution, that both models have and that differs."""
    computed = {t.name for node in before.nodes() for t in node.outputs if not t.is_empty()}
    shared = [t.name for node in after.nodes() for t in node.outputs if t.name in computed]
    try:
        for start in range(0, len(shared), TENSORS_AT_ONCE):
            part = shared[start : start + TENSORS_AT_ONCE]
            difference = _first_difference(run(before, feeds, part), run(after, feeds, part), tolerance)
            if difference is not None:
                return difference
    except Exception:  # naming the tensor is a courtesy: the difference itself is reported either way
        return None
    return None


def _stores_halves(model: Model) -> bool:
    return any(t.dtype is not None and np.dtype(t.dtype).name in ("float16", "bfloat16") for t in model.tensors())


def _report_to_author(step: Pass) -> str:
    return f"leave out --pass {step.name}, and report it to the pass's author (edgecc plugins shows who owns it)"
