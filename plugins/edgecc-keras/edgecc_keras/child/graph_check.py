"""SavedModels, checked before TensorFlow loads them: a graph is a program, and some operators leave the model.

Loading runs a SavedModel's initializers, and conversion folds constants; so what reads or writes files, talks to other
machines or calls Python is refused (https://github.com/tensorflow/tensorflow/blob/master/SECURITY.md says why).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgecc_keras.child.report import ModelError

_MAX_GRAPH_BYTES = (1 << 31) - 1
#: Operators that reach beyond the model, by parts of their names.
_REACHING = re.compile(
    r"File|PyFunc|Remote|Rpc|Dataset|Iterator|Summary|Debug|^Print|Reader|LoadAndRemapMatrix|ImmutableConst|Checkpoint"
    r"|^Save|^Restore|Send$|Recv$|Queue|Barrier|ExperimentalService|Filesystem|Directory|Shell|Plugin|TPU|Custom"
)
#: Those among them that save and restore weights: TensorFlow writes them into every SavedModel, in functions that are
#: not called when a model is loaded or runs, or that read the model's own variables.
_OF_WEIGHTS = frozenset({"SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename"})
_NAME = re.compile(r"(__inference__traced_(save|restore)\w*|save(_\d+)?/.*)")


def check_saved_model(folder: Path, tag: str = "serve") -> Any:
    """The meta graph that is served, once no operator in any function reaches beyond the model.

    Raises:
        ModelError: the file is damaged, holds no such graph, or an operator reaches beyond the model.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from tensorflow.core.protobuf import saved_model_pb2

    file = folder / "saved_model.pb"
    proto = saved_model_pb2.SavedModel()
    if file.stat().st_size > _MAX_GRAPH_BYTES:
        raise ModelError("{path} is larger than 2 GB, which protobuf cannot read")
    try:
        proto.ParseFromString(file.read_bytes())
    except DecodeError as error:
        why = "saved_model.pb is no protobuf message"
        raise ModelError("{path} is truncated or damaged", why=why, hint="save or download it again") from error
    if proto.saved_model_schema_version != 1:
        why = f"its schema has version {proto.saved_model_schema_version}, and only 1 is known"
        raise ModelError("{path} is not a SavedModel", why=why, hint="save it again with TensorFlow 2")
    served = [graph for graph in proto.meta_graphs if tag in graph.meta_info_def.tags]
    if not served:
        tags = sorted({tag for graph in proto.meta_graphs for tag in graph.meta_info_def.tags})
        why = f"its graphs have the tags: {', '.join(tags) or 'none'}"
        raise ModelError("{path} has no graph to be served", why=why, hint=f"save it with the tag {tag!r}")
    _check_paths(folder)
    for graph in proto.meta_graphs:
        for owner, node in _nodes(graph.graph_def):
            if _REACHING.search(node.op) and not (node.op in _OF_WEIGHTS and _NAME.fullmatch(owner or node.name)):
                raise ModelError(
                    "{path} reaches beyond the model, which edgecc does not let it",
                    where=f"{node.name} ({node.op})",
                    why="operators that read or write files, talk to other machines or call Python are refused",
                    hint="export the model without its data pipeline: model.export('folder')",
                )
    return served[0]


def _nodes(graph: Any) -> Iterator[tuple[str, Any]]:
    """Each node, with the name of the function that it is in."""
    for node in graph.node:
        yield "", node
    for function in graph.library.function:
        for node in function.node_def:
            yield function.signature.name, node


def _check_paths(folder: Path) -> None:
    """No file of the model may be somewhere else."""
    root = folder.resolve()
    for file in (folder / "saved_model.pb", *(folder / "variables").glob("*"), *(folder / "assets").rglob("*")):
        if not file.resolve().is_relative_to(root):
            raise ModelError("{path} has a file that lies elsewhere", where=str(file.relative_to(folder)))
