"""Layers: what the builder made of the model's nodes.

A builder without a GPU prints the finished engine's layers into its log; with one, the engine's inspector says the
same as JSON. Both name the ONNX nodes that each layer computes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgecc_tensorrt.log import Log

_HEADER = "Layers:"
_LINE = re.compile(r"^Name: (?P<name>.*?), LayerType: (?P<kind>\w+), (?P<rest>.*)$")
_NODE = re.compile(r"\[ONNX Layer: (.*?)\](?=\[ONNX Layer: |[\x1e\x1f]|\s|$)")
_TYPE = re.compile(r"Datatype: (\w+)")
_SCRATCH = re.compile(r"(?:Max Scratch Memory|Total Activation Memory|Total Weights Memory): \d+ bytes")


@dataclass(frozen=True)
class Layer:
    """One step of the engine.

    Attributes:
        name: as TensorRT calls it.
        kind: its type, such as `correlation` or `kgen` (generated code).
        types: of its results.
        nodes: the source's nodes that it computes, wholly or in part.
    """

    name: str
    kind: str
    types: tuple[str, ...]
    nodes: tuple[str, ...]


def layers_of(log: Log, sources: Mapping[str, tuple[str, ...]]) -> list[Layer]:
    """The engine's layers in order, from the log.

    Args:
        log: with messages of a finished build.
        sources: the model's nodes to the source's.
    """
    texts = [text for severity, text in log.messages if severity == "VERBOSE" and text.lstrip().startswith(_HEADER)]
    lines = texts[-1].splitlines() if texts else []
    return [_layer(found, sources) for line in lines if (found := _LINE.match(line.strip()))]


def _layer(found: re.Match[str], sources: Mapping[str, tuple[str, ...]]) -> Layer:
    rest, _, metadata = found["rest"].partition("Metadata:")
    results = rest.partition("Outputs: ")[2].partition("TacticName")[0]
    return Layer(found["name"], found["kind"], _each_once(_TYPE.findall(results)), _sources(metadata, sources))


def inspected_layers(text: str, sources: Mapping[str, tuple[str, ...]]) -> list[Layer]:
    """The same from the JSON of an `EngineInspector`."""
    entries = json.loads(text).get("Layers", ())
    found = []
    for entry in entries:
        if isinstance(entry, str):  # the engine was built with names only
            found.append(Layer(entry, "", (), ()))
            continue
        types = [_short_type(output) for output in entry.get("Outputs", ())]
        nodes = _sources(str(entry.get("Metadata", "")), sources)
        found.append(Layer(str(entry.get("Name", "")), str(entry.get("LayerType", "")), _each_once(types), nodes))
    return found


def _short_type(output: Mapping[str, Any]) -> str:
    return str(output.get("Datatype", "") or output.get("Format/Datatype", "")).split(" ")[-1]


def _sources(metadata: str, sources: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    names = _NODE.findall(metadata)
    return _each_once(source for name in names for source in sources.get(name, (name,)))


def _each_once(items: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))


def memory_of(log: Log) -> dict[str, int]:
    """Bytes that the engine needs on the device: `weights`, `activations`, `scratch`."""
    names = {"Weights": "weights", "Activation": "activations", "Scratch": "scratch"}
    found: dict[str, int] = {}
    for _, text in log.messages:
        for match in _SCRATCH.findall(text):
            label, _, size = match.rpartition(": ")
            found[next(key for word, key in names.items() if word in label)] = int(size.split()[0])
    return found


def as_json(layers: list[Layer]) -> list[dict[str, object]]:
    return [asdict(layer) for layer in layers]
