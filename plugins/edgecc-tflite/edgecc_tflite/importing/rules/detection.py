"""Selection of boxes: NON_MAX_SUPPRESSION and SSD's post-processing."""

from __future__ import annotations

import numpy as np

from edgecc_tflite.importing.base import ImportRule, Refusal
from edgecc_tflite.importing.context import Import
from edgecc_tflite.importing.flexbuffer import read_numbers
from edgecc_tflite.importing.model_file import CUSTOM


def _suppression(c: Import) -> None:
    """As many positions as are asked for: the best boxes first, zeros behind them.

    Inputs: boxes, scores, how many, overlap, least score, and for V5 the softness.
    """
    is_soft = c.operator.builtin.endswith("V5")
    if is_soft and (c.value(5) is None or np.any(c.value(5))):
        raise Refusal("it lowers scores of overlapping boxes (soft_nms_sigma), which ONNX's operator does not")
    boxes = c.add("Unsqueeze", [c.x(0), c.constant([0], "batch")])
    scores = c.add("Unsqueeze", [c.x(1), c.constant([0, 1], "class")])
    limit = c.reshape(c.int64(2), [1])
    overlap, least = (c.reshape(c.x(index), [1]) for index in (3, 4))
    found = c.add("NonMaxSuppression", [boxes, scores, limit, overlap, least])
    chosen = _column(c, found, 2)
    count = c.add("Shape", [chosen])
    room = c.add("Concat", [c.constant([0], "none"), c.add("Sub", [limit, count])], axis=0)
    c.give(c.cast(c.add("Pad", [chosen, room]), c.out().dtype))
    if is_soft:
        c.give(c.add("Pad", [c.add("Gather", [c.x(1), chosen], axis=0), room]), 1)
    last = len(c.operator.outputs) - 1
    c.give(c.cast(c.reshape(count, []), c.out(last).dtype), last)


def _column(c: Import, table: str, index: int) -> str:
    """A column of a matrix."""
    return c.add("Gather", [table, c.constant(np.array(index, np.int64), "column")], axis=1)


class _Settings:
    """The options of TFLite_Detection_PostProcess."""

    def __init__(self, c: Import) -> None:
        found = read_numbers(c.operator.options["custom"])
        self.boxes = int(found.get("max_detections", 0))
        self.per_box = int(found.get("max_classes_per_detection", 0))
        self.per_class = int(found.get("detections_per_class", 100))
        self.classes = int(found.get("num_classes", 0))
        self.by_class = bool(found.get("use_regular_nms", 0))
        self.least = found.get("nms_score_threshold", 0.0)
        self.overlap = found.get("nms_iou_threshold", 0.0)
        self.scales = [found.get(f"{name}_scale", 0.0) for name in "yxhw"]
        if not 0 < self.boxes <= _MOST_BOXES or self.classes < 1 or not all(self.scales) or self.per_class < 1:
            raise Refusal("its options name no boxes, classes or scales")
        if self.per_box != 1 and not self.by_class:
            raise Refusal(f"it gives {self.per_box} classes for each box; only 1 can be imported")


_MOST_BOXES = 1 << 20


def _post_process(c: Import) -> None:
    """SSD: boxes relative to anchors, their best class each, and the best boxes that do not overlap."""
    settings, count = _Settings(c), c.shape(1)[-1]
    if c.rank(0) != 3 or c.rank(1) != 3 or c.shape(0)[0] != 1 or count < settings.classes:
        raise Refusal(f"it takes boxes of shape {list(c.shape(0))} and scores of shape {list(c.shape(1))}")
    boxes = _decoded(c, settings)
    # The background comes first, if it has a score.
    axis = c.constant([2], "last")
    first, last = c.constant([count - settings.classes], "first"), c.constant([count], "end")
    scores = c.add("Slice", [c.x(1), first, last, axis])
    ranked = c.add("Transpose", [scores], perm=[0, 2, 1])
    if not settings.by_class:
        ranked = c.add("ReduceMax", [ranked, c.constant([1], "classes")], keepdims=1)
    limit = settings.per_class if settings.by_class else settings.boxes
    limits = [c.constant([limit], "limit"), c.scalar(settings.overlap), c.scalar(settings.least)]
    limits = [limits[0], *(c.reshape(name, [1]) for name in limits[1:])]
    found = c.add("NonMaxSuppression", [boxes, ranked, *limits])
    best, places = _best(c, settings, found, ranked)
    chosen = c.add("Gather", [_column(c, found, 2), places], axis=0)
    classes = _column(c, found, 1)
    classes = c.add("Gather", [classes, places], axis=0)
    if not settings.by_class:
        winners = c.add("ArgMax", [scores], axis=2, keepdims=0)
        classes = c.add("Gather", [c.reshape(winners, [-1]), chosen], axis=0)
    _give_detections(c, settings, boxes, [chosen, c.cast(classes, np.float32), best])


def _decoded(c: Import, settings: _Settings) -> str:
    """Corners (1, boxes, 4): top, left, bottom, right."""
    code, anchors = c.x(0), c.x(2)
    parts = c.many(
        "Split",
        [c.add("Div", [code, c.constant(np.array(settings.scales, np.float32), "scales")])],
        4,
        axis=2,
        num_outputs=4,
    )
    centres = c.many("Split", [anchors], 4, axis=1, num_outputs=4)
    edges = []
    for axis in (0, 1):
        size = centres[2 + axis]
        middle = c.add("Add", [c.add("Mul", [parts[axis], size]), centres[axis]])
        half = c.add("Mul", [c.add("Mul", [c.add("Exp", [parts[2 + axis]]), size]), c.scalar(0.5)])
        edges.append((c.add("Sub", [middle, half]), c.add("Add", [middle, half])))
    (top, bottom), (left, right) = edges
    return c.add("Concat", [top, left, bottom, right], axis=2)


def _best(c: Import, settings: _Settings, found: str, ranked: str) -> tuple[str, str]:
    """The highest scores of what was found, and their places in it."""
    values = c.add("GatherND", [ranked, c.add("Gather", [found, c.constant([0, 1, 2], "columns")], axis=1)])
    size = c.add("Shape", [values])
    count = c.add("Min", [size, c.constant([settings.boxes], "boxes")])
    best, places = c.many("TopK", [values, count], 2, axis=0, largest=1, sorted=1)
    return best, places


def _give_detections(c: Import, settings: _Settings, boxes: str, columns: list[str]) -> None:
    """Boxes, classes, scores and their number; zeros behind the last."""
    chosen, classes, scores = columns
    count = c.add("Shape", [chosen])
    room = c.add("Sub", [c.constant([settings.boxes], "boxes"), count])
    corners = c.add("Gather", [c.reshape(boxes, [-1, 4]), chosen], axis=0)
    zero = c.constant([0], "none")
    rows = c.add("Concat", [zero, zero, room, zero], axis=0)
    ends = c.add("Concat", [zero, room], axis=0)
    c.give(c.reshape(c.add("Pad", [corners, rows]), [1, settings.boxes, 4]), 0)
    for index, column in ((1, classes), (2, scores)):
        c.give(c.reshape(c.add("Pad", [column, ends]), [1, settings.boxes]), index)
    c.give(c.cast(count, np.float32), 3)


_NMS = ("NonMaxSuppression", "Gather", "Shape", "Pad", "Sub", "Concat", "Unsqueeze", "Reshape", "Cast")

RULES = (
    ImportRule("NON_MAX_SUPPRESSION_V4", _suppression, _NMS),
    ImportRule("NON_MAX_SUPPRESSION_V5", _suppression, _NMS, "Without soft_nms_sigma."),
    ImportRule(
        CUSTOM + "TFLite_Detection_PostProcess",
        _post_process,
        (*_NMS, "Split", "Div", "Mul", "Add", "Exp", "Slice", "Transpose", "ReduceMax", "ArgMax", "GatherND", "TopK"),
        "One class for each box, or suppression class by class.",
    ),
)
