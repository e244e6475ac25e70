"""One place where a graph breaks a rule."""

from __future__ import annotations

from typing import NamedTuple

from edgecc_tflite.ir import Operator


class Violation(NamedTuple):
    """One place where a graph breaks a rule.

    Attributes:
        rule: the rule's name, that of its function with dashes.
        message: what is wrong and what it has to be.
        tensor: the tensor's name; "" if it is no single one.
        operator: the operator's builtin and the tensor that it writes; "" if it is none.
        origins: names of the source nodes that the operator was made from.
    """

    rule: str
    message: str
    tensor: str = ""
    operator: str = ""
    origins: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = self.operator or self.tensor
        origins = f" (from {', '.join(self.origins)})" if self.origins else ""
        return f"{self.rule}: {where}{origins}: {self.message}"


def violation(rule: str, operator: Operator, message: str, tensor: str = "") -> Violation:
    """A violation at an operator."""
    output = operator.outputs[0].name if operator.outputs else "nothing"
    return Violation(rule, message, tensor, f"{operator.builtin} -> {output}", operator.origins)
