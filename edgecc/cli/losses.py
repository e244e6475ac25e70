"""What lossy passes cost, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgecc.cli.output import format_bytes, print_table

if TYPE_CHECKING:
    from edgecc.acceptance.losses import Losses, StepLoss
    from edgecc.quantization.losses import QuantizationLosses


def print_losses(losses: Losses) -> None:
    """A row for each lossy pass: what is left of the source, and how far its outputs are from the source's."""
    rows = [
        ["the source", "", format_bytes(losses.weight_bytes), "", "", "", _percent(losses.accuracy), ""],
        *(_row(step, losses) for step in losses.steps),
    ]
    # Columns without a value in any row say nothing.
    places = [place for place in range(len(_COLUMNS)) if any(row[place] for row in rows)]
    columns = [_COLUMNS[place] for place in places]
    title = "what was lost" if not losses.samples else f"against the source, on {losses.samples} {_kind(losses)}"
    print_table(columns, [[row[place] for place in places] for row in rows], title=title, right=_COLUMNS[1:7])
    if not losses.samples:
        click.echo("what it cost was not measured: give samples, not only statistics, with --calibration DATA.npz")
    last = losses.kept
    if last is not None and len(last.outputs) > 1:
        outputs = [[name, f"{found.sqnr_db:.1f} dB", _percent(found.top1)] for name, found in last.outputs.items()]
        print_table(["output", "SQNR", "same top-1"], outputs, title="in the end", right=["SQNR", "same top-1"])
    if losses.quantization is not None:
        _print_layers(losses.quantization)


_COLUMNS = ("after", "MACs", "weights", "SQNR", "same top-1", "(95 % interval)", "accuracy", " ")


def _row(step: StepLoss, losses: Losses) -> list[str]:
    agreement = step.agreement()
    interval = "" if agreement is None else f"{100 * agreement[1]:.1f} to {100 * agreement[2]:.1f} %"
    return [
        step.step,
        f"{100 * step.macs / losses.macs:.0f} %" if losses.macs else "",
        format_bytes(step.weight_bytes),
        f"{min(found.sqnr_db for found in step.outputs.values()):.1f} dB" if step.outputs else "",
        _percent(None if agreement is None else agreement[0]),
        interval,
        _percent(step.accuracy),
        "taken back" if step.taken_back else "",
    ]


def _print_layers(found: QuantizationLosses) -> None:
    click.echo(f"{100 * found.integer_macs:.1f} % of multiply-accumulates are computed with integers")
    layers = [[f"{layer.sqnr_db:.1f} dB", layer.op, layer.node] for layer in found.worst]
    if layers:
        print_table(["SQNR", "operator", "node"], layers, title="least exact layers", right=["SQNR"])


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _kind(losses: Losses) -> str:
    if losses.held_out:
        return "held-out samples"
    return "of the samples that passes saw (too few to hold some out)"
