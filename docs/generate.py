"""Writes the pages of docs/ that follow from the code: `python docs/generate.py`, or `--check` to compare only.

A page whose plugin is not installed is left as it is. Plugins other than edgecc's own do not show.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path

import click

from edgecc.hookspecs import GROUP
from edgecc.registry import SELECT_VARIABLE, Registry, default_registry

DOCS = Path(__file__).resolve().parent
FIRST_PARTY = ("onnxruntime", "tensorrt", "tflite")
HEADER = "<!-- Written by docs/generate.py: `make docs` writes it again. -->\n\n"


def cli_page() -> str:
    """Every command with its options."""
    from edgecc.cli.main import COMMANDS, cli

    parts = ["# Commands\n\n", f"{_sentences(cli)}\n\n", _COMMON]
    for name in sorted(COMMANDS):
        command = cli.get_command(click.Context(cli), name)
        assert command is not None, name
        parts.append(_command_section(name, command))
    return "".join(parts)


_COMMON = (
    "Results go to stdout, progress and notes to stderr. `--json` prints facts for machines instead. "
    "Exit codes: [errors](errors.md).\n\n"
)


def _command_section(name: str, command: click.Command) -> str:
    usage = " ".join(command.collect_usage_pieces(click.Context(command, info_name=name)))
    rows = [_option_row(option) for option in command.params if isinstance(option, click.Option)]
    table = _table(("option", "what"), rows)
    return f"## edgecc {name}\n\n```text\nedgecc {name} {usage}\n```\n\n{_sentences(command)}\n\n{table}\n"


def _option_row(option: click.Option) -> tuple[str, str]:
    names = ", ".join([*option.opts, *option.secondary_opts])
    value = "" if option.is_flag else f" {option.metavar or _type_name(option.type)}"
    default = f" Default: {option.default}." if option.show_default and not option.is_flag else ""
    return f"`{names}{value}`", f"{option.help or ''}{default}"


def _type_name(kind: click.ParamType) -> str:
    if isinstance(kind, click.Choice):
        return "|".join(kind.choices)
    return "TEXT" if kind is click.STRING else "NUMBER"


def _sentences(command: click.Command) -> str:
    return " ".join((command.help or "").split("\n\n")[0].split())


def passes_page() -> str:
    """Every pass with what it does, what it costs and its options."""
    from edgecc.options import describe

    registry = default_registry()
    parts = [
        "# Passes\n\n",
        "Run them with `edgecc compile --pass NAME[:key=value,...]`, in the order in which they are written. "
        "[Writing a pass](writing_a_pass.md) explains the words.\n\n",
        "`-O1`, the default, runs those that have a number here, in that order and in rounds, until none of them "
        "changes anything; `-O0` runs none. `edgecc inspect MODEL --explain NAME` says what a pass makes of each "
        "candidate of a model, and why it leaves one alone.\n\n",
        _table(("pass", "-O1", "loss", "what"), _pass_rows(registry)),
    ]
    for name, cls in sorted(registry.passes.items()):
        facts = [("loss", cls.loss.value), *_facts(cls)]
        shown = "  \n".join(f"{key}: {value}" for key, value in facts)
        parts += [
            f"\n## {name}\n\n",
            _doc(cls),
            f"\n\n{shown}\n\n",
            _option_table(describe(cls)),
        ]
    return "".join(parts)


def _pass_rows(registry: Registry) -> list[tuple[str, str, str, str]]:
    from edgecc.cli.passes import first_line
    from edgecc.presets import DEFAULT

    order = {spec: str(number) for number, spec in enumerate(registry.preset(DEFAULT).passes, start=1)}
    passes = sorted(registry.passes.items())
    return [(f"[{n}](#{n})", order.get(n, ""), c.loss.value, first_line(c)) for n, c in passes]


def _facts(cls: type) -> list[tuple[str, str]]:
    found = []
    for key in ("requires", "ensures"):
        found.append((key, ", ".join(p.value for p in getattr(cls, key))))
    for key in ("after", "before"):
        found.append((key, ", ".join(getattr(cls, key))))
    return [(key, value) for key, value in found if value]


def targets_page() -> str:
    """Every target with its files and options."""
    from edgecc.options import describe

    parts = [
        "# Targets\n\n",
        "Name one with `--target NAME[:key=value,...]`. `edgecc targets` says what works on a machine.\n",
    ]
    for name, backend in sorted(default_registry().backends.items()):
        target = backend.target
        owner = default_registry().owner("target", name)
        files = ", ".join(f"`{suffix}`" for suffix in target.suffixes)
        package = f"`pip install {owner.distribution}`" if owner else ""
        parts += [f"\n## {name}\n\n", _doc(target), f"\n\nfiles: {files}  \npackage: {package}\n\n"]
        parts.append(_option_table(describe(target)))
    return "".join(parts)


def tflite_page() -> str:
    """Every ONNX operator that the TFLite backend takes."""
    from edgecc_tflite.lowerings import builtin_rules

    return f"# ONNX operators for TFLite\n\n{_TFLITE_INTRODUCTION}\n\n{builtin_rules().to_markdown()}"


_TFLITE_INTRODUCTION = (
    "One row per rule of the TFLite backend. [Adding a lowering](adding_a_lowering.md) explains how to add one, and "
    "`edgecc inspect MODEL --target tflite` what in a model is not covered, with the reason for each node."
)


def tflite_import_page() -> str:
    """Every TFLite operator that the importer takes."""
    from edgecc_tflite.importing.coverage import to_markdown
    from edgecc_tflite.importing.rules import builtin_rules

    return f"# Importing TFLite files\n\n{_TFLITE_IMPORT}\n\n{to_markdown(builtin_rules())}"


_TFLITE_IMPORT = """A `.tflite` file is a source like any other: `edgecc convert m.tflite m.onnx`.
Its content says what it is; the suffix is a hint.

- Names of inputs and outputs are those of the file's signature, or of its tensors where it has none. Their order,
  types and layout stay; inside, convolutions are channels-first, and the transposes in between cancel
  (`merge-transposes`).
- Quantized tensors become QuantizeLinear and DequantizeLinear with the file's scales and zero points: int8, uint8,
  int16 and int4, per tensor, per channel and per run of weights. Written to TFLite again, they are the same integers.
- float16 weights stay float16, behind a Cast. Where a file has dynamic ranges (int8 or int4 weights beside float data),
  DynamicQuantizeLinear rounds the data of each tensor at run time, as TFLite's kernels do; these choose their own
  ranges. XNNPACK's take one for each row where a window is one element, the others symmetric ones, and the two are up
  to 2 % of the largest value apart (a keyword spotter); what is imported is as far from XNNPACK's.
  With rows of unlike size the one range costs more, and data of BATCH_MATMUL is not rounded.
- Fused activations become nodes. IF and WHILE become If and Loop.
- int8 models give LiteRT's own integers in ONNX Runtime, as files of `edgecc convert` and with its optimizations on:
  average pools round halves as the kernels do, and convolutions sum up integers (`store-unsigned`). LiteRT's sets of
  kernels differ among themselves; XNNPACK's are meant, the default.
- The metadata (`TFLITE_METADATA`: description, author, licence, version, what inputs and outputs are, normalization)
  and the files with labels and vocabularies come along,
  [under keys that all formats share](formats.md#what-a-model-says-about-itself).
- What has no place in a model is listed, on the terminal and in the report's `not_carried`: further signatures, kinds
  of content, states that a file keeps from run to run. A recurrent layer begins each run with zeros.
- Every offset and size in the file is checked before it is used. A damaged file is an error that says what and where;
  so are operators that cannot be imported, all of them at once."""


def _option_table(options: Sequence[tuple[str, str, str, str]]) -> str:
    rows = [(f"`{name}`", f"`{kind}`", f"`{default}`", what) for name, kind, default, what in options]
    return _table(("option", "type", "default", "what"), rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return "It takes no options.\n"
    lines = [columns, ["---"] * len(columns), *([_cell(text) for text in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _doc(cls: type) -> str:
    """A docstring as Markdown: graphs (Before and After) in code blocks, the rest as it is."""
    from edgecc.options import doc_of

    paragraphs = []
    for text in doc_of(cls).split("\n\n"):
        is_graph = text.lstrip().startswith(("Before", "After")) or all(x.startswith("    ") for x in text.splitlines())
        paragraphs.append(f"```text\n{text}\n```" if is_graph else text)
    return "\n\n".join(paragraphs).replace("\n```\n\n```text\n", "\n\n")


#: Page to what writes it and the plugins it needs.
PAGES: dict[str, tuple[Callable[[], str], tuple[str, ...]]] = {
    "cli.md": (cli_page, ()),
    "passes.md": (passes_page, ()),
    "targets.md": (targets_page, FIRST_PARTY),
    "tflite_import.md": (tflite_import_page, ("tflite",)),
    "tflite_ops.md": (tflite_page, ("tflite",)),
}


def pages() -> dict[Path, str]:
    """Every page that can be written here."""
    installed = default_registry().backends
    return {
        DOCS / name: HEADER + write()
        for name, (write, needed) in PAGES.items()
        if all(plugin in installed for plugin in needed)
    }


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or say which ones are stale."""
    installed = {entry_point.name for entry_point in entry_points(group=GROUP)}
    os.environ[SELECT_VARIABLE] = ",".join(name for name in FIRST_PARTY if name in installed)
    found = pages()
    stale = [path for path, text in found.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if "--check" in arguments:
        for path in stale:
            print(f"{path.name} is stale: run `make docs`")
        return 1 if stale else 0
    for path in stale:
        path.write_text(found[path], encoding="utf-8")
        print(f"wrote {path.relative_to(DOCS.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
