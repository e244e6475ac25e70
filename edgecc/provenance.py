"""Where an artifact came from: the recipe, the source's files and their hash, the versions of all that took part."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecc.distributions import version_of
from edgecc.errors import InvalidModelError

if TYPE_CHECKING:
    from edgecc.backend import Backend
    from edgecc.model import Model
    from edgecc.recipe import Recipe
    from edgecc.registry import Registry

#: Packages that decide what every compilation gives; ONNX Runtime computes the folded constants.
_CORE = ("edgecc", "onnx", "onnx-graphsurgeon", "onnxruntime", "numpy")
#: Bytes that are hashed at once.
_PIECE = 1 << 22


class SourceHash:
    """SHA-256 of a model's files, computed while it is compiled: hashing holds up nothing but its own thread.

    Args:
        files: in order.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = tuple(files)
        self._found = ""
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._hash, daemon=True)
        self._thread.start()

    def hexdigest(self) -> str:
        """The hash as `sha256_of` gives it; "" if there are none.

        Raises:
            InvalidModelError: a file cannot be read any more.
        """
        self._thread.join()
        if self._error is not None:
            raise InvalidModelError(
                f"{self._error.filename} cannot be read any more, to be hashed for the report",
                why=self._error.strerror or str(self._error),
                hint="leave the source in its place until it is compiled",
            ) from self._error
        return self._found

    def _hash(self) -> None:
        try:
            self._found = sha256_of(self.files) if self.files else ""
        except OSError as error:
            self._error = error


def provenance(
    recipe: Recipe, backend: Backend, registry: Registry, model: Model, source: SourceHash | None
) -> dict[str, Any]:
    """What is needed to build the artifact again.

    Args:
        recipe: with output and target filled in.
        backend: that compiles.
        registry: which plugin brought which pass.
        model: as it was imported or given, before any pass.
        source: of the files that it was imported from; None if it was given, whatever the recipe calls it.
    """
    folder = Path(recipe.output).parent
    return {
        "recipe": recipe.model_dump(mode="json"),
        "target": backend.name,
        "versions": {**_versions(_CORE), **_plugin_versions(recipe, registry), **backend.versions()},
        "source_files": [_relative(file, folder) for file in source.files] if source is not None else [],
        "source_sha256": source.hexdigest() if source is not None else "",
        "model_sha256": model.digest() if source is None else "",
    }


def sha256_of(files: Sequence[Path]) -> str:
    """One hash over the files in order; of one file, its own."""
    digests = [_sha256(file) for file in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _sha256(file: Path) -> str:
    # In large pieces: hashlib lets other threads run during each, and waits for its turn between two.
    digest, buffer = hashlib.sha256(), bytearray(_PIECE)
    with file.open("rb", buffering=0) as stream, memoryview(buffer) as view:
        while count := stream.readinto(buffer):
            digest.update(view[:count])
    return digest.hexdigest()


def source_files(report: dict[str, Any], artifact: Path) -> list[Path]:
    """The source's files that a report names, as they lie seen from the artifact."""
    return [artifact.parent / name for name in report.get("source_files", ())]


def _versions(names: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version_of(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # onnxruntime may come from onnxruntime-gpu; its backend tells its version
    return found


def _plugin_versions(recipe: Recipe, registry: Registry) -> dict[str, str]:
    owners = (registry.owner("pass", spec.partition(":")[0]) for spec in recipe.all_passes)
    return {owner.distribution: owner.version for owner in owners if owner is not None and owner.distribution}


def _relative(file: Path, folder: Path) -> str:
    """Relative to the artifact, so that both can move together; absolute across Windows drives."""
    try:
        return Path(os.path.relpath(file, folder)).as_posix()
    except ValueError:
        return file.resolve().as_posix()
