"""What the importer makes of a file that the backend wrote."""

from __future__ import annotations

from edgecc.errors import UnsupportedError
from edgecc.model import Model
from edgecc_tflite.ir import Graph
from edgecc_tflite.writer import write

#: ONNX has nothing to take the bits of a number for another with.
_ONE_WAY = frozenset({"BITCAST"})


def imported(graph: Graph) -> Model | None:
    """The model again; None where an operator has no equivalent in ONNX."""
    from edgecc_tflite.importing.to_onnx import import_file

    try:
        return import_file(memoryview(bytes(write(graph))), "the file")
    except UnsupportedError as error:
        if all(node.op in _ONE_WAY for node in error.nodes):
            return None
        raise
