"""What an archive says about its program: edgecc's own record, and extra files that others put beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgecc.model_metadata import LONGEST_TEXT, as_text
from edgecc_torch.archive import NAMES_RECORD, Archive, ArchiveError

if TYPE_CHECKING:
    from edgecc.model import Model

_EXTRA = "extra/"


@dataclass
class Description:
    """What an archive says.

    Attributes:
        name, doc_string: of the model; "" if it says none.
        metadata: as `edgecc.model_metadata` has it.
        lost: what a Model has no place for, a line for each.
    """

    name: str = ""
    doc_string: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)

    def give(self, model: Model) -> None:
        """Let a model say it."""
        model.graph.name = self.name or model.graph.name
        model.graph.doc_string = self.doc_string or model.graph.doc_string
        model.metadata |= self.metadata
        model.not_carried = (*model.not_carried, *self.lost)


def read_description(archive: Archive) -> Description:
    """Read it.

    Raises:
        ArchiveError: edgecc's own record is damaged.
    """
    found = Description()
    if NAMES_RECORD in archive.sizes:
        stored = archive.json(NAMES_RECORD)
        found.name, found.doc_string = _text(stored, "name"), _text(stored, "doc_string")
        metadata = stored.get("metadata", {})
        if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
            raise ArchiveError("is damaged", where=NAMES_RECORD, why="its metadata are no texts")
        found.metadata = dict(metadata)
    for record in sorted(archive.sizes):
        name = record.removeprefix(_EXTRA)
        if name == record or record == NAMES_RECORD:
            continue
        text = _extra_text(archive, record)
        if text is None:
            found.lost.append(f"extra file {name!r}: it is no text, or a long one")
        else:
            found.metadata.setdefault(name, text)
    return found


def _text(stored: dict[str, Any], key: str) -> str:
    text = stored.get(key, "")
    if not isinstance(text, str):
        raise ArchiveError("is damaged", where=NAMES_RECORD, why=f"{key} is no text")
    return text


def _extra_text(archive: Archive, record: str) -> str | None:
    # What is long is not even unpacked.
    return as_text(archive.read(record)) if archive.sizes[record] <= LONGEST_TEXT else None
