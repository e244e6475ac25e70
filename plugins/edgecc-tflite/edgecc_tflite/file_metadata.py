"""TFLite's metadata: the buffer TFLITE_METADATA, and the files in a zip archive behind the flatbuffer.

The schema is `metadata_schema.fbs` of tflite-support (identifier M001), of which no package that edgecc needs has a
generated reader; the tables below say in which slot each field is.
https://ai.google.dev/edge/litert/models/metadata
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

NAME = "TFLITE_METADATA"
IDENTIFIER = b"M001"
#: `AssociatedFileType`.
PLAIN_FILE, AXIS_LABELS, VALUE_LABELS = 0, 2, 3
#: `ProcessUnitOptions`.
NORMALIZATION = 1
#: The oldest parser that knows every field written here.
PARSER_VERSION = "1.0.0"

_OF_GRAPHS = (
    *("name", "description", "inputs", "outputs", "files"),
    *("inputUnits", "outputUnits", "inputGroups", "outputGroups", "custom"),
)
#: Fields of each table: slot, format of the value ("" for what an offset leads to), default.
TABLES: dict[str, dict[str, tuple[int, str, Any]]] = {
    "ModelMetadata": {
        name: (slot, "", None)
        for slot, name in enumerate(
            ("name", "description", "version", "subgraphs", "author", "license", "files", "parserVersion")
        )
    },
    "SubGraphMetadata": {name: (slot, "", None) for slot, name in enumerate(_OF_GRAPHS)},
    "TensorMetadata": {
        name: (slot, "", None)
        for slot, name in enumerate(("name", "description", "dimensions", "content", "units", "stats", "files"))
    },
    "AssociatedFile": {
        "name": (0, "", None),
        "description": (1, "", None),
        "type": (2, "b", 0),
        "locale": (3, "", None),
        "version": (4, "", None),
    },
    "ProcessUnit": {"kind": (0, "B", 0), "options": (1, "", None)},
    "NormalizationOptions": {"mean": (0, "", None), "std": (1, "", None)},
}

#: Files in the archive, their bytes together, and bytes of one that is read as text.
_MOST_FILES, _MOST_BYTES = 256, 1 << 24
_OLDEST_DATE = (1980, 1, 1, 0, 0, 0)


def read_files(contents: memoryview) -> tuple[dict[str, bytes], list[str]]:
    """The files in an archive behind the flatbuffer, and what cannot be read, a line for each.

    Names are never used as paths. What unpacks to more than 16 MB is left alone.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(contents))
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return {}, []
    with archive:
        found: dict[str, bytes] = {}
        lost: list[str] = []
        left = _MOST_BYTES
        for number, entry in enumerate(archive.infolist()):
            if entry.is_dir():
                continue
            if number >= _MOST_FILES or entry.file_size > left:
                lost.append(f"file {entry.filename!r}: {number + 1} files, or more than {_MOST_BYTES:,} bytes")
                continue
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                lost.append(f"file {entry.filename!r}: it is packed in a way that apps do not read")
                continue
            try:
                with archive.open(entry) as stream:
                    found[entry.filename] = stream.read(left + 1)[:left]
            except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError) as error:
                lost.append(f"file {entry.filename!r}: {error}")
                continue
            left -= len(found[entry.filename])
        return found, lost


def files_archive(files: Mapping[str, bytes]) -> bytes:
    """The archive that goes behind the flatbuffer: not compressed, so that apps map it; the same bytes each time."""
    contents = io.BytesIO()
    with zipfile.ZipFile(contents, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, _OLDEST_DATE), data)
    return contents.getvalue()
