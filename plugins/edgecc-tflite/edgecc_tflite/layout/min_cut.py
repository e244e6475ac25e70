"""Minimum cut of a directed graph, by Dinic's algorithm.

Own code instead of networkx because it must answer in milliseconds: `import networkx` alone takes 0.16 s, and its
graphs of dictionaries several times as long as this on the chains that models are. Breadth-first levels make a chain
of n operators with one augmenting path linear.
"""

from __future__ import annotations

from collections import deque


class FlowNetwork:
    """Nodes are numbers; node 0 is the source and node 1 the sink."""

    SOURCE, SINK = 0, 1

    def __init__(self) -> None:
        self._edges_of: list[list[int]] = [[], []]
        #: Edge e leads to _to[e] with _room[e] capacity left; e ^ 1 is the way back.
        self._to: list[int] = []
        self._room: list[int] = []

    def node(self) -> int:
        """A new node."""
        self._edges_of.append([])
        return len(self._edges_of) - 1

    def edge(self, start: int, end: int, capacity: int) -> None:
        """It costs `capacity` to have `start` on the source's side and `end` on the sink's."""
        if start == end or start == self.SINK or end == self.SOURCE or capacity <= 0:
            return
        self._edges_of[start].append(len(self._to))
        self._to.append(end)
        self._room.append(capacity)
        self._edges_of[end].append(len(self._to))
        self._to.append(start)
        self._room.append(0)

    def source_side(self, *, largest: bool) -> list[bool]:
        """For each node whether it is on the source's side of the minimum cut: of several, the last or the first."""
        while (levels := self._levels())[self.SINK] >= 0:
            self._augment(levels)
        if largest:
            return [not reaches for reaches in self._reaching_sink()]
        return [level >= 0 for level in levels]

    def _levels(self) -> list[int]:
        """Distance of each node from the source over edges with room; -1 if there is no way."""
        levels = [-1] * len(self._edges_of)
        levels[self.SOURCE] = 0
        queue = deque([self.SOURCE])
        while queue:
            node = queue.popleft()
            for edge in self._edges_of[node]:
                end = self._to[edge]
                if self._room[edge] and levels[end] < 0:
                    levels[end] = levels[node] + 1
                    queue.append(end)
        return levels

    def _augment(self, levels: list[int]) -> None:
        """Send flow along shortest ways until none is left; each edge is given up at most once."""
        next_edge = [0] * len(self._edges_of)
        path: list[int] = []
        node = self.SOURCE
        while True:
            if node == self.SINK:
                amount = min(self._room[edge] for edge in path)
                full = len(path)
                for position, edge in enumerate(path):
                    self._room[edge] -= amount
                    self._room[edge ^ 1] += amount
                    if not self._room[edge]:
                        full = min(full, position)
                node = self._to[path[full] ^ 1]
                del path[full:]
                continue
            edges = self._edges_of[node]
            while next_edge[node] < len(edges):
                edge = edges[next_edge[node]]
                if self._room[edge] and levels[self._to[edge]] == levels[node] + 1:
                    break
                next_edge[node] += 1
            else:
                if not path:
                    return
                node = self._to[path.pop() ^ 1]
                next_edge[node] += 1
                continue
            path.append(edge)
            node = self._to[edge]

    def _reaching_sink(self) -> list[bool]:
        """Whether there is a way with room left from each node to the sink."""
        reaches = [False] * len(self._edges_of)
        reaches[self.SINK] = True
        queue = deque([self.SINK])
        while queue:
            node = queue.popleft()
            for edge in self._edges_of[node]:
                start = self._to[edge]
                if self._room[edge ^ 1] and not reaches[start]:
                    reaches[start] = True
                    queue.append(start)
        return reaches
