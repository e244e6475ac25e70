"""Rewrites: a pattern, the operator whose nodes are its candidates, and what replaces it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import PrivateAttr

from edgecc.errors import PassContractError
from edgecc.passes.base import NodePass, PassContext
from edgecc.rewriting.matching import Match, find, match
from edgecc.rewriting.patterns import Pattern, distance, root_ops
from edgecc.rewriting.reading import describe

if TYPE_CHECKING:
    import numpy as np

    from edgecc.model import Model, Node, Tensor


@dataclass(frozen=True)
class Preparation:
    """A new node whose output the node of a replacement reads.

    Attributes:
        op: operator type of the default domain.
        inputs: tensors that are there without the match, new constants, or what another new node computes of such.
        dtype: of its only output.
        shape: likewise.
        attributes: by ONNX name.
    """

    op: str
    inputs: Sequence[Tensor | Preparation]
    dtype: np.dtype[Any]
    shape: Sequence[int | str] | None
    attributes: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Replacement:
    """One node instead of a match, with what it may need in front.

    Attributes:
        op: operator type of the default domain; its only output is what the match's last node wrote.
        inputs: tensors that are there without the match, new constants, or what a new node computes of such.
        attributes: by ONNX name.
    """

    op: str
    inputs: Sequence[Tensor | Preparation]
    attributes: dict[str, object] = field(default_factory=dict)


class Rewrite(ABC):
    """One pattern and what replaces it.

    Attributes, of the class or of its objects:
        pattern: ends in the node whose output stays.
        anchor: the operator that makes a node a candidate: each node of that type that is left as it is gets a reason.
            Choose the most telling one, Erf rather than Mul; "" if no node is worth a reason.
        extends: name of the pass that gets this rewrite, for one that a plugin brings (hook `edgecc_rewrites`).
    """

    pattern: Pattern
    anchor: str = ""
    extends: ClassVar[str] = ""

    def is_candidate(self, node: Node, model: Model) -> bool:
        """Whether a node of the anchor's type is worth a reason; all are, unless a rewrite knows better."""
        del node, model
        return True

    @abstractmethod
    def replacement(self, found: Match, model: Model, ctx: PassContext) -> Replacement | str:
        """What to put in its place, or the reason why this match is to stay.

        New constants may be made; the model is not changed otherwise.
        """


class RewritePass(NodePass):
    """A pass that replaces what its patterns match, until nothing matches any more.

    Matched nodes that nothing else reads are gone afterwards; the last one becomes the new node, with its name, its
    place and its output. Nodes of subgraphs are left alone.

    Class attributes:
        rewrites: tried in order at each node that can be the last one of their patterns.
    """

    keeps_types: ClassVar[bool] = True
    rewrites: ClassVar[tuple[Rewrite, ...]]
    _more: tuple[Rewrite, ...] = PrivateAttr(default=())

    def with_rewrites(self, rewrites: Sequence[Rewrite]) -> RewritePass:
        """The pass with those of other plugins."""
        extended = self.model_copy()
        extended._more = (*self._more, *rewrites)
        return extended

    def all_rewrites(self) -> tuple[Rewrite, ...]:
        return (*self.rewrites, *self._more)

    def run(self, model: Model, ctx: PassContext) -> bool:
        changed = False
        while super().run(model, ctx):
            changed = True
        self._give_reasons(model, ctx)
        return changed

    def candidates(self, model: Model) -> list[Node]:
        ops = sorted(frozenset().union(*(root_ops(rewrite.pattern) for rewrite in self.all_rewrites())))
        return model.nodes(*ops)

    def visit(self, node: Node, model: Model, ctx: PassContext) -> bool:
        for rewrite in self.all_rewrites():
            if node.op not in root_ops(rewrite.pattern):
                continue
            found = find(rewrite.pattern, node, model)
            if found is None or self._is_ignored(found.nodes, model):
                continue
            replacement = _ask(rewrite, found, model, ctx)
            if isinstance(replacement, str):
                continue
            _apply(replacement, found, model, ctx)
            return True
        return False

    def _is_ignored(self, nodes: Sequence[Node], model: Model) -> bool:
        from edgecc.model import matches_any

        return bool(self.ignore) and any(matches_any(node, self.ignore) for node in nodes)

    # ------------------------------------------------------------------------------------------------ reasons

    def _give_reasons(self, model: Model, ctx: PassContext) -> None:
        """Say of each candidate that is still there why it is."""
        by_anchor: dict[str, list[Rewrite]] = {}
        for rewrite in self.all_rewrites():
            if rewrite.anchor:
                by_anchor.setdefault(rewrite.anchor, []).append(rewrite)
        for node in model.nodes(*by_anchor, ignore=self.ignore) if by_anchor else ():
            tried = [rewrite for rewrite in by_anchor[node.op] if rewrite.is_candidate(node, model)]
            if tried:
                ctx.skip(node, self._why_not(node, tried, model, ctx))

    def _why_not(self, node: Node, rewrites: Sequence[Rewrite], model: Model, ctx: PassContext) -> str:
        """The reason of the attempt that went furthest, at any node that could have ended a pattern."""
        best, furthest = "", -1
        for rewrite in rewrites:
            for last in _reachable(node, root_ops(rewrite.pattern), distance(rewrite.pattern, node.op)):
                found = match(rewrite.pattern, last, model)
                if isinstance(found, Match):
                    answer = _ask(rewrite, found, model, ctx)
                    reason = answer if isinstance(answer, str) else "it is to be ignored"
                else:
                    reason = f"seen from {describe(last)}: {found.reason}"
                if len(found.nodes) > furthest:
                    best, furthest = reason, len(found.nodes)
        wanted = " or ".join(sorted({op for rewrite in rewrites for op in root_ops(rewrite.pattern)}))
        return best or f"no {wanted} behind it ends the pattern"


#: Readers of one tensor that a search for the last node of a pattern follows.
_MOST_READERS = 8


def _reachable(node: Node, ops: frozenset[str], steps: int) -> Iterator[Node]:
    """Nodes of these types among the node and what follows it, in so many steps at most."""
    seen = {id(node)}
    front = [node]
    for _ in range(steps + 1):
        behind = []
        for reached in front:
            if reached.op in ops:
                yield reached
            readers = [reader for tensor in reached.outputs[:1] for reader in tensor.outputs[:_MOST_READERS]]
            for reader in readers:
                if id(reader) not in seen and reader.outputs:
                    seen.add(id(reader))
                    behind.append(reader)
        front = behind[:_MOST_READERS]


def _ask(rewrite: Rewrite, found: Match, model: Model, ctx: PassContext) -> Replacement | str:
    """The rewrite's answer; what a plugin's rewrite does wrong is told of it, not of the pass."""
    name = type(rewrite).__qualname__
    try:
        answer: object = rewrite.replacement(found, model, ctx)
    except Exception as error:
        raise PassContractError(
            f"rewrite {name} raised {type(error).__name__}: {error}",
            where=describe(found.root),
            hint="this is a bug in the rewrite: report it to its author (edgecc plugins shows who brings rewrites)",
        ) from error
    if not isinstance(answer, Replacement | str):
        raise PassContractError(f"rewrite {name} returned {answer!r}", why="it must be a Replacement, or a reason")
    return answer


def _apply(new: Replacement, found: Match, model: Model, ctx: PassContext) -> None:
    from edgecc.model import merged_origins

    ctx.done(found.root, f"{' + '.join(sorted(node.op for node in found.nodes))} became {_named(new)}", found.nodes)
    origins = merged_origins(reversed(found.nodes))
    inputs = [_prepared(item, origins, model) for item in new.inputs]
    model.replace(found.root, new.op, inputs, attributes=new.attributes, origins=origins)
    for node in found.nodes[1:]:
        model.remove(node)


def _named(new: Replacement | Preparation) -> str:
    """The operators, the last one last."""
    return " + ".join([*(_named(item) for item in new.inputs if isinstance(item, Preparation)), new.op])


def _prepared(item: Tensor | Preparation, origins: tuple[str, ...], model: Model) -> Tensor:
    """The tensor itself, or the output of a new node."""
    if not isinstance(item, Preparation):
        return item
    inputs = [_prepared(part, origins, model) for part in item.inputs]
    output = model.variable(f"{inputs[0].name}/{item.op}", item.dtype, item.shape)
    model.add(item.op, inputs, [output], attributes=item.attributes, origins=origins)
    return output
