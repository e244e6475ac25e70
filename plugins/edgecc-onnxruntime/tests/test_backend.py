from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgecc import serialization
from edgecc.backend import Compiled
from edgecc.data.feeds import random_feeds
from edgecc.errors import OptionError, RequestError, RunnerError, UnavailableError
from edgecc.model import Model
from edgecc.options import build
from edgecc.registry import default_registry
from edgecc.running.runner import Runner
from edgecc_onnxruntime import writer
from edgecc_onnxruntime.backend import OnnxRuntimeBackend
from edgecc_onnxruntime.ort_file import UnknownLayoutError, canonical
from edgecc_onnxruntime.target import OnnxRuntimeTarget
from edgecc_onnxruntime.writer import weight_bytes

BACKEND = OnnxRuntimeBackend()
ONNX = OnnxRuntimeTarget()
ORT = ONNX.for_suffix(".ort")
NET = """
<ir_version: 11, opset_import: ["" : 23]>
net (float[1,3,8,8] x) => (float[1,4] y, float[1,4,8,8] h)
<float[4,3,3,3] w = {WEIGHTS}, float[4] b = {0.1, -0.2, 0.3, 0.4}, int64[2] flat = {1, 4}>
{
    c = Conv <pads = [1, 1, 1, 1]> (x, w, b)
    h = Relu(c)
    p = GlobalAveragePool(h)
    r = Reshape(p, flat)
    y = Softmax <axis = -1> (r)
}
"""


@pytest.fixture
def net() -> Model:
    weights = np.random.default_rng(0).standard_normal(108).round(3)
    return Model.from_text(NET.replace("WEIGHTS", ", ".join(map(str, weights.tolist()))))


def write(compiled: Compiled, path: Path) -> Path:
    compiled = BACKEND.name_files(compiled, path.name)
    for index, (suffix, contents) in enumerate(compiled.files.items()):
        place = path if index == 0 else path.with_name(path.name + suffix)
        place.write_bytes(contents)
    return path


def run(path: Path, feeds: dict[str, np.ndarray], **options: object) -> dict[str, np.ndarray]:
    with Runner(path, BACKEND, options=options, timeout=60) as runner:
        return runner.infer(feeds)


def test_found_through_the_entry_point() -> None:
    backend = default_registry().backend("onnxruntime")
    assert isinstance(backend, OnnxRuntimeBackend)
    assert default_registry().backend_for_suffix(".ort") is backend


@pytest.mark.parametrize("target", [ONNX, ORT], ids=["onnx", "ort"])
def test_compiled_file_computes_what_the_model_computes(net: Model, tmp_path: Path, target: OnnxRuntimeTarget) -> None:
    net.save(tmp_path / "source.onnx")
    feeds = random_feeds(net.signature, 0)
    path = write(BACKEND.compile(net, target), tmp_path / f"out.{target.format}")
    expected, outputs = run(tmp_path / "source.onnx", feeds), run(path, feeds)
    assert list(outputs) == ["y", "h"]
    for name, values in expected.items():
        np.testing.assert_allclose(outputs[name], values, atol=1e-6)


@pytest.mark.parametrize("target", [ONNX, ORT], ids=["onnx", "ort"])
def test_model_is_not_changed(net: Model, target: OnnxRuntimeTarget) -> None:
    before = net.digest()
    assert BACKEND.find_unsupported(net, target) == []
    BACKEND.compile(net, target)
    assert net.digest() == before


def test_two_processes_write_the_same_bytes(net: Model, tmp_path: Path) -> None:
    net.save(tmp_path / "m.onnx")
    script = f"""
import hashlib
from edgecc.model import Model
from edgecc_onnxruntime.backend import OnnxRuntimeBackend
from edgecc_onnxruntime.target import OnnxRuntimeTarget
model = Model.load({str(tmp_path / "m.onnx")!r})
for suffix in (".onnx", ".ort"):
    files = OnnxRuntimeBackend().compile(model, OnnxRuntimeTarget().for_suffix(suffix)).files
    print(hashlib.sha256(files[suffix]).hexdigest())
"""
    runs = {subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout for _ in range(2)}
    assert len(runs) == 1
    assert len(runs.pop().split()) == 2


def test_correspondence_and_details(net: Model) -> None:
    compiled = BACKEND.compile(net, ONNX)
    assert {match.source for match in compiled.correspondence} == {"x", "c", "h", "p", "r", "y"}
    assert all(match.source == match.target for match in compiled.correspondence)
    assert compiled.details["operators"] == {"Conv": 1, "GlobalAveragePool": 1, "Relu": 1, "Reshape": 1, "Softmax": 1}
    ort = BACKEND.compile(net, ORT)
    assert [match.source for match in ort.correspondence] == ["x", "y", "h"]
    assert "optimize=all" in ort.notes[0]


def test_optimized_onnx(net: Model, tmp_path: Path) -> None:
    path = write(BACKEND.compile(net, OnnxRuntimeTarget(optimize="extended")), tmp_path / "m.onnx")
    assert "FusedConv" in {node.op_type for node in onnx.load(path).graph.node}
    assert BACKEND.compile(net, OnnxRuntimeTarget(optimize="none")).files == BACKEND.compile(net, ONNX).files


def test_ort_file_of_all_kinds_of_fields(tmp_path: Path) -> None:
    model = Model.from_text("""
    <ir_version: 11, opset_import: ["" : 23]>
    g (float[N,4] x, bool c) => (float[N,4] y, int64[K,2] z)
    <float[4] one = {1, 1, 1, 1}>
    {
        y = If (c) <
            then_branch = a () => (float[N,4] t) { t = Add(x, one) },
            else_branch = b () => (float[N,4] e) { e = Elu <alpha = 0.5> (x) }
        >
        n = NonZero(x)
        z = Transpose <perm = [1, 0]> (n)
    }
    """)
    path = write(BACKEND.compile(model, ORT), tmp_path / "m.ort")
    x = np.array([[1, -1, 0, 2]], np.float32)
    outputs = run(path, {"x": x, "c": np.array(True)})
    np.testing.assert_array_equal(outputs["y"], x + 1)
    assert outputs["z"].tolist() == [[0, 0], [0, 1], [0, 3]]
    assert run(path, {"x": x, "c": np.array(False)})["y"][0, 1] == pytest.approx(0.5 * np.expm1(-1.0))


def test_newer_ort_files_are_left_as_they_are(net: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownLayoutError):
        canonical(b"\0" * 64)
    monkeypatch.setattr("edgecc_onnxruntime.ort_file._TABLES", {"InferenceSession": {0: "str"}})
    compiled = BACKEND.compile(net, ORT)
    assert "two runs may write different bytes" in compiled.notes[0]
    assert compiled.files


def test_weights_past_the_limit_lie_beside_the_file(
    net: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_FILE_BYTES", 100)
    monkeypatch.setattr(serialization, "INLINE_BYTES", 64)
    feeds = random_feeds(net.signature, 0)
    net.save(tmp_path / "source.onnx")
    compiled = BACKEND.compile(net, ONNX)
    assert list(compiled.files) == [".onnx", ".data"]
    path = write(compiled, tmp_path / "big net.onnx")
    assert (tmp_path / "big net.onnx.data").stat().st_size == 4096
    np.testing.assert_allclose(run(path, feeds)["y"], run(tmp_path / "source.onnx", feeds)["y"], atol=1e-6)
    with pytest.raises(OptionError, match=r"an \.ort file cannot be had for a model past 2 GB"):
        BACKEND.compile(net, ORT)
    with pytest.raises(OptionError, match="option 'optimize' cannot be had"):
        BACKEND.compile(net, OnnxRuntimeTarget(optimize="all"))


def test_packed_weights_and_weights_of_subgraphs_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ml_dtypes

    model = Model.from_text(
        """
    <ir_version: 11, opset_import: ["" : 23]>
    g (bool c, float[64] x) => (float[64] y, float[64] z)
    <float s = {0.5}, float[64] q = {QUARTERS}> {
        y = If (c) <
            then_branch = a () => (float[64] t) <float[64] one = {ONES}> { t = Add(x, one) },
            else_branch = b () => (float[64] e) { e = Neg(x) }
        >
        z = DequantizeLinear(q, s)
    }
    """.replace("QUARTERS", ", ".join(["1"] * 64)).replace("ONES", ", ".join(["1"] * 64))
    )
    small = model.constant("int4", np.arange(64).reshape(64).astype(np.int8).clip(-8, 7).astype(ml_dtypes.int4))
    model.set_input(model.nodes("DequantizeLinear")[0], 0, small)
    model.cleanup()
    monkeypatch.setattr(writer, "MAX_FILE_BYTES", 10)
    monkeypatch.setattr(serialization, "INLINE_BYTES", 8)
    path = write(BACKEND.compile(model, ONNX), tmp_path / "m.onnx")
    x = np.arange(64, dtype=np.float32)
    outputs = run(path, {"c": np.array(True), "x": x})
    np.testing.assert_array_equal(outputs["y"], x + 1)
    np.testing.assert_array_equal(outputs["z"], np.minimum(x, 7) / 2)


def test_options_are_checked() -> None:
    with pytest.raises(OptionError, match="option 'opset'"):
        build(OnnxRuntimeTarget, "target", "onnxruntime", {"opset": 12})
    with pytest.raises(OptionError, match="option 'optimize'"):
        build(OnnxRuntimeTarget, "target", "onnxruntime", {"optimize": "most"})
    assert ORT.spec() == "onnxruntime:format=ort"


# ------------------------------------------------------------------------------------------------------------ session


def test_session_says_what_it_is(net: Model, tmp_path: Path) -> None:
    path = write(BACKEND.compile(net, ONNX), tmp_path / "m.onnx")
    with Runner(path, BACKEND, threads=2, timeout=60) as runner:
        assert runner.info["tool"] == "onnxruntime"
        assert runner.info["device"] == "cpu"
        assert runner.info["threads"] == 2
        assert runner.info["providers"] == ["CPUExecutionProvider"]
        assert [str(spec) for spec in runner.inputs] == ["x: float32[1, 3, 8, 8]"]
        assert len(runner.time(3)) == 3


def test_open_dimensions_and_new_feeds(tmp_path: Path) -> None:
    model = Model.from_text("g (float[N,2] x) => (float[N,2] y) { y = Relu(x) }")
    path = write(BACKEND.compile(model, ONNX), tmp_path / "m.onnx")
    with Runner(path, BACKEND, timeout=60) as runner:
        assert [str(spec) for spec in runner.inputs] == ["x: float32[x_0, 2]"]
        for rows in (1, 3, 2):
            x = np.full((rows, 2), rows, np.float32)
            np.testing.assert_array_equal(runner.infer({"x": x})["y"], x)


def test_text_goes_in_and_out(tmp_path: Path) -> None:
    model = Model.from_text("g (string[2] x) => (string[2] y) { y = Identity(x) }")
    path = write(BACKEND.compile(model, ONNX), tmp_path / "m.onnx")
    assert run(path, {"x": np.array(["ab", "ß"])})["y"].tolist() == ["ab", "ß"]


@pytest.mark.parametrize(
    ("options", "text", "hint"),
    [
        ({"optimise": "all"}, "unknown option 'optimise'", "did you mean 'optimize'?"),
        ({"optimize": "most"}, "option 'optimize' of runtime 'onnxruntime'", "edgecc targets onnxruntime"),
        ({"provider": "cudda"}, "no such provider; did you mean 'cuda'?", "edgecc targets onnxruntime"),
    ],
)
def test_wrong_runtime_options(tmp_path: Path, options: dict[str, object], text: str, hint: str) -> None:
    with pytest.raises(RequestError) as caught:
        Runner(tmp_path / "m.onnx", BACKEND, options=options)
    assert text in str(caught.value)
    assert hint in caught.value.hint


def test_provider_that_is_not_here(net: Model, tmp_path: Path) -> None:
    path = write(BACKEND.compile(net, ONNX), tmp_path / "m.onnx")
    import onnxruntime

    name = "CUDAExecutionProvider"
    if name in onnxruntime.get_available_providers():
        pytest.skip("this machine has it")
    with pytest.raises(UnavailableError, match=f"execution provider '{name}' is not in this ONNX Runtime") as caught:
        run(path, {}, provider=name)
    assert "onnxruntime-gpu" in caught.value.hint


def test_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"not a model")
    with pytest.raises(RunnerError, match="the runtime failed loading the artifact"):
        run(tmp_path / "m.onnx", {})


def test_weights_of_subgraphs_count() -> None:
    model = Model.from_text("""g (bool c, float[2] x) => (float[2] y) <float[2] o = {1,2}> { y = If(c)<
        then_branch = p () => (float[2] r) <float[2] k = {1,2}> { r = Add(x, k) },
        else_branch = q () => (float[2] s) { s = Add(x, o) }> }""")
    assert weight_bytes(model) == 16


@pytest.mark.skipif(sys.platform == "win32", reason="resource limits are POSIX")
def test_a_full_disk_is_no_bug(net: Model, tmp_path: Path) -> None:
    """ONNX Runtime writes an .ort file itself, to the folder for temporary files."""
    net.save(tmp_path / "m.onnx")
    code = (
        # Python takes a half written file of bytecode for a whole one.
        "import resource, signal, sys; sys.dont_write_bytecode = True; from edgecc.cli.main import run\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))\n"
        "sys.exit(run(['compile', sys.argv[1], '-o', sys.argv[2]]))\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "m.onnx"), str(tmp_path / "m.ort")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "error: ONNX Runtime cannot write its file in" in done.stderr
    assert "TMPDIR" in done.stderr
    assert not (tmp_path / "m.ort").exists()


def test_newer_attributes_are_not_written_into_older_opsets(tmp_path: Path) -> None:
    """Exporters write out `allowzero=0` and the like; runtimes of the older opset refuse what they do not know."""
    model = Model.from_text("""g (float[2,3] x) => (float[3,2] y) <int64[2] shape = {3, 2}> {
        y = Reshape<allowzero = 0>(x, shape)
    }""")
    path = write(BACKEND.compile(model, ONNX), tmp_path / "m.onnx")
    written = onnx.load(path)
    assert written.opset_import[0].version == 13
    assert not written.graph.node[0].attribute
    assert model.nodes()[0].attrs == {"allowzero": 0}
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(run(path, {"x": x})["y"], x.reshape(3, 2))
