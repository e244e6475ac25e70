"""The layout of a whole graph: which proposals to try, and what the solution does to the graph."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from edgecc_tflite.ir import Graph, Tensor
from edgecc_tflite.layout.apply import apply
from edgecc_tflite.layout.behaviours import is_rigid
from edgecc_tflite.layout.channels import solve_channels
from edgecc_tflite.layout.cleanup import cancel_quantizes, drop_unused, merge_reshapes, unflatten
from edgecc_tflite.layout.problem import SINK, SOURCE, Cut, Problem, Proposal, cost_of
from edgecc_tflite.layout.refinement import refine

KEEP, NHWC = "keep", "nhwc"
#: How many operators an order that starts at one transpose reaches.
NEARBY = 48


def solve(graph: Graph, io_layout: str = KEEP, exceptions: Mapping[str, str] = MappingProxyType({})) -> Graph:
    """Choose memory orders for all tensors and put TRANSPOSE only where they change.

    Args:
        graph: as `lower` made it; its operators and tensors are changed.
        io_layout: "keep" leaves the model's inputs and outputs as the source has them; "nhwc" lets those of rank 4 be
            channels-last where the operators behind them are.
        exceptions: layouts of single inputs and outputs, by the source's names.
    """
    free_ends = frozenset(
        end
        for end in (*graph.inputs, *graph.outputs)
        if end.rank == 4 and exceptions.get(end.source, io_layout) == NHWC
    )
    drop_unused(graph)
    for subgraph in [inner for op in graph.operators for inner in op.subgraphs]:
        # What enters and leaves a subgraph lies as the operator around it declares it.
        solve(subgraph)
    if not free_ends and not any(op.builtin == "TRANSPOSE" for op in graph.operators):
        merge_reshapes(graph)
        cancel_quantizes(graph)
        return graph
    merge_reshapes(graph)
    refine(graph)
    merge_reshapes(graph)
    unflatten(graph)
    problem = Problem.of(graph, free_ends)
    # Channels-last spreads from the convolutions, and where it costs the same up to the model's inputs and outputs.
    rigid = [op for op in problem.operators if is_rigid(op.builtin) and op.builtin not in (SOURCE, SINK)]
    _improve(problem, Proposal.spreading(problem, rigid, only=_is_wide), eager=True)
    if cost_of(problem):
        # What the model's own transposes do away from convolutions: try to do them later, then to do them earlier.
        for end in (SOURCE, SINK):
            ends = [op for op in problem.operators if op.builtin == end]
            _improve(problem, Proposal.spreading(problem, ends), eager=False)
        _improve_around_copies(problem)
    apply(graph, problem)
    drop_unused(graph)
    merge_reshapes(graph)
    cancel_quantizes(graph)
    solve_channels(graph)
    drop_unused(graph)
    return graph


def _is_wide(tensor: Tensor) -> bool:
    return tensor.rank > 2


def _improve_around_copies(problem: Problem) -> None:
    """Where a tensor is still read in another order than it is written in, spread either order from there alone.

    What separates a transpose from the model's ends, such as a RESHAPE that it cannot pass, hides it from the moves
    that start there. Small tensors come first: what a large one lies in then fits them already. The walk is short: an
    order that finds no partner nearby costs the same wherever it is changed.
    """
    for tensor in sorted(filter(problem.is_copied, problem.producer), key=lambda t: t.nbytes):
        writer, readers = problem.producer[tensor], problem.readers.get(tensor, [])
        for seed, number in (writer, *readers):
            if not problem.is_copied(tensor):
                break
            if problem.order_at(seed, number) == problem.order_at(*writer) and seed is not writer[0]:
                continue
            only = frozenset({tensor}).__contains__
            proposal = Proposal.spreading(problem, [seed], only=only, most_operators=NEARBY)
            _improve(problem, proposal, eager=False)


def _improve(problem: Problem, proposal: Proposal, *, eager: bool) -> None:
    for op in Cut(problem, proposal, eager=eager).taking():
        problem.config[op] = proposal.config[op]
