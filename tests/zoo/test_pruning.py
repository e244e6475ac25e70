"""Whole models without 30 % of every group: they still compile, run, and compute the same on both targets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import edgecc
from edgecc.data.feeds import random_feeds
from edgecc.inspection import inspect_model
from edgecc.model import Model

from .sources import Load, all_sources

TOLERANCE = 1e-3
"""Of the largest value of an output: without the channels that balanced them, random weights make some values large
that later ones are small differences of."""
STEP = "prune-channels:ratio=0.3,criterion=magnitude,repair=false"


@pytest.mark.slow
@pytest.mark.parametrize("load", all_sources())
def test_without_a_part_of_every_group(load: Load, tmp_path: Path) -> None:
    path = tmp_path / "source.onnx"
    onnx.save(load(), path)
    before = Model.load(path)
    shapes = {
        spec.name: tuple(size if isinstance(size, int) else 1 for size in spec.shape)
        for spec in before.signature.inputs
        if any(not isinstance(size, int) for size in spec.shape)
    }
    results = [
        edgecc.compile(path, target=target, output=tmp_path / f"m{suffix}", passes=[STEP], shapes=shapes)
        for target, suffix in (("onnxruntime", ".onnx"), ("tflite", ".tflite"))
    ]
    after = inspect_model(results[0].model)
    if inspect_model(before).parameters > 1000:
        assert after.parameters < 0.9 * inspect_model(before).parameters
    feeds = random_feeds(results[0].model.signature, 0)
    outputs = []
    for result in results:
        with edgecc.runner(result.path) as runner:
            outputs.append(runner.infer(feeds))
    for name, wanted in outputs[0].items():
        found = outputs[1][name]
        assert found.shape == wanted.shape
        limit = TOLERANCE * max(1.0, float(np.abs(wanted).max()))
        np.testing.assert_allclose(found, wanted, rtol=0, atol=limit)
