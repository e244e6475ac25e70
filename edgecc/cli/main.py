"""`edgecc`: the command line's entry."""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import sys
import traceback
from collections.abc import Sequence

import click

from edgecc import __version__
from edgecc.errors import EdgeccError, UnknownNameError, UnsupportedError

#: Command name to module; imported when the command is used or listed. None of them imports onnx or an SDK at the top.
COMMANDS = {
    "benchmark": "edgecc.cli.benchmark",
    "compare": "edgecc.cli.compare",
    "compile": "edgecc.cli.compile",
    "convert": "edgecc.cli.convert",
    "inspect": "edgecc.cli.inspect",
    "passes": "edgecc.cli.passes",
    "plugins": "edgecc.cli.plugins",
    "targets": "edgecc.cli.targets",
}


#: Of glibc's malloc.h; musl has no mallopt.
_M_MMAP_THRESHOLD = -3


class _Group(click.Group):
    """Commands are imported when they are used; plugins' commands follow edgecc's own."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*sorted(COMMANDS), *sorted(set(_plugin_commands()) - set(COMMANDS))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            command: click.Command = importlib.import_module(COMMANDS[cmd_name]).command
            return command
        return _plugin_commands().get(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            raise UnknownNameError("command", name, self.list_commands(ctx))
        return super().resolve_command(ctx, args)


def _plugin_commands() -> dict[str, click.Command]:
    from edgecc.registry import default_registry

    return default_registry().commands


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="edgecc")
def cli() -> None:
    """Compile trained models for edge devices: TFLite (LiteRT), TensorRT and ONNX Runtime.

    edgecc compile model.onnx --target tflite -o model.tflite
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 2 wrong request, 3 cannot be compiled, 4 verification failed, 1 a bug."""
    if "_EDGECC_COMPLETE" in os.environ:  # a shell asks for completions; click answers and exits
        cli.main(prog_name="edgecc")
    # OpenBLAS's idle threads spin for 30 ms, which slows the thread that works where cores are shared; now for 0.1 ms.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "18")
    # pydantic looks for plugins of its own in every installed package, which takes longer the more there are.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # Graphs are cyclic and live as long as this process: collecting them again and again costs a third of the time.
    gc.disable()
    _return_freed_memory()
    words = list(sys.argv[1:] if arguments is None else arguments)
    code = run(words)
    if arguments is None and sys.getprofile() is None and sys.gettrace() is None:
        _leave(code)
    sys.exit(code)


def _leave(code: int) -> None:
    """End the process without freeing every object of it first, which takes as long as a few passes do."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            continue  # whoever read it has read enough
        except OSError:
            code = code or 1  # the disk is full: what was printed is not all there
    os._exit(code)


def _return_freed_memory() -> None:
    """Let glibc hand blocks over 128 KB back to the system when they are freed, as it does at first.

    It would learn to keep ever larger ones, weights and all: the peak of compiling 124 MB for TensorRT is 100 MB lower
    like this.
    """
    libc = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    if libc is not None and hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 17)


def run(words: list[str]) -> int:
    """The exit code of a command line."""
    try:
        # Not `cli.main`, which has its own answers to a closed pipe and to exit codes that a command asks for.
        with cli.make_context("edgecc", list(words)) as ctx:
            cli.invoke(ctx)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.Abort:
        return 130
    except click.ClickException as error:
        error.show()
        return 2
    except EdgeccError as error:
        _report(error, as_json="--json" in words)
        return error.exit_code
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        return 130
    except BrokenPipeError:
        # Whoever read our output has closed it (`edgecc passes | head`): not an error. Nothing more can be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception:
        traceback.print_exc()
        click.echo(
            "\nThis is a bug in edgecc. Please report it with the lines above and the command you typed.", err=True
        )
        return 1
    return 0


def _report(error: EdgeccError, *, as_json: bool) -> None:
    if as_json:
        nodes = [vars(node) for node in error.nodes] if isinstance(error, UnsupportedError) else []
        facts = {
            "type": type(error).__name__,
            "what": error.what,
            "where": error.where,
            "why": error.why,
            "hint": error.hint,
        }
        click.echo(json.dumps({"error": {**facts, "nodes": nodes}}, indent=2))
    click.echo(f"{click.style('error:', fg='red', bold=True)} {error}", err=True)
