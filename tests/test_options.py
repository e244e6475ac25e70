from __future__ import annotations

from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from edgecc.errors import OptionError, UnknownNameError
from edgecc.options import build, describe, doc_of, parse_spec, spec_of


class Sample(BaseModel):
    """A thing with options.

    Attributes:
        ratio: how much.
        names: patterns.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: ClassVar[str] = "sample"

    ratio: float = 0.5
    layout: str = "nchw"
    names: tuple[str, ...] = ()
    sizes: dict[str, int] = {}
    loud: bool = False


def make(spec: str) -> Sample:
    name, options = parse_spec(spec)
    assert name == "sample"
    return build(Sample, "pass", name, options)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("sample", Sample()),
        ("sample:", Sample()),
        ("sample:ratio=0.25", Sample(ratio=0.25)),
        ("sample:ratio=1,layout=nhwc", Sample(ratio=1, layout="nhwc")),
        ("sample:loud", Sample(loud=True)),
        ("sample:loud=false", Sample()),
        ("sample: ratio = 0.25 , loud", Sample(ratio=0.25, loud=True)),
        ("sample:names=[a,b]", Sample(names=("a", "b"))),
        ('sample:names=["a,b","c"]', Sample(names=("a,b", "c"))),
        ("sample:names=[/block[0-9]/*,conv:0],loud", Sample(names=("/block[0-9]/*", "conv:0"), loud=True)),
        ("sample:names=conv1", Sample(names=("conv1",))),
        ("sample:names=[]", Sample()),
        ('sample:sizes={"a":1,"b":2}', Sample(sizes={"a": 1, "b": 2})),
        ('sample:layout="a,b"', Sample(layout="a,b")),
        ('sample:layout=5",loud', Sample(layout='5"', loud=True)),
    ],
)
def test_parse(spec: str, expected: Sample) -> None:
    assert make(spec) == expected


def test_spec_shows_only_what_differs() -> None:
    assert spec_of("sample", Sample()) == "sample"
    assert spec_of("sample", Sample(ratio=0.25, names=("a", "b"))) == 'sample:ratio=0.25,names=["a","b"]'
    assert spec_of("sample", Sample(layout="nhwc")) == "sample:layout=nhwc"
    assert spec_of("sample", Sample(layout="8")) == 'sample:layout="8"'


words = st.text(max_size=12)
samples = st.builds(
    Sample,
    ratio=st.floats(allow_nan=False, allow_infinity=False),
    layout=words,
    names=st.lists(words, max_size=3).map(tuple),
    sizes=st.dictionaries(words, st.integers(), max_size=3),
    loud=st.booleans(),
)


@given(samples)
def test_spec_round_trip(value: Sample) -> None:
    assert make(spec_of("sample", value)) == value


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("sample:ratio=much", "option 'ratio' of pass 'sample': Input should be a valid number"),
        ("sample:=1", "cannot read option '=1'"),
        ("sample:ratio=1,,loud", "cannot read option ''"),
        ("sample:ratio=1,ratio=2", "option 'ratio' is given twice"),
    ],
)
def test_wrong_value(spec: str, text: str) -> None:
    with pytest.raises(OptionError, match=text):
        make(spec)


def test_wrong_value_shows_what_was_given_and_where_to_look() -> None:
    with pytest.raises(OptionError) as caught:
        make("sample:ratio=much")
    assert caught.value.where == "ratio='much'"
    assert caught.value.hint == "edgecc passes sample lists its options"


def test_unknown_option_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        make("sample:ration=1")
    assert str(caught.value) == "unknown option 'ration'\n  where: pass sample\n  try: did you mean 'ratio'?"


def test_nothing_takes_no_options() -> None:
    class Plain(BaseModel):
        pass

    with pytest.raises(UnknownNameError, match="pass 'plain' takes no options"):
        build(Plain, "pass", "plain", {"a": 1})


def test_describe() -> None:
    rows = {name: (kind, default, text) for name, kind, default, text in describe(Sample)}
    assert rows["ratio"] == ("float", "0.5", "how much")
    assert rows["names"] == ("list of str", "[]", "patterns")
    assert doc_of(Sample) == "A thing with options."
