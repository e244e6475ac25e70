"""The static verifier: what must hold for the written model to be right, which is more than that it loads.

The runtime checks little: most quantization rules and some structural ones are broken silently. The backend runs this
on every graph and writes none that breaks a rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from edgecc_tflite.ir import Graph
from edgecc_tflite.rules import quantization, structure
from edgecc_tflite.rules.violation import Violation

RULES: tuple[Callable[[Graph], Iterator[Violation]], ...] = (
    structure.written_before_read,
    structure.signature_names,
    structure.source_names,
    structure.shapes,
    structure.ranks,
    structure.types,
    structure.broadcasting,
    structure.convolution_bias,
    structure.sparse_constants,
    quantization.scale_values,
    quantization.scales_present,
    quantization.scales_needed,
    quantization.same_scale,
    quantization.fixed_scale,
    quantization.weight_axis,
    quantization.weight_zero_point,
    quantization.data_per_tensor,
    quantization.bias_scale,
    quantization.int16_scales,
    quantization.rescaling,
    quantization.block_scales,
)


def verify(graph: Graph) -> list[Violation]:
    """Every place where the graph breaks a rule; empty for a graph that may be written."""
    inner = [part for part in graph.nested() if part is not graph]
    # Only the model's own inputs and outputs are known by their names.
    inner_rules = [rule for rule in RULES if rule is not structure.signature_names]
    found = [violation for rule in RULES for violation in rule(graph)]
    return found + [violation for part in inner for rule in inner_rules for violation in rule(part)]
