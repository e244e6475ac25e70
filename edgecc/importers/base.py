"""The contract of an importer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from edgecc.model import Model


class ImporterOptions(BaseModel):
    """Options of an importer (`--importer KEY=VALUE`): the fields of its subclass. Most formats need none."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Importer(ABC):
    """Reads one source format into a Model in the internal opset.

    Model files are untrusted: an importer executes and unpickles nothing that is in them.

    Class attributes:
        name: of the format.
        suffixes: of its files, a hint for `sniff`.
        accepts: options that users may give.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    accepts: ClassVar[type[ImporterOptions]] = ImporterOptions

    def __init__(self, options: ImporterOptions | None = None) -> None:
        """Keep the options, an object of `accepts`; its defaults if None."""
        self.options = options or self.accepts()

    @abstractmethod
    def sniff(self, path: Path, head: bytes) -> bool:
        """Whether the file is of this format, by its first 64 bytes; the suffix decides only where those cannot."""

    @abstractmethod
    def load(self, path: Path, shapes: Mapping[str, Sequence[int]]) -> Model:
        """The model, cleaned up and verified.

        Args:
            path: an existing file or folder.
            shapes: static shapes for named inputs, which replace what the source leaves open.

        Raises:
            InvalidModelError: the file is not a whole model of this format.
        """
