"""Keras's own files, checked: of which version, and that nothing in them is code."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

from edgecc_keras.child.config_check import check_config
from edgecc_keras.child.hdf5_check import check_hdf5
from edgecc_keras.child.report import ModelError

_TRAINING = "optimizer, loss and metrics, which only training needs"
_SAVE = "save the whole model: model.save('model.keras')"


@dataclass(frozen=True)
class CheckedModel:
    """A file that Keras may load.

    Attributes:
        path: of it.
        version: of the Keras that wrote it, such as "2.4.0".
        lost: what of the file is for training alone, a line for each.
    """

    path: Path
    version: str
    lost: tuple[str, ...] = ()

    @property
    def is_keras_2(self) -> bool:
        """Whether tf_keras, Keras 2 as it is kept, is to read it."""
        return not self.version.startswith("3.")


def check_keras_file(source: Path) -> CheckedModel:
    """What may be loaded.

    Args:
        source: an `.h5` file, or the folder of an unpacked `.keras` archive.

    Raises:
        ModelError: the file is damaged, holds weights alone, or names code.
    """
    return _checked_archive(source) if source.is_dir() else _checked_h5(source)


def _checked_h5(source: Path) -> CheckedModel:
    attributes = check_hdf5(source)
    if "model_config" not in attributes:
        raise ModelError(
            "{path} holds no model",
            why="it has no configuration: it is a file of weights, or of something else than Keras",
            hint=_SAVE,
        )
    check_config(attributes["model_config"])
    # Before Keras 2.0.0 files did not say their version.
    lost = (_TRAINING,) if "training_config" in attributes else ()
    return CheckedModel(source, _known_version(attributes.get("keras_version", "1")), lost)


def _checked_archive(folder: Path) -> CheckedModel:
    """The archive again, of what is needed: without training settings and assets."""
    config = check_config((folder / "config.json").read_bytes())
    check_hdf5(folder / "model.weights.h5")
    try:
        metadata = json.loads((folder / "metadata.json").read_bytes())
        version = str(metadata["keras_version"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        why = "metadata.json does not say which Keras wrote it"
        raise ModelError("{path} is damaged", why=why, hint=_SAVE) from error
    lost = (_TRAINING,) if config.pop("compile_config", None) else ()
    path = folder.with_suffix(".keras")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": version, "date_saved": ""}))
        archive.writestr("config.json", json.dumps(config))
        archive.write(folder / "model.weights.h5", "model.weights.h5")
    return CheckedModel(path, _known_version(version), lost)


def _known_version(version: str) -> str:
    if version.partition(".")[0] in ("2", "3"):
        return version
    raise ModelError(
        "{path} is of a version of Keras that is not known: " + version[:20],
        why="Keras 2 and 3 are known",
        hint="load and save it again with Keras 2 or 3",
    )
