"""Which importer reads a source."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgecc.artifact import NOT_REGULAR
from edgecc.errors import InvalidModelError
from edgecc.options import build

if TYPE_CHECKING:
    from edgecc.importers.base import Importer
    from edgecc.model import Model
    from edgecc.registry import Registry

_HEAD_BYTES = 64
#: What installs the first-party importer of files with that suffix.
FIRST_PARTY_SOURCES = {
    **dict.fromkeys((".pt2", ".pt", ".pth", ".safetensors"), "pip install edgecc-torch"),
    **dict.fromkeys((".keras", ".h5", ".hdf5"), "pip install edgecc-keras"),
}
_SAVED_MODEL = "saved_model.pb"


def load_model(
    path: Path,
    registry: Registry,
    shapes: Mapping[str, Sequence[int]] | None = None,
    options: Mapping[str, object] | None = None,
) -> Model:
    """Read a model of any format for which an importer is installed; content decides, the suffix is a hint.

    Args:
        path: a file or folder.
        registry: what is installed.
        shapes: static shapes for named inputs.
        options: of the importer that reads it.

    Raises:
        InvalidModelError: no such file, one that is empty or not regular, or no importer knows what it is.
        UnknownNameError, OptionError: that importer has no such option, or it takes no such value.
    """
    head = _read_head(path)
    importer = find_importer(path, head, registry)
    if options:
        cls = type(importer)
        importer = cls(build(cls.accepts, "importer", importer.name, options))
    return importer.load(path, shapes or {})


def _read_head(path: Path) -> bytes:
    """The first bytes of a file; none of a folder."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return b""
        if not stat.S_ISREG(mode):  # opening a pipe waits for whoever writes it, and importers map files into memory
            raise InvalidModelError(
                f"{path} cannot be read",
                why=NOT_REGULAR,
                hint="save the model to a file and name that",
            )
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except FileNotFoundError as error:
        near = sorted(p.name for p in path.parent.glob(f"*{path.suffix}"))[:5] if path.parent.is_dir() else []
        hint = f"in {path.parent} there is: {', '.join(near)}" if near else "check the path"
        raise InvalidModelError(f"{path} does not exist", hint=hint) from error
    except OSError as error:
        raise InvalidModelError(
            f"{path} cannot be read", why=error.strerror or str(error), hint="check the path and its permissions"
        ) from error
    if not head:
        raise InvalidModelError(f"{path} is empty", hint="export or download the model again")
    return head


def find_importer(path: Path, head: bytes, registry: Registry) -> Importer:
    """The importer that recognizes the content, otherwise the one that the suffix names."""
    importers = [cls() for cls in registry.importers.values()]
    for importer in importers:
        if importer.sniff(path, head):
            return importer
    for importer in importers:
        if path.suffix.lower() in importer.suffixes:
            return importer
    known = ", ".join(f"{importer.name} ({' '.join(importer.suffixes)})" for importer in importers)
    raise InvalidModelError(
        f"{path} is not a model that an installed importer reads", why=f"installed: {known}", hint=_hint(path, head)
    )


def _hint(path: Path, head: bytes) -> str:
    """What would read it: by its suffix, otherwise by its content."""
    from edgecc.importers.file_kinds import kind_of

    if path.suffix.lower() in FIRST_PARTY_SOURCES:
        return FIRST_PARTY_SOURCES[path.suffix.lower()]
    if path.is_dir() and (path / _SAVED_MODEL).is_file():
        return "it is a SavedModel: pip install edgecc-keras"
    kind = kind_of(head)
    return f"it is {kind.what}: {kind.hint}" if kind else "edgecc plugins"
