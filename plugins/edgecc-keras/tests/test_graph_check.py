"""What saves weights in a SavedModel may do so for the saver alone: nothing of it runs when the model is loaded."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("edgecc_keras")
if importlib.util.find_spec("tensorflow") is None:
    pytest.skip("TensorFlow is not installed", allow_module_level=True)

from edgecc_keras.child.graph_check import _REACHING, check_saved_model
from edgecc_keras.child.report import ModelError

SAVING = "__inference__traced_save_7"


def saved_model(folder: Path) -> Any:
    """An empty SavedModel with a function that saves, as TensorFlow calls it; not written yet."""
    from tensorflow.core.protobuf import saved_model_pb2

    folder.mkdir()
    proto = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    graph = proto.meta_graphs.add()
    graph.meta_info_def.tags.append("serve")
    graph.object_graph_def.nodes.add()
    function = graph.graph_def.library.function.add()
    function.signature.name = SAVING
    function.node_def.add(name="SaveV2", op="SaveV2")
    graph.graph_def.node.add(name="call", op="StatefulPartitionedCall").attr["f"].func.name = SAVING
    return proto


def check(proto: Any, folder: Path) -> None:
    (folder / "saved_model.pb").write_bytes(proto.SerializeToString())
    check_saved_model(folder)


def _called(graph: Any) -> None:
    function = graph.graph_def.library.function.add()
    function.signature.name = "__inference__initializer_3"
    function.node_def.add(name="call", op="StatefulPartitionedCall").attr["f"].func.name = SAVING


def _branch(graph: Any) -> None:
    function = graph.graph_def.library.function.add()
    function.signature.name = "__inference_f_3"
    function.node_def.add(name="case", op="Case").attr["branches"].list.func.add(name=SAVING)


def _method(graph: Any) -> None:
    graph.object_graph_def.concrete_functions[SAVING].SetInParent()


def _older(graph: Any) -> None:
    graph.ClearField("object_graph_def")


def _other_name(graph: Any) -> None:
    graph.graph_def.library.function[0].signature.name = "__inference_f_7"


def test_what_the_saver_alone_calls(tmp_path: Path) -> None:
    check(saved_model(tmp_path / "m"), tmp_path / "m")


@pytest.mark.parametrize("change", [_called, _branch, _method, _older, _other_name])
def test_saving_that_something_else_runs(change: Any, tmp_path: Path) -> None:
    proto = saved_model(tmp_path / "m")
    change(proto.meta_graphs[0])
    with pytest.raises(ModelError, match="reaches beyond the model") as caught:
        check(proto, tmp_path / "m")
    assert caught.value.where == "SaveV2 (SaveV2)"


def older_saved_model(folder: Path) -> Any:
    """As TensorFlow 1 writes it: nodes instead of functions."""
    proto = saved_model(folder)
    graph = proto.meta_graphs[0]
    graph.ClearField("object_graph_def")
    graph.graph_def.Clear()
    for name, op, inputs in (
        ("save/Const", "Const", ()),
        ("save/SaveV2", "SaveV2", ("save/Const",)),
        ("save/control_dependency", "Identity", ("save/Const", "^save/SaveV2")),
        ("save/RestoreV2", "RestoreV2", ("save/Const",)),
        ("save/restore_all", "NoOp", ("^save/RestoreV2",)),
        ("y", "Identity", ("save/Const",)),
    ):
        graph.graph_def.node.add(name=name, op=op, input=inputs)
    graph.saver_def.restore_op_name = "save/restore_all"
    graph.signature_def["serving_default"].outputs["y"].name = "y:0"
    return proto


def _before_the_output(graph: Any) -> None:
    graph.graph_def.node[-1].input.append("^save/control_dependency")


def _initialization(graph: Any) -> None:
    graph.collection_def["saved_model_main_op"].node_list.value.append("save/control_dependency")


def _variable(graph: Any) -> None:
    graph.collection_def["local_variables"].bytes_list.value.append(b"\x0a\x01w\x12\x0bsave/SaveV2")


def _restoring(graph: Any) -> None:
    graph.saver_def.restore_op_name = "save/control_dependency"


def test_older_saved_models(tmp_path: Path) -> None:
    check(older_saved_model(tmp_path / "m"), tmp_path / "m")


@pytest.mark.parametrize("change", [_before_the_output, _initialization, _variable, _restoring])
def test_older_saved_models_that_save_when_they_run(change: Any, tmp_path: Path) -> None:
    proto = older_saved_model(tmp_path / "m")
    change(proto.meta_graphs[0])
    with pytest.raises(ModelError, match="reaches beyond the model") as caught:
        check(proto, tmp_path / "m")
    assert caught.value.where == "save/SaveV2 (SaveV2)"


def test_no_operator_that_names_a_file_passes() -> None:
    """Of all that this TensorFlow has."""
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session

    known = op_def_pb2.OpList()
    known.ParseFromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    names = {op.name: " ".join(part.name for part in (*op.attr, *op.input_arg)) for op in known.op}
    reaching = [name for name, parts in names.items() if re.search("file|dir_path|directory|descriptor_source", parts)]
    assert len(reaching) > 20
    assert [name for name in reaching if not _REACHING.search(name)] == []
    assert [name for name in ("Conv2D", "ReadVariableOp", "HashTableV2", "Einsum") if _REACHING.search(name)] == []
