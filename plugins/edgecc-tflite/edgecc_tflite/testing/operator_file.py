"""Files of one operator, as other converters write them, for tests of the importer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgecc.model import Model
from edgecc_tflite import schema
from edgecc_tflite.importing.to_onnx import import_file
from edgecc_tflite.ir import Graph, Operator, Tensor
from edgecc_tflite.writer import write


@dataclass(frozen=True)
class In:
    """An input of the model, with the values that it gets."""

    values: np.ndarray


@dataclass(frozen=True)
class OpCase:
    """A file of one operator.

    Attributes:
        builtin: its name.
        inputs: arrays are constants, None is left out.
        outs: type and shape of each output.
        options: by the schema's names.
        label: tells cases of one operator apart.
        tolerance: largest error, relative to the largest value.
        variables: inputs that keep their values between runs.
    """

    builtin: str
    inputs: tuple[In | np.ndarray | None, ...]
    outs: tuple[tuple[str, tuple[int, ...]], ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    tolerance: float = 2e-6
    variables: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.builtin}-{self.label}" if self.label else self.builtin

    def graph(self) -> Graph:
        """The IR; inputs that are neither constants nor variables are the model's."""
        graph = Graph("main")
        tensors: list[Tensor | None] = []
        for number, value in enumerate(self.inputs):
            if value is None:
                tensors.append(None)
                continue
            array = value.values if isinstance(value, In) else value
            is_constant = not isinstance(value, In) and number not in self.variables
            tensor = Tensor(f"x{number}", array.shape, array.dtype, array if is_constant else None)
            tensors.append(tensor)
            if isinstance(value, In):
                tensor.source = tensor.name
                graph.inputs.append(tensor)
        for number, (dtype, shape) in enumerate(self.outs):
            graph.outputs.append(Tensor(f"y{number}", shape, np.dtype(dtype), source=f"y{number}"))
        graph.operators = [Operator(self.builtin, tensors, list(graph.outputs), dict(self.options))]
        return graph

    def contents(self) -> bytes:
        """The file."""
        contents = bytes(write(self.graph()))
        if not self.variables:
            return contents
        names = {f"x{number}".encode() for number in self.variables}

        def mark(model: Any) -> None:
            for tensor in model.subgraphs[0].tensors:
                tensor.isVariable = tensor.name in names

        return patched(contents, mark)

    def feeds(self) -> dict[str, np.ndarray]:
        return {f"x{number}": x.values for number, x in enumerate(self.inputs) if isinstance(x, In)}


def patched(contents: bytes, change: Callable[[Any], None]) -> bytes:
    """The file with something changed that the backend never writes."""
    import flatbuffers

    model = schema.generated().ModelT.InitFromPackedBuf(contents, 0)
    change(model)
    builder = flatbuffers.Builder(1 << 12)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def imported(contents: bytes) -> Model:
    """The model that the file comes to."""
    return import_file(memoryview(contents), "the file")


def run_litert(contents: bytes, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs by name, on the runtime's default kernels."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=contents, num_threads=1)
    if feeds:
        return dict(interpreter.get_signature_runner("serving_default")(**feeds))
    interpreter.allocate_tensors()
    interpreter.invoke()
    return {d["name"]: interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()}
