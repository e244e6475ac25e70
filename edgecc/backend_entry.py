"""Backends that are imported when their target is asked for.

With several backends installed, importing the others takes longer than many a pass does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from edgecc.deferred import imported
from edgecc.errors import PluginError

if TYPE_CHECKING:
    from edgecc.backend import Backend


class BackendEntry(NamedTuple):
    """A row of a plugin's list of backends, in place of the class itself.

    Attributes:
        name: of the target, as its class has it.
        where: the backend, `module:Class`.
        suffixes: of the target's files, as its class has them.
    """

    name: str
    where: str
    suffixes: tuple[str, ...]

    def load(self) -> type[Backend]:
        """The class.

        Raises:
            PluginError: it is not there, or has another name or other suffixes.
        """
        cls: type[Backend] = imported(f"target {self.name!r}", self.where)
        listed, real = (self.name, self.suffixes), (cls.target.name, cls.target.suffixes)
        if listed != real:
            raise PluginError(f"{self.where} has target and suffixes {real}, which its plugin lists as {listed}")
        return cls


class BackendTable(Mapping[str, "Backend"]):
    """Backends by target, made when they are looked up. One that cannot be made is not among them.

    Args:
        items: by target.
        prepare: is given each new backend.
        fail: is told of each one that cannot be made.
    """

    def __init__(
        self,
        items: Mapping[str, type[Backend] | BackendEntry],
        prepare: Callable[[str, Backend], None],
        fail: Callable[[str, Exception], None],
    ) -> None:
        self._items = dict(items)
        self._prepare = prepare
        self._fail = fail
        self._made: dict[str, Backend | None] = {}

    def __getitem__(self, name: str) -> Backend:
        if name not in self._made:
            self._made[name] = self._make(name)
        backend = self._made[name]
        if backend is None:
            raise KeyError(name)
        return backend

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._items if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def of_suffix(self, suffix: str) -> Backend | None:
        """The backend whose target writes files of that suffix; no other that has an entry is imported."""
        for name, item in self._items.items():
            suffixes = item.suffixes if isinstance(item, BackendEntry) else item.target.suffixes
            if suffix in suffixes and name in self:
                return self[name]
        return None

    def _make(self, name: str) -> Backend | None:
        item = self._items[name]
        try:
            backend = item.load()() if isinstance(item, BackendEntry) else item()
        except Exception as error:  # a plugin may raise anything: an abstract method left out ...
            self._fail(name, error)
            return None
        self._prepare(name, backend)
        return backend
