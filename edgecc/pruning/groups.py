"""Coupling groups: sets of layers of which the same channels, heads or hidden units must go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecc.pruning.rules import RULES, Rule
from edgecc.pruning.tracking import Layer, Tracker

if TYPE_CHECKING:
    from edgecc.model import Constant, Model, Node
    from edgecc.pruning.ties import Labels


@dataclass(frozen=True)
class Place:
    """Where a unit is in the weights.

    Attributes:
        constant: holds it.
        axis: along which.
        indices: that go.
    """

    constant: Constant
    axis: int
    indices: Labels


@dataclass(frozen=True)
class Unit:
    """What goes or stays as a whole.

    Attributes:
        root: label that stands for it.
        places: in every constant that has a part of it.
    """

    root: int
    places: tuple[Place, ...]

    @property
    def parameters(self) -> int:
        """Values that go with it, those that several units share counted for each."""
        return sum(
            place.constant.values.size // place.constant.values.shape[place.axis] * len(place.indices)
            for place in self.places
        )


@dataclass(frozen=True)
class Group:
    """Units that lie in the same axes of the same constants.

    Attributes:
        writers: layers whose outputs they are.
        readers: layers that sum over them.
        units: in the order in which the first constant has them.
        reason: why none of them may go; "" if they may.
    """

    writers: tuple[Layer, ...]
    readers: tuple[Layer, ...]
    units: tuple[Unit, ...]
    reason: str

    @property
    def name(self) -> str:
        """Of its first layer."""
        return str((self.writers or self.readers)[0].node.name)


@dataclass(frozen=True)
class Coupling:
    """A model's groups.

    Attributes:
        tracker: with the labels of every axis.
        groups: in the order of the layers; those that must stay too, with their reasons.
    """

    tracker: Tracker
    groups: tuple[Group, ...]

    def root_of(self, labels: Labels) -> Labels:
        return self.tracker.ties.roots(labels)


def find_coupling(model: Model) -> Coupling:
    """Walk through the model and find what must go together; shapes are inferred before, and the model not changed."""
    tracker = Tracker(model)
    for node in model.nodes():
        rule = _rule_of(node)
        if rule is not None:
            rule(node, tracker)
    tracker.settle()
    return Coupling(tracker, tuple(_groups(tracker)))


def _rule_of(node: Node) -> Rule | None:
    from edgecc.model import is_standard

    return RULES.get(node.op) if is_standard(node) else None


def _groups(tracker: Tracker) -> list[Group]:
    places = _places(tracker)
    members: dict[tuple[tuple[int, int], ...], list[int]] = {}
    for root, found in places.items():
        key = tuple((id(place.constant), place.axis) for place in found)
        members.setdefault(key, []).append(root)
    writers, readers = _by_root(tracker, "writes"), _by_root(tracker, "reads")
    groups = []
    for roots in members.values():
        units = tuple(Unit(root, tuple(places[root])) for root in roots)
        open_ones = tuple(unit for unit in units if tracker.ties.reason(unit.root) is None)
        stuck = tuple(unit for unit in units if tracker.ties.reason(unit.root) is not None)
        layers = _layers(roots, writers), _layers(roots, readers)
        if open_ones:
            groups.append(Group(*layers, open_ones, ""))
        if stuck:
            groups.append(Group(*layers, stuck, tracker.ties.reason(stuck[0].root) or ""))
    order = {id(layer): index for index, layer in enumerate(tracker.layers)}
    whole = [group for group in groups if group.writers or group.readers]
    return sorted(whole, key=lambda group: min(order[id(layer)] for layer in (*group.writers, *group.readers)))


def _places(tracker: Tracker) -> dict[int, list[Place]]:
    """By root, in the order of the constants."""
    found: dict[int, list[Place]] = {}
    for tensor in tracker.tensors():
        if getattr(tensor, "values", None) is None:
            continue
        for axis, labels in sorted(tracker.of(tensor).items()):
            roots = tracker.ties.roots(labels)
            order = np.argsort(roots, kind="stable")
            names, starts = np.unique(roots[order], return_index=True)
            for root, indices in zip(names.tolist(), np.split(order, starts[1:]), strict=True):
                found.setdefault(root, []).append(Place(tensor, axis, indices))
    return found


def _by_root(tracker: Tracker, attribute: str) -> dict[int, list[Layer]]:
    found: dict[int, list[Layer]] = {}
    for layer in tracker.layers:
        labels = getattr(layer, attribute)
        if labels is not None:
            for root in np.unique(tracker.ties.roots(labels)).tolist():
                found.setdefault(root, []).append(layer)
    return found


def _layers(roots: list[int], by_root: dict[int, list[Layer]]) -> tuple[Layer, ...]:
    found = {id(layer): layer for root in roots for layer in by_root.get(root, ())}
    return tuple(found.values())
