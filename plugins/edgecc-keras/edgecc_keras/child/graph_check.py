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
    r"|DumpTensor|StatisticsSaver|DistributedSave|RecordInput|VocabRemapping|FixedUnigram|^Skipgram$|DecodeProto|EncodeProto"
    r"|Collective|Nccl|Infeed|Outfeed|XlaSend|XlaRecv|XlaHost"
)
#: Those among them that save and restore weights: TensorFlow writes them into every SavedModel, in functions and nodes
#: of these names. A file may have others call them: then they are no exception (`_run_by_others`).
_OF_WEIGHTS = frozenset({"SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename"})
_WRITING = frozenset({"SaveV2", "MergeV2Checkpoints"})
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
    # TensorFlow imports the nodes around the functions only of the older kind of SavedModel, which has no objects.
    has_objects = len(proto.meta_graphs) == 1 and proto.meta_graphs[0].HasField("object_graph_def")
    for graph in proto.meta_graphs:
        others = _run_by_others(graph, has_objects)
        for owner, node in _nodes(graph.graph_def):
            place = owner or node.name
            is_saver = node.op in _OF_WEIGHTS and _NAME.fullmatch(place) and place not in others
            if _REACHING.search(node.op) and not is_saver:
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


def _run_by_others(graph: Any, has_objects: bool) -> set[str]:
    """Functions that functions call or objects have, and nodes behind what writes weights if anything names them."""
    library = graph.graph_def.library
    callers = [node for function in library.function for node in function.node_def]
    found = set(graph.object_graph_def.concrete_functions) | {entry.gradient_func for entry in library.gradient}
    if not has_objects:
        callers.extend(graph.graph_def.node)
        found |= _named(graph, _behind_writing(graph.graph_def))
    for node in callers:
        for value in node.attr.values():
            found |= {function.name for function in (value.func, *value.list.func)}
    return found


def _behind_writing(graph: Any) -> set[str]:
    """Names of the nodes that write weights, and of all that wait for them."""
    readers: dict[str, list[str]] = {}
    for node in graph.node:
        for source in node.input:
            readers.setdefault(source.removeprefix("^").partition(":")[0], []).append(node.name)
    found: set[str] = set()
    pending = [node.name for node in graph.node if node.op in _WRITING]
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending.extend(readers.get(name, ()))
    return found


def _named(graph: Any, writing: set[str]) -> set[str]:
    """All of `writing` if loading or running the model leads to one of them: nothing of it is for saving alone."""
    run = {
        info.name.partition(":")[0] for signature in graph.signature_def.values() for info in signature.outputs.values()
    }
    run.add(graph.saver_def.restore_op_name.partition(":")[0])
    texts = []
    for collection in graph.collection_def.values():
        run |= {name.partition(":")[0] for name in collection.node_list.value}
        texts.extend(collection.bytes_list.value)  # variables, which name their initializers
    is_run = writing & run or any(name.encode() in text for name in writing for text in texts)
    return writing if is_run else set()


def _check_paths(folder: Path) -> None:
    """No file of the model may be somewhere else."""
    root = folder.resolve()
    for file in (folder / "saved_model.pb", *(folder / "variables").glob("*"), *(folder / "assets").rglob("*")):
        if not file.resolve().is_relative_to(root):
            raise ModelError("{path} has a file that lies elsewhere", where=str(file.relative_to(folder)))
