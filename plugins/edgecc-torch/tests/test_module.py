"""Models as PyTorch modules: the same values, readable, trainable."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import edgecc
from edgecc.cli.main import run as run_command_line
from edgecc.data.feeds import random_feeds
from edgecc.errors import RunnerError, UnsupportedError
from edgecc.model import Model
from edgecc.passes.verification import compare, run
from edgecc.testing.models import MODELS
from edgecc_torch.module_builder import to_module
from edgecc_torch.testing.modules import edited

#: Relative to the largest value of an output.
TOLERANCE = 1e-5


def weights(*shape: int) -> np.ndarray:
    return np.asarray(np.random.default_rng(list(shape)).standard_normal(shape) * 0.4, np.float32)


def model_of(text: str, **constants: np.ndarray) -> Model:
    model = Model.from_text(text, constants)
    model.cleanup()
    return model


def check(model: Model, sizes: Mapping[str, int] | None = None) -> Any:
    """The module, when it gives what ONNX Runtime does."""
    module = to_module(model)
    feeds = random_feeds(model.signature, seed=0, sizes=dict(sizes or {}))
    with torch.no_grad():
        found = module(*(torch.from_numpy(feeds[spec.name]) for spec in model.signature.inputs))
    for values, (name, expected) in zip(
        found if isinstance(found, tuple) else (found,), run(model, feeds).items(), strict=True
    ):
        assert compare(expected, values.numpy(), TOLERANCE) == "", name
    return module


DIRECTIONS = ("forward", "reverse", "bidirectional")


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    ("op", "gates", "more"), [("LSTM", 4, ""), ("GRU", 3, ", linear_before_reset=1"), ("RNN", 1, "")]
)
def test_recurrent_layers(op: str, gates: int, more: str, direction: str) -> None:
    count = 2 if direction == "bidirectional" else 1
    text = f"""g (float[5,batch,3] x) => (float[5,{count},batch,4] y, float[{count},batch,4] h) {{
        y, h = {op}<hidden_size=4, direction="{direction}"{more}>(x, w, r, b)
    }}"""
    w, r, b = weights(count, gates * 4, 3), weights(count, gates * 4, 4), weights(count, gates * 8)
    check(model_of(text, w=w, r=r, b=b), {"batch": 2})


def test_initial_states() -> None:
    text = """g (float[5,2,3] x, float[1,2,4] h0, float[1,2,4] c0) => (float[1,2,4] h, float[1,2,4] c) {
        y, h, c = LSTM<hidden_size=4>(x, w, r, , , h0, c0)
    }"""
    check(model_of(text, w=weights(1, 16, 3), r=weights(1, 16, 4)))


SINGLE = {
    "layer normalization": "y = LayerNormalization<axis=-1, epsilon=0.01>(x, scale, bias)",
    "padding of one side": "y = Conv<pads=[0, 1, 1, 0]>(x, w)",
    "same padding": 'y = Conv<auto_pad="SAME_UPPER", strides=[2, 2]>(x, w)',
    "pooling with padding of one side": "y = AveragePool<kernel_shape=[3, 3], pads=[0, 0, 1, 1], strides=[2, 2]>(x)",
    "largest with wide padding": "y = MaxPool<kernel_shape=[3, 3], pads=[2, 0, 1, 2]>(x)",
    "turned around": "y = Slice(x, starts, ends, axes, steps)",
}


@pytest.mark.parametrize("name", SINGLE)
def test_single_operators(name: str) -> None:
    parts = {"scale": weights(6), "bias": weights(6), "w": weights(4, 3, 2, 2)}
    parts |= {key: np.int64([value]) for key, value in (("starts", -2), ("ends", -6), ("axes", 3), ("steps", -2))}
    text = f"g (float[2,3,6,6] x) => (float[a,b,c,d] y) {{ {SINGLE[name]} }}"
    check(model_of(text, **{key: value for key, value in parts.items() if key in SINGLE[name]}))


def test_shapes_that_are_known_when_the_module_runs() -> None:
    """Sizes stay numbers: PyTorch takes shapes as those."""
    text = """g (float[batch,6] x, float[1,1,3] token) => (float[batch,3,3] y) {
        shape = Shape(x)
        batch = Gather<axis=0>(shape, zero)
        axis = Constant<value = int64[1] {0}>()
        one = Unsqueeze(batch, axis)
        rest = Constant<value = int64[2] {-1, 3}>()
        wanted = Concat<axis=0>(one, rest)
        r = Reshape(x, wanted)
        tail = Constant<value = int64[2] {1, 3}>()
        full = Concat<axis=0>(one, tail)
        e = Expand(token, full)
        y = Concat<axis=1>(r, e)
    }"""
    module = check(model_of(text, zero=np.int64(0)), {"batch": 3})
    assert "size(0)" in module.code


def test_code_is_readable_and_has_the_model_s_names() -> None:
    module = check(MODELS["conv_net"]())
    lines = [line.split(";")[0].strip() for line in module.code.splitlines() if " = torch." in line]
    assert lines[0].startswith("conv2d = torch.conv2d(image, w1, b1, [2, 2], [1, 1]")
    assert lines[1] == "relu = torch.relu(conv2d)"
    assert {name for name, _ in module.named_parameters()} == {"w1", "b1", "w2", "b2", "w3", "b3", "w4", "b4"}


def test_names_of_a_module_s_parts_come_back(program_file: Path) -> None:
    module = check(edgecc.load(program_file), {})
    assert {"head.weight", "head.bias", "conv.weight"} <= set(dict(module.named_parameters()))


def test_statistics_of_a_normalization_are_no_parameters() -> None:
    module = check(MODELS["batchnorm"]())
    assert {name for name, _ in module.named_parameters()} == {"scale", "bias"}
    assert {name for name, _ in module.named_buffers()} == {"mean", "variance"}


def test_it_can_be_trained() -> None:
    torch.manual_seed(0)
    module = to_module(MODELS["conv_net"]())
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    x, wanted = torch.randn(1, 3, 16, 16), torch.tensor([3])
    losses = []
    for _ in range(5):
        loss = torch.nn.functional.nll_loss(torch.log(module(x)), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_every_reason_is_given() -> None:
    text = """g (float[2,3,4] x) => (float[1,3,3] y, float[2,3,4] z) {
        [first] states, y = GRU<hidden_size=3>(x, w, r)
        [second] z = Hardmax(x)
    }"""
    with pytest.raises(UnsupportedError) as caught:
        to_module(model_of(text, w=weights(1, 9, 4), r=weights(1, 9, 3)))
    assert [(node.node, node.op) for node in caught.value.nodes] == [("first", "GRU"), ("second", "Hardmax")]
    assert "reset gate" in caught.value.nodes[0].reason
    assert "there is no rule" in caught.value.nodes[1].reason


def test_even_windows_over_channels_lie_elsewhere() -> None:
    text = "g (float[1,8,2,2] x) => (float[1,8,2,2] y) { y = LRN<size=SIZE>(x) }"
    check(model_of(text.replace("SIZE", "3")))
    with pytest.raises(UnsupportedError) as caught:
        to_module(model_of(text.replace("SIZE", "4")))
    assert "PyTorch takes one more in front" in caught.value.nodes[0].reason


QUANTIZED = """g (float[1,3,8,8] x) => (float[1,4,8,8] y) {
    xq = QuantizeLinear(x, sx, zx)
    xd = DequantizeLinear(xq, sx, zx)
    wd = DequantizeLinear<axis=0>(w, sw, zw)
    c = Conv<pads=[1, 1, 1, 1]>(xd, wd)
    cq = QuantizeLinear(c, sy, zy)
    y = DequantizeLinear(cq, sy, zy)
}"""


def test_quantized_model_keeps_its_scales_there_and_back(tmp_path: Path) -> None:
    model = model_of(
        QUANTIZED,
        w=np.random.default_rng(0).integers(-127, 128, (4, 3, 3, 3)).astype(np.int8),
        sw=np.float32([0.01, 0.02, 0.005, 0.03]),
        zw=np.zeros(4, np.int8),
        sx=np.float32(0.02),
        zx=np.uint8(128),
        sy=np.float32(0.1),
        zy=np.uint8(100),
    )
    edgecc.compile(model, output=tmp_path / "q.pt2", optimize="0")
    back = edgecc.load(tmp_path / "q.pt2")
    for op in ("QuantizeLinear", "DequantizeLinear"):
        scales = [sorted(float(np.max(n.inputs[1].values)) for n in m.nodes(op)) for m in (model, back)]
        assert scales[0] == scales[1]
    feeds = random_feeds(model.signature, seed=0)
    # One step of the output's grid: PyTorch multiplies with the scale's reciprocal.
    assert np.abs(run(model, feeds)["y"] - run(back, feeds)["y"]).max() <= 0.1 + 1e-6


def test_names_that_python_has_not_come_back(tmp_path: Path) -> None:
    model = MODELS["odd_names"]()
    edgecc.compile(model, output=tmp_path / "m.pt2")
    back = edgecc.load(tmp_path / "m.pt2")
    for ours, theirs in (
        (back.signature.inputs, model.signature.inputs),
        (back.signature.outputs, model.signature.outputs),
    ):
        assert [spec.name for spec in ours] == [spec.name for spec in theirs]


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "m.onnx", tmp_path / "m.pt2"
    MODELS["conv_net"]().save(source)
    assert run_command_line(["convert", str(source), str(out)]) == 0
    assert run_command_line(["compare", str(source), str(out), "--json"]) == 0
    program = torch.export.load(out)
    x = torch.randn(1, 3, 16, 16)
    expected = run(MODELS["conv_net"](), {"image": x.numpy()})["scores"]
    with torch.no_grad():
        assert compare(expected, program.module()(x).numpy(), TOLERANCE) == ""
    assert "/edgecc_torch/" not in out.read_bytes().decode("latin1")


def test_runner_reads_no_pickles(program_bytes: bytes, tmp_path: Path) -> None:
    import json

    def pickled(data: bytes) -> bytes:
        config = json.loads(data)
        config["config"]["conv.weight"]["use_pickle"] = True
        return json.dumps(config).encode()

    path = tmp_path / "m.pt2"
    path.write_bytes(edited(program_bytes, {"data/weights/model_weights_config.json": pickled}))
    with pytest.raises(RunnerError, match="could run any code"), edgecc.runner(path):
        pass
