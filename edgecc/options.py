"""Options of passes and targets: one pydantic declaration, read from `name:key=value,...`, TOML and Python."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from edgecc.errors import OptionError, UnknownNameError

T = TypeVar("T", bound=BaseModel)


def parse_spec(text: str) -> tuple[str, dict[str, object]]:
    """Split `name:key=value,key=[a,b]` into the name and the raw options.

    A value is JSON if it parses as JSON (numbers, true, lists with quotes), a list of strings in square brackets
    otherwise, and a plain string in all other cases. A key without a value is `true`.
    """
    name, _, rest = text.partition(":")
    options: dict[str, object] = {}
    for item in _split(rest):
        key, equals, value = item.partition("=")
        if not key.strip():
            raise OptionError(f"cannot read option {item!r}", where=text, hint="write NAME:key=value,key=value")
        options[key.strip().replace("-", "_")] = _parse_value(value) if equals else True
    return name.strip(), options


def _split(text: str) -> Iterator[str]:
    """Commas outside of square brackets separate options."""
    depth, item = 0, ""
    for char in text:
        depth += (char == "[") - (char == "]")
        if char == "," and depth == 0:
            yield item
            item = ""
        else:
            item += char
    if item:
        yield item


def _parse_value(text: str) -> object:
    text = text.strip()
    try:
        return json.loads(text)
    except ValueError:
        pass
    if text.startswith("[") and text.endswith("]"):
        return [part.strip() for part in text[1:-1].split(",") if part.strip()]
    return text


def build(cls: type[T], kind: str, name: str, options: Mapping[str, object]) -> T:
    """Validate options into `cls`; errors name the option, what it takes and the nearest known one."""
    known = cls.model_fields
    for key in options:
        if key not in known:
            hint = "" if known else f"{kind} {name!r} takes no options"
            raise UnknownNameError("option", key, known, where=f"{kind} {name}", hint=hint)
    try:
        return cls.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise OptionError(
            f"option {key!r} of {kind} {name!r}: {first['msg']}",
            where=f"{key}={first.get('input')!r}",
            hint=f"edgecc {kind if kind == 'pass' else 'target'}{'es' if kind == 'pass' else 's'} {name} lists its options",
        ) from error


def spec_of(name: str, value: BaseModel) -> str:
    """The inverse of `parse_spec`, with the options that differ from their defaults."""
    changed = value.model_dump(mode="json", exclude_defaults=True)
    if not changed:
        return name
    return f"{name}:{','.join(f'{key}={_format(item)}' for key, item in changed.items())}"


def _format(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def describe(cls: type[BaseModel]) -> list[tuple[str, str, str, str]]:
    """Name, type, default and description of every option, for listings and docs."""
    rows = []
    documented = _documented_fields(cls)
    for name, info in cls.model_fields.items():
        annotation = info.annotation
        kind = getattr(annotation, "__name__", None) if not getattr(annotation, "__args__", None) else None
        text = kind or str(annotation).replace("typing.", "")
        default = "required" if info.is_required() else json.dumps(info.get_default(call_default_factory=True), default=str)
        rows.append((name, text, default, info.description or documented.get(name, "")))
    return rows


def doc_of(cls: type) -> str:
    """The docstring without its `Attributes:` section, which `describe` shows."""
    return "\n\n".join(part for part in _paragraphs(cls) if not part.startswith(_ATTRIBUTES))


_ATTRIBUTES = "Attributes:\n"


def _documented_fields(cls: type) -> dict[str, str]:
    """Field to its sentence in the `Attributes:` section of the class's docstring, or of a base's."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        for part in _paragraphs(base):
            if part.startswith(_ATTRIBUTES):
                text = inspect.cleandoc("\n" + part.removeprefix(_ATTRIBUTES))
                items = (item.replace("\n", " ").split(": ", 1) for item in re.split(r"\n(?=\w)", text))
                found |= {item[0]: re.sub(r" +", " ", item[1]).rstrip(".") for item in items if len(item) == 2}
    return found


def _paragraphs(cls: type) -> list[str]:
    return re.split(r"\n{2,}", inspect.cleandoc(cls.__doc__ or ""))
