"""`.keras` archives, checked before anything in them is read; needs only the standard library.

The format: a zip archive of `metadata.json`, `config.json` and `model.weights.h5`; `assets/` holds vocabularies.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path, PurePosixPath

from edgecc.errors import InvalidModelError

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_MAX_TEXT_BYTES = 1 << 26
#: Keras stores records as they are; zipped again by others, weights lose less than this.
_MAX_RATIO = 100
_MAX_RECORDS = 10_000
_CHUNK = 1 << 20
_AGAIN = "save or download it again"


def is_keras_archive(path: Path) -> bool:
    """Whether a zip archive holds a Keras model, by the names in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {CONFIG, METADATA} <= set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def extract(path: Path, folder: Path) -> None:
    """Write the records that make the model into a folder, and no others.

    Raises:
        InvalidModelError: the archive is truncated, lacks a part, or its records lead out of their folder, overlap or
            unpack to much more.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = _checked(archive, path)
            for name in (CONFIG, METADATA, WEIGHTS):
                if name not in sizes:
                    raise InvalidModelError(f"{path} is not a whole Keras model: it lacks {name}", hint=_AGAIN)
                if name != WEIGHTS and sizes[name] > _MAX_TEXT_BYTES:
                    why = f"{name} has {sizes[name]} bytes"
                    raise InvalidModelError(f"{path} is not a Keras model", why=why, hint=_AGAIN)
                with archive.open(name) as source, (folder / name).open("wb") as target:
                    while piece := source.read(_CHUNK):
                        target.write(piece)
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise InvalidModelError(f"{path} is truncated or damaged", why=str(error), hint=_AGAIN) from error


def _checked(archive: zipfile.ZipFile, path: Path) -> dict[str, int]:
    """Unpacked sizes by name, once no record is suspicious."""
    nbytes = path.stat().st_size
    sizes: dict[str, int] = {}
    stored = unpacked = 0
    if len(archive.infolist()) > _MAX_RECORDS:
        raise _refused(path, "", f"it has {len(archive.infolist())} records")
    for info in archive.infolist():
        name = info.filename
        if name.startswith(("/", "\\")) or "\\" in name or ":" in name or ".." in PurePosixPath(name).parts:
            raise _refused(path, name, "this record leads out of the folder that it is unpacked into")
        if name in sizes:
            raise _refused(path, name, "this record is there twice")
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _refused(path, name, "this record is encrypted, or packed in a way that Keras does not write")
        sizes[name] = info.file_size
        stored += info.compress_size
        unpacked += info.file_size
    if stored > nbytes:
        raise _refused(path, "", "its records are larger than the file: they overlap")
    if unpacked > _MAX_RATIO * nbytes:
        raise _refused(path, "", f"its {nbytes} bytes unpack to {unpacked}")
    return sizes


def _refused(path: Path, record: str, why: str) -> InvalidModelError:
    where = record.encode("unicode_escape").decode()[:200]
    return InvalidModelError(f"{path} is not an archive that edgecc unpacks", where=where, why=why, hint=_AGAIN)
