"""The importer of PyTorch's files: content decides which kind a file is, the suffix is a hint."""

from __future__ import annotations

import importlib
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NoReturn, cast

from pydantic import Field

from edgecc.errors import InvalidModelError, OptionError
from edgecc.importers.base import Importer, ImporterOptions
from edgecc_torch.archive import NAMES_RECORD, Archive, ArchiveError, record_names, write_clean_copy
from edgecc_torch.description import read_description
from edgecc_torch.program_check import ProgramError, check_program, modules_of

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from edgecc.model import Model

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_SAFETENSORS = re.compile(rb"[\x00-\xff]{8}\{\s*(\"|\})")
_OLD_PROGRAM = "serialized_exported_program.json"
_PLEASE_EXPORT = (
    "save an exported program: torch.export.save(torch.export.export(module.eval(), example_inputs), 'model.pt2'), or "
    "give the weights as .safetensors with --importer factory=package.module:callable"
)


class TorchOptions(ImporterOptions):
    """What a file of weights does not say."""

    factory: str = Field(
        "", description="for .safetensors: package.module:callable that returns the module, without its weights"
    )


class TorchImporter(Importer):
    """Reads exported programs (`.pt2`), TorchScript (`.pt`), and `.safetensors` with a factory of the module."""

    name: ClassVar[str] = "torch"
    suffixes: ClassVar[tuple[str, ...]] = (".pt2", ".pt", ".pth", ".safetensors")
    accepts: ClassVar[type[ImporterOptions]] = TorchOptions

    def sniff(self, path: Path, head: bytes) -> bool:
        if head.startswith(_ZIP):
            names = record_names(path)
            return any(name in names for name in ("archive_format", "data.pkl", "constants.pkl", _OLD_PROGRAM))
        return bool(_SAFETENSORS.match(head)) and _is_header_length(head, path)

    def load(self, path: Path, shapes: Mapping[str, Sequence[int]]) -> Model:
        with path.open("rb") as stream:
            head = stream.read(64)
        names = set(record_names(path))
        factory = cast(TorchOptions, self.options).factory
        if factory and not _SAFETENSORS.match(head):
            raise OptionError(
                f"{path} holds more than weights: it takes no factory", hint="leave --importer factory out"
            )
        if _SAFETENSORS.match(head):
            model = self._from_weights(path, factory, shapes)
        elif _OLD_PROGRAM in names:
            what = f"{path} was written by PyTorch 2.7 or older, whose archives need unpickling"
            raise InvalidModelError(what, hint="export it again with PyTorch 2.13 or newer")
        elif "constants.pkl" in names:
            model = _from_torchscript(path, shapes)
        elif head.startswith(_PICKLE) or "data.pkl" in names:
            _refuse_pickle(path)
        else:
            model = _from_program(path, shapes)
        model.source = str(path)
        model.source_files = (path, *model.source_files)
        return model

    def _from_weights(self, path: Path, factory: str, shapes: Mapping[str, Sequence[int]]) -> Model:
        from edgecc_torch.example_inputs import export_by_shapes
        from edgecc_torch.weights import module_of

        return export_by_shapes(module_of(path, factory), shapes, str(path))


def _is_header_length(head: bytes, path: Path) -> bool:
    """Whether the first eight bytes can be the length of a safetensors header."""
    return 2 <= int.from_bytes(head[:8], "little") <= path.stat().st_size - 8


def _refuse_pickle(path: Path) -> NoReturn:
    raise InvalidModelError(
        f"{path} is a pickle, which edgecc does not read",
        why="reading a pickle runs code that is in the file; and of a module it holds the weights, not what they do",
        hint=_PLEASE_EXPORT,
    )


def _from_program(path: Path, shapes: Mapping[str, Sequence[int]]) -> Model:
    from edgecc_torch.to_onnx import Names, import_program

    with tempfile.TemporaryDirectory(prefix="edgecc-") as folder:
        copy = Path(folder) / "model.pt2"
        try:
            with Archive(path) as archive:
                names, told = _stored_names(archive), read_description(archive)
                modules = modules_of(write_clean_copy(archive, copy, check_program))
        except (ArchiveError, ProgramError) as error:
            raise InvalidModelError(
                f"{path} {error.what}",
                where=error.where,
                why=error.why,
                hint=getattr(error, "hint", "") or _REFUSED_HINT,
            ) from error
        program = _loaded(copy, path, modules)
    model = import_program(program, Names(**names) if names else None, shapes, str(path))
    told.give(model)
    return model


_REFUSED_HINT = "import it where it was made, with edgecc.from_torch(module, example_inputs)"


def _stored_names(archive: Archive) -> dict[str, tuple[str, ...]]:
    """Names of inputs, outputs and open dimensions, as edgecc's own writer stored them; empty if another wrote it."""
    if NAMES_RECORD not in archive.sizes:
        return {}
    stored = archive.json(NAMES_RECORD)
    found: dict[str, tuple[str, ...]] = {}
    for key in ("inputs", "outputs"):
        names = stored.get(key)
        if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
            raise ArchiveError("is damaged", where=NAMES_RECORD, why=f"no list of names: {json.dumps(names)[:100]}")
        found[key] = tuple(names)
    return found


def _loaded(copy: Path, path: Path, modules: Sequence[str]) -> ExportedProgram:
    """The program, once `modules` have registered its operators."""
    from edgecc_torch.quiet import quiet, require_torch

    require_torch(*(module.partition(".")[0] for module in modules))
    import torch

    try:
        with quiet() as log:
            for module in modules:
                importlib.import_module(module)
            return torch.export.load(copy)
    except Exception as error:  # PyTorch's deserializer raises nearly everything at what it does not expect
        why = log.last_error() or f"{type(error).__name__}: {error}"
        raise InvalidModelError(
            f"{path} cannot be read by PyTorch {torch.__version__}",
            why=why.strip().splitlines()[-1][:500],
            hint="export it again with this version of PyTorch, or install the one that wrote it",
        ) from error


def _from_torchscript(path: Path, shapes: Mapping[str, Sequence[int]]) -> Model:
    from edgecc_torch.torchscript import import_torchscript

    try:
        with Archive(path) as archive:
            return import_torchscript(path, archive, shapes)
    except ArchiveError as error:
        raise InvalidModelError(f"{path} {error.what}", where=error.where, why=error.why, hint=error.hint) from error
