"""What changed in ONNX operators from opset 7 to the internal one: one small function per operator and version.

Each function brings one node from the version before to its own. A step that turns the node into another operator
writes that operator as the internal opset has it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx

from edgecc.importers.upgrade_site import Site

Step = Callable[[Site], None]

# ---------------------------------------------------------------------------------------------- attributes to inputs


def _attribute_to_input(name: str, index: int, site: Site) -> None:
    """An attribute of integers becomes an input."""
    reference = next((a.ref_attr_name for a in site.node.attribute if a.name == name), "")
    if reference:
        site.drop(name)
        site.set_input(index, site.reference(reference))
        return
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
        site.after("Cast", [site.divert_output(1)], mask, to=dtype)


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
    """Coordinates of the first Resize: asymmetric; nearest rounds down where it enlarges and up where it shrinks."""
    scales = site.facts.values(site.input(1))
    if scales is None or site.get("mode", b"nearest") != b"nearest" or not (scales < 1).any():
        _write_resize(site, "floor")
        return
    if (scales > 1).any():
        enlarged = site.before(
            "Resize",
            [site.input(0), "", site.constant(np.maximum(scales, 1))],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        site.set_input(0, enlarged)
        site.set_input(1, site.constant(np.minimum(scales, 1)))
    _write_resize(site, "ceil")


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
    replace_tf_half_pixel(site)


def replace_tf_half_pixel(site: Site) -> None:
    """Say `tf_half_pixel_for_nn`, which opset 13 removed, with a mode that is still there."""
    if site.get("coordinate_transformation_mode") != b"tf_half_pixel_for_nn":
        return
    if site.get("mode", b"nearest") != b"nearest" or site.get("nearest_mode") != b"floor":
        raise site.refuse(
            "coordinate_transformation_mode tf_half_pixel_for_nn has an equal only with mode nearest and nearest_mode "
            "floor",
            "export the Resize with coordinate_transformation_mode half_pixel",
        )
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
    """The batch axis that all inputs and outputs had goes: a Scan over it holds the Scan over the sequence."""
    if site.input(0):
        raise site.refuse("it has sequences of different lengths in one batch", "split the batch")
    node, inner = site.node, onnx.NodeProto()
    inner.CopyFrom(node)
    inner.name, inner.input[:] = f"{node.name}/Scan", [site.facts.fresh(f"{name}_of_batch") for name in node.input[1:]]
    inner.output[:] = [site.facts.fresh(f"{name}_of_batch") for name in node.output]
    for attribute in inner.attribute:
        if attribute.name == "directions":
            attribute.name = "scan_input_directions"
    body = onnx.GraphProto(
        name=inner.name,
        node=[inner],
        input=[onnx.ValueInfoProto(name=name) for name in inner.input],
        output=[onnx.ValueInfoProto(name=name) for name in inner.output],
    )
    del node.input[0]
    del node.attribute[:]
    site.set("body", body)
    site.set("num_scan_inputs", len(node.input))


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
