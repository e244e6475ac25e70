"""What quantization cost, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgecc.cli.output import format_bytes, print_table

if TYPE_CHECKING:
    from edgecc.quantization.losses import QuantizationLosses


def print_losses(losses: QuantizationLosses) -> None:
    """Outputs against the float model, the share of work in integers, the worst layers."""
    share = f"{100 * losses.integer_macs:.1f} % of multiply-accumulates are computed with integers"
    click.echo(f"{share}; the weights had {format_bytes(losses.float_bytes)} in float")
    if not losses.samples:
        click.echo("what it cost was not measured: give samples, not only statistics, with --calibration DATA.npz")
        return
    rows = [
        [name, f"{found.sqnr_db:.1f} dB", "" if found.top1 is None else f"{100 * found.top1:.1f} %"]
        for name, found in losses.outputs.items()
    ]
    title = f"against the float model, on {losses.samples} {_kind(losses)}"
    print_table(["output", "SQNR", "same top-1"], rows, title=title, right=["SQNR", "same top-1"])
    if losses.accuracy is not None:
        found = losses.accuracy
        points = 100 * (found.quantized - found.source)
        click.echo(
            f"accuracy on {found.samples} {_kind(losses)} with labels: {100 * found.source:.2f} % in float, "
            f"{100 * found.quantized:.2f} % quantized ({points:+.2f} points)"
        )
    layers = [[f"{layer.sqnr_db:.1f} dB", layer.op, layer.node] for layer in losses.worst]
    if layers:
        print_table(["SQNR", "operator", "node"], layers, title="least exact layers", right=["SQNR"])


def _kind(losses: QuantizationLosses) -> str:
    if losses.held_out:
        return "held-out samples"
    return "of the samples that scales were chosen from (too few to hold some out)"
