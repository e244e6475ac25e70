"""`edgecc.from_jax`: values, names and open dimensions are the function's."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("edgecc_jax")
jax = pytest.importorskip("jax")
pytest.importorskip("jax2onnx")

import jax.numpy as jnp

import edgecc
from edgecc.errors import InvalidModelError, OptionError, PluginError, UnsupportedError
from edgecc.passes.verification import compare, run

#: Relative to the largest value of an output; ONNX Runtime and XLA sum in another order.
TOLERANCE = 1e-4
RNG = np.random.default_rng(0)


def values(*shape: int) -> np.ndarray:
    return RNG.normal(0, 1, shape).astype(np.float32)


WEIGHTS = {"w0": values(8, 16), "b0": values(16), "w1": values(16, 4), "b1": values(4)}
KERNELS = [values(3, 3, 3, 8), values(3, 3, 1, 8)]
PROJECTIONS = [values(16, 16) / 4 for _ in range(4)]


def mlp(weights: dict[str, np.ndarray], x: Any) -> dict[str, Any]:
    hidden = jax.nn.gelu(x @ weights["w0"] + weights["b0"])
    return {"scores": jax.nn.softmax(hidden @ weights["w1"] + weights["b1"]), "hidden": hidden}


def convolutions(image: Any) -> Any:
    """Channels last: strided and depthwise convolutions, pooling."""
    numbers = ("NHWC", "HWIO", "NHWC")
    x = jax.lax.conv_general_dilated(image, KERNELS[0], (2, 2), "SAME", dimension_numbers=numbers)
    x = jax.nn.relu(x)
    x = jax.lax.conv_general_dilated(x, KERNELS[1], (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=8)
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return x.mean((1, 2))


def attention(tokens: Any) -> Any:
    """Four heads, causal."""
    query, key, value = ((tokens @ w).reshape(2, 6, 4, 4).transpose(0, 2, 1, 3) for w in PROJECTIONS[:3])
    scores = query @ key.transpose(0, 1, 3, 2) / 2
    scores = jnp.where(jnp.tril(jnp.ones((6, 6), bool)), scores, -1e9)
    mixed = (jax.nn.softmax(scores, axis=-1) @ value).transpose(0, 2, 1, 3).reshape(2, 6, 16)
    return mixed @ PROJECTIONS[3]


def recurrent(steps: Any) -> Any:
    def step(state: Any, x: Any) -> tuple[Any, Any]:
        state = jnp.tanh(x @ PROJECTIONS[0] + state @ PROJECTIONS[1])
        return state, state

    return jax.lax.scan(step, jnp.zeros((16,)), steps)[1]


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (functools.partial(mlp, WEIGHTS), (3, 8)),
        (convolutions, (2, 16, 16, 3)),
        (attention, (2, 6, 16)),
        (recurrent, (5, 16)),
    ],
    ids=["mlp", "convolutions", "attention", "recurrent"],
)
def test_values(function: Callable[[Any], Any], shape: tuple[int, ...], tmp_path: Path) -> None:
    x = values(*shape)
    model = edgecc.from_jax(function, (x,))
    (name,) = [spec.name for spec in model.signature.inputs]
    assert model.signature.inputs[0].shape == shape
    expected = jax.jit(function)(x)
    expected = expected if isinstance(expected, dict) else {"output": expected}
    for output, found in run(model, {name: x}).items():
        assert compare(np.asarray(expected[output]), found, TOLERANCE) == ""
    if function is recurrent:
        return  # jax2onnx does not say the shapes of a loop's state, which TFLite has to know
    edgecc.compile(model, output=tmp_path / "m.tflite")
    with edgecc.runner(tmp_path / "m.tflite") as runner:
        for output, found in runner.infer({name: x}).items():
            assert compare(np.asarray(expected[output]), found, TOLERANCE) == ""


def test_names_and_nesting() -> None:
    def step(x: Any, state: dict[str, Any], scale: Any) -> tuple[Any, dict[str, Any]]:
        h = state["h"] + x * scale
        return h.sum(), {"h": h}

    model = edgecc.from_jax(step, (values(2, 3), {"h": values(2, 3)}, values(3)))
    assert [spec.name for spec in model.signature.inputs] == ["x", "state.h", "scale"]
    assert [spec.name for spec in model.signature.outputs] == ["output_0", "output_1_h"]
    by_name = edgecc.from_jax(step, {"x": values(2, 3), "state": {"h": values(2, 3)}, "scale": values(3)})
    assert {spec.name for spec in by_name.signature.inputs} == {"x", "state.h", "scale"}


def test_open_dimensions() -> None:
    (batch,) = jax.export.symbolic_shape("batch")
    spec = jax.ShapeDtypeStruct((batch, 8), jnp.float32)
    model = edgecc.from_jax(functools.partial(mlp, WEIGHTS), {"x": spec})
    assert [spec.shape for spec in model.signature.inputs] == [("batch", 8)]
    assert [spec.shape for spec in model.signature.outputs] == [("batch", 16), ("batch", 4)]
    x = values(5, 8)
    expected = mlp(WEIGHTS, x)
    for name, found in run(model, {"x": x}).items():
        assert compare(np.asarray(expected[name]), found, TOLERANCE) == ""


def test_flax() -> None:
    nnx = pytest.importorskip("flax.nnx")

    class Net(nnx.Module):  # type: ignore[misc, name-defined]
        def __init__(self, rngs: Any) -> None:
            self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs)
            self.norm = nnx.BatchNorm(8, use_running_average=True, rngs=rngs)
            self.dense = nnx.Linear(8, 4, rngs=rngs)

        def __call__(self, image: Any) -> Any:
            return self.dense(nnx.relu(self.norm(self.conv(image))).mean((1, 2)))

    net = Net(nnx.Rngs(0))
    image = values(2, 8, 8, 3)
    model = edgecc.from_jax(net, image)
    assert [spec.name for spec in model.signature.inputs] == ["image"]
    assert compare(np.asarray(net(image)), run(model, {"image": image})["output"], TOLERANCE) == ""


def test_errors() -> None:
    x = values(3, 3)
    with pytest.raises(InvalidModelError, match="cannot be exported by jax2onnx") as caught:
        edgecc.from_jax(lambda x: x + 1 if x.sum() > 0 else x, (x,))
    assert "jax.lax.cond" in caught.value.hint
    with pytest.raises(UnsupportedError, match="cannot be compiled for ONNX"):
        edgecc.from_jax(lambda x: jnp.linalg.eigh(x)[0], (x,))
    with pytest.raises(OptionError, match="needs example inputs"):
        edgecc.from_jax(lambda: 1, ())
    with pytest.raises(OptionError, match="takes a function"):
        edgecc.from_jax(3, (x,))
    with pytest.raises(OptionError, match="inputs are arrays"):
        edgecc.from_jax(lambda x: x, ("text",))
    with pytest.raises(InvalidModelError, match="returns no arrays"):
        edgecc.from_jax(lambda x: None, (x,))


def test_jax2onnx_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgecc_jax.from_jax import from_jax

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PluginError, match="jax is not installed") as caught:
        from_jax(lambda x: x, (values(1),))
    assert caught.value.hint == "pip install jax"


def test_scan_to_tflite(tmp_path: Path) -> None:
    """Its number of steps is known, and so is how much it gives."""

    def function(x: jax.Array) -> Any:
        def step(state: jax.Array, value: jax.Array) -> tuple[jax.Array, jax.Array]:
            state = jnp.tanh(state * 0.5 + value)
            return state, state.sum(-1)

        return jax.lax.scan(step, jnp.zeros((4,)), x)

    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    model = edgecc.from_jax(function, (x,))
    assert [spec.shape for spec in model.signature.outputs] == [(4,), (5,)]
    path = edgecc.compile(model, output=tmp_path / "m.tflite").path
    with edgecc.runner(path) as runner:
        found = runner.infer({"x": x})
    for values, expected in zip(found.values(), function(x), strict=True):
        np.testing.assert_allclose(values, expected, atol=1e-6)
