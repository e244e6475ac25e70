"""Options of passes and targets: one pydantic declaration, read from `name:key=value,...`, TOML and Python."""

from __future__ import annotations

import inspect
import json
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from edgecc.errors import OptionError, UnknownNameError

T = TypeVar("T", bound=BaseModel)

#: The command that lists things of a kind, where an s does not do.
_LISTING = {"pass": "passes", "runtime": "targets"}


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
        key = key.strip().replace("-", "_")
        if key in options:
            raise OptionError(f"option {key!r} is given twice", where=text)
        options[key] = _parse_value(value) if equals else True
    return name.strip(), options


def _split(text: str) -> Iterator[str]:
    """Commas outside of brackets and of JSON strings separate options."""
    depth, start, item_start = 0, 0, 0
    while start < len(text):
        char = text[start]
        # Only where a value begins: names of tensors may hold a quote.
        string = _JSON_STRING.match(text, start) if text[start - 1 : start] in _BEFORE_VALUE else None
        if char == "," and depth == 0:
            yield text[item_start:start]
            item_start = start + 1
        depth += (char in "[{") - (char in "]}")
        start = string.end() if string else start + 1
    if item_start < len(text):
        yield text[item_start:]


_JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_BEFORE_VALUE = frozenset("=[{,: ")


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
        return cls.model_validate({key: _listed(known[key], value) for key, value in options.items()})
    except ValidationError as error:
        first = error.errors()[0]
        # Of a list, the option is named and not the place; an error of the whole has no option to name.
        key = str(first["loc"][0]) if first["loc"] else ""
        problem = _problem(known.get(key), first)
        raise OptionError(
            f"option {key!r} of {kind} {name!r}: {problem}" if key else f"options of {kind} {name!r}: {problem}",
            where=f"{key}={first.get('input')!r}" if key else ",".join(f"{k}={v!r}" for k, v in options.items()),
            hint=f"edgecc {_LISTING.get(kind, kind + 's')} {name} lists its options",
        ) from error


def _problem(field: FieldInfo | None, error: Mapping[str, Any]) -> object:
    """What is wrong with a value, with an example where there is one."""
    details = error.get("ctx", {})
    if error["type"] == "string_pattern_mismatch":
        example = field.examples[0] if field is not None and field.examples else details["pattern"]
        return f"{error['input']!r} is not written like {example}"
    if error["type"] == "too_short":
        return f"at least {details['min_length']} must be given"
    # What an own validator raised is said in its words.
    return details.get("error", error["msg"])


def _listed(field: FieldInfo, value: object) -> object:
    """One word where a list is wanted is a list of that word."""
    wants_list = typing.get_origin(field.annotation) in (tuple, list)
    return [value] if wants_list and not isinstance(value, list | tuple) else value


def spec_of(name: str, value: BaseModel) -> str:
    """The inverse of `parse_spec`, with the options that differ from their defaults."""
    changed = value.model_dump(mode="json", exclude_defaults=True)
    if not changed:
        return name
    return f"{name}:{','.join(f'{key}={_format(item)}' for key, item in changed.items())}"


def _format(value: Any) -> str:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    if not isinstance(value, str):
        return text
    # As a plain word wherever it is read back as that word.
    return value if not set(value) & _SPECIAL and value == value.strip() and _parse_value(value) == value else text


_SPECIAL = frozenset(',[]{}"')


def describe(cls: type[BaseModel]) -> list[tuple[str, str, str, str]]:
    """Name, type, default and description of every option, for listings and docs."""
    rows = []
    documented = _documented_fields(cls)
    for name, info in cls.model_fields.items():
        text = _type_text(info.annotation)
        default = (
            "required" if info.is_required() else json.dumps(info.get_default(call_default_factory=True), default=str)
        )
        rows.append((name, text, default, info.description or documented.get(name, "")))
    return rows


def _type_text(annotation: Any) -> str:
    """A type as someone who types an option reads it: `float32 | float16`, `list of str`, `int | null`."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type_text(arguments[0])
    if origin is typing.Literal:
        return " | ".join(str(value) for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(_type_text(argument) for argument in arguments)
    if origin is tuple and arguments[-1] is ...:
        return f"list of {_type_text(arguments[0])}"
    if origin is tuple:
        return f"[{', '.join(_type_text(argument) for argument in arguments)}]"
    return "null" if annotation is type(None) else str(getattr(annotation, "__name__", annotation))


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
