"""Layers whose rows fit into the memory together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from edgecc.pruning.rows import bytes_of

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
    chunk, room = list[Item](), _MEMORY
    for item, linear in zip(items, linears, strict=True):
        size = bytes_of(linear)
        if chunk and (len(chunk) == most or size > room):
            yield chunk
            chunk, room = [], _MEMORY
        chunk.append(item)
        room -= size
    if chunk:
        yield chunk
