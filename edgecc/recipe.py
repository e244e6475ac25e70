"""Recipe: what the command line, a TOML file and Python arguments all become."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from edgecc.data.names import is_named
from edgecc.errors import RecipeError, UnknownNameError
from edgecc.presets import DEFAULT

if TYPE_CHECKING:
    from edgecc.passes.base import Pass
    from edgecc.registry import Registry

Quantize = Literal["float16", "int8", "dynamic", "int8-weights", "int4-weights"]

#: What `--quantize` stands for: names of passes, in order.
QUANTIZE_PASSES: dict[str, tuple[str, ...]] = {
    "float16": ("convert-float16",),
    "int8": ("quantize-static",),
    "dynamic": ("quantize-dynamic",),
    "int8-weights": ("quantize-weights",),
    "int4-weights": ("quantize-weights:dtype=int4",),
}


#: What `--prune` and `--low-rank` stand for, in the order in which they run.
SMALLER_PASSES = {"prune": "prune-channels", "low_rank": "factorize-low-rank"}


class Recipe(BaseModel):
    """Everything that decides what is compiled, as plain values.

    Attributes:
        source: path of the model.
        target: `NAME` or `NAME:key=value,...`.
        output: path of the artifact; derived from source and target if empty.
        optimize: name of the preset whose passes run first: "1" is for everything that keeps values, "0" for none.
        passes: `NAME` or `NAME:key=value,...`, in the order in which they run, before the backend's own.
        prune: share of the multiply-accumulates that goes, by channels, or options of prune-channels, such as
            "params=0.5", or both: "0.5,multiple=8"; stands for that pass, which runs where it works among `passes`.
        low_rank: the same of factorize-low-rank, of what pruning leaves.
        quantize: precision of weights and activations; stands for passes that run behind `passes`, or in front of the
            first of them that must run behind it.
        max_drop: points of top-1 agreement with the source that may be lost in all; a lossy pass that loses more is
            taken back.
        min_sqnr: dB that every output must have; likewise.
        calibration: samples for passes that need them: an `.npz` file, `package.module:function`, `random`, or
            statistics saved as `.json`.
        samples: how many of them are used; all if None.
        held_out: samples that nothing is fitted to, on which what is lost is measured; every eighth of `calibration` if
            empty.
        shapes: static shapes for named inputs.
        importer: options of the importer that reads the source.
        verify: execute the model before and after every pass that must keep its values.
        measure: run models on this machine, keep layers in float that integers make slower, and layers whole that
            factors make slower; if None, where `quantize` is int8 or `low_rank` is given, and the target is for
            machines like this one.
        seed: of the only random generator that passes may use.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    target: str
    output: str = ""
    optimize: str = DEFAULT
    passes: tuple[str, ...] = ()
    prune: float | str | None = None
    low_rank: float | str | None = None
    quantize: Quantize | None = None
    max_drop: float | None = Field(default=None, ge=0, lt=100, allow_inf_nan=False)
    min_sqnr: float | None = Field(default=None, allow_inf_nan=False)
    calibration: str = ""
    samples: int | None = Field(default=None, gt=0)
    held_out: str = ""
    shapes: dict[str, tuple[int, ...]] = {}
    importer: dict[str, str | int | float | bool] = {}
    verify: bool = False
    measure: bool | None = None
    seed: int = Field(default=0, ge=0)

    @field_validator("prune", "low_rank")
    @classmethod
    def _share_or_options(cls, value: float | str | None, info: ValidationInfo) -> float | str | None:
        if value is None:
            return None
        share, options = _share_of(value)
        if share is not None and not 0 < share < 1:
            raise ValueError(
                f"{value} is no share of the multiply-accumulates: {_flag(info.field_name)} 0.5 lets half of them go"
            )
        if share is None and "=" not in options.partition(",")[0]:
            raise ValueError(f"{value!r} is neither a share, such as 0.5, nor an option, such as params=0.5")
        return share if share is not None and not options else value

    @model_validator(mode="after")
    def _once(self) -> Recipe:
        for key, name in SMALLER_PASSES.items():
            if getattr(self, key) is not None and any(spec.partition(":")[0].strip() == name for spec in self.passes):
                raise ValueError(
                    f"{_flag(key)} stands for {name}, which is among the passes too: leave one of them out"
                )
        return self

    @property
    def short_passes(self) -> tuple[str, ...]:
        """What `prune`, `low_rank` and `quantize` stand for, in the order in which they run."""
        found = []
        for key, name in SMALLER_PASSES.items():
            value = getattr(self, key)
            if value is None:
                continue
            share, options = _share_of(value)
            # What is left, in as many digits as were given.
            budget = [] if share is None else [f"macs={round(1 - share, 12)}"]
            found.append(f"{name}:{','.join([*budget, *([options] if options else [])])}")
        return (*found, *(QUANTIZE_PASSES[self.quantize] if self.quantize else ()))

    @property
    def all_passes(self) -> tuple[str, ...]:
        """`passes` and `short_passes`; `ordered_passes` says when these run."""
        return (*self.passes, *self.short_passes)

    def to_toml(self) -> str:
        """The recipe as TOML; read from a file, its paths are relative to that file's folder."""
        lines, tables = [], []
        for key, value in self.model_dump(mode="json", exclude_defaults=True).items():
            if isinstance(value, dict):
                tables += [f"\n[{key}]", *(f"{_quote(name)} = {_written(item)}" for name, item in value.items())]
            else:
                lines.append(f"{key} = {_written(value)}")
        return "\n".join([*lines, *tables]) + "\n"


def ordered_passes(recipe: Recipe, registry: Registry) -> tuple[str, ...]:
    """The recipe's passes as they run: the user's in their order, what `prune` and others stand for where it works.

    That is behind them, or in front of the first that must run behind it.

    Args:
        recipe: names the passes.
        registry: where they are looked up.

    Raises:
        UnknownNameError: there is no such pass.
    """
    specs = list(recipe.passes)
    for spec in recipe.short_passes:
        step = registry.pass_class(spec.partition(":")[0])
        others = [registry.pass_class(other.partition(":")[0]) for other in specs]
        place = next((i for i, other in enumerate(others) if _must_follow(other, step)), len(specs))
        specs.insert(place, spec)
    return tuple(specs)


def _must_follow(other: type[Pass], step: type[Pass]) -> bool:
    gives = any(wanted in step.ensures for wanted in other.requires)
    return step.name in other.after or other.name in step.before or gives


def make_recipe(values: Mapping[str, Any], *, where: str = "") -> Recipe:
    """Validate; unknown keys get a near-miss suggestion."""
    for key in values:
        if key not in Recipe.model_fields:
            raise UnknownNameError("recipe key", key, Recipe.model_fields, where=where)
    for key in ("source", "target"):
        if not values.get(key):
            raise RecipeError(f"no {key} is given", where=where, hint=_MISSING[key])
    try:
        return Recipe.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        # What a validator of ours raised is said in its words, which name what was given.
        own = first.get("ctx", {}).get("error")
        if own is not None:
            raise RecipeError(f"{key}: {own}" if key else str(own), where=where) from error
        raise RecipeError(f"{key}: {first['msg']}", where=where, why=f"got {first.get('input')!r}") from error


def _share_of(value: float | str) -> tuple[float | None, str]:
    """The share that `0.5` or `0.5,key=value` begins with, if it does, and the options behind it."""
    if not isinstance(value, str):
        return value, ""
    first, _, rest = value.partition(",")
    try:
        return float(first), rest
    except ValueError:
        return None, value


def _flag(key: str | None) -> str:
    return f"--{(key or '').replace('_', '-')}"


_MISSING = {
    "source": "name the model: edgecc compile MODEL.onnx --target tflite",
    "target": "add --target NAME (edgecc targets lists them), or an output with a known suffix: -o model.tflite",
}


def read_recipe(path: Path) -> dict[str, Any]:
    """The keys of a TOML recipe; paths in it are relative to the recipe's folder."""
    # Imported at first need: most requests come from flags.
    import tomllib

    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecipeError(f"recipe {path} does not exist", hint="check the path given to --recipe") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"recipe {path} cannot be read", why=str(error)) from error
    for key in values:
        if key not in Recipe.model_fields:
            raise UnknownNameError("recipe key", key, Recipe.model_fields, where=str(path))
    for key in ("source", "output"):
        if isinstance(values.get(key), str):
            values[key] = str(path.parent / values[key])
    for key in ("calibration", "held_out"):
        data = values.get(key)
        if isinstance(data, str) and data and not is_named(data):
            values[key] = str(path.parent / data)
    return values


def _written(value: object) -> str:
    return _quote(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _quote(text: str) -> str:
    """A TOML basic string; JSON's escapes are a subset of TOML's."""
    return json.dumps(text, ensure_ascii=False)
