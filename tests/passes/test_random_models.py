"""Every pass that must keep values, on random models."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgecc.builtin import edgecc_passes
from edgecc.model import Model
from edgecc.passes.base import Loss, Pass
from edgecc.testing import check_contract
from edgecc.testing.strategies import models

#: Some ten layers of float32 sums; what folding moves is far below it, a wrong fold far above.
ROUNDING = 1e-4

KEEPING = [cls for cls in (entry.load() for entry in edgecc_passes()) if cls.loss is not Loss.LOSSY]


@pytest.mark.parametrize("cls", KEEPING, ids=lambda cls: str(cls.name))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(model=models())
def test_pass_keeps_its_contract(cls: type[Pass], model: Model) -> None:
    check_contract(cls(), model, tolerance=None if cls.loss is Loss.EXACT else ROUNDING)


@pytest.mark.parametrize("cls", KEEPING, ids=lambda cls: str(cls.name))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(model=models(branches=True))
def test_pass_keeps_its_contract_beside_branches(cls: type[Pass], model: Model) -> None:
    """Subgraphs read what passes would move or remove, and hold nodes like those that passes look for."""
    check_contract(cls(), model, tolerance=None if cls.loss is Loss.EXACT else ROUNDING)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(model=st.booleans().flatmap(lambda branches: models(branches=branches)))
def test_models_are_whole_and_run(model: Model) -> None:
    from edgecc.data.feeds import random_feeds
    from edgecc.passes.verification import run

    model.verify()
    assert model.outputs
    outputs = run(model, random_feeds(model.signature, 0))
    for spec in model.signature.outputs:
        assert outputs[spec.name].shape[1:] == spec.shape[1:]
