"""Where an artifact came from: the recipe, the source's files and their hash, the versions of all that took part."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecc.distributions import version_of

if TYPE_CHECKING:
    from edgecc.backend import Backend
    from edgecc.model import Model
    from edgecc.recipe import Recipe
    from edgecc.registry import Registry

#: Packages that decide what every compilation gives; ONNX Runtime computes the folded constants.
_CORE = ("edgecc", "onnx", "onnx-graphsurgeon", "onnxruntime", "numpy")


def provenance(
    recipe: Recipe, backend: Backend, registry: Registry, model: Model, *, in_memory: bool
) -> dict[str, Any]:
    """What is needed to build the artifact again.

    Args:
        recipe: with output and target filled in.
        backend: that compiles.
        registry: which plugin brought which pass.
        model: as it was imported or given, before any pass.
        in_memory: whether it was given: then no file is its source, whatever the recipe calls it.
    """
    files = () if in_memory else model.source_files
    folder = Path(recipe.output).parent
    return {
        "recipe": recipe.model_dump(mode="json"),
        "target": backend.name,
        "versions": {**_versions(_CORE), **_plugin_versions(recipe, registry), **backend.versions()},
        "source_files": [_relative(file, folder) for file in files],
        "source_sha256": sha256_of(files) if files else "",
        "model_sha256": model.digest() if in_memory else "",
    }


def sha256_of(files: Sequence[Path]) -> str:
    """One hash over the files in order; of one file, its own."""
    digests = []
    for file in files:
        with file.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


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
