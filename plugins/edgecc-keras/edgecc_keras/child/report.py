"""How the child tells its parent what is wrong with a model."""

from __future__ import annotations


class ModelError(Exception):
    """The model cannot be imported.

    Attributes:
        kind: "invalid", "unsupported" or "missing" (a package).
        what: one sentence; "{path}" in it stands for what the user named.
        where, why, hint: as in `edgecc.errors`.
        nodes: name and operator of each node that ONNX has nothing for.
    """

    def __init__(
        self,
        what: str,
        *,
        kind: str = "invalid",
        where: str = "",
        why: str = "",
        hint: str = "",
        nodes: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(what)
        self.kind, self.what, self.where, self.why, self.hint, self.nodes = kind, what, where, why, hint, nodes

    def as_json(self) -> dict[str, object]:
        return {
            "error": self.kind,
            "what": self.what,
            "where": self.where,
            "why": self.why,
            "hint": self.hint,
            "nodes": self.nodes,
        }
