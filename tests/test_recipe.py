"""CLI flags, TOML and Python arguments build the same Recipe."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecc.errors import RecipeError, UnknownNameError
from edgecc.recipe import QUANTIZE_PASSES, Quantize, Recipe, make_recipe, ordered_passes, read_recipe
from edgecc.registry import default_registry

names = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
recipes = st.builds(
    Recipe,
    source=names,
    target=names,
    output=st.one_of(st.just(""), names),
    passes=st.lists(names, max_size=3).map(tuple),
    prune=st.one_of(st.none(), st.floats(0.01, 0.99), st.just("latency=0.7,multiple=8")),
    low_rank=st.one_of(st.none(), st.floats(0.01, 0.99), st.just("0.3,multiple=8")),
    quantize=st.sampled_from([None, *QUANTIZE_PASSES]),
    max_drop=st.one_of(st.none(), st.floats(0, 99)),
    min_sqnr=st.one_of(st.none(), st.floats(-10, 100)),
    held_out=st.one_of(st.just(""), names),
    calibration=st.one_of(st.just(""), names),
    samples=st.one_of(st.none(), st.integers(1, 2**31)),
    shapes=st.dictionaries(names, st.lists(st.integers(0, 2**31), max_size=4).map(tuple), max_size=3),
    importer=st.dictionaries(names, st.one_of(names, st.integers(-(2**31), 2**31), st.booleans()), max_size=3),
    verify=st.booleans(),
    measure=st.sampled_from([None, True, False]),
    seed=st.integers(0, 2**31),
)


@given(recipes)
def test_toml_round_trip(recipe: Recipe) -> None:
    assert make_recipe(tomllib.loads(recipe.to_toml())) == recipe


def test_paths_of_a_recipe_file_are_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('source = "m.onnx"\ntarget = "tflite"\noutput = "out/m.tflite"\n')
    values = read_recipe(tmp_path / "r.toml")
    assert values["source"] == str(tmp_path / "m.onnx")
    assert values["output"] == str(tmp_path / "out" / "m.tflite")


def test_unknown_key_gets_a_near_miss(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('source = "m.onnx"\ntaget = "tflite"\n')
    with pytest.raises(UnknownNameError) as caught:
        read_recipe(tmp_path / "r.toml")
    assert "unknown recipe key 'taget'" in str(caught.value)
    assert "did you mean 'target'?" in str(caught.value)
    assert str(tmp_path / "r.toml") in str(caught.value)


def test_missing_recipe_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"recipe .*no\.toml does not exist"):
        read_recipe(tmp_path / "no.toml")


def test_broken_toml_says_where(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("source = \n")
    with pytest.raises(RecipeError) as caught:
        read_recipe(tmp_path / "r.toml")
    assert "cannot be read" in str(caught.value)
    assert "line 1" in str(caught.value)


@pytest.mark.parametrize("missing", ["source", "target"])
def test_missing_source_or_target_says_what_to_type(missing: str) -> None:
    values = {"source": "m.onnx", "target": "tflite"}
    del values[missing]
    with pytest.raises(RecipeError) as caught:
        make_recipe(values)
    assert f"no {missing} is given" in str(caught.value)
    assert "edgecc" in caught.value.hint


def test_wrong_type_names_the_key() -> None:
    with pytest.raises(RecipeError, match=r"shapes\.x"):
        make_recipe({"source": "m.onnx", "target": "tflite", "shapes": {"x": "wide"}})


def test_quantize_stands_for_passes_after_the_listed_ones() -> None:
    recipe = Recipe(source="m.onnx", target="tflite", passes=("fold-batchnorm",), quantize="float16")
    assert recipe.all_passes == ("fold-batchnorm", "convert-float16")
    assert ordered_passes(recipe, default_registry()) == recipe.all_passes


@pytest.mark.parametrize(
    ("quantize", "given", "expected"),
    [
        ("int8", ("round-weights",), ("quantize-static", "round-weights")),
        ("int8", ("correct-bias:samples=3",), ("quantize-static", "correct-bias:samples=3")),
        ("int8", ("convert-float16",), ("quantize-static", "convert-float16")),
        ("int8", ("equalize-layers", "correct-bias"), ("equalize-layers", "quantize-static", "correct-bias")),
        ("int4-weights", ("round-weights", "fold-batchnorm"), None),
        # The user's own order stays, and is what an error is about.
        ("int8", ("correct-bias", "equalize-layers"), ("quantize-static", "correct-bias", "equalize-layers")),
    ],
)
def test_quantize_runs_in_front_of_what_must_follow(
    quantize: Quantize, given: tuple[str, ...], expected: tuple[str, ...] | None
) -> None:
    recipe = Recipe(source="m.onnx", target="tflite", passes=given, quantize=quantize)
    expected = expected or ("quantize-weights:dtype=int4", *given)
    assert ordered_passes(recipe, default_registry()) == expected


@pytest.mark.parametrize(
    ("share", "passes"),
    [
        (0.5, ("prune-channels:macs=0.5",)),
        (0.1, ("prune-channels:macs=0.9",)),
        ("0.123456789", ("prune-channels:macs=0.876543211",)),
        ("0.3,multiple=8", ("prune-channels:macs=0.7,multiple=8",)),
        ("latency=0.7", ("prune-channels:latency=0.7",)),
        (None, ()),
    ],
)
def test_what_a_share_stands_for(share: float | str | None, passes: tuple[str, ...]) -> None:
    recipe = make_recipe({"source": "m.onnx", "target": "tflite", "prune": share})
    assert recipe.short_passes == passes
    assert make_recipe(tomllib.loads(recipe.to_toml())) == recipe
