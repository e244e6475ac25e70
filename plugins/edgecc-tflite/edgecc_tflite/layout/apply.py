"""Turn chosen configurations into a graph: tensors in memory order, TRANSPOSE where two orders meet."""

from __future__ import annotations

import numpy as np

from edgecc_tflite.ir import Graph, Operator, Quantization, Tensor
from edgecc_tflite.layout.behaviours import behaviour_of, is_flattening
from edgecc_tflite.layout.orders import Order, bytes_key, identity, inverse, reordered
from edgecc_tflite.layout.problem import SINK, SOURCE, Problem


def apply(graph: Graph, problem: Problem) -> None:
    """Rewrite the graph's operators for the problem's configurations."""
    _Rewriter(graph, problem).run()


class _Rewriter:
    """Walks the operators in execution order; `_versions` holds the tensor for each order made so far."""

    def __init__(self, graph: Graph, problem: Problem) -> None:
        self._graph = graph
        self._problem = problem
        self._ends = set(graph.inputs) | set(graph.outputs)
        self._operators: list[Operator] = []
        #: Per declared tensor its versions, the producer's first.
        self._versions: dict[Tensor, list[tuple[Order, Tensor]]] = {}
        self._constants: dict[tuple[Tensor, Order], Tensor] = {}
        self._inputs: list[Tensor] = []
        self._outputs: list[Tensor] = []

    def run(self) -> None:
        for op in self._problem.operators:
            if op.builtin == SOURCE:
                self._inputs.append(self._written(op.outputs[0], self._order(op, 0), is_input=True))
            elif op.builtin == SINK:
                self._outputs.append(self._output(op.inputs[0], self._order(op, 0)))
            elif op.builtin == "TRANSPOSE" and self._problem.config[op][1] is None:
                self._rename(op)
            else:
                self._rewrite(op)
        self._graph.operators = self._operators
        self._graph.inputs = self._inputs
        self._graph.outputs = self._outputs

    def _order(self, op: Operator, number: int) -> Order:
        order = self._problem.config[op][number]
        assert order is not None
        return order

    def _rename(self, op: Operator) -> None:
        """A TRANSPOSE moves nothing: its output is its input by other names of the axes."""
        source = op.inputs[0]
        assert source is not None
        tensor = self._read(source, self._order(op, 0), op.origins)
        self._versions[op.outputs[0]] = [(self._order(op, 2), tensor)]

    def _rewrite(self, op: Operator) -> None:
        config = self._problem.config[op]
        if any(order is not None and order != identity(len(order)) for order in config):
            behaviour_of(op.builtin).rewrite(op, config)
        for number, tensor in enumerate(op.inputs):
            order = config[number]
            if tensor is None or order is None:
                continue
            op.inputs[number] = self._read(tensor, order, op.origins)
        if op.builtin == "FULLY_CONNECTED" and is_flattening(op):
            op.inputs[0] = self._flattened(op)
        if op.builtin == "SHAPE" and (order := config[0]) is not None and order != identity(len(order)):
            self._shape_of(op, order)
            return
        for number, tensor in enumerate(op.outputs):
            order = config[len(op.inputs) + number]
            op.outputs[number] = self._written(tensor, identity(tensor.rank) if order is None else order)
        self._operators.append(op)

    # ------------------------------------------------------------------------------------------------------ reading

    def _read(self, tensor: Tensor, order: Order, origins: tuple[str, ...]) -> Tensor:
        """The tensor in the given order, transposed if it does not exist yet."""
        if tensor.data is not None:
            return self._constant(tensor, order)
        versions = self._versions[tensor]
        for known, version in versions:
            if known == order:
                return version
        key = bytes_key(tensor.shape, order)
        same_bytes = next((v for known, v in versions if bytes_key(tensor.shape, known) == key), None)
        shape = reordered(tensor.shape, order)
        result = Tensor(f"{tensor.name}/reordered", shape, tensor.dtype, quantization=tensor.quantization)
        if same_bytes is not None and shape.count(-1) <= 1:
            self._emit("RESHAPE", same_bytes, np.array(shape, np.int32), result, origins)
        else:
            known, version = versions[0]
            perm = [known.index(axis) for axis in order]
            self._emit("TRANSPOSE", version, np.array(perm, np.int32), result, origins)
        versions.append((order, result))
        return result

    def _constant(self, tensor: Tensor, order: Order) -> Tensor:
        if order == identity(tensor.rank):
            return tensor
        known = self._constants.get((tensor, order))
        if known is None:
            assert tensor.data is not None
            data = tensor.data.transpose(order)
            known = Tensor(
                tensor.name, data.shape, tensor.dtype, data, _moved(tensor.quantization, order), tensor.source
            )
            known.layout = order
            self._constants[tensor, order] = known
        return known

    def _flattened(self, op: Operator) -> Tensor:
        data, weights = op.inputs[0], op.inputs[1]
        assert data is not None
        assert weights is not None
        shape = (data.shape[0], weights.shape[1])
        result = Tensor(f"{data.name}/flat", shape, data.dtype, quantization=data.quantization)
        self._emit("RESHAPE", data, np.array(shape, np.int32), result, op.origins)
        return result

    # ------------------------------------------------------------------------------------------------------ writing

    def _written(self, tensor: Tensor, order: Order, *, is_input: bool = False) -> Tensor:
        """The tensor that the producer of `tensor` writes."""
        version = tensor
        if order != identity(tensor.rank):
            shape = reordered(tensor.shape, order)
            version = Tensor(tensor.name, shape, tensor.dtype, quantization=_moved(tensor.quantization, order))
            if is_input or tensor not in self._ends:
                version.source, version.layout = tensor.source, order
        self._versions[tensor] = [(order, version)]
        return version

    def _output(self, tensor: Tensor | None, order: Order) -> Tensor:
        """An output of the graph under its own name."""
        assert tensor is not None
        version = self._read(tensor, order, ())
        if version is tensor:
            return tensor
        if version in self._inputs or version in self._outputs:
            result = Tensor(tensor.name, version.shape, tensor.dtype, source=tensor.source, layout=_unless_plain(order))
            if version.shape.count(-1) <= 1:
                self._emit("RESHAPE", version, np.array(version.shape, np.int32), result, ())
            else:
                self._emit("TRANSPOSE", version, np.arange(version.rank, dtype=np.int32), result, ())
            return result
        version.name, version.source, version.layout = tensor.name, tensor.source, _unless_plain(order)
        return version

    def _shape_of(self, op: Operator, order: Order) -> None:
        """Sizes come out in memory order; a GATHER puts them back."""
        declared = op.outputs[0]
        sizes = Tensor(f"{declared.name}/in_memory", declared.shape, declared.dtype)
        op.outputs[0] = sizes
        self._operators.append(op)
        indices = np.array(inverse(order), np.int32)
        self._emit("GATHER", sizes, indices, self._written(declared, (0,)), op.origins, axis=0)

    def _emit(
        self, builtin: str, data: Tensor, parameter: np.ndarray, out: Tensor, origins: tuple[str, ...], **options: int
    ) -> None:
        constant = Tensor(f"{out.name}/{builtin.lower()}", parameter.shape, parameter.dtype, data=parameter)
        self._operators.append(Operator(builtin, [data, constant], [out], dict(options), origins))


def _unless_plain(order: Order) -> Order | None:
    return None if order == identity(len(order)) else order


def _moved(quantization: Quantization | None, order: Order) -> Quantization | None:
    """The same scales along the axis where it lies now."""
    if quantization is None or quantization.scale.size == 1:
        return quantization
    return Quantization(quantization.scale, quantization.zero_point, order.index(quantization.axis))
