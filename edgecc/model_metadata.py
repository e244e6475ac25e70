"""What a model says about itself beside its graph, under keys that formats have places of their own for.

A model's name and description are `Model.graph.name` and `Model.graph.doc_string`. All else is text under keys of
`Model.metadata`; docs/formats.md lists the keys, and where ONNX and TFLite files have them. Other keys are the user's
own, and travel too where a format has a place for any.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

    from edgecc.model import Model

AUTHOR, LICENSE, VERSION, DOMAIN = "model_author", "model_license", "model_version", "model_domain"
#: In front of the name of an input or output, or of a file.
DOC, TITLE, LABELS, VALUE_LABELS = "doc.", "title.", "labels.", "value_labels."
NORMALIZATION, FILE = "normalization.", "file."
#: What fits into ONNX's field for a version.
_LARGEST_VERSION = 2**63 - 1
#: Bytes of an entry or file that is taken for a text.
LONGEST_TEXT = 1 << 20


def read_metadata(proto: onnx.ModelProto) -> dict[str, str]:
    """All of it that an ONNX model has, but for the graph's name and description."""
    found = {VERSION: str(proto.model_version)} if proto.model_version else {}
    if proto.domain:
        found[DOMAIN] = proto.domain
    found |= {f"{DOC}{v.name}": v.doc_string for v in (*proto.graph.input, *proto.graph.output) if v.doc_string}
    return found | {entry.key: entry.value for entry in proto.metadata_props}


def write_metadata(metadata: Mapping[str, str], proto: onnx.ModelProto) -> None:
    """Give an ONNX model, whose inputs and outputs are there, its metadata."""
    values = {f"{DOC}{value.name}": value for value in (*proto.graph.input, *proto.graph.output)}
    for key, text in metadata.items():
        if key == VERSION and text.isdecimal() and 0 < int(text) <= _LARGEST_VERSION and str(int(text)) == text:
            proto.model_version = int(text)
        elif key == DOMAIN:
            proto.domain = text
        elif key in values:
            values[key].doc_string = text
        else:
            proto.metadata_props.add(key=key, value=text)


def as_text(data: bytes) -> str | None:
    """What an entry or file of a model says; None if it is no text, or a long one."""
    if len(data) > LONGEST_TEXT:
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def without_place(model: Model) -> list[str]:
    """What a file that holds no such thing leaves out, a sentence's subject each."""
    described = ["the model's description"] if model.graph.doc_string else []
    return [*described, *(f"metadata {key!r}" for key in model.metadata)]
