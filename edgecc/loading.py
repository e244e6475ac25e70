"""Which importer reads a source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgecc.errors import InvalidModelError

if TYPE_CHECKING:
    from edgecc.importers.base import Importer
    from edgecc.model import Model
    from edgecc.registry import Registry

_HEAD_BYTES = 64


def load_model(path: Path, registry: Registry, shapes: Mapping[str, Sequence[int]] | None = None) -> Model:
    """Read a model of any format for which an importer is installed; content decides, the suffix is a hint.

    Raises:
        InvalidModelError: no such file, or no importer knows what it is.
    """
    head = _read_head(path)
    return find_importer(path, head, registry).load(path, shapes or {})


def _read_head(path: Path) -> bytes:
    if path.is_dir():
        return b""
    try:
        with path.open("rb") as stream:
            return stream.read(_HEAD_BYTES)
    except FileNotFoundError as error:
        near = sorted(p.name for p in path.parent.glob(f"*{path.suffix}"))[:5] if path.parent.is_dir() else []
        hint = f"in {path.parent} there is: {', '.join(near)}" if near else "check the path"
        raise InvalidModelError(f"{path} does not exist", hint=hint) from error
    except OSError as error:
        raise InvalidModelError(f"{path} cannot be read", why=error.strerror or str(error)) from error


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
        f"{path} is not a model that an installed importer reads", why=f"installed: {known}", hint="edgecc plugins"
    )
