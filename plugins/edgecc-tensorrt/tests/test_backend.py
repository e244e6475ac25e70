from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from edgecc.backend import Compiled
from edgecc.errors import OptionError, UnsupportedError
from edgecc.importers.onnx import OnnxImporter
from edgecc.model import Model, origins
from edgecc_tensorrt.backend import TensorRTBackend
from edgecc_tensorrt.layers import Layer, layers_of
from edgecc_tensorrt.sdk import find_sdk
from edgecc_tensorrt.session import Unavailable, check
from edgecc_tensorrt.target import TensorRTTarget

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
pytestmark = pytest.mark.usefixtures("sdk_installed")
Compile: TypeAlias = Callable[..., tuple[Model, Compiled]]


def test_engine_and_typed_onnx(compile_text: Compile, conv: str) -> None:
    model, compiled = compile_text(conv)
    assert list(compiled.files) == [".engine", ".onnx"]
    assert memoryview(compiled.files[".engine"]).nbytes > 1000
    proto = onnx.load_from_string(bytes(compiled.files[".onnx"]))
    onnx.checker.check_model(proto, full_check=True)
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32)}
    wanted = _run(model.to_proto().SerializeToString(), feeds)
    np.testing.assert_array_equal(_run(bytes(compiled.files[".onnx"]), feeds), wanted)


def _run(data: bytes, feeds: dict[str, np.ndarray]) -> np.ndarray:
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]  # type: ignore[no-any-return]


def test_two_builds_are_identical(compile_text: Compile, conv: str) -> None:
    first, second = (compile_text(conv)[1] for _ in range(2))
    assert bytes(first.files[".engine"]) == bytes(second.files[".engine"])
    assert bytes(first.files[".onnx"]) == bytes(second.files[".onnx"])
    assert first.details == second.details


def test_the_model_is_not_changed(conv: str) -> None:
    model = Model.from_text(conv)
    before = model.digest()
    backend, target = TensorRTBackend(), TensorRTTarget()
    backend.find_unsupported(model, target)
    backend.compile(model, target)
    assert model.digest() == before


def test_layers_name_the_nodes_of_the_source(compile_text: Compile, conv: str) -> None:
    _, compiled = compile_text(conv)
    layers = compiled.details["layers"]
    assert isinstance(layers, list)
    named = {name for layer in layers for name in layer["nodes"]}
    assert {"Conv_0", "MatMul_4"} <= named
    assert all(layer["name"] and layer["kind"] for layer in layers)
    fusion = compiled.details["fusion"]
    assert isinstance(fusion, dict)
    assert fusion["layers"] == len(layers)
    assert set(compiled.details["device_memory"]) == {"weights", "activations", "scratch"}  # type: ignore[call-overload]


def test_layer_list_maps_names_to_origins() -> None:
    class Log:
        messages = [
            (
                "VERBOSE",
                "Layers:\nName: a_fused, LayerType: kgen, Inputs: [ { Name: x, Datatype: Float } ], "
                "Outputs: [ { Name: y, Datatype: Half } ], TacticName: t, Metadata: [ONNX Layer: a][ONNX Layer: b/c]\n",
            )
        ]

    (layer,) = layers_of(Log(), {"a": ("first", "second")})
    assert layer == Layer("a_fused", "kgen", ("Half",), ("first", "second", "b/c"))


def test_float16_is_in_the_typed_onnx_and_in_the_engine(compile_text: Compile, conv: str) -> None:
    model, compiled = compile_text(conv, precision="float16")
    proto = onnx.load_from_string(bytes(compiled.files[".onnx"]))
    kinds = {t.name: t.data_type for t in proto.graph.initializer if t.data_type != onnx.TensorProto.INT64}
    assert set(kinds.values()) == {onnx.TensorProto.FLOAT16}
    assert [s.dtype for s in model.signature.inputs] == ["float32"]
    layers = compiled.details["layers"]
    assert isinstance(layers, list)
    assert "Half" in {kind for layer in layers if "Conv_0" in layer["nodes"] for kind in layer["types"]}
    full = compile_text(conv)[1]
    assert "Half" not in str(full.details["layers"])


def test_open_dimension_names_the_flags(dynamic: str) -> None:
    (entry,) = TensorRTBackend().find_unsupported(Model.from_text(dynamic), TensorRTTarget())
    assert str(entry) == (
        "Conv_0 (Conv): dimension 'N' of input 'x' is open; fix it with --shape x=1,3,16,16, "
        "or give its range: --target tensorrt:batch=[1,8,32]"
    )


def test_open_dimension_with_a_range(compile_text: Compile, dynamic: str) -> None:
    _, compiled = compile_text(dynamic, batch=(1, 4, 16))
    assert memoryview(compiled.files[".engine"]).nbytes > 1000


def test_open_dimensions_by_name(compile_text: Compile) -> None:
    text = "g (float[1,n,4] x) => (float[1,n,4] y) { y = Relu(x) }"
    (entry,) = TensorRTBackend().find_unsupported(Model.from_text(text), TensorRTTarget())
    assert "--target tensorrt:dims=[n:1:64:512]" in entry.hint
    _, compiled = compile_text(text, dims=("n:1:8:64",))
    assert compiled.files


def test_compute_capabilities(compile_text: Compile, conv: str) -> None:
    if not find_sdk().is_rtx:
        pytest.skip("only tensorrt-rtx builds for GPUs that are not here")
    both = compile_text(conv)[1]
    one = compile_text(conv, compute_capabilities=("8.6",))[1]
    assert bytes(one.files[".engine"]) != bytes(both.files[".engine"])


def test_unknown_compute_capability(compile_text: Compile, conv: str) -> None:
    if not find_sdk().is_rtx:
        pytest.skip("only tensorrt-rtx builds for GPUs that are not here")
    with pytest.raises(OptionError, match=r"cannot build for compute capability 5\.0") as caught:
        compile_text(conv, compute_capabilities=("5.0",))
    assert "8.6" in caught.value.hint


def test_a_failed_build_is_an_unsupported_model() -> None:
    # The parser takes Attention in this form; the builder does not.
    text = "g (float[1,2,4,8] x) => (float[1,2,4,8] y) { a = Relu(x) b = Neg(x) y = Attention(x, a, b) }"
    with pytest.raises(UnsupportedError) as caught:
        TensorRTBackend().compile(Model.from_text(text), TensorRTTarget())
    assert "Attention" in str(caught.value)


def test_attention_is_replaced_by_its_body(compile_text: Compile) -> None:
    model, compiled = compile_text(
        "g (float[1,2,4,8] x) => (float[1,2,4,8] y) { [att] y = Attention<is_causal=1>(x, x, x) }"
    )
    assert not model.nodes("Attention")
    assert {origin for node in model.nodes() for origin in origins(node)} == {"att"}
    assert compiled.files[".engine"]


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet", "densenet121"])
def test_light_models(name: str) -> None:
    model = OnnxImporter().load(LIGHT / f"light_{name}.onnx", {})
    backend, target = TensorRTBackend(), TensorRTTarget()
    assert backend.find_unsupported(model, target) == []
    compiled = backend.compile(model, target)
    fusion = compiled.details["fusion"]
    assert isinstance(fusion, dict)
    assert 0 < fusion["layers"] < fusion["nodes"] * 1.2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bvlc_alexnet", "inception_v1", "inception_v2", "resnet50", "vgg19", "zfnet512"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_large_light_models(name: str, precision: str) -> None:
    model = OnnxImporter().load(LIGHT / f"light_{name}.onnx", {})
    from edgecc.compiler import arrange
    from edgecc.passes.base import PassContext
    from edgecc.passes.pipeline import PassPipeline

    backend, target = TensorRTBackend(), TensorRTTarget.model_validate({"precision": precision})
    PassPipeline(arrange((), backend, target)).run(model, PassContext(target, np.random.default_rng(0)))
    assert backend.find_unsupported(model, target) == []
    assert backend.compile(model, target).files


def test_can_run_says_what_is_missing() -> None:
    try:
        check()
    except Unavailable:
        available = TensorRTBackend().can_run()
        assert "GPU" in available.reason or "driver" in available.reason
        assert "copy the .engine to a machine with an NVIDIA GPU" in available.hint
        return
    assert TensorRTBackend().can_run()


def test_versions_name_the_sdk() -> None:
    assert {"tensorrt-rtx", "tensorrt"} & set(TensorRTBackend().versions())


@pytest.mark.usefixtures("ctrl_c_works")
def test_ctrl_c_during_a_build_is_not_swallowed(compile_text: Compile, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT catches whatever its logger raises, which is where Python would raise KeyboardInterrupt."""
    import os
    import signal

    from edgecc_tensorrt import log as logs

    original = logs.make_log

    def pressing(module: Any) -> logs.Log:
        made = original(module)
        said = made.log

        def log(severity: Any, message: str) -> None:
            if "uild" in message and not hasattr(made, "pressed"):
                made.pressed = True
                os.kill(os.getpid(), signal.SIGINT)
            said(severity, message)

        made.log = log
        return made

    monkeypatch.setattr("edgecc_tensorrt.building.make_log", pressing)
    with pytest.raises(KeyboardInterrupt):
        compile_text("g (float[1,3,8,8] x) => (float[1,3,8,8] y) { y = Relu(x) }")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
