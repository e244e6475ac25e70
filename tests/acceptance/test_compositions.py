"""Random small models through all that makes them smaller: they run and keep their shapes, and reports are right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import edgecc
from edgecc.inspection import inspect_model
from edgecc.model import Model
from edgecc.pruning.works import size_of
from edgecc.reference_session import reference_session

SIZE = 6


@st.composite
def networks(draw: st.DrawFn) -> Model:
    """Convolutions of several kinds in a row, with branches, and one or two products behind them."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    constants: dict[str, np.ndarray] = {}
    lines: list[str] = []

    def weights(*shape: int) -> str:
        name = f"w{len(constants)}"
        constants[name] = (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        return name

    def put(operator: str) -> str:
        lines.append(f"t{len(lines)} = {operator}")
        return f"t{len(lines) - 1}"

    def conv(tensor: str, taps: str, attributes: str = "") -> str:
        return put(f"Conv{attributes}({tensor}, {taps})")

    now, channels = "x", 3
    kinds = st.sampled_from(["conv", "depthwise", "residual", "twice", "concat"])
    for kind in draw(st.lists(kinds, min_size=1, max_size=4)):
        if kind == "conv" or channels == 3:
            width = draw(st.sampled_from([4, 9, 16]))
            now = put(f"Relu({conv(now, weights(width, channels, 3, 3), '<pads = [1, 1, 1, 1]>')})")
            channels = width
        elif kind == "depthwise":
            now = conv(now, weights(channels, 1, 3, 3), f"<group = {channels}, pads = [1, 1, 1, 1]>")
        elif kind == "residual":
            inner = put(f"Relu({conv(now, weights(8, channels, 1, 1))})")
            now = put(f"Add({now}, {conv(inner, weights(channels, 8, 1, 1))})")
        elif kind == "twice":
            shared = weights(channels, channels, 1, 1)
            now = conv(put(f"Relu({conv(now, shared)})"), shared)
        else:
            now = put(f"Concat<axis = 1>({now}, {conv(now, weights(5, channels, 1, 1))})")
            channels += 5
    pooled = put(f"GlobalAveragePool({now})")
    now = put(f"Flatten({pooled})")
    lines.append(f"y = Gemm({now}, {weights(channels, 5)})")
    model = Model.from_text(f"g (float[1,3,{SIZE},{SIZE}] x) => (float[1,5] y) {{ {' '.join(lines)} }}", constants)
    model.cleanup()
    return model


BUDGETS = st.one_of(
    st.none(),
    st.floats(0.1, 0.9).map(lambda share: round(share, 2)),
    st.builds("{}={:.2f}".format, st.sampled_from(["params", "bytes", "macs"]), st.floats(0.2, 0.9)),
)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(networks(), BUDGETS, BUDGETS, st.sampled_from([None, "int8", "float16", "int8-weights"]))
def test_all_that_makes_models_smaller(
    tmp_path: Path, model: Model, prune: float | str | None, low_rank: float | str | None, quantize: str | None
) -> None:
    images = np.random.default_rng(1).standard_normal((24, 3, SIZE, SIZE)).astype(np.float32)
    # What keeps values is no part of it: it may pay a few bytes for a layer less.
    plain = edgecc.compile(model, "onnxruntime", tmp_path / "plain.onnx").model
    whole = {measure: size_of(plain, measure) for measure in ("macs", "bytes")}
    result = edgecc.compile(
        model,
        "onnxruntime",
        tmp_path / "smaller.onnx",
        prune=prune,
        low_rank=low_rank,
        quantize=quantize,
        calibration=images if prune or low_rank or quantize == "int8" else None,
        measure=False,
    )
    session = reference_session(onnx.load(result.path))
    (found,) = session.run(None, {"x": images[:1]})
    assert found.shape == (1, 5)
    assert np.isfinite(found).all()
    facts, said = inspect_model(result.model), result.losses
    written = inspect_model(edgecc.load(result.path))
    assert written.macs == facts.macs
    if said is not None and said.kept is not None:
        assert said.kept.macs == facts.macs
        assert said.kept.weight_bytes == facts.parameter_bytes
    assert size_of(result.model, "macs") <= whole["macs"]
    assert size_of(result.model, "bytes") <= whole["bytes"] * 1.05 + 400  # biases, scales and zero points
    missed = any("are left, not" in note or "nothing to do" in note or "nothing goes" in note for note in result.notes)
    if isinstance(prune, float) and not missed:
        assert facts.macs <= (1 - prune) * whole["macs"]
