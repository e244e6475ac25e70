"""Channels-last as one problem over the graph: `solve` chooses the memory order of every tensor.

`refinement` keeps axes apart that need not be merged, `problem` states what is left, `behaviours` say what each
operator allows, `min_cut` solves it, `apply` carries it out.
"""

from __future__ import annotations

from edgecc_tflite.layout.solver import solve

__all__ = ["solve"]
