"""Passes that are imported when a model first has something for them to do.

Importing every pass takes longer than compiling a small model does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from edgecc.deferred import imported
from edgecc.errors import PluginError

if TYPE_CHECKING:
    from edgecc.passes.base import Pass, Property


class PassEntry(NamedTuple):
    """A row of a plugin's list of passes, in place of the class itself.

    Attributes:
        name: of the pass, as the class has it.
        where: `module:Class`.
        needs: operators of the default ONNX domain, separated by blanks, of which a model must have one for the pass to
            look at anything; "" for any model. Where a preset runs the pass in rounds, it is imported only then.
    """

    name: str
    where: str
    needs: str = ""

    @property
    def operators(self) -> frozenset[str]:
        """What `needs` lists."""
        return frozenset(self.needs.split())

    def load(self) -> type[Pass]:
        """The class.

        Raises:
            PluginError: it is not there, or has another name.
        """
        cls: type[Pass] = imported(f"pass {self.name!r}", self.where)
        if cls.name != self.name:
            raise PluginError(f"{self.where} is pass {cls.name!r}, which its plugin lists as {self.name!r}")
        return cls


class PassTable(Mapping[str, "type[Pass]"]):
    """Passes by name, imported when they are looked up."""

    def __init__(self, items: Mapping[str, type[Pass] | PassEntry]) -> None:
        self._items = items

    def __getitem__(self, name: str) -> type[Pass]:
        item = self._items[name]
        return item.load() if isinstance(item, PassEntry) else item

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def operators(self, name: str) -> frozenset[str]:
        """What the pass needs of a model; empty if it runs on any."""
        item = self._items[name]
        return item.operators if isinstance(item, PassEntry) else frozenset()


@dataclass
class DeferredPass:
    """A pass that is made when the model first has one of the operators that it needs.

    Attributes:
        name: of the pass.
        operators: that it needs.
        make: imports and makes it.
    """

    name: str
    operators: frozenset[str]
    make: Callable[[], Pass]

    # Before it is imported, nothing is known of the places that it wants: those who list it place it.
    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    requires: tuple[Property, ...] = ()
    ensures: tuple[Property, ...] = ()

    @cached_property
    def step(self) -> Pass:
        return self.make()

    def spec(self) -> str:
        """As `Pass.spec` of a pass without options."""
        return self.name
