"""The contract of an importer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from edgecc.model import Model


class Importer(ABC):
    """Reads one source format into a Model in the internal opset.

    Model files are untrusted: an importer executes and unpickles nothing that is in them.

    Class attributes:
        name: of the format.
        suffixes: of its files, a hint for `sniff`.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]

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
