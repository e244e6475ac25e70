"""Random numbers: the same distribution, never the same numbers."""

from __future__ import annotations

import numpy as np

from edgecc_tflite.importing.base import ImportRule, Refusal
from edgecc_tflite.importing.context import Import


def _blank(c: Import) -> str:
    return c.add("Expand", [c.scalar(0, np.float32), c.int64(0)])


def _seed(c: Import) -> dict[str, float]:
    seed = int(c.option("seed")) or int(c.option("seed2"))
    return {"seed": float(seed)} if seed else {}


def _uniform(c: Import) -> None:
    c.give(c.add("RandomUniformLike", [_blank(c)], dtype=1, **_seed(c)))


def _normal(c: Import) -> None:
    c.give(c.add("RandomNormalLike", [_blank(c)], dtype=1, **_seed(c)))


def _multinomial(c: Import) -> None:
    count = c.value(1)
    if count is None or count.size != 1 or int(count.reshape(-1)[0]) < 1:
        raise Refusal("the number of its samples is computed")
    kind = 7 if c.out().dtype == np.int64 else 6
    c.give(c.add("Multinomial", [c.x(0)], sample_size=int(count.reshape(-1)[0]), dtype=kind, **_seed(c)))


RULES = (
    ImportRule("RANDOM_UNIFORM", _uniform, ("RandomUniformLike", "Expand"), "Other numbers of the same distribution."),
    ImportRule("RANDOM_STANDARD_NORMAL", _normal, ("RandomNormalLike", "Expand"), "Other numbers as well."),
    ImportRule("MULTINOMIAL", _multinomial, ("Multinomial",), "Other numbers as well."),
)
