from __future__ import annotations

import re

import numpy as np
import pytest

from edgecc.model import Model
from edgecc.passes.eliminate_zero_states import EliminateZeroStates
from edgecc.testing import assert_skipped, check_pass

ELIMINATE = EliminateZeroStates()
RNG = np.random.default_rng(0)


def model(op: str, body: str, states: str, batch: str = "2", more: str = "") -> Model:
    gates = {"GRU": 3, "LSTM": 4, "RNN": 1}[op]
    constants = {
        "w": RNG.normal(size=(1, gates * 4, 3)).astype(np.float32),
        "r": RNG.normal(size=(1, gates * 4, 4)).astype(np.float32),
        "zeros": np.zeros((1, 2, 4), np.float32),
        "negative": -np.zeros((1, 2, 4), np.float32),
        "ones": np.ones((1, 2, 4), np.float32),
        "scalar": np.zeros((1, 1, 1), np.float32),
        "one": np.array([1], np.int64),
        "four": np.array([4], np.int64),
        "two": np.array([2], np.int64),
    }
    words = set(re.findall(r"\w+", f"w r {body} {states}"))
    used = {name: value for name, value in constants.items() if name in words}
    text = f"""g (float[5,{batch},3] x{more}) => (float[5,1,{batch},4] y) {{
        {body} y = {op}<hidden_size = 4>(x, w, r, {states}) }}"""
    return Model.from_text(text, used)


@pytest.mark.parametrize(
    ("op", "states"),
    [("GRU", ", , zeros"), ("RNN", ", , zeros"), ("LSTM", ", , zeros, zeros"), ("LSTM", ", , , zeros")],
)
def test_constants(op: str, states: str) -> None:
    (node,) = check_pass(ELIMINATE, model(op, "", states)).nodes()
    assert len(node.inputs) == 3


@pytest.mark.parametrize(
    "body",
    [
        """s = Shape(x) n = Slice(s, one, two) k = Concat<axis = 0>(one, n, four) h = ConstantOfShape(k)""",
        """s = Shape(x) n = Slice(s, one, two) k = Concat<axis = 0>(one, n, four) h = Expand(scalar, k)""",
        """s = Shape(x) n = Slice(s, one, two) k = Concat<axis = 0>(two, n, four) a = Expand(scalar, k)
        h, c = Split<axis = 0, num_outputs = 2>(a)""",
    ],
    ids=["script", "dynamo", "split"],
)
def test_open_batch(body: str) -> None:
    (node,) = check_pass(ELIMINATE, model("GRU", body, ", , h", "N")).nodes()
    assert node.op == "GRU"


def test_the_other_state_stays_in_its_place() -> None:
    result = check_pass(
        ELIMINATE, model("LSTM", "", ", , zeros, ones"), skips=["its initial state 'ones' is not known"]
    )
    (node,) = result.nodes()
    assert node.inputs[5].is_empty()
    assert node.inputs[6].name == "ones"


@pytest.mark.parametrize(("states", "more"), [(", , ones", ""), (", , negative", ""), (", , h", ", float[1,2,4] h")])
def test_left_alone(states: str, more: str) -> None:
    assert_skipped(ELIMINATE, model("GRU", "", states, more=more), reason="is not known to be zero")


def test_ignored() -> None:
    assert_skipped(EliminateZeroStates(ignore=("GRU_0",)), model("GRU", "", ", , zeros"), reason="")


def test_a_state_that_others_read_stays_for_them() -> None:
    body = """s = Shape(x) n = Slice(s, one, two) k = Concat<axis = 0>(one, n, four) h = ConstantOfShape(k)"""
    before = model("GRU", body, ", , h", "N")
    (state,) = before.nodes("ConstantOfShape")
    output = before.variable("z", np.float32, [1, "N", 4])
    before.add("Relu", [state.outputs[0]], [output])
    before.graph.outputs.append(output)
    after = check_pass(ELIMINATE, before)
    assert {"ConstantOfShape", "GRU", "Relu"} <= {node.op for node in after.nodes()}
    assert len(after.nodes("GRU")[0].inputs) == 3


def test_nodes_of_subgraphs_are_left_alone() -> None:
    weights = {
        "w": RNG.normal(size=(1, 4, 3)).astype(np.float32),
        "r": RNG.normal(size=(1, 4, 4)).astype(np.float32),
        "zeros": np.zeros((1, 2, 4), np.float32),
    }
    node = "RNN<hidden_size = 4>(x, w, r, , , zeros)"
    text = f"""g (bool c, float[5,2,3] x) => (float[5,1,2,4] y) {{ y = If(c)<
        then_branch = t () => (float[5,1,2,4] p) {{ p = {node} }},
        else_branch = e () => (float[5,1,2,4] q) {{ a = {node} q = Neg(a) }}> }}"""
    assert_skipped(ELIMINATE, Model.from_text(text, weights), reason="")
