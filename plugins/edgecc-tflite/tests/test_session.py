from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgecc_tflite import session
from edgecc_tflite.ir import Graph, Operator, Tensor
from edgecc_tflite.session import Session, Unavailable
from edgecc_tflite.writer import write

FLOAT = np.dtype(np.float32)


def difference(rows=-1):
    """b - a with the inputs in another order than that of their names."""
    b, a, y = (Tensor(name, (rows, 3), FLOAT, source=name) for name in ("b", "a", "out"))
    return Graph("main", [b, a], [y], [Operator("SUB", [b, a], [y])])


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "m.tflite"
    path.write_bytes(write(difference()))
    return str(path)


@pytest.mark.parametrize("xnnpack", [True, False])
def test_named_inputs_and_outputs(model, xnnpack):
    loaded = Session(model, {"xnnpack": xnnpack})
    assert [entry["name"] for entry in loaded.inputs] == ["b", "a"]
    assert loaded.inputs[0] == {"name": "b", "shape": [-1, 3], "dtype": "float32"}
    assert loaded.outputs == [{"name": "out", "shape": [-1, 3], "dtype": "float32"}]
    loaded.set_inputs({"a": np.ones((1, 3), np.float32), "b": np.full((1, 3), 5, np.float32)})
    loaded.run()
    np.testing.assert_array_equal(loaded.get_outputs()["out"], [[4, 4, 4]])


def test_open_dimensions_follow_the_feeds(model):
    loaded = Session(model, {})
    for rows in (4, 1, 4):
        feed = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
        loaded.set_inputs({"a": feed, "b": 3 * feed})
        loaded.run()
        np.testing.assert_array_equal(loaded.get_outputs()["out"], 2 * feed)


def test_outputs_are_copies(model):
    loaded = Session(model, {})
    one = np.ones((1, 3), np.float32)
    loaded.set_inputs({"a": one, "b": one})
    loaded.run()
    first = loaded.get_outputs()["out"]
    loaded.set_inputs({"a": one, "b": 9 * one})
    loaded.run()
    np.testing.assert_array_equal(first, [[0, 0, 0]])


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({"a": np.ones((1, 3), np.float32)}, "missing b; unknown none"),
        ({"a": np.ones((1, 3), np.float32), "b": np.ones((1, 3), np.float32), "c": FLOAT}, "missing none; unknown c"),
        ({"a": np.ones((1, 3)), "b": np.ones((1, 3), np.float32)}, "input 'a' takes float32, not float64"),
        (
            {"a": np.ones((1, 4), np.float32), "b": np.ones((1, 3), np.float32)},
            "input 'a' takes shape [-1, 3] (-1 is open), not [1, 4]",
        ),
        (
            {"a": np.ones((1, 3), np.float32), "b": np.ones(3, np.float32)},
            "input 'b' takes shape [-1, 3] (-1 is open), not [3]",
        ),
    ],
)
def test_feeds_that_do_not_fit(model, feeds, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Session(model, {}).set_inputs(feeds)


def test_info_tells_what_runs(model):
    info = Session(model, {"threads": 2}).info()
    assert info["tool"] == "ai-edge-litert"
    assert str(info["version"]).startswith("2.")
    assert (info["device"], info["threads"]) == ("cpu", 2)


def test_accelerated_fraction_counts_operators_that_the_delegate_took(tmp_path):
    # XNNPACK takes ADD and has no kernel for CUMSUM.
    x, a, c, y = (Tensor(name, (1, 4), FLOAT) for name in "xacy")
    axis = Tensor("axis", (), np.dtype(np.int32), np.array(1, np.int32))
    operators = [
        Operator("ADD", [x, x], [a]),
        Operator("CUMSUM", [a, axis], [c]),
        Operator("MUL", [c, c], [y]),
        Operator("NEG", [y], [Tensor("z", (1, 4), FLOAT)]),
    ]
    path = tmp_path / "m.tflite"
    path.write_bytes(write(Graph("main", [x], operators[-1].outputs, operators)))
    assert Session(str(path), {}).info()["accelerated_fraction"] == 0.75
    assert Session(str(path), {"xnnpack": False}).info()["accelerated_fraction"] == 0.0


@pytest.mark.shared_data
def test_a_file_without_signature_uses_tensor_names(reference_model, tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(reference_model("kws_ref_model_float32.tflite"))
    loaded = Session(str(path), {})
    assert [entry["name"] for entry in loaded.inputs + loaded.outputs] == ["input_1", "Identity"]


def test_a_file_that_is_no_model(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"no flatbuffer")
    with pytest.raises(RuntimeError, match=r"ai-edge-litert cannot load .*m\.tflite"):
        Session(str(path), {})


def test_an_unknown_option(model):
    with pytest.raises(RuntimeError, match="no option 'gpu'; it has threads, xnnpack"):
        Session(model, {"gpu": True})


def test_no_runtime_says_what_to_install(model, monkeypatch):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(session.importlib, "import_module", missing)
    with pytest.raises(Unavailable) as caught:
        Session(model, {})
    what, _, hint = str(caught.value).partition("\n")
    assert what.startswith("no runtime for .tflite files can be imported (ai-edge-litert: No module named")
    assert hint == "pip install ai-edge-litert"


def test_tflite_runtime_is_taken_where_it_is_the_only_one(model, monkeypatch):
    litert = importlib.import_module("ai_edge_litert.interpreter")

    def only_old(name):
        if name == "tflite_runtime.interpreter":
            return litert
        raise ImportError(name)

    monkeypatch.setattr(session.importlib, "import_module", only_old)
    assert Session(model, {}).info()["tool"] == "tflite-runtime"


def test_the_file_works_on_its_own(model, tmp_path):
    """Copied to a device it has numpy and a runtime and no edgecc."""
    copy = tmp_path / "session.py"
    copy.write_bytes(Path(session.__file__).read_bytes())
    program = (
        "import sys, numpy as np, session\n"
        f"s = session.Session({model!r}, {{}})\n"
        "s.set_inputs({n: np.ones((1, 3), np.float32) for n in 'ab'}); s.run()\n"
        "print(s.get_outputs()['out'].sum(), [m for m in sys.modules if m.startswith('edgecc')])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0.0 []"
