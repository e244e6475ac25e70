"""Layers whose rows fit into the memory together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from edgecc.pruning.rows import bytes_of
from edgecc.statistics.grouping import grouped

if TYPE_CHECKING:
    from edgecc.pruning.features import Linear

Item = TypeVar("Item")

#: The rows of one chunk take at most so many bytes.
_MEMORY = 512 << 20


def chunks(items: Sequence[Item], linears: Sequence[Linear], most: int | None = None) -> Iterator[list[Item]]:
    """Items in order, a few at a time.

    Args:
        items: layers, or what stands for them.
        linears: of each, the weights and how it reads its rows.
        most: items at a time; as many as fit if None.
    """
    sizes = {index: bytes_of(linear) for index, linear in enumerate(linears)}
    for chunk in grouped(sizes, _MEMORY, most) if items else ():
        yield [items[index] for index in chunk]
