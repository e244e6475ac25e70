"""`-O1` on large graphs: seconds of 5 000, 10 000 and 20 000 nodes, and the memory of a model with 1.5 GB of weights.

Run it with `python -m benchmarks.optimization_scaling [nodes] [memory]`; both without a word.
"""

from __future__ import annotations

import gc
import math
import resource
import sys
import time
from collections.abc import Sequence

import numpy as np
import onnx
from rich.table import Table

from benchmarks.measuring import machine, show
from edgecc import Model, PassContext, PassPipeline, Rounds
from edgecc.compiler import resolve_pass
from edgecc.importers.onnx import OnnxImporter
from edgecc.presets import DEFAULT
from edgecc.registry import default_registry

#: What exporters make of one transformer layer without attention: everything is written out.
_BLOCK = """
    m{i} = ReduceMean<keepdims=1>(x{i}, last)  d{i} = Sub(x{i}, m{i})  p{i} = Pow(d{i}, two)
    v{i} = ReduceMean<keepdims=1>(p{i}, last)  e{i} = Add(v{i}, eps)  s{i} = Sqrt(e{i})  n{i} = Div(d{i}, s{i})
    g{i} = Mul(n{i}, scale)  b{i} = Add(g{i}, bias)  w{i} = MatMul(b{i}, weight{k})  c{i} = Add(w{i}, bias)
    a{i} = Div(c{i}, root)  r{i} = Erf(a{i})  o{i} = Add(r{i}, one)  f{i} = Mul(c{i}, o{i})  h{i} = Mul(f{i}, half)
    t{i} = Transpose<perm=[0,2,1]>(h{i})  u{i} = Transpose<perm=[0,2,1]>(t{i})  i{i} = Identity(u{i})
    q{i} = Shape(i{i})  y{i} = Reshape(i{i}, q{i})  z{i} = Cast<to=1>(y{i})  x{j} = Add(x{i}, z{i})
"""
_NODES_PER_BLOCK = _BLOCK.count("=") - _BLOCK.count("<")


def model_of(nodes: int, width: int = 8, weights: int = 1) -> onnx.ModelProto:
    """A chain of blocks, `weights` of which have matrices of their own."""
    blocks = math.ceil(nodes / _NODES_PER_BLOCK)
    body = "".join(_BLOCK.format(i=i, j=i + 1, k=i % weights) for i in range(blocks))
    text = f"""<ir_version: 9, opset_import: ["": 18]>
        g (float[1,4,{width}] x0) => (float[1,4,{width}] x{blocks}) {{ {body} }}"""
    proto = onnx.parser.parse_model(text)
    random = np.random.default_rng(0)
    constants = {
        "last": np.array([-1]), "two": 2.0, "eps": 1e-5, "root": math.sqrt(2), "one": 1.0, "half": 0.5,
        "scale": random.random(width), "bias": random.random(width),
        **{f"weight{k}": random.random((width, width), np.float32) for k in range(weights)},
    }  # fmt: skip
    for name, value in constants.items():
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    for index, node in enumerate(proto.graph.node):
        node.name = f"node_{index}"
    return proto


def optimize(model: Model) -> None:
    registry = default_registry()
    passes = tuple(resolve_pass(spec, registry) for spec in registry.preset(DEFAULT).passes)
    PassPipeline([Rounds(passes)]).run(model, PassContext(None, np.random.default_rng(0)))


def measure_nodes() -> None:
    table = Table("nodes", "after", "seconds", "microseconds per node", title=f"-O1 on large graphs ({machine()})")
    for nodes in (1_000, 5_000, 10_000, 20_000):
        model = OnnxImporter().from_proto(model_of(nodes))
        before = nodes
        start = time.process_time()
        optimize(model)
        taken = time.process_time() - start
        table.add_row(f"{before:,}", f"{len(model.nodes()):,}", f"{taken:.2f}", f"{taken / before * 1e6:.0f}")
    show(table)


def measure_memory() -> None:
    """Peak memory of the process after import of a model and after optimizing it."""
    width, matrices = 4096, 24
    model = OnnxImporter().from_proto(model_of(matrices * _NODES_PER_BLOCK, width, matrices))
    size = sum(constant.values.nbytes for constant in model.constants())
    loaded = peak()
    start = time.process_time()
    optimize(model)
    table = Table(
        "weights", "peak when loaded", "peak when optimized", "seconds", title=f"-O1 of large weights ({machine()})"
    )
    table.add_row(*(f"{n / 1e9:.2f} GB" for n in (size, loaded, peak())), f"{time.process_time() - start:.2f}")
    show(table)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(words: Sequence[str]) -> None:
    gc.disable()  # as the command line does
    if not words or "nodes" in words:
        measure_nodes()
    if not words or "memory" in words:
        measure_memory()


if __name__ == "__main__":
    main(sys.argv[1:])
