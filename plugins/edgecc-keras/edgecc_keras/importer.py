"""The importer of Keras's and TensorFlow's files: content decides which kind a file is, the suffix is a hint."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from pydantic import Field

from edgecc.errors import InvalidModelError, OptionError
from edgecc.importers.base import Importer, ImporterOptions
from edgecc_keras.archive import extract, is_keras_archive

if TYPE_CHECKING:
    from edgecc.model import Model

_ZIP, _HDF5 = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"
_SAVED_MODEL = "saved_model.pb"


class KerasOptions(ImporterOptions):
    """What the files do not say."""

    signature: str = Field("", description="of a SavedModel that has several: the one to import")
    timeout: int = Field(900, gt=0, description="seconds that TensorFlow may take")
    memory: float = Field(
        0, ge=0, description="GB of memory that TensorFlow may take (Linux); 0 for three quarters of all"
    )


class KerasImporter(Importer):
    """Reads `.keras`, `.h5` and SavedModel folders, through TensorFlow in a process of its own.

    Inputs and outputs keep the model's names (those of a SavedModel's signature), order, layout and types; dimensions
    that the model leaves open stay open, the first one under the name "batch".
    """

    name: ClassVar[str] = "keras"
    suffixes: ClassVar[tuple[str, ...]] = (".keras", ".h5", ".hdf5")
    accepts: ClassVar[type[ImporterOptions]] = KerasOptions

    def sniff(self, path: Path, head: bytes) -> bool:
        if path.is_dir():
            return (path / _SAVED_MODEL).is_file()
        if head.startswith(_ZIP):
            return is_keras_archive(path)
        return head.startswith(_HDF5) or path.name == _SAVED_MODEL

    def load(self, path: Path, shapes: Mapping[str, Sequence[int]]) -> Model:
        from edgecc.importers.onnx import OnnxImporter, read_proto
        from edgecc_keras.conversion import Limits, convert

        options = cast(KerasOptions, self.options)
        folder = path if path.is_dir() else path.parent
        is_saved_model = path.is_dir() or path.name == _SAVED_MODEL
        if options.signature and not is_saved_model:
            raise OptionError(f"{path} has no signatures: only a SavedModel has", hint="leave --importer signature out")
        with tempfile.TemporaryDirectory(prefix="edgecc-") as name:
            work = Path(name)
            source = folder.absolute() if is_saved_model else _prepared(path, work)
            converted, lost = convert(path, source, work, options.signature, Limits(options.timeout, options.memory))
            proto = read_proto(converted)
        model = OnnxImporter().from_proto(proto, shapes=shapes)
        model.source, model.not_carried = str(path), lost
        model.source_files = _files_of(folder) if is_saved_model else (path,)
        return model


def _prepared(path: Path, work: Path) -> Path:
    """A copy that nobody else changes: what TensorFlow reads is what was checked."""
    try:
        with path.open("rb") as stream:
            head = stream.read(len(_HDF5))
        if head.startswith(_HDF5):
            return Path(shutil.copyfile(path, work / "model.h5"))
    except OSError as error:
        raise InvalidModelError(f"{path} cannot be read", why=error.strerror or str(error)) from error
    if not head.startswith(_ZIP):
        raise InvalidModelError(
            f"{path} is not a Keras model" if head else f"{path} is empty",
            why="it is neither an HDF5 file nor a zip archive",
            hint="save it with model.save('model.keras'), or model.export('folder') for a SavedModel",
        )
    source = work / "model"
    source.mkdir()
    extract(path, source)
    return source


def _files_of(folder: Path) -> tuple[Path, ...]:
    return (folder / _SAVED_MODEL, *sorted(file for file in (folder / "variables").glob("*") if file.is_file()))
