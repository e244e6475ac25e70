from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgecc.errors import DataError, PassContractError
from edgecc.model import Model
from edgecc.statistics import ChannelAbsMax, Gram, Histogram, Moments, MovingRange, Range, Request
from edgecc.statistics.cones import cones_of
from edgecc.statistics.inheritance import sources_of
from edgecc.statistics.sweep import sweep
from edgecc.statistics.table import StatisticTable
from edgecc.statistics.table_json import to_text

from .samples import Samples

TEXT = "g (float[1,4] x) => (float[1,4] z) { a = Mul(x, k)  b = Relu(a)  c = Neg(a)  z = Add(b, c) }"
VALUES = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
ASKED: list[Request] = [
    Range("a"),
    Range("a", 1),
    MovingRange("b"),
    Histogram("c"),
    Histogram("b"),
    Moments("z"),
    Moments("z", -1),
    ChannelAbsMax("b", 1),
]


def model(text: str = TEXT, k: float = 2.0) -> Model:
    return Model.from_text(text, {"k": np.full((1, 4), k, np.float32)})


def table(asked: list[Request] = ASKED, values: np.ndarray = VALUES) -> StatisticTable:
    return sweep(model(), asked, Samples({"x": values}))


# --------------------------------------------------------------------------------------------------------------- files


def test_a_saved_table_is_the_same(tmp_path: Path) -> None:
    outlier = VALUES.copy()
    outlier[2, 2] = 1e6
    for values in (VALUES, outlier):
        measured = table(values=values)
        measured.save(tmp_path / "t.json")
        loaded = StatisticTable.load(tmp_path / "t.json")
        assert to_text(loaded) == to_text(measured)
        seen = loaded.seen_from(model())
        assert seen.unanswered(ASKED) == []
        assert seen.range("a", 1).low.tobytes() == measured.range("a", 1).low.tobytes()
        assert str(seen.histogram("c")) == str(measured.histogram("c"))
        assert seen.moments("z", -1).count.dtype == np.int64
        assert seen.data == measured.data


def test_people_can_read_it(tmp_path: Path) -> None:
    table([Range("a"), Gram("a")]).save(tmp_path / "t.json")
    content = json.loads((tmp_path / "t.json").read_text())
    assert content["data"] == {"source": "samples", "digest": content["data"]["digest"], "samples": 9}
    (entry,) = content["tensors"]
    assert entry["tensor"] == "a"
    assert entry["statistics"] == [{"kind": "range", "low": 2.0 * VALUES.min(), "high": 2.0 * VALUES.max()}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as a table of statistics"),
        ("[]", "is not a table of statistics"),
        ('{"a": 1}', "is not a table of statistics"),
        ('{"edgecc_statistics": 99}', "has format 99, this edgecc reads 1"),
        ('{"edgecc_statistics": 1, "tensors": [{}]}', "is a damaged table of statistics"),
        (
            '{"edgecc_statistics": 1, "tensors": [{"cone": "a", "tensor": "x", "statistics": [{"kind": "gram"}]}]}',
            "is a damaged table of statistics",
        ),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(DataError, match=message):
        StatisticTable.load(tmp_path / "t.json")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read as a table"):
        StatisticTable.load(tmp_path / "none.json")


# -------------------------------------------------------------------------------------------------------------- digest


def test_the_digest_of_the_data_is_that_of_a_set() -> None:
    assert table().data == table(values=VALUES[::-1].copy()).data
    assert table().data.digest != table(values=VALUES + 1).data.digest
    assert table().data.digest != table(values=np.concatenate([VALUES, VALUES])).data.digest


def test_an_edit_invalidates_what_lies_behind_it() -> None:
    measured = table()
    edited = model()
    negation = edited.nodes("Neg")[0]
    edited.replace(negation, "Abs", list(negation.inputs))
    seen = measured.seen_from(edited)
    assert Range("a") in seen
    assert Histogram("b") in seen
    assert [request.tensor for request in seen.unanswered(ASKED)] == ["c", "z", "z"]


def test_other_weights_invalidate_all_that_they_reach() -> None:
    assert table().seen_from(model(k=3.0)).unanswered(ASKED) == ASKED


def test_renaming_invalidates_nothing() -> None:
    renamed = model(TEXT.replace("a =", "other =").replace("(a)", "(other)"))
    assert Range("other") in table().seen_from(renamed)
    assert Range("a") not in table().seen_from(renamed)
    assert Moments("z") in table().seen_from(renamed)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("y = Clip(x, k)", "y = Clip(x, , k)"),
        ("y = LeakyRelu<alpha = 0.1>(x)", "y = LeakyRelu<alpha = 0.2>(x)"),
        ("y = Sub(x, k)", "y = Sub(k, x)"),
        ("y = Sub(x, k)", "y = Add(x, k)"),
    ],
)
def test_what_changes_a_digest(first: str, second: str) -> None:
    pair = [
        Model.from_text(f"g (float[2] x) => (float[2] y) {{ {text} }}", {"k": np.array(1, np.float32)})
        for text in (first, second)
    ]
    assert cones_of(pair[0])["x"] == cones_of(pair[1])["x"]
    assert cones_of(pair[0])["y"] != cones_of(pair[1])["y"]


def branching(inner: str, k: float = 1.0) -> Model:
    return Model.from_text(
        f"""g (float[2] x, bool c) => (float[2] y) {{
            n = Neg(x)
            y = If(c) <
                then_branch = t () => (float[2] a) {{ a = {inner} }},
                else_branch = e () => (float[2] b) {{ b = Abs(x) }}>
        }}""",
        {"k": np.array([k], np.float32)},
    )


def test_subgraphs_and_what_they_read_count() -> None:
    known = cones_of(branching("Mul(n, k)"))
    assert cones_of(branching("Mul(n, k)"))["y"] == known["y"]
    assert cones_of(branching("Mul(x, k)"))["y"] != known["y"]
    assert cones_of(branching("Mul(n, k)", k=2.0))["y"] != known["y"]
    negative = branching("Mul(n, k)")
    node = negative.nodes("Neg")[0]
    negative.replace(node, "Exp", list(node.inputs))
    assert cones_of(negative)["y"] != known["y"]


# -------------------------------------------------------------------------------------------------------------- asking


def test_an_answer_that_nobody_asked_for() -> None:
    with pytest.raises(PassContractError, match="there is no answer to Range") as caught:
        table([Histogram("b")]).range("a")
    assert "did not ask" in caught.value.why


def test_a_histogram_answers_a_range() -> None:
    measured = table([Histogram("a")])
    assert measured.range("a").high == 2.0 * VALUES.max()


def test_what_is_known_is_not_measured_again() -> None:
    data = Samples({"x": VALUES})
    first = sweep(model(), [Range("a")], data)
    assert sweep(model(), [Range("a")], data, known=first).range("a") is first.range("a")
    assert data.sweeps == 1
    second = sweep(model(), [Range("a"), Range("b")], data, known=first)
    assert data.sweeps == 2
    assert second.range("a") is first.range("a")


def test_sources() -> None:
    found = Model.from_text(
        """g (float[2,4] x) => (float[8] y, float[2,4] m, float[4,2] l) {
            r = Relu(x)  t = Transpose(r)  y = Reshape(t, s)  u = Unsqueeze(r, a)  p = Exp(u)  m = Squeeze(p, a)
            l = Transpose(k)
        }""",
        {"s": np.array([8]), "a": np.array([0]), "k": np.ones((2, 4), np.float32)},
    )
    assert sources_of(found) == {"t": "r", "y": "r", "u": "r", "m": "p"}
