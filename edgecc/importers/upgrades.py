"""What changed in ONNX operators from opset 7 to the internal one: one small function per operator and version.

Each function brings one node from the version before to its own. A step that turns the node into another operator
writes that operator as the internal opset has it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import onnx

from edgecc.errors import InvalidModelError
from edgecc.importers.onnx_names import every_graph
from edgecc.serialization import METADATA_ORIGINS

Shape = tuple[int | None, ...]


class Facts:
    """What is known about the tensors of a model, found out only when a step asks."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._proto = proto

    @cached_property
    def _types(self) -> dict[str, onnx.TypeProto]:
        inferred = onnx.shape_inference.infer_shapes(self._proto).graph
        types: dict[str, onnx.TypeProto] = {}
        for graph in every_graph(inferred):
            for value in (*graph.value_info, *graph.input, *graph.output):
                types[value.name] = value.type
            for tensor in graph.initializer:
                types[tensor.name] = onnx.helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
        return types

    @cached_property
    def _values(self) -> dict[str, onnx.TensorProto]:
        found = {}
        for graph in every_graph(self._proto.graph):
            found.update({tensor.name: tensor for tensor in graph.initializer})
            for node in graph.node:
                if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                    found[node.output[0]] = node.attribute[0].t
        return found

    @cached_property
    def _read(self) -> set[str]:
        graphs = list(every_graph(self._proto.graph))
        read = {name for graph in graphs for node in graph.node for name in node.input}
        return read | {value.name for graph in graphs for value in graph.output}

    @cached_property
    def _taken(self) -> set[str]:
        graphs = list(every_graph(self._proto.graph))
        taken = {name for graph in graphs for node in graph.node for name in (*node.input, *node.output)}
        return taken | {v.name for graph in graphs for v in (*graph.input, *graph.initializer)}

    def fresh(self, hint: str) -> str:
        """A tensor name that nothing has."""
        name, count = hint, 1
        while name in self._taken:
            count += 1
            name = f"{hint}_{count}"
        self._taken.add(name)
        return name

    def is_read(self, name: str) -> bool:
        return name in self._read

    def dtype(self, name: str) -> int:
        """The element type as onnx's number; 0 if unknown."""
        kind = self._types.get(name)
        return int(kind.tensor_type.elem_type) if kind is not None else 0

    def shape(self, name: str) -> Shape | None:
        kind = self._types.get(name)
        if kind is None or not kind.tensor_type.HasField("shape"):
            return None
        return tuple(int(d.dim_value) if d.HasField("dim_value") else None for d in kind.tensor_type.shape.dim)

    def values(self, name: str) -> np.ndarray | None:
        """The values of a small constant; None for large ones and for what is computed."""
        tensor = self._values.get(name)
        return None if tensor is None else onnx.numpy_helper.to_array(tensor)


class Site:
    """One node being upgraded, and the helper nodes that take a place before and after it."""

    def __init__(self, node: onnx.NodeProto, facts: Facts) -> None:
        self.node = node
        self.facts = facts
        self._before: list[onnx.NodeProto] = []
        self._after: list[onnx.NodeProto] = []
        self._keeps_node = True

    def nodes(self) -> list[onnx.NodeProto]:
        """What stands in the node's place now."""
        return [*self._before, *([self.node] if self._keeps_node else ()), *self._after]

    # ------------------------------------------------------------------------------------------------ attributes

    def pop(self, name: str, default: Any = None) -> Any:
        """Take an attribute away and return its value."""
        for index, attribute in enumerate(self.node.attribute):
            if attribute.name == name:
                value = onnx.helper.get_attribute_value(attribute)
                del self.node.attribute[index]
                return value
        return default

    def get(self, name: str, default: Any = None) -> Any:
        return next((onnx.helper.get_attribute_value(a) for a in self.node.attribute if a.name == name), default)

    def set(self, name: str, value: object) -> None:
        self.pop(name)
        self.node.attribute.append(onnx.helper.make_attribute(name, value))

    # ------------------------------------------------------------------------------------------------ inputs, outputs

    def input(self, index: int) -> str:
        """The name of an input, "" if it is omitted."""
        return self.node.input[index] if index < len(self.node.input) else ""

    def set_input(self, index: int, name: str) -> None:
        while len(self.node.input) <= index:
            self.node.input.append("")
        self.node.input[index] = name

    def output(self, index: int) -> str:
        """The name of an output, "" if it is omitted or nothing reads it."""
        name = self.node.output[index] if index < len(self.node.output) else ""
        return name if name and self.facts.is_read(name) else ""

    def divert_output(self, index: int) -> str:
        """Let the node write under a fresh name, which is returned; a node added after it is to write the old one."""
        self.node.output[index] = self.facts.fresh(f"{self.node.output[index]}_{self.node.op_type}")
        return str(self.node.output[index])

    # ------------------------------------------------------------------------------------------------ helper nodes

    def constant(self, values: np.ndarray) -> str:
        tensor = onnx.numpy_helper.from_array(values)
        return self.before("Constant", [], value=tensor)

    def ints(self, values: Sequence[int]) -> str:
        return self.constant(np.array(values, np.int64))

    def scalar_like(self, value: float, name: str) -> str:
        """A scalar of the same type as the tensor `name`."""
        dtype = self.facts.dtype(name)
        if not dtype:
            return self.before("CastLike", [self.constant(np.array(value, np.float32)), name])
        return self.constant(np.array(value, onnx.helper.tensor_dtype_to_np_dtype(dtype)))

    def before(self, op: str, inputs: Sequence[str], **attributes: object) -> str:
        """Add a node in front of this one; returns the name of its output."""
        output = self.facts.fresh(f"{self.node.output[0]}_{op}")
        self._before.append(self._make(op, inputs, output, attributes))
        return output

    def after(self, op: str, inputs: Sequence[str], output: str, **attributes: object) -> None:
        """Add a node behind this one that writes `output`."""
        self._after.append(self._make(op, inputs, output, attributes))

    def drop_node(self) -> None:
        """Leave only the helper nodes."""
        self._keeps_node = False

    def _make(self, op: str, inputs: Sequence[str], output: str, attributes: dict[str, object]) -> onnx.NodeProto:
        made = onnx.helper.make_node(op, inputs, [output], name=f"{self.node.name}/{output}", **attributes)
        made.metadata_props.add(key=METADATA_ORIGINS, value=self.node.name)
        return made

    def refuse(self, why: str, hint: str = "export the model with a newer opset") -> InvalidModelError:
        return InvalidModelError(
            f"{self.node.op_type} of an old opset cannot be converted",
            where=f"node {self.node.name!r}",
            why=why,
            hint=hint,
        )


Step = Callable[[Site], None]

# ---------------------------------------------------------------------------------------------- attributes to inputs


def _attribute_to_input(name: str, index: int, site: Site) -> None:
    """An attribute of integers becomes an input."""
    value = site.pop(name)
    if value is not None:
        site.set_input(index, site.ints(value))


def clip_11(site: Site) -> None:
    """The bounds become inputs; the old defaults were the largest floats and bound nothing."""
    largest = float(np.finfo(np.float32).max)
    low, high = site.pop("min", -largest), site.pop("max", largest)
    if low > -largest:
        site.set_input(1, site.scalar_like(low, site.input(0)))
    if high < largest:
        site.set_input(2, site.scalar_like(high, site.input(0)))


def pad_11(site: Site) -> None:
    """Pads and the value become inputs."""
    value = site.pop("value", 0.0)
    site.set_input(1, site.ints(site.pop("pads")))
    if value != 0.0:
        site.set_input(2, site.scalar_like(value, site.input(0)))


def slice_10(site: Site) -> None:
    """Starts, ends and axes become inputs."""
    _attribute_to_input("starts", 1, site)
    _attribute_to_input("ends", 2, site)
    _attribute_to_input("axes", 3, site)


def topk_10(site: Site) -> None:
    """K becomes an input."""
    site.set_input(1, site.ints([site.pop("k")]))


def split_18(site: Site) -> None:
    """Without sizes, the number of outputs must be said."""
    if not site.input(1):
        site.set("num_outputs", len(site.node.output))


def dft_20(site: Site) -> None:
    """The axis becomes an input; its default changes from 1 to -2."""
    site.set_input(2, site.constant(np.array(site.pop("axis", 1), np.int64)))


# ---------------------------------------------------------------------------------------------- changed meaning


def softmax_13(site: Site) -> None:
    """Before, the tensor was taken as a matrix split at the axis; from then on, one axis is normalized."""
    axis, shape = site.get("axis", 1), site.facts.shape(site.input(0))
    if shape is not None:
        axis = axis % max(len(shape), 1)
        wide = [i for i in range(axis, len(shape)) if shape[i] != 1]
        if len(wide) <= 1:
            site.set("axis", wide[0] if wide else axis)
            return
    source, target = site.input(0), site.node.output[0]
    site.set_input(0, site.before("Flatten", [source], axis=axis))
    site.set("axis", -1)
    site.after("Reshape", [site.divert_output(0), site.before("Shape", [source])], target)


def batchnorm_9(site: Site) -> None:
    """Statistics per activation instead of per channel are plain arithmetic."""
    if site.pop("spatial", 1):
        return
    x, scale, bias, mean, variance = site.node.input[:5]
    epsilon = site.scalar_like(site.get("epsilon", 1e-5), x)
    deviation = site.before("Sqrt", [site.before("Add", [variance, epsilon])])
    centered = site.before("Sub", [x, mean])
    scaled = site.before("Mul", [site.before("Div", [centered, deviation]), scale])
    site.after("Add", [scaled, bias], site.node.output[0])
    site.drop_node()


def batchnorm_14(site: Site) -> None:
    """What training wrote is gone; Y alone is inference."""
    if any(site.output(index) for index in range(1, len(site.node.output))):
        raise site.refuse("its statistics outputs are read: it was exported in training mode", "export it in eval mode")
    del site.node.output[1:]


def dropout_10(site: Site) -> None:
    """The mask becomes boolean."""
    if mask := site.output(1):
        dtype = site.facts.dtype(site.input(0)) or onnx.TensorProto.FLOAT
        site.after("Cast", [site.divert_output(1), ], mask, to=dtype)


def dropout_12(site: Site) -> None:
    """The ratio becomes an input; without training_mode it is inference, as before."""
    ratio = site.pop("ratio", 0.5)
    site.set_input(1, site.constant(np.array(ratio, np.float32)))


def upsample_9(site: Site) -> None:
    """The scales become an input."""
    site.set_input(1, site.constant(np.array(site.pop("scales"), np.float32)))


def upsample_10(site: Site) -> None:
    """Upsample is a Resize that only enlarges."""
    _write_resize(site, "floor")


def resize_11(site: Site) -> None:
    """Coordinates of the first Resize: asymmetric, and rounded up where it shrinks."""
    scales = site.facts.values(site.input(1))
    shrinks = scales is not None and bool((scales < 1).any())
    if shrinks and scales is not None and bool((scales > 1).any()) and site.get("mode", b"nearest") == b"nearest":
        raise site.refuse("it enlarges one axis and shrinks another")
    _write_resize(site, "ceil" if shrinks else "floor")


def _write_resize(site: Site, nearest_mode: str) -> None:
    scales = site.input(1)
    site.set_input(1, "")
    site.set_input(2, scales)
    mode = site.get("mode", b"nearest")
    site.node.op_type = "Resize"
    site.set("coordinate_transformation_mode", "asymmetric")
    if mode == b"nearest":
        site.set("nearest_mode", nearest_mode)


def resize_13(site: Site) -> None:
    """`tf_half_pixel_for_nn` goes; empty scales and regions are omitted rather than given."""
    if site.node.op_type != "Resize" or len(site.node.input) < 3:
        return
    for index in (1, 2):
        values = site.facts.values(site.input(index))
        if values is not None and values.size == 0:
            site.set_input(index, "")
    if site.get("coordinate_transformation_mode") != b"tf_half_pixel_for_nn":
        return
    if site.get("nearest_mode") != b"floor":
        raise site.refuse("coordinate_transformation_mode tf_half_pixel_for_nn is gone; only with nearest_mode floor is there an equal")
    # floor(x + 0.5) of half-pixel coordinates x is what round_prefer_ceil does.
    site.set("coordinate_transformation_mode", "half_pixel")
    site.set("nearest_mode", "round_prefer_ceil")


def roi_align_16(site: Site) -> None:
    """Coordinates are shifted by half a pixel unless told."""
    if site.get("coordinate_transformation_mode") is None:
        site.set("coordinate_transformation_mode", "output_half_pixel")


def scatter_11(site: Site) -> None:
    site.node.op_type = "ScatterElements"


def grid_sample_20(site: Site) -> None:
    """Modes are named for any number of dimensions."""
    renamed = {b"bilinear": "linear", b"bicubic": "cubic"}
    mode = site.get("mode", b"bilinear")
    site.set("mode", renamed.get(mode, mode.decode()))


def group_norm_21(site: Site) -> None:
    """Scale and bias become one value per channel instead of one per group."""
    groups, shape = int(site.get("num_groups")), site.facts.shape(site.input(0))
    channels = shape[1] if shape is not None and len(shape) > 1 else None
    if channels is not None:
        repeats = site.ints([1, channels // groups])
    else:
        counted = site.before("Shape", [site.input(0)], start=1, end=2)
        repeats = site.before("Concat", [site.ints([1]), site.before("Div", [counted, site.ints([groups])])], axis=0)
    for index in (1, 2):
        column = site.before("Unsqueeze", [site.input(index), site.ints([1])])
        site.set_input(index, site.before("Reshape", [site.before("Tile", [column, repeats]), site.ints([-1])]))


def scan_9(site: Site) -> None:
    raise site.refuse("Scan of opset 8 carries a batch axis")


_axes_input = partial(_attribute_to_input, "axes", 1)
_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")

#: Operator, then version, to the function that brings a node to that version. What is not here changed nothing that
#: a node of the older version can express: types were added, or attributes whose default is the old behaviour.
TABLE: dict[str, dict[int, Step]] = {
    "BatchNormalization": {9: batchnorm_9, 14: batchnorm_14},
    "Clip": {11: clip_11},
    "DFT": {20: dft_20},
    "Dropout": {10: dropout_10, 12: dropout_12},
    "GridSample": {20: grid_sample_20},
    "GroupNormalization": {21: group_norm_21},
    "Hardmax": {13: softmax_13},
    "LogSoftmax": {13: softmax_13},
    "Pad": {11: pad_11},
    "Resize": {11: resize_11, 13: resize_13},
    "RoiAlign": {16: roi_align_16},
    "Scan": {9: scan_9},
    "Scatter": {11: scatter_11},
    "Slice": {10: slice_10},
    "Softmax": {13: softmax_13},
    "Split": {13: partial(_attribute_to_input, "split", 1), 18: split_18},
    "Squeeze": {13: _axes_input},
    "TopK": {10: topk_10},
    "Unsqueeze": {13: _axes_input},
    "Upsample": {9: upsample_9, 10: upsample_10},
    "ReduceSum": {13: _axes_input},
    **{f"Reduce{name}": {18: _axes_input} for name in _REDUCTIONS},
}
