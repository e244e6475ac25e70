"""What an import rule is, and the table that rules are looked up in: the mirror of `lowerings.base`.

A rule is a row: which TFLite operator, what becomes of it in ONNX, and the function that emits that. Rules speak of
real values: `c.x(0)` is an input in float, dequantized where the file has it in integers, and `c.give(...)` quantizes
where the output's tensor is quantized. A rule therefore does not know whether its operator is quantized.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgecc_tflite.importing.context import Import


class Refusal(Exception):
    """An operator that cannot be imported, and why; raised by rules.

    Attributes:
        reason: the end of a sentence that begins with the operator.
        hint: what to do; "" if nothing helps.
    """

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason, self.hint = reason, hint


class FollowingRefusal(Refusal):
    """An operator that reads what a refused one would have written: it is not a problem of its own."""


@dataclass(frozen=True)
class ImportRule:
    """How one TFLite operator becomes ONNX operators.

    Attributes:
        builtin: the operator's name in the schema; "CUSTOM NAME" for a custom one.
        emit: adds the nodes; raises `Refusal` for what it cannot do.
        gives: the ONNX operators that it may add, for the documentation.
        note: one sentence for the documentation; "" if there is nothing to add.
    """

    builtin: str
    emit: Callable[[Import], None]
    gives: tuple[str, ...]
    note: str = ""


class ImportTable:
    """Import rules by operator."""

    def __init__(self, rules: Iterable[ImportRule]) -> None:
        self._rules: dict[str, ImportRule] = {}
        for rule in rules:
            assert rule.builtin not in self._rules, f"two rules for {rule.builtin}"
            self._rules[rule.builtin] = rule

    def find(self, builtin: str) -> ImportRule | None:
        """The rule for an operator, if there is one."""
        return self._rules.get(builtin)

    def __iter__(self) -> Iterator[ImportRule]:
        return iter(self._rules.values())

    def __len__(self) -> int:
        return len(self._rules)
