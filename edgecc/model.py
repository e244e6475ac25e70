"""Model: one ONNX graph and the invariants that passes rely on."""

from __future__ import annotations

import fnmatch
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.logger import G_LOGGER

from edgecc import serialization
from edgecc.cloning import clone_graph
from edgecc.deserialization import graph_from_proto
from edgecc.errors import InvalidModelError
from edgecc.model_metadata import read_metadata
from edgecc.opset import INTERNAL_OPSET
from edgecc.signature import Signature as Signature
from edgecc.signature import TensorSpec as TensorSpec

Node: TypeAlias = gs.Node
Tensor: TypeAlias = gs.Tensor
Variable: TypeAlias = gs.Variable
Constant: TypeAlias = gs.Constant

# Its warnings speak to users of graphsurgeon (duplicate names, unknown dtypes); edgecc's own checks cover them.
G_LOGGER.severity = G_LOGGER.CRITICAL


def origins(node: Node) -> tuple[str, ...]:
    """Names of the source nodes that this node came from; its own name if nothing was recorded."""
    return tuple(getattr(node, "origins", ())) or ((node.name,) if node.name else ())


def display_name(node: Node) -> str:
    """How reports and errors call a node: by the user's own nodes."""
    return ", ".join(origins(node)) or str(node.name)


def merged_origins(nodes: Iterable[Node]) -> tuple[str, ...]:
    """The origins of several nodes, each once, in order."""
    return tuple(dict.fromkeys(name for node in nodes for name in origins(node)))


def value_of(tensor: Tensor) -> np.ndarray | None:
    """The values of a constant tensor (not a copy: do not write into it), or None for a variable."""
    if not isinstance(tensor, gs.Constant):
        return None
    return cast("np.ndarray", tensor.values)


@dataclass
class Model:
    """A graph in the internal opset, with verbs that keep it whole.

    Tensors of graphsurgeon compare by name and do not hash: compare with `is`, key by `id()`. A removed node is empty
    (no inputs, no outputs) and leaves the graph's list at the next cleanup; `nodes()` does not show it.

    Attributes:
        graph: the graphsurgeon graph. Subgraphs of If, Loop and Scan are attributes of their nodes.
        metadata: what the source says about itself beside its graph; see `edgecc.model_metadata` for the keys.
        source: the file or format that the model came from, for reports.
        source_files: every file that was read, the main one first.
        not_carried: what of the source has no place in a Model, a line for each.
        grown: bytes that constant folding added, which has a limit.
    """

    graph: gs.Graph
    metadata: dict[str, str] = field(default_factory=dict)
    source: str = ""
    source_files: tuple[Path, ...] = ()
    not_carried: tuple[str, ...] = ()
    _names: set[str] | None = field(default=None, repr=False, compare=False)
    _suffixes: dict[str, int] = field(default_factory=dict, repr=False, compare=False)
    _unread: list[Constant] = field(default_factory=list, repr=False, compare=False)
    _inner: dict[int, Node] | None = field(default=None, repr=False, compare=False)
    grown: int = field(default=0, repr=False, compare=False)

    # ---------------------------------------------------------------------------------------------- reading

    @property
    def inputs(self) -> list[Variable]:
        return cast("list[Variable]", self.graph.inputs)

    @property
    def outputs(self) -> list[Tensor]:
        return cast("list[Tensor]", self.graph.outputs)

    @property
    def signature(self) -> Signature:
        return Signature(tuple(map(_spec, self.graph.inputs)), tuple(map(_spec, self.graph.outputs)))

    def nodes(self, *ops: str, ignore: Sequence[str] = ()) -> list[Node]:
        """A snapshot of the main graph's nodes in order, safe to edit the graph over.

        Args:
            ops: only these operators of the default ONNX domain; all if none is given.
            ignore: patterns (`fnmatch`) of node names to leave out.
        """
        if ops:
            found = [node for node in self.graph.nodes if node.op in ops and node.outputs and is_standard(node)]
        else:
            found = [node for node in self.graph.nodes if node.outputs]
        if ignore:
            found = [node for node in found if not matches_any(node, ignore)]
        return found

    def all_nodes(self) -> list[Node]:
        """The nodes of the main graph and of every subgraph."""
        return [node for part in serialization.graphs_of(self.graph) for node in part.nodes if node.outputs]

    def tensors(self) -> list[Tensor]:
        """Every tensor of the main graph, once, in order of first use."""
        return list(serialization.tensors_of(self.graph))

    def constants(self) -> list[Constant]:
        """Every constant of the main graph and its subgraphs, once, in order of first use."""
        return list(serialization.constants_of(self.graph))

    def is_inner(self, node: Node) -> bool:
        """Whether the node is in a subgraph of If, Loop or Scan, as it was at the last cleanup or before."""
        if self._inner is None:
            parts = (part for part in serialization.graphs_of(self.graph) if part is not self.graph)
            self._inner = {id(inner): inner for part in parts for inner in part.nodes}
        return id(node) in self._inner

    @staticmethod
    def producer(tensor: Tensor) -> Node | None:
        """The node that writes the tensor; None for inputs and constants."""
        return tensor.inputs[0] if tensor.inputs else None

    @staticmethod
    def consumers(tensor: Tensor) -> list[Node]:
        """The nodes that read the tensor, each once; nodes of subgraphs too."""
        return list({id(node): node for node in tensor.outputs}.values())

    def is_output(self, tensor: Tensor) -> bool:
        return any(tensor is output for output in self.graph.outputs)

    def single_consumer(self, tensor: Tensor) -> Node | None:
        """The only node that reads the tensor, if nothing else does, the model's outputs included."""
        readers = self.consumers(tensor)
        return readers[0] if len(readers) == 1 and not self.is_output(tensor) else None

    @property
    def parameter_count(self) -> int:
        """Number of values in constants, those of subgraphs included."""
        return sum(math.prod(t.shape) for t in self.constants())

    # ---------------------------------------------------------------------------------------------- editing

    def fresh_name(self, hint: str) -> str:
        """`hint` if no tensor or node has that name, otherwise `hint_2`, `hint_3` ..."""
        if self._names is None:
            self._names = {
                t.name for part in serialization.graphs_of(self.graph) for t in serialization.tensors_of(part)
            }
            self._names |= {node.name for node in self.all_nodes()}
        # Where the last search ended: thousands of constants may be made from one that is shared.
        name, count = hint, self._suffixes.get(hint, 1)
        while not name or name in self._names:
            count += 1
            name = f"{hint or 'tensor'}_{count}"
        self._suffixes[hint] = count
        self._names.add(name)
        return name

    def constant(self, hint: str, values: np.ndarray) -> Constant:
        # asarray: arithmetic on an array without axes gives a numpy scalar, which graphsurgeon refuses.
        return gs.Constant(self.fresh_name(hint), np.asarray(values))

    def variable(self, hint: str, dtype: np.dtype[Any] | type, shape: Sequence[int | str] | None) -> Variable:
        return gs.Variable(self.fresh_name(hint), np.dtype(dtype), None if shape is None else list(shape))

    def add(
        self,
        op: str,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        *,
        attributes: Mapping[str, object] | None = None,
        origins: tuple[str, ...] = (),
        name: str = "",
    ) -> Node:
        """Append a node of the default domain; the driver sorts the graph after the pass.

        Args:
            op: operator type.
            inputs: tensors read; `gs.Variable.empty()` for an omitted optional one.
            outputs: tensors written, none of which may have a producer.
            attributes: by ONNX name.
            origins: names of the source nodes this one stands for.
            name: wanted name; made unique. Derived from the first output if empty.
        """
        node = gs.Node(op, self.fresh_name(name or f"{outputs[0].name}/{op}"), dict(attributes or {}), [], [])
        node.inputs.extend(list(inputs))
        node.outputs.extend(list(outputs))
        node.origins = origins
        self.graph.nodes.append(node)
        return node

    def replace(
        self,
        node: Node,
        op: str,
        inputs: Sequence[Tensor],
        *,
        attributes: Mapping[str, object] | None = None,
        origins: tuple[str, ...] = (),
    ) -> None:
        """Let the node be another operator that computes its first output; its name and its place in the order stay.

        Args:
            node: of the main graph; nothing may read its further outputs, which it loses.
            op: operator type of the default domain.
            inputs: tensors read; `gs.Variable.empty()` for an omitted optional one.
            attributes: by ONNX name; the former ones are gone.
            origins: names of the source nodes that it stands for; as before if empty.
        """
        for tensor in node.inputs:
            self._let_go(tensor, node)
        list.clear(node.inputs)
        for tensor in node.outputs[1:]:
            _unlink(tensor.inputs, node)
        list.__delitem__(node.outputs, slice(1, None))
        node.op, node.domain, node.attrs = op, None, dict(attributes or {})
        node.inputs.extend(list(inputs))
        if origins:
            node.origins = origins

    def set_input(self, node: Node, index: int, tensor: Tensor) -> None:
        """Let one input of the node read another tensor."""
        self._let_go(node.inputs[index], node)
        list.__setitem__(node.inputs, index, tensor)
        list.append(tensor.outputs, node)

    def drop_input(self, node: Node, index: int) -> None:
        """Let the node have one input less; those behind it move up."""
        self._let_go(node.inputs[index], node)
        list.pop(node.inputs, index)

    def set_output(self, node: Node, index: int, tensor: Tensor) -> None:
        """Let one output of the node be written to another tensor, taking it from its producer if it has one."""
        for producer in list(tensor.inputs):
            self._give_up(producer, tensor)
        list.clear(tensor.inputs)
        _unlink(node.outputs[index].inputs, node)
        list.__setitem__(node.outputs, index, tensor)
        list.append(tensor.inputs, node)

    def _give_up(self, producer: Node, tensor: Tensor) -> None:
        """Take an output away from its node; the places of the node's other outputs stay."""
        position = _index(producer.outputs, tensor)
        if len(producer.outputs) == 1:
            list.pop(producer.outputs)
            return
        unread = self.variable(f"{tensor.name}_unread", tensor.dtype, tensor.shape)
        list.__setitem__(producer.outputs, position, unread)
        list.append(unread.inputs, producer)

    def redirect(self, old: Tensor, new: Tensor) -> bool:
        """Let everything that reads `old` read `new`.

        Where `old` is an output of the model, its name must stay: `new`'s producer writes `old` from then on. That is
        not possible when `new` has none (an input, a constant) or is an output itself; then nothing changes.

        Returns:
            Whether `old` has no readers any more.
        """
        if not self.is_output(old):
            for node in self.consumers(old):
                self._reconnect(node, old, new)
            return True
        producer = self.producer(new)
        if producer is None or self.is_output(new) or not _same_graph(self.graph, producer):
            return False
        for node in self.consumers(new):
            self._reconnect(node, new, old)
        if self.producer(old) is not producer:
            self.set_output(producer, _index(producer.outputs, new), old)
        return True

    def _reconnect(self, node: Node, old: Tensor, new: Tensor) -> None:
        for index, tensor in enumerate(node.inputs):
            if tensor is old:
                self.set_input(node, index, new)

    def bypass(self, node: Node) -> bool:
        """Remove a node whose first output equals its first input.

        Returns:
            Whether that was possible: not if a model output's name forbids it, or something reads another output.
        """
        if any(self.consumers(tensor) or self.is_output(tensor) for tensor in node.outputs[1:]):
            return False
        if not self.redirect(node.outputs[0], node.inputs[0]):
            return False
        self.remove(node)
        return True

    def remove(self, node: Node) -> None:
        """Empty the node; whatever read its outputs must have been redirected before."""
        for tensor in node.inputs:
            self._let_go(tensor, node)
        for tensor in node.outputs:
            _unlink(tensor.inputs, node)
        list.clear(node.inputs)
        list.clear(node.outputs)

    def _let_go(self, tensor: Tensor, reader: Node) -> None:
        """The reader reads the tensor no more; a constant that nothing reads any more is noted for `cleanup`."""
        _unlink(tensor.outputs, reader)
        if isinstance(tensor, gs.Constant) and not tensor.outputs:
            self._unread.append(tensor)

    def _release_unread(self) -> None:
        """Free the arrays of replaced constants: tensors refer to themselves, so only the cyclic collector would."""
        outputs = {id(tensor) for graph in serialization.graphs_of(self.graph) for tensor in graph.outputs}
        for tensor in self._unread:
            if not tensor.outputs and id(tensor) not in outputs:
                tensor.values = _NOTHING
        self._unread.clear()

    # ---------------------------------------------------------------------------------------------- upkeep

    def clone(self) -> Model:
        """A copy that shares the weights' arrays; edits of one graph do not show in the other."""
        origin = self.source, self.source_files, self.not_carried
        return Model(clone_graph(self.graph), dict(self.metadata), *origin, grown=self.grown)

    def restore(self, earlier: Model) -> None:
        """Become, in place, what a clone is; the clone is used up."""
        self.graph, self.metadata, self.grown = earlier.graph, earlier.metadata, earlier.grown
        self._names = self._inner = None
        self._suffixes.clear()
        self._unread.clear()

    def cleanup(self, *, types_known: bool = False) -> list[str]:
        """Fold constants, drop what nothing uses, sort, infer shapes; returns notes about what could not be folded.

        Args:
            types_known: every tensor has its right type and shape, so that they are inferred only behind constants
                that are folded now.
        """
        from edgecc.cleanup import clean

        self._release_unread()
        notes = clean(self, types_known=types_known)
        self._names = self._inner = None
        self._suffixes.clear()
        return notes

    def infer_shapes(self) -> None:
        """Set dtype and shape of every tensor that onnx can infer; shapes of inner tensors are derived afresh."""
        from edgecc.shape_inference import infer

        infer(self)

    def verify(self) -> None:
        """Raise VerificationError unless the graph is whole: see `edgecc.verify`."""
        from edgecc.verify import verify

        verify(self)

    # ---------------------------------------------------------------------------------------------- in and out

    @classmethod
    def from_proto(cls, proto: onnx.ModelProto, weights: Mapping[str, np.ndarray] | None = None) -> Model:
        """Wrap a proto that is in the internal opset already; `edgecc.load` brings any ONNX file there.

        Args:
            proto: the model.
            weights: of a detached proto (see `edgecc.serialization`): values of the inputs that stand for them.
        """
        opsets = {o.domain: o.version for o in proto.opset_import}
        if opsets.get("", INTERNAL_OPSET) != INTERNAL_OPSET:
            raise InvalidModelError(
                f"opset {opsets['']} is not the internal opset {INTERNAL_OPSET}", hint="load it with edgecc.load(...)"
            )
        return cls(graph_from_proto(proto, weights), read_metadata(proto))

    @classmethod
    def from_text(cls, text: str, constants: Mapping[str, np.ndarray] | None = None) -> Model:
        """Parse onnx's textual format, such as `g (float[1,2] x) => (float[1,2] y) { y = Relu(x) }`.

        Args:
            text: a graph, or a whole model with its header.
            constants: values of tensors that the text reads and does not define, instead of writing them there.
        """
        graph = text if text.lstrip().startswith("<") else _HEADER + text
        try:
            proto = onnx.parser.parse_model(graph)
        except onnx.parser.ParseError as error:
            raise InvalidModelError("the text is not an ONNX model", why=_parser_message(error)) from error
        proto.graph.initializer.extend(onnx.numpy_helper.from_array(v, name) for name, v in (constants or {}).items())
        _name_nodes(proto.graph, "")
        model = cls.from_proto(proto)
        model.infer_shapes()
        return model

    @classmethod
    def load(cls, path: str | Path, shapes: Mapping[str, Sequence[int]] | None = None) -> Model:
        """Import an ONNX file of any opset from 7 on; see `edgecc.importers.onnx`."""
        from edgecc.importers.onnx import OnnxImporter

        return OnnxImporter().load(Path(path), shapes or {})

    def save(self, path: str | Path) -> None:
        """Write an ONNX file; past 2 GB the weights go to `PATH.data` beside it."""
        from edgecc.importers.onnx import save_proto

        save_proto(self.to_proto(), Path(path))

    def to_proto(self, *, detach: bool = False) -> onnx.ModelProto:
        """The model as onnx sees it; `detach` leaves large weights out (see `edgecc.serialization`)."""
        return serialization.graph_to_proto(self.graph, self.metadata, detach=detach)

    def to_text(self) -> str:
        """The graph in onnx's textual format, large weights left out."""
        return onnx.printer.to_text(self.to_proto(detach=True).graph)

    def digest(self) -> str:
        """SHA-256 over structure and weights, to tell whether two models are the same."""
        digest = hashlib.sha256(self.to_proto(detach=True).SerializeToString(deterministic=True))
        for tensor in self.constants():
            if tensor.values.dtype != object:
                digest.update(np.ascontiguousarray(tensor.values).tobytes())
        return digest.hexdigest()


def _name_nodes(graph: onnx.GraphProto, prefix: str) -> None:
    """Name what has no name after its operator and place."""
    for index, node in enumerate(graph.node):
        node.name = node.name or f"{prefix}{node.op_type}_{index}"
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _name_nodes(attribute.g, f"{node.name}/{attribute.name}/")


def _parser_message(error: onnx.parser.ParseError) -> str:
    """The parser's error as text: its argument is bytes."""
    first = error.args[0] if error.args else ""
    return first.decode(errors="replace") if isinstance(first, bytes) else str(first)


_NOTHING = np.empty(0, np.float32)
_HEADER = f'<ir_version: 10, opset_import: ["" : {INTERNAL_OPSET}]>\n'


def is_standard(node: Node) -> bool:
    """Whether the operator is of the default ONNX domain."""
    return node.domain in (None, "", "ai.onnx")


def _spec(tensor: Tensor) -> TensorSpec:
    shape = tensor.shape if tensor.shape is not None else ()
    dims = tuple(d if isinstance(d, int) else str(d or f"{tensor.name}_{axis}") for axis, d in enumerate(shape))
    return TensorSpec(tensor.name, np.dtype(tensor.dtype).name, dims)


def matches_any(node: Node, patterns: Sequence[str]) -> bool:
    """Whether a pattern (`fnmatch`) matches the node's name or that of a source node it came from."""
    return any(fnmatch.fnmatchcase(name, p) for p in patterns for name in (node.name, *origins(node)))


def _index(items: Sequence[object], wanted: object) -> int:
    return next(i for i, item in enumerate(items) if item is wanted)


def _unlink(items: list[Any], wanted: object) -> None:
    """Drop one occurrence by identity; graphsurgeon's own remove compares nodes deeply."""
    for index, item in enumerate(items):
        if item is wanted:
            list.pop(items, index)
            return


def _same_graph(graph: gs.Graph, node: Node) -> bool:
    return any(node is other for other in graph.nodes)
