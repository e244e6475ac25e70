"""`edgecc inspect`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecc.cli.options import importer_option, json_option, parse_key_values, parse_shapes, shape_option
from edgecc.cli.output import format_bytes, log, print_json, print_table, status
from edgecc.errors import OptionError

if TYPE_CHECKING:
    from edgecc.backend import NodeSupport
    from edgecc.inspection import Explanation, Inspection, Support
    from edgecc.model import Model


@click.command("inspect")
@click.argument("source")
@click.option("-t", "--target", metavar="T[:key=value,...]", help="Only this target; default is every installed one.")
@click.option(
    "--explain",
    metavar="PASS[:key=value,...]",
    help="Say of each candidate of a pass what it made of it, or why it left it alone, as -O1 would run it for the "
    "target of -t; without -t for one that gains from every operator.",
)
@click.option(
    "--calibration",
    metavar="DATA",
    help="With --explain, samples for a pass that needs them: .npz, package.module:function, random, or statistics in "
    ".json.",
)
@click.option("--nodes", is_flag=True, help="List every node with its output shapes.")
@shape_option
@importer_option
@json_option
def command(
    source: str,
    target: str | None,
    explain: str | None,
    calibration: str | None,
    nodes: bool,
    shapes: tuple[str, ...],
    importer: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show what is in SOURCE, and which targets can take it and why not.

    With --target, each node after -O1 and the target's own passes with what takes it, or every reason why nothing does.
    """
    from edgecc.compiler import resolve_target
    from edgecc.inspection import explain_pass, find_support, inspect_model
    from edgecc.loading import load_model
    from edgecc.registry import default_registry

    if calibration and not explain:
        raise OptionError(
            "--calibration is for --explain", hint="add --explain PASS: only a pass makes something of samples"
        )
    registry = default_registry()
    chosen = [resolve_target(spec, registry) for spec in ([target] if target else sorted(registry.backends))]
    with status() as progress:
        progress(f"reading {source}")
        model = load_model(Path(source), registry, parse_shapes(shapes), parse_key_values(importer))
        if explain:
            explanation = explain_pass(
                model,
                explain,
                target or "",
                calibration=calibration or None,
                registry=registry,
                progress=progress.work,
            )
            _print_explanation(explanation, has_target=target is not None, as_json=as_json)
            return
        facts = inspect_model(model)
        support = []
        for backend, value in chosen:
            progress(f"asking {backend.name}")
            support.append(find_support(model, backend, value, explain=target is not None))
    if as_json:
        listed = {"nodes": [dict(zip(_NODE_COLUMNS, row, strict=True)) for row in _node_rows(model)]} if nodes else {}
        print_json({**asdict(facts), "targets": [asdict(s) for s in support], **listed})
        return
    _print(facts, support)
    for entry in support:
        if entry.nodes:
            click.echo()
            print_table(["node", "op", "taken by", "why not"], [_explained(node) for node in entry.nodes])
    if nodes:
        print_table(_NODE_COLUMNS, _node_rows(model))


def _print_explanation(explanation: Explanation, *, has_target: bool, as_json: bool) -> None:
    if as_json:
        print_json(asdict(explanation))
        return
    done = [[change.node, change.op, change.what] for change in explanation.changes]
    left = [[skip.node, skip.op, f"left alone: {skip.reason}"] for skip in explanation.skips]
    for note in explanation.notes:
        log(f"note: {note}")
    if explanation.changed and not done:
        click.echo(f"{explanation.pass_name} changes the model, and does not say node by node how")
    elif not done and not left:
        click.echo(f"{explanation.pass_name} has no candidate in this model")
    if not done and not left:
        return
    print_table(["node", "op", explanation.pass_name], [*done, *left])
    if not has_target:
        log("this is for a target that gains from every operator; add -t TARGET for what happens on yours")


def _explained(node: NodeSupport) -> list[str]:
    return [node.node, node.op, node.taken_by or "nothing", "; ".join(node.reasons)]


_NODE_COLUMNS = ("node", "op", "outputs", "from")


def _node_rows(model: Model) -> list[list[str]]:
    from edgecc.model import origins

    rows = []
    for node in model.nodes():
        shapes = " ".join(f"{t.name}{[*t.shape] if t.shape is not None else '?'}" for t in node.outputs)
        rows.append([node.name, node.op, shapes, " ".join(origins(node))])
    return rows


def _print(facts: Inspection, support: list[Support]) -> None:
    for kind, specs in (("input", facts.signature.inputs), ("output", facts.signature.outputs)):
        for spec in specs:
            click.echo(f"{kind:7} {spec}")
    least = "at least " if facts.uncounted or facts.unrepeated else ""
    size = format_bytes(facts.parameter_bytes)
    click.echo(f"{facts.parameters:,} parameters, {size}, {least}{facts.macs:,} MACs")
    if facts.uncounted:
        click.echo(f"(open or unknown sizes in {facts.uncounted} of the operators counted; fix them: --shape NAME=...)")
    if facts.unrepeated:
        click.echo(
            f"({facts.unrepeated} of the operators are in loops that run an unknown number of times: counted once)"
        )
    click.echo()
    print_table(["operator", "count"], [[op, str(count)] for op, count in facts.operators.items()], right=["count"])
    click.echo()
    for entry in support:
        if entry.problem:
            click.echo(f"{entry.target}: unknown: {entry.problem}")
        elif entry.unsupported:
            click.echo(f"{entry.target}: no, {len(entry.unsupported)} nodes cannot be compiled")
            for node in entry.unsupported:
                click.echo(f"  {node}")
        else:
            click.echo(f"{entry.target}: yes")
