from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgecc.errors import DataError, VerificationError
from edgecc.model import Model, value_of
from edgecc.passes import verification
from edgecc.passes.base import Loss, Pass, PassContext
from edgecc.passes.pipeline import PassPipeline
from edgecc.passes.verification import Verifier, compare, run

if TYPE_CHECKING:
    from collections.abc import Sequence

TEXT = "g (float[2,3] x) => (float[2,3] y) <float[3] c = {1, 2, 3}> { a = Mul(x, c) b = Relu(a) y = Neg(b) }"


class Scale(Pass):
    """Multiply the constant of every Mul."""

    name = "scale"
    loss = Loss.EXACT
    factor: float = 1.0

    def run(self, model: Model, ctx: PassContext) -> bool:
        for node in model.nodes("Mul"):
            values = value_of(node.inputs[1])
            assert values is not None
            model.set_input(node, 1, model.constant("scaled", (values * self.factor).astype(values.dtype)))
        return True


class RoughScale(Scale):
    """The same, declared to round."""

    name = "rough-scale"
    loss = Loss.ROUNDING


class LossyScale(Scale):
    """The same, declared to change values."""

    name = "lossy-scale"
    loss = Loss.LOSSY


def verify(step: Pass, text: str = TEXT, **options: object) -> None:
    model = Model.from_text(text)
    PassPipeline([step], verifier=Verifier(**options)).run(model, PassContext(None, np.random.default_rng(0)))  # type: ignore[arg-type]


def test_equal_models_pass() -> None:
    verify(Scale())
    verify(RoughScale())


@pytest.mark.parametrize("at_once", [1, 2])
def test_the_first_difference_is_found_part_by_part(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(verification, "TENSORS_AT_ONCE", at_once)
    text = """g (float[3] x) => (float[3] y) <float[3] c = {1, 2, 3}> {
        p = Abs(x) q = Sqrt(p) r = Neg(q) a = Mul(r, c) b = Relu(x) d = Add(a, b) y = Neg(d) }"""
    with pytest.raises(VerificationError, match="pass 'scale' changed values: tensor 'a' differs"):
        verify(Scale(factor=2.0), text)


def test_exact_means_every_bit(tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="pass 'scale' changed values: tensor 'a' differs in"):
        verify(Scale(factor=1 + 1e-7), save_to=tmp_path)


def test_rounding_is_relative_to_the_largest_value(tmp_path: Path) -> None:
    verify(RoughScale(factor=1 + 1e-5))
    with pytest.raises(VerificationError, match=r"tensor 'a' differs by up to .* \(0.001 of the largest value"):
        verify(RoughScale(factor=1.001), save_to=tmp_path)
    verify(RoughScale(factor=1.001), tolerance=0.01)


def test_halves_have_their_own_tolerance() -> None:
    text = """g (float[2,3] x) => (float16[2,3] y) <float[3] c = {1, 2, 3}> { a = Mul(x, c) y = Cast<to=10>(a) }"""
    verify(RoughScale(factor=1.001), text)


def test_lossy_passes_are_not_executed() -> None:
    verify(LossyScale(factor=100.0))


def test_message_names_pass_tensor_difference_and_files(tmp_path: Path) -> None:
    with pytest.raises(VerificationError) as caught:
        verify(Scale(factor=2.0), save_to=tmp_path)
    error = caught.value
    assert error.exit_code == 4
    assert "'scale'" in error.what
    assert "tensor 'a'" in error.what
    assert "it is" in error.what
    assert error.why == "it may change nothing (it is exact)"
    for name in ("scale.before.onnx", "scale.after.onnx", "scale.feeds.npz"):
        assert str(tmp_path / name) in error.where
    feeds = dict(np.load(tmp_path / "scale.feeds.npz"))
    before, after = (run(Model.load(tmp_path / f"scale.{when}.onnx"), feeds)["y"] for when in ("before", "after"))
    np.testing.assert_array_equal(after, before * 2)


def test_models_are_saved_to_a_temporary_folder_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(VerificationError, match="edgecc-verify-"):
        verify(Scale(factor=2.0))
    assert len(list(tmp_path.glob("edgecc-verify-*/*.onnx"))) == 2


def test_difference_in_an_output_only(tmp_path: Path) -> None:
    """Inner tensors of the same name may be equal although the outputs are not."""

    class Swap(Pass):
        name = "swap"

        def run(self, model: Model, ctx: PassContext) -> bool:
            model.nodes("Neg")[0].op = "Abs"
            return True

    with pytest.raises(VerificationError, match="tensor 'y' differs"):
        verify(Swap(), save_to=tmp_path)


def test_model_that_does_not_run_any_more(tmp_path: Path) -> None:
    class Break(Pass):
        name = "break"

        def run(self, model: Model, ctx: PassContext) -> bool:
            model.nodes("Relu")[0].op = "NoSuchOperator"
            return True

    with pytest.raises(VerificationError, match="after pass 'break' the model does not run any more"):
        verify(Break(), save_to=tmp_path)
    assert (tmp_path / "break.before.onnx").is_file()


def test_model_that_never_ran() -> None:
    body = "a = Mul(x, c) s = Cast<to=7>(z) y = Reshape(a, s)"
    text = f"g (float[2,3] x, float[2] z) => (float[A,B] y) <float c = {{1}}> {{ {body} }}"
    with pytest.raises(DataError, match="the model cannot be run for verification"):
        verify(Scale(), text)


def test_given_feeds_are_used(tmp_path: Path) -> None:
    zeros = {"x": np.zeros((2, 3), np.float32)}
    verify(Scale(factor=2.0), feeds=zeros)
    with pytest.raises(VerificationError, match="'scale' changed values"):
        verify(Scale(factor=2.0), feeds={"x": np.ones((2, 3), np.float32)}, save_to=tmp_path)


def test_random_models_are_not_compared() -> None:
    body = "a = Mul(x, c) r = RandomNormalLike(a) y = Add(a, r)"
    text = f"g (float[2,3] x) => (float[2,3] y) <float[3] c = {{1, 2, 3}}> {{ {body} }}"
    verify(Scale(factor=2.0), text)


def test_random_operators_of_subgraphs_count() -> None:
    text = """g (bool k, float[3] x) => (float[3] y) <float[3] c = {1, 2, 3}> { a = Mul(x, c) y = If(k)<
        then_branch = p () => (float[3] r) { [n] t = RandomNormal<shape=[3]>() [o] r = Add(a, t) },
        else_branch = q () => (float[3] s) { [p] u = RandomNormal<shape=[3]>() [q] s = Sub(a, u) }> }"""
    verify(Scale(factor=2.0), text)  # raises nothing


def test_large_weights_and_open_dimensions() -> None:
    text = """g (float[N,64] x, int64[N] i) => (float[N,64] y) <int64[2] s = {64, 64}> {
        w = ConstantOfShape<value = float[1] {0.5}>(s)
        m = MatMul(x, w)
        g = Gather(w, i)
        a = Add(m, g)
        y = Mul(a, a)
    }"""
    model = Model.from_text(text)
    model.cleanup()
    assert model.parameter_count >= 64 * 64
    outputs = run(model, {"x": np.ones((2, 64), np.float32), "i": np.zeros(2, np.int64)})
    np.testing.assert_array_equal(outputs["y"], np.full((2, 64), 32.5**2, np.float32))


def test_large_constant_that_only_a_subgraph_reads() -> None:
    text = """g (float[1,32] x, bool c) => (float[1,32] y) {
        y = If(c) <
            then_branch = t () => (float[1,32] a) { a = MatMul(x, w) },
            else_branch = e () => (float[1,32] b) { b = Neg(x) }
        >
    }"""
    model = Model.from_text(text, {"w": np.full((32, 32), 2, np.float32)})
    outputs = run(model, {"x": np.ones((1, 32), np.float32), "c": np.array(True)})
    np.testing.assert_array_equal(outputs["y"], np.full((1, 32), 64, np.float32))


def test_feeds_are_saved_under_any_name(tmp_path: Path) -> None:
    text = """g (float[2,3] file, float[2,3] allow_pickle) => (float[2,3] y) <float[3] c = {1, 2, 3}> {
        a = Mul(file, c) y = Add(a, allow_pickle)
    }"""
    with pytest.raises(VerificationError):
        verify(Scale(factor=2.0), text, save_to=tmp_path)
    with np.load(tmp_path / f"{Scale.name}.feeds.npz") as feeds:
        assert set(feeds) == {"file", "allow_pickle"}


@pytest.mark.parametrize(
    ("expected", "actual", "tolerance", "text"),
    [
        ([1.0, np.nan], [1.0, np.nan], None, ""),
        ([0.0], [-0.0], None, "differs in 1 of 1 values; at [0] it is -0.0, was 0.0"),
        ([1.0, np.inf], [1.0, np.inf], 1e-3, ""),
        ([1.0, np.inf], [1.0, 5.0], 1e-3, "has NaN or infinite values in other places"),
        ([1.0, 5.0], [1.0, np.nan], 1e-3, "has NaN or infinite values in other places"),
        ([0.0, 0.0], [0.0, 1e-9], 1e-3, "differs by up to 1e-09, where all was zero"),
        ([100.0, 1.0], [100.0, 1.05], 1e-3, ""),
        ([100.0, 1.0], [100.0, 1.2], 1e-3, "differs by up to 0.2 (0.002 of the largest value, 100)"),
        ([], [], 1e-3, ""),
    ],
)
def test_compare(expected: Sequence[float], actual: Sequence[float], tolerance: float | None, text: str) -> None:
    assert compare(np.array(expected, np.float32), np.array(actual, np.float32), tolerance) == text


def test_compare_other_things() -> None:
    floats, integers = np.zeros(3, np.float32), np.arange(3)
    assert compare(floats, floats[:2], 1e-3) == "is float32[2], was float32[3]"
    assert compare(floats, floats.astype(np.float64), 1e-3) == "is float64[3], was float32[3]"
    assert compare(integers, np.array([0, 2, 2]), 1.0) == "differs in 1 of 3 values"
    assert compare([floats], [floats], None) == ""
    assert compare([floats], [floats, floats], None) == "is another sequence"
