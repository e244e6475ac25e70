"""Reading `.pt2` archives without trusting them: a clean copy that `torch.export.load` can be given.

`torch.export.load` unpickles (sample inputs, tensor subclasses, custom objects), evaluates expressions and loads shared
libraries, all of which a file can be made to abuse. The copy holds the program, checked by `program_check`, and plain
tensors, nothing else. Needs only the standard library: the runner's session uses it too.

The format: https://docs.pytorch.org/docs/stable/export/pt2_archive.html
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

#: What an archive says of itself, and the only version that there is so far.
FORMAT, VERSION = b"pt2", b"0"
#: The file among an archive's extra ones in which edgecc keeps what PyTorch has no place for: names that are no Python
#: names; and the record that it is.
NAMES_FILE = "edgecc.json"
NAMES_RECORD = f"extra/{NAMES_FILE}"
#: Programs of this size do not exist; a larger one is no program.
_MAX_PROGRAM_BYTES = 1 << 28
_MAX_SMALL_BYTES = 1 << 20
#: TorchScript's code is compressed, tensors never are.
_MAX_UNPACKED_BYTES = 1 << 26
#: Records begin at multiples of this, so that tensors can be mapped.
_ALIGNMENT = 64
_CHUNK = 1 << 20
#: Bytes that a tensor may have beyond what its record holds, by strides of 0 (expanded constants).
_MAX_EXPANDED_BYTES = 1 << 26
#: Bytes of an element by torch's number of its type (`torch._export.serde.schema.ScalarType`).
_ITEM_BYTES = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 2, 7: 4, 8: 8, 9: 4, 10: 8, 11: 16, 12: 1, 13: 2, 28: 2, 29: 1, 30: 1, 31: 1, 32: 1
}  # fmt: skip

Reader = Callable[[str], bytes]


class ArchiveError(ValueError):
    """The file is no archive that can be trusted and read.

    Attributes:
        what: one sentence, without the file's name.
        where: the record; "" if it is the whole file.
        why: the cause; "" if `what` says it.
        hint: what to do; "" if nothing helps.
    """

    def __init__(self, what: str, *, where: str = "", why: str = "", hint: str = "") -> None:
        super().__init__(f"{what}: {why}" if why else what)
        self.what, self.where, self.why, self.hint = what, where, why, hint


_AGAIN = "export or download it again"
_EXPORT_AGAIN = "export it again: torch.export.save(torch.export.export(module.eval(), example_inputs), 'model.pt2')"


def record_names(path: Path) -> tuple[str, ...]:
    """Names of a zip archive's records without the folder that they are in; none if it is no whole archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            # The end of a cut file may be that of an archive within it.
            if min((info.header_offset for info in archive.infolist()), default=1):
                return ()
            return tuple(name.partition("/")[2] or name for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return ()


class Archive:
    """A zip archive as PyTorch writes it: records in one folder, only code compressed; a context manager.

    Raises:
        ArchiveError: it is truncated or damaged, unpacks to much more, or its records overlap or lead elsewhere.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise ArchiveError("is truncated or damaged", why=str(error), hint=_AGAIN) from error
        try:
            self.root, self.sizes = _checked(self._zip, path.stat().st_size)
        except ArchiveError:
            self._zip.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def read(self, name: str, limit: int = _MAX_SMALL_BYTES) -> bytes:
        """The contents of a record of at most `limit` bytes.

        Raises:
            ArchiveError: there is none of that name, it is larger or damaged.
        """
        return b"".join(self.chunks(name, limit))

    def chunks(self, name: str, limit: int | None = None) -> Iterator[bytes]:
        """The contents of a record in pieces."""
        if name not in self.sizes:
            raise ArchiveError("lacks a part", where=name, hint=_EXPORT_AGAIN)
        if limit is not None and self.sizes[name] > limit:
            raise ArchiveError("is not a model", where=name, why=f"this record has {self.sizes[name]} bytes")
        try:
            with self._zip.open(f"{self.root}/{name}") as stream:
                while piece := stream.read(_CHUNK):
                    yield piece
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError) as error:
            raise ArchiveError("is damaged", where=name, why=str(error), hint=_AGAIN) from error

    def json(self, name: str, limit: int = _MAX_PROGRAM_BYTES) -> dict[str, Any]:
        """A record that is a JSON object."""
        try:
            value = json.loads(self.read(name, limit))
        except (ValueError, RecursionError) as error:
            if isinstance(error, ArchiveError):
                raise
            raise ArchiveError("is damaged", where=name, why=f"no JSON: {error}", hint=_AGAIN) from error
        if not isinstance(value, dict):
            raise ArchiveError("is damaged", where=name, why="no JSON object", hint=_AGAIN)
        return value


def _checked(archive: zipfile.ZipFile, nbytes: int) -> tuple[str, dict[str, int]]:
    """The archive's folder, and its records' sizes."""
    sizes: dict[str, int] = {}
    roots = set()
    if min((info.header_offset for info in archive.infolist()), default=0):
        raise ArchiveError("is truncated or damaged", why="its first record is not at its beginning", hint=_AGAIN)
    stored = unpacked = 0
    for info in archive.infolist():
        # `filename` is cut at a null and has the system's separators replaced; `orig_filename` is what the file says.
        name = info.orig_filename
        parts = PurePosixPath(name).parts
        if name.startswith("/") or "\\" in name or "\0" in name or ":" in name or {"..", "."} & set(name.split("/")):
            raise ArchiveError("is not a PyTorch archive", where=repr(name), why="this record leads out of its folder")
        if info.is_dir():
            continue
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
            raise ArchiveError("is not a PyTorch archive", where=name, why="this record is encrypted or packed")
        compressed = info.compress_type == zipfile.ZIP_DEFLATED
        roots.add(parts[0])
        record = name.partition("/")[2]
        if record in sizes:
            raise ArchiveError("is not a PyTorch archive", where=name, why="this record is there twice")
        sizes[record] = info.file_size
        stored += 0 if compressed else info.file_size
        unpacked += info.file_size if compressed else 0
    if len(roots) != 1 or "" in sizes:
        raise ArchiveError("is not a PyTorch archive", why="its records are not in one folder")
    if unpacked > _MAX_UNPACKED_BYTES:
        why = f"its compressed records have {unpacked} bytes, and PyTorch compresses code alone"
        raise ArchiveError("is not a PyTorch archive", why=why)
    # What is stored as it is cannot be larger than the file, unless records overlap.
    if stored > nbytes:
        raise ArchiveError("is not a PyTorch archive", why="its records are larger than the file: they overlap")
    return roots.pop(), sizes


def write_clean_copy(
    archive: Archive, path: Path, check_program: Callable[[dict[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    """Write what is safe of a `.pt2` archive: the program as checked, its tensors, no pickles, no code.

    Args:
        archive: of an exported program.
        path: where to; its name ends in .pt2.
        check_program: gives the program without what is dangerous or not needed.

    Returns:
        The program.

    Raises:
        ArchiveError: another version, no program or several, or tensors that only unpickling could read.
    """
    model = _model_name(archive)
    program = check_program(archive.json(f"models/{model}.json"))
    with zipfile.ZipFile(path, "w") as copy:

        def write(name: str, pieces: Iterator[bytes]) -> None:
            _write_record(copy, name, pieces, archive.sizes.get(name, 0))

        write("archive_format", iter([FORMAT]))
        write("archive_version", iter([VERSION]))
        write("byteorder", iter([b"little"]))
        write(".data/version", iter([b"6\n"]))
        for kind in ("weights", "constants"):
            if (
                f"data/{kind}/{model}.pt" in archive.sizes
                and f"data/{kind}/{model}_{kind}_config.json" not in archive.sizes
            ):
                raise ArchiveError(f"was written by an older PyTorch, whose {kind} are pickled", hint=_EXPORT_AGAIN)
            config = archive.json(f"data/{kind}/{model}_{kind}_config.json")
            for name in sorted(_plain_tensors(archive, kind, config)):
                write(f"data/{kind}/{name}", archive.chunks(f"data/{kind}/{name}"))
            write(f"data/{kind}/model_{kind}_config.json", iter([json.dumps(config).encode()]))
        write("data/sample_inputs/model.pt", iter([b""]))
        write("models/model.json", iter([json.dumps(program).encode()]))
    return program


def write_script_copy(archive: Archive, path: Path) -> None:
    """Write what a TorchScript archive's module is: its code, its values and its tensors, nothing else.

    PyTorch's own zip reader may find other records in a file than Python's does, and reads an older format where a
    record of that name lies beside: it is given what was looked at.

    Args:
        archive: of TorchScript, its code checked.
        path: where to.

    Raises:
        ArchiveError: a record is damaged.
    """
    with zipfile.ZipFile(path, "w") as copy:
        for name, size in archive.sizes.items():
            is_code = name.startswith("code/") and name.endswith(".py")
            if is_code or name in _SCRIPT_RECORDS or name.startswith(("data/", "constants/")):
                _write_record(copy, name, archive.chunks(name), size)


#: Of a TorchScript archive, beside folders.
_SCRIPT_RECORDS = frozenset({"data.pkl", "constants.pkl", "version", ".data/version", "byteorder"})


def _write_record(copy: zipfile.ZipFile, name: str, pieces: Iterator[bytes], size: int) -> None:
    info = zipfile.ZipInfo(f"model/{name}")
    assert copy.fp is not None
    # The header has 30 bytes, the name, and a field of two bytes' kind, two bytes' length and padding.
    start = copy.fp.tell() + 30 + len(info.filename) + 4
    padding = -start % _ALIGNMENT
    info.extra = b"FB" + padding.to_bytes(2, "little") + bytes(padding)
    info.file_size = size
    with copy.open(info, "w") as stream:
        for piece in pieces:
            stream.write(piece)


def check_version(archive: Archive) -> None:
    """Whether it is an exported program of the version that is known.

    Raises:
        ArchiveError: it is not.
    """
    if "archive_format" not in archive.sizes or archive.read("archive_format") != FORMAT:
        raise ArchiveError("is not an exported program", hint=_EXPORT_AGAIN)
    version = archive.read("archive_version")
    if version != VERSION:
        text = version.decode("ascii", "replace").strip()[:20]
        raise ArchiveError(f"is of version {text!r}, and only version 0 is known", hint="pip install -U edgecc-torch")
    if archive.sizes.get("byteorder") and archive.read("byteorder") != b"little":
        raise ArchiveError("was written on a big-endian machine", hint=_EXPORT_AGAIN)


def _model_name(archive: Archive) -> str:
    check_version(archive)
    found = [name[len("models/") : -len(".json")] for name in archive.sizes if name.startswith("models/")]
    if "model" in found or len(found) == 1:
        return "model" if "model" in found else found[0]
    if found:
        raise ArchiveError("holds several programs", why=", ".join(sorted(found)), hint="save each of them by itself")
    if any(name.startswith("data/aotinductor/") for name in archive.sizes):
        raise ArchiveError("holds compiled machine code and no program", hint=_EXPORT_AGAIN)
    raise ArchiveError("holds no program", hint=_EXPORT_AGAIN)


def _plain_tensors(archive: Archive, kind: str, config: dict[str, Any]) -> set[str]:
    """The records with tensors' bytes; whatever else the configuration names is refused."""
    entries = config.get("config")
    if not isinstance(entries, dict):
        raise ArchiveError("is damaged", where=f"data/{kind}", why="no configuration of its tensors", hint=_AGAIN)
    records = set()
    for name, entry in entries.items():
        where = f"{kind[:-1]} {name!r}"
        record = entry.get("path_name") if isinstance(entry, dict) else None
        if not isinstance(record, str) or "/" in record:
            raise ArchiveError("is damaged", where=where, why="no record is named for it", hint=_AGAIN)
        if entry.get("use_pickle") is not False or not record.startswith(("weight_", "tensor_")):
            raise ArchiveError(
                "holds a pickled object, which could run any code when it is read",
                where=where,
                why="tensor subclasses and custom objects are pickled",
                hint="unwrap them before the export, such as torchao's with unwrap_tensor_subclass(module)",
            )
        size = archive.sizes.get(f"data/{kind}/{record}")
        if size is None:
            raise ArchiveError("lacks a part", where=f"data/{kind}/{record}", hint=_AGAIN)
        _check_tensor(entry.get("tensor_meta"), size, where)
        records.add(record)
    return records


def _check_tensor(meta: Any, nbytes: int, where: str) -> None:
    """Whether a tensor lies within its record."""
    try:
        sizes = [_number(item) for item in meta["sizes"]]
        strides = [_number(item) for item in meta["strides"]]
        offset, item = _number(meta["storage_offset"]), _ITEM_BYTES[meta["dtype"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ArchiveError("is damaged", where=where, why=f"its type or shape cannot be read ({error!r})") from error
    count = 1
    for size in sizes:
        count *= size
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=False))
    inside = len(sizes) == len(strides) and min([*sizes, *strides, offset], default=0) >= 0
    if not inside or (count and (last + 1) * item > nbytes) or count * item > nbytes + _MAX_EXPANDED_BYTES:
        raise ArchiveError("is damaged", where=where, why=f"shape {sizes} does not fit its {nbytes} bytes", hint=_AGAIN)


def _number(value: Any) -> int:
    number = value["as_int"]
    if type(number) is not int:
        raise ValueError(value)
    return number
