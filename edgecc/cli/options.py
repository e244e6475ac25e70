"""Options that several commands share."""

from __future__ import annotations

import click

from edgecc.errors import OptionError

json_option = click.option("--json", "as_json", is_flag=True, help="Print facts for machines to stdout.")
shape_option = click.option(
    "--shape",
    "shapes",
    multiple=True,
    metavar="INPUT=D,D,...",
    help="Fix the shape of an input, such as --shape input=1,3,224,224. Repeatable.",
)
importer_option = click.option(
    "--importer",
    multiple=True,
    metavar="KEY=VALUE",
    help="Option of the importer, such as --importer factory=package.module:callable. Repeatable.",
)
runtime_option = click.option(
    "--runtime",
    multiple=True,
    metavar="KEY=VALUE",
    help="Option of the runtime, such as --runtime provider=cuda or --runtime xnnpack=false. Repeatable.",
)


def parse_shapes(texts: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """`input=1,3,224,224` to {"input": (1, 3, 224, 224)}; the last `=` separates, names may hold others."""
    shapes = {}
    for text in texts:
        name, equals, dims = text.rpartition("=")
        try:
            shape = tuple(int(d) for d in dims.split(",")) if dims.strip() else ()
        except ValueError:
            shape = (-1,)
        if not equals or not name or any(d < 0 for d in shape):
            raise OptionError(f"cannot read --shape {text!r}", hint="write --shape INPUT=1,3,224,224")
        shapes[name] = shape
    return shapes


def parse_key_values(texts: tuple[str, ...]) -> dict[str, object]:
    """`key=value` texts to options; values are read like those of `--target`."""
    from edgecc.options import parse_spec

    return parse_spec(":" + ",".join(texts))[1] if texts else {}
