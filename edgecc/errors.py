"""Every error edgecc raises on purpose.

    EdgeccError
    ├── RequestError                 the request is wrong                              exit 2
    │   ├── UnknownNameError         no target, pass, backend or option of that name
    │   ├── OptionError              a target's or pass's option has a wrong value
    │   ├── RecipeError              a recipe file cannot be read
    │   ├── PassOrderError           passes are listed in an order that cannot work
    │   ├── DataError                calibration or evaluation data does not fit the model
    │   ├── OutputError              the output cannot be written
    │   ├── PluginError              a plugin is broken, or two claim one name
    │   └── InvalidModelError        the source cannot be read as a model
    ├── UnsupportedError             the model cannot be compiled for this target      exit 3
    ├── VerificationError            the result is not what it must be                 exit 4
    ├── RunnerError                  a runtime failed or crashed                       exit 1
    │   └── UnavailableError         the runtime or its device is not on this machine
    └── PassContractError            a pass broke its contract: a bug in that pass     exit 1

A message says what is wrong, `where` (node, file, key), `why`, and `hint`: what to type next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar


class EdgeccError(Exception):
    """Base of all errors above.

    Attributes:
        what: one sentence.
        where: the node, file or key concerned; "" if there is none.
        why: the cause; "" if `what` says it already.
        hint: what to do or type next; "" if nothing helps.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, where: str = "", why: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.why = why
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.what]
        lines += [f"  {label}: {text}" for label, text in self.details() if text]
        return "\n".join(lines)

    def details(self) -> list[tuple[str, str]]:
        """Label and text of everything beside the first sentence."""
        return [("where", self.where), ("why", self.why), ("try", self.hint)]


class RequestError(EdgeccError):
    """The request is wrong; nothing was compiled."""

    exit_code = 2


class UnknownNameError(RequestError):
    """No such name; the message names the nearest ones: those of at least that likeness, from 0 to 1."""

    def __init__(
        self, kind: str, name: str, known: Iterable[str], *, where: str = "", hint: str = "", likeness: float = 0.5
    ) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=3, cutoff=likeness)
        if not hint:
            hint = f"did you mean {' or '.join(repr(n) for n in near)}?" if near else _list_known(kind, names)
        super().__init__(f"unknown {kind} {name!r}", where=where, hint=hint)
        self.name = name
        self.near = tuple(near)


class OptionError(RequestError):
    """An option of a pass or target has a wrong value."""


class RecipeError(RequestError):
    """A recipe file cannot be read."""


class PassOrderError(RequestError):
    """Passes are listed in an order that cannot work; the hint is an order that does."""


class DataError(RequestError):
    """Calibration or evaluation data does not fit the model."""


class OutputError(RequestError):
    """The output cannot be written; an older file at that place is untouched."""


class PluginError(RequestError):
    """A plugin is broken or missing, or two plugins claim one name."""


class InvalidModelError(RequestError):
    """The source cannot be read as a model."""


@dataclass(frozen=True)
class Unsupported:
    """One node that a target cannot take.

    Attributes:
        node: the source node's name.
        op: its operator, such as "Conv".
        reason: why the target cannot take it.
        hint: what to do; "" if nothing helps.
    """

    node: str
    op: str
    reason: str
    hint: str = ""

    def __str__(self) -> str:
        text = f"{self.node} ({self.op}): {self.reason}" if self.op else f"{self.node}: {self.reason}"
        return f"{text}; {self.hint}" if self.hint else text


class UnsupportedError(EdgeccError):
    """The model cannot be compiled for the target, or imported from a file; every such node is listed."""

    exit_code = 3

    def __init__(self, target: str, nodes: Iterable[Unsupported], *, done: str = "compiled for") -> None:
        self.nodes = tuple(nodes)
        count = f"{len(self.nodes)} node{'s' if len(self.nodes) != 1 else ''}"
        super().__init__(f"{count} cannot be {done} {target}")
        self.target = target

    def details(self) -> list[tuple[str, str]]:
        return [("node", str(node)) for node in self.nodes]


class VerificationError(EdgeccError):
    """The result differs from what it must be."""

    exit_code = 4


class RunnerError(EdgeccError):
    """A runtime failed or crashed while loading or running an artifact."""


class UnavailableError(RunnerError):
    """The runtime or the device it needs is not on this machine."""


class PassContractError(EdgeccError):
    """A pass broke its contract; the message speaks to its author."""


def _list_known(kind: str, names: list[str]) -> str:
    return f"known: {', '.join(names)}" if names else f"no {kind} is installed"
