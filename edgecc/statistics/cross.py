"""Products of what a layer reads in two models: the original, and one that quantization has changed so far."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from edgecc.statistics.answers import GramStatistic
from edgecc.statistics.checks import check_requests
from edgecc.statistics.grouping import MEMORY, grouped, sizes_of
from edgecc.statistics.observation import Observation
from edgecc.statistics.patches import rows_of
from edgecc.statistics.requests import Gram
from edgecc.statistics.samples import look_at
from edgecc.statistics.summation import ReproducibleSum

if TYPE_CHECKING:
    from edgecc.data.calibration import CalibrationData
    from edgecc.model import Model
    from edgecc.passes.base import WorkProgress


def cross_grams(
    reference: Model,
    model: Model,
    requests: Iterable[Gram],
    data: CalibrationData,
    *,
    memory: int = MEMORY,
    progress: WorkProgress = lambda text, done, total: None,
) -> dict[Gram, GramStatistic]:
    """Sums of x yᵀ, where x is a row that a layer reads in the reference and y the same row in the model.

    With weights W of the reference, `W @ sums` is what it computes times the model's inputs: what layer-wise
    reconstruction needs (AdaRound, arXiv 2004.10568; GPTQ, arXiv 2210.17323) beside the model's own Gram.

    Args:
        reference: not changed.
        model: with tensors of the same names and shapes; not changed.
        requests: of tensors that both have.
        data: read once for each group of tensors that the memory allows for.
        memory: most bytes of tensors fetched from one run of both.
        progress: called after each sample.

    Returns:
        For each request [groups, d + 1, d + 1]: x in the rows, y in the columns, each with a one appended.

    Raises:
        DataError: the data does not fit, or a tensor is NaN.
        PassContractError: a request is about no tensor that can be measured.
    """
    asked = list(dict.fromkeys(requests))
    for network in (reference, model):
        check_requests(asked, network)
    tensors = [tensor for tensor in model.tensors() if any(tensor.name == request.tensor for request in asked)]
    groups = grouped(sizes_of(tensors, model, data), memory // 2)
    sums: dict[Gram, ReproducibleSum] = {}
    for index, names in enumerate(groups):
        observations = [Observation(network, names) for network in (reference, model)]
        for number, feeds in enumerate(data.samples()):
            where = f"{data.source}, sample {number}"
            first, second = (observation.run(feeds, where)[0] for observation in observations)
            for request in asked:
                if request.tensor not in first:
                    continue
                pair = [look_at(found[request.tensor], request.tensor, where).values for found in (first, second)]
                x, y = (rows_of(values, request.layout, request.rows) for values in pair)
                products = x.transpose(0, 2, 1) @ y
                sums.setdefault(request, ReproducibleSum(products.shape)).add(products)
            progress("comparing layers", index * data.total + number + 1, len(groups) * data.total)
    return {request: GramStatistic(found.value()) for request, found in sums.items()}
