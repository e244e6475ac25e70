"""Options that leave others without a meaning are refused, where the user gave them; recorded passes are accepted."""

from __future__ import annotations

import numpy as np
import pytest

from edgecc.compiler import resolve_pass
from edgecc.data.calibration import open_calibration
from edgecc.errors import OptionError
from edgecc.model import Model
from edgecc.passes.base import PassContext
from edgecc.passes.pipeline import PassPipeline
from edgecc.registry import default_registry

TEXT = """g (float[1,8] x) => (float[1,8] y)
{ a = MatMul(x, w) b = Relu(a) c = MatMul(b, v) d = Relu(c) y = MatMul(d, u) }"""


def attempt(spec: str) -> str:
    """The pass as it is recorded after it ran."""
    rng = np.random.default_rng(0)
    shapes = {"w": (8, 16), "v": (16, 16), "u": (16, 8)}
    model = Model.from_text(TEXT, {name: rng.standard_normal(s).astype(np.float32) for name, s in shapes.items()})
    ctx = PassContext(None, rng)
    ctx.calibration = open_calibration({"x": rng.standard_normal((32, 8)).astype(np.float32)}, model.signature)
    step = resolve_pass(spec, default_registry())
    PassPipeline([step]).run(model, ctx)
    return step.spec()


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("prune-weights:pattern=2:4,keep=0.1", "keep of prune-weights means nothing here: a pattern says"),
        (
            "prune-weights:pattern=2:4,allocation=global",
            "allocation of prune-weights means nothing here: a pattern says",
        ),
        (
            "prune-weights:pattern=2:4,allocation=uniform,keep=0",
            "keep and allocation of prune-weights mean nothing here",
        ),
        (
            "prune-channels:macs=0.5,criterion=magnitude,sensitivity=layers",
            "sensitivity of prune-channels means nothing here: it is about errors of criterion obs, and the criterion "
            "is magnitude",
        ),
        (
            "factorize-low-rank:energy=0.9,keep=0.3",
            "keep of factorize-low-rank means nothing here: it is about budgets",
        ),
        (
            "factorize-low-rank:rank=evbmf,keep=0.3",
            "keep of factorize-low-rank means nothing here: it is about budgets",
        ),
        ("prune-weights:pattern=2-4", "option 'pattern' of pass 'prune-weights': '2-4' is not written like 2:4"),
        ("factorize-low-rank:forms=[]", "option 'forms' of pass 'factorize-low-rank': at least 1 must be given"),
        (
            "factorize-low-rank:forms=[channel,tuckr]",
            "option 'forms' of pass 'factorize-low-rank': Input should be 'channel', 'spatial' or 'tucker'",
        ),
    ],
)
def test_refused(spec: str, said: str) -> None:
    with pytest.raises(OptionError) as caught:
        attempt(spec)
    assert said in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    "spec",
    [
        "prune-weights:pattern=2:4",
        "prune-weights:sparsity=0.5,allocation=uniform,keep=0.1",
        "prune-channels:macs=0.5,criterion=magnitude",
        "prune-channels:macs=0.7,sensitivity=layers",
        "factorize-low-rank:energy=0.9",
        "factorize-low-rank:macs=0.7,keep=0.3",
        "factorize-low-rank",
    ],
)
def test_what_is_recorded_is_accepted(spec: str) -> None:
    recorded = attempt(spec)
    assert attempt(recorded) == recorded
