"""Artifact: the files of a compiled model and the report beside them."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecc.errors import InvalidModelError, OutputError

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from edgecc.backend import Compiled

NOT_REGULAR = "it is a pipe, a device or a socket, not a regular file"
REPORT_SUFFIX = ".report.json"


@dataclass(frozen=True)
class Artifact:
    """A compiled model on disk.

    Attributes:
        path: the file that the target's users know.
        report: what `PATH.report.json` holds: signature, recipe, versions, passes, correspondence, notes.
    """

    path: Path
    report: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def report_path(self) -> Path:
        return report_path(self.path)

    @property
    def nbytes(self) -> int:
        """Size in bytes of the file and the external weights beside it that belong to it."""
        data = self.path.with_name(self.path.name + ".data")
        listed = self.report.get("files")
        belongs = data.name in listed if isinstance(listed, dict) else data.exists()
        return self.path.stat().st_size + (data.stat().st_size if belongs else 0)

    @classmethod
    def open(cls, path: str | Path) -> Artifact:
        """An artifact on disk; one without a report (made by other tools) has an empty one."""
        path = Path(path)
        beside = report_path(path)
        try:
            if not beside.is_file():
                return cls(path)
            report = json.loads(beside.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return cls(path)
        return cls(path, report) if isinstance(report, dict) else cls(path)


def report_path(path: Path) -> Path:
    return path.with_name(path.name + REPORT_SUFFIX)


def check_readable(path: Path) -> None:
    """Raise InvalidModelError where there is no artifact, or a pipe or device, on which runtimes would wait."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InvalidModelError(f"{path} does not exist", hint="check the path") from error
    except OSError as error:
        raise InvalidModelError(
            f"{path} cannot be read", why=error.strerror or str(error), hint="check the path and its permissions"
        ) from error
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise InvalidModelError(
            f"{path} cannot be read", why=NOT_REGULAR, hint="save the model to a file and name that"
        )


def check_writable(path: Path) -> None:
    """Raise OutputError now rather than after minutes of work."""
    folder = path.parent
    try:
        if path.is_dir():
            raise OutputError(f"{path} is a folder", hint=f"name a file, such as {path / 'model'}")
        if not folder.is_dir():
            raise OutputError(f"folder {folder} does not exist", where=str(path), hint=f"mkdir -p {folder}")
        # The report's temporary file has the longest name of all that are written, which may be too long.
        with _temporary_beside(report_path(path)) as (temporary, descriptor):
            os.close(descriptor)
            temporary.unlink()
    except OSError as error:
        raise OutputError(
            f"cannot write {path}", why=error.strerror or str(error), hint="choose another -o OUT"
        ) from error


def named_files(output: Path, compiled: Compiled) -> dict[Path, Buffer]:
    """The paths of what a backend made: the first file is the output, further ones are named after the whole of it.

    So `m.engine.onnx` never meets a source called `m.onnx`.
    """
    return {
        output if index == 0 else output.with_name(output.name + suffix): data
        for index, (suffix, data) in enumerate(compiled.files.items())
    }


def write_files(files: Mapping[Path, Buffer | Iterator[Buffer]]) -> None:
    """Write every file completely, or none: contents go to temporary files first and are renamed at the end.

    Whatever ends the process leaves older files whole. As of any compiler's output, a power failure may take what was
    written in the last seconds: waiting for the disk takes as long as compiling does.

    Args:
        files: path to contents; an iterator gives them in pieces, so that they need not be in memory at once.

    Raises:
        OutputError: the disk is full or the folder cannot be written; older files are whole and untouched.
    """
    pending: list[tuple[Path, Path]] = []
    try:
        for path, contents in files.items():
            pending.append((_write_temporary(path, contents), path))
        for temporary, path in pending:
            os.replace(temporary, path)
    except OSError as error:
        place = str(next(iter(files), ""))
        raise OutputError(
            f"cannot write {place}", why=error.strerror or str(error), hint="free space or choose another -o OUT"
        ) from error
    finally:
        for temporary, _ in pending:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _write_temporary(path: Path, contents: Buffer | Iterator[Buffer]) -> Path:
    with _temporary_beside(path) as (temporary, descriptor):
        with os.fdopen(descriptor, "wb") as stream:
            for piece in contents if isinstance(contents, Iterator) else (contents,):
                stream.write(piece)
        # mkstemp makes files that only the owner reads; an artifact is an ordinary file.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
    return temporary


@contextlib.contextmanager
def _temporary_beside(path: Path) -> Iterator[tuple[Path, int]]:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        yield temporary, descriptor
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def report_bytes(report: Mapping[str, Any]) -> bytes:
    """The report as stored: stable key order, so that two runs write the same bytes."""
    text = json.dumps(report, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    # A file name that is not UTF-8 has lone surrogates; replaced like this they are JSON's own escapes.
    return text.encode("utf-8", "backslashreplace")
