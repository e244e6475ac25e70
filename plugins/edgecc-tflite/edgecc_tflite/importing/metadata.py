"""What a file says beside its graph, as a Model has it, and what of it a Model has no place for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from edgecc import model_metadata as keys
from edgecc.errors import InvalidModelError
from edgecc_tflite import file_metadata as tflite
from edgecc_tflite.importing.flatbuffer import Table
from edgecc_tflite.importing.model_file import ModelFile

#: Entries of which each converter writes its own.
_OF_THE_WRITER = frozenset({"min_runtime_version", "CONVERSION_METADATA"})
#: What converters say of every file.
_OF_CONVERTERS = frozenset({"MLIR Converted.", "TOCO Converted.", "edgecc", "main"})


@dataclass
class Described:
    """What a file says of itself.

    Attributes:
        name, description: of the model; "" if it says none.
        metadata: as `edgecc.model_metadata` has it.
        lost: what has no place there, a line for each.
    """

    name: str = ""
    description: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)


def described(file: ModelFile, contents: memoryview, inputs: Sequence[str], outputs: Sequence[str]) -> Described:
    """Read the file's metadata.

    Args:
        file: its tables.
        contents: the whole file, behind whose flatbuffer there may be an archive.
        inputs: names in the model.
        outputs: likewise.
    """
    result = Described()
    files, result.lost = tflite.read_files(contents) if tflite.NAME in file.metadata else ({}, [])
    for name, data in file.metadata.items():
        if name == tflite.NAME:
            try:
                _Reader(result, files).model(Table.root(memoryview(data), "ModelMetadata"), inputs, outputs)
            except InvalidModelError as error:
                result.lost.append(f"metadata {name!r}: it is damaged, {error.why}")
        elif name not in _OF_THE_WRITER:
            _entry(name, data, result)
    if file.description not in (*_OF_CONVERTERS, result.name, file.graph.name):
        result.description = result.description or file.description
    return result


def _entry(name: str, data: bytes, result: Described) -> None:
    """An entry of someone's own: texts travel."""
    text = _text(data)
    if text is None or not name:
        result.lost.append(f"metadata {name!r}: it is no text")
    else:
        result.metadata[name] = text


def _text(data: bytes) -> str | None:
    return keys.as_text(data.rstrip(b"\0")) if len(data) <= keys.LONGEST_TEXT else None


class _Reader:
    """Walks the tables of TFLITE_METADATA."""

    def __init__(self, result: Described, files: dict[str, bytes]) -> None:
        self._result, self._files = result, files
        self._used: set[str] = set()

    def model(self, table: Table, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        result = self._result
        result.name, result.description = table.text("name"), table.text("description")
        for key, field_name in ((keys.VERSION, "version"), (keys.AUTHOR, "author"), (keys.LICENSE, "license")):
            if text := table.text(field_name):
                result.metadata[key] = text
        graphs = list(table.tables("subgraphs", "SubGraphMetadata", "subgraph"))
        for graph in graphs[:1]:
            result.description = result.description or graph.text("description")
            self._tensors(graph, "inputs", inputs)
            self._tensors(graph, "outputs", outputs)
            for name in ("inputUnits", "outputUnits", "inputGroups", "outputGroups", "custom"):
                if graph.has(name):
                    result.lost.append(f"{_WORDS[name]} of the graph")
        for entry in (*self._listed(table), *(entry for graph in graphs[:1] for entry in self._listed(graph))):
            self._plain(entry)
        for name in self._files.keys() - self._used:
            self._keep(name)

    def _tensors(self, graph: Table, side: str, names: Sequence[str]) -> None:
        for name, table in zip(names, graph.tables(side, "TensorMetadata", side), strict=False):
            if text := table.text("description"):
                self._result.metadata[keys.DOC + name] = text
            if (title := table.text("name")) and title != name:
                self._result.metadata[keys.TITLE + name] = title
            for part in ("dimensions", "content", "stats"):
                if table.has(part):
                    self._result.lost.append(f"{_WORDS[part]} of {name!r}")
            for unit in table.tables("units", "ProcessUnit", "process unit"):
                self._unit(unit, name)
            for entry in self._listed(table):
                self._of_tensor(entry, name)

    def _unit(self, unit: Table, name: str) -> None:
        options = unit.table("options", "NormalizationOptions") if unit.value("kind") == tflite.NORMALIZATION else None
        if options is None:
            self._result.lost.append(f"a process unit of {name!r}")
            return
        numbers = {key: options.numbers(key, "<f4") for key in ("mean", "std")}
        # Written out as short as float32 is: 0.1, not 0.10000000149.
        values = {key: [] if found is None else [float(str(v)) for v in found] for key, found in numbers.items()}
        self._result.metadata[keys.NORMALIZATION + name] = json.dumps(values)

    def _listed(self, table: Table) -> Iterator[Table]:
        return table.tables("files", "AssociatedFile", "associated file")

    def _of_tensor(self, entry: Table, name: str) -> None:
        prefix = {tflite.AXIS_LABELS: keys.LABELS, tflite.VALUE_LABELS: keys.VALUE_LABELS}.get(entry.value("type"))
        file = entry.text("name")
        text = _text(self._files.get(file, b"\xff"))
        if prefix is None or text is None or prefix + name in self._result.metadata:
            self._plain(entry)
            if prefix is None:
                self._result.lost.append(f"what file {file!r} is to {name!r}")
            return
        self._used.add(file)
        # A first line without text is the label of class 0.
        self._result.metadata[prefix + name] = text.replace("\r\n", "\n").rstrip("\n")

    def _plain(self, entry: Table) -> None:
        file = entry.text("name")
        if file not in self._files:
            self._result.lost.append(f"file {file!r}: it is named and not there")

    def _keep(self, name: str) -> None:
        text = _text(self._files[name])
        if text is None:
            self._result.lost.append(f"file {name!r}: it is no text")
        else:
            self._result.metadata[keys.FILE + name] = text


_WORDS = {
    "dimensions": "names of the dimensions",
    "content": "the kind of content",
    "stats": "the range of values",
    "inputUnits": "process units in front",
    "outputUnits": "process units behind",
    "inputGroups": "groups of inputs",
    "outputGroups": "groups of outputs",
    "custom": "custom metadata",
}
