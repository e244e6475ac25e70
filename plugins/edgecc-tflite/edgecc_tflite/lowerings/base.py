"""What a lowering rule is, and the table that rules are looked up in.

A rule is a row: which ONNX operator, since which opset, what it cannot do and why, which TFLite operators it emits, and
the function that emits them. Everything else derives from the rows: the support check and its messages, the table in
the documentation, and the list of tests.

A rule always emits what TFLite itself wants: a convolution's input is channels-last, so its rule puts a TRANSPOSE in
front and another behind. Rules never look around; `edgecc_tflite.layout` removes those transposes for all operators
at once. How an operator relates to layout therefore belongs to the TFLite operator (`layout.behaviours`), and a rule's
`layout` is what the operators it emits say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from edgecc.errors import PluginError

if TYPE_CHECKING:
    from edgecc_tflite.lowerings.context import Lowering
    from edgecc_tflite.lowerings.node_view import NodeView

#: Why a node cannot be taken, or None if it can.
Constraint = Callable[["NodeView"], "str | None"]


def _as_it_is(node: NodeView) -> NodeView:
    return node


@dataclass(frozen=True)
class LoweringRule:
    """How one ONNX operator becomes TFLite operators.

    Attributes:
        op: ONNX operator type.
        lower: emits the operators.
        emits: the TFLite builtins that it may emit, for the documentation and for `layout`.
        constraints: what it cannot do; each returns the reason for a node it refuses.
        domain: ONNX domain; "" is the default one.
        since: first opset whose definition of the operator the rule implements.
        until: last such opset; None while that definition is current.
        note: one sentence for the documentation; "" if there is nothing to add.
        owner: the distribution that the rule comes from.
        backend: the backend that takes the rule (`edgecc_lowerings` serves them all).
        view: how the constraints see a node, such as with other types (`detours`).
        takes_empty: whether it takes tensors without elements, of which the result is known now.
    """

    op: str
    lower: Callable[[Lowering], None]
    emits: tuple[str, ...]
    constraints: tuple[Constraint, ...] = ()
    domain: str = ""
    since: int = 1
    until: int | None = None
    note: str = ""
    owner: str = "edgecc-tflite"
    backend: str = "tflite"
    takes_empty: bool = False
    view: Callable[[NodeView], NodeView] = _as_it_is

    def covers(self, opset: int) -> bool:
        return self.since <= opset and (self.until is None or opset <= self.until)

    def reasons(self, node: NodeView) -> list[str]:
        """Everything that keeps this rule from taking the node."""
        view = self.view(node)
        found = (constraint(view) for constraint in self.constraints)
        return [reason for reason in found if reason is not None]

    def takes(self, node: NodeView) -> bool:
        """Whether nothing keeps it from taking the node."""
        view = self.view(node)
        return all(constraint(view) is None for constraint in self.constraints)

    @property
    def layout(self) -> str:
        """How the operators it emits relate to layout, such as "channels-last" or "any"."""
        from edgecc_tflite.layout.behaviours import describe

        return describe(self.emits)


class RuleFamily(NamedTuple):
    """Rules that are read when one of their operators is looked for: reading all takes as long as compiling a little.

    Attributes:
        operators: of the default domain, all that have rules in it.
        read: imports them.
    """

    operators: frozenset[str]
    read: Callable[[], Iterable[LoweringRule]]


class RuleTable:
    """Lowering rules by operator; a value: `extended` makes a new one."""

    def __init__(self, rules: Iterable[LoweringRule] = (), families: Iterable[RuleFamily] = ()) -> None:
        """Collect rules.

        Args:
            rules: known from the start.
            families: others, of other operators.

        Raises:
            PluginError: two rules for the same operator and opset; the message names both owners.
        """
        self._rules: dict[tuple[str, str], list[LoweringRule]] = {}
        self._families = {op: family for family in families for op in family.operators}
        for rule in rules:
            self._add(rule)

    def _add(self, rule: LoweringRule) -> None:
        self._read_family_of(rule.op, rule.domain)
        rows = self._rules.setdefault((rule.domain, rule.op), [])
        for other in rows:
            if _overlap(rule, other):
                raise PluginError(
                    f"two lowering rules for {_title(rule)}",
                    where=f"from {other.owner} and from {rule.owner}",
                    why="an operator is lowered by exactly one rule per opset",
                    hint=f"uninstall {other.owner} or {rule.owner}, or give one of the rules another opset range",
                )
        rows.append(rule)

    def extended(self, rules: Iterable[LoweringRule]) -> RuleTable:
        """A table with these rules too.

        Raises:
            PluginError: two rules for the same operator and opset; the message names both owners.
        """
        known = [rule for rows in self._rules.values() for rule in rows]
        return RuleTable([*known, *rules], self._families.values())

    def find(self, op: str, domain: str, opset: int) -> LoweringRule | None:
        """The rule for an operator, if there is one for this opset."""
        self._read_family_of(op, domain)
        return next((r for r in self._rules.get((domain, op), ()) if r.covers(opset)), None)

    def _read_family_of(self, op: str, domain: str) -> None:
        family = self._families.get(op) if not domain else None
        if family is not None:
            self._read(family)

    def _read(self, family: RuleFamily) -> None:
        for op in family.operators:
            self._families.pop(op, None)
        for rule in family.read():
            self._add(rule)

    def __iter__(self) -> Iterator[LoweringRule]:
        for family in list(self._families.values()):
            if not self._families.keys().isdisjoint(family.operators):
                self._read(family)
        return (rule for rows in self._rules.values() for rule in rows)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def to_markdown(self) -> str:
        """The operator table of the documentation, one row per rule."""
        lines = ["| ONNX operator | opset | TFLite operators | layout | note |", "|---|---|---|---|---|"]
        for rule in sorted(self, key=lambda r: (r.domain, r.op, r.since)):
            opset = f"{rule.since}+" if rule.until is None else f"{rule.since}-{rule.until}"
            lines.append(f"| {_title(rule)} | {opset} | {', '.join(rule.emits)} | {rule.layout} | {rule.note} |")
        return "\n".join(lines) + "\n"


def _overlap(a: LoweringRule, b: LoweringRule) -> bool:
    a_ends_before = a.until is not None and a.until < b.since
    b_ends_before = b.until is not None and b.until < a.since
    return not (a_ends_before or b_ends_before)


def _title(rule: LoweringRule) -> str:
    return f"{rule.domain}.{rule.op}" if rule.domain else rule.op
