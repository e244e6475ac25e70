"""Tables of statistics as JSON: one line per statistic, so that people can read and compare them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edgecc.artifact import write_files
from edgecc.errors import DataError
from edgecc.statistics.answers import (
    Answer,
    Excluded,
    HistogramStatistic,
    LinearBins,
    LogBins,
    MomentsStatistic,
    RangeStatistic,
)
from edgecc.statistics.requests import ChannelAbsMax, Gram, Histogram, Moments, MovingRange, Range, Request
from edgecc.statistics.table import DataIdentity, StatisticTable

#: Changes with the format; another one is refused.
FORMAT = 1

_KINDS: dict[str, type[Range | MovingRange | Histogram | Moments | ChannelAbsMax]] = {
    "range": Range,
    "moving-range": MovingRange,
    "histogram": Histogram,
    "moments": Moments,
    "channel-abs-max": ChannelAbsMax,
}


def to_text(table: StatisticTable) -> str:
    """The file's text; the same for tables with the same answers."""
    lines = [
        "{",
        f'"edgecc_statistics": {FORMAT},',
        f'"data": {json.dumps(asdict(table.data), ensure_ascii=False)},',
        '"tensors": [',
        ",\n".join(_tensors(table)),
        "]",
        "}",
    ]
    return "\n".join(line for line in lines if line) + "\n"


def save(table: StatisticTable, path: Path) -> None:
    """Write the table; Grams are left out."""
    write_files({path: to_text(table).encode()})


def load(path: Path) -> StatisticTable:
    """Read a table.

    Raises:
        DataError: the file is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a table of statistics", why=str(error)) from error
    if not isinstance(content, dict) or "edgecc_statistics" not in content:
        raise DataError(
            f"{path} is not a table of statistics",
            hint="edgecc compile --calibration DATA.npz --save-statistics TABLE.json writes one",
        )
    if content["edgecc_statistics"] != FORMAT:
        raise DataError(
            f"{path} has format {content['edgecc_statistics']!r}, this edgecc reads {FORMAT}",
            hint="measure again: --calibration DATA.npz --save-statistics TABLE.json",
        )
    try:
        return _from_content(content)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        why = f"{type(error).__name__}: {error}"
        raise DataError(f"{path} is a damaged table of statistics", why=why, hint="measure again") from error


def _tensors(table: StatisticTable) -> Iterator[str]:
    by_cone: dict[str, list[str]] = {}
    for (cone, request), answer in table.answers.items():
        if not isinstance(request, Gram):
            by_cone.setdefault(cone, []).append(f"  {json.dumps(_entry(request, answer))}")
    for cone, entries in sorted(by_cone.items(), key=lambda item: (table.names.get(item[0], ""), item[0])):
        name = json.dumps(table.names.get(cone, ""), ensure_ascii=False)
        statistics = ",\n".join(sorted(entries))
        yield f'{{"tensor": {name}, "cone": "{cone}", "statistics": [\n{statistics}]}}'


def _entry(request: Request, answer: Answer) -> dict[str, Any]:
    kind = next(name for name, cls in _KINDS.items() if type(request) is cls)
    options = {key: value for key, value in asdict(request).items() if key != "tensor" and value is not None}
    entry = {"kind": kind, **options, **_content(answer)}
    if _excluded(answer) != Excluded():
        entry["excluded"] = asdict(_excluded(answer))
    return entry


def _excluded(answer: Answer) -> Excluded:
    """How many values an answer left out."""
    return getattr(answer, "excluded", Excluded())


def _content(answer: Answer) -> dict[str, Any]:
    match answer:
        case RangeStatistic():
            return {"low": answer.low.tolist(), "high": answer.high.tolist()}
        case MomentsStatistic():
            return {
                "count": answer.count.tolist(),
                "mean": answer.mean.tolist(),
                "variance": answer.variance.tolist(),
            }
        case HistogramStatistic():
            content: dict[str, Any] = {
                "count": answer.count,
                "zeros": answer.zeros,
                "low": answer.low,
                "high": answer.high,
            }
            if answer.linear is not None:
                bins = answer.linear
                content["linear"] = {"exponent": bins.exponent, "first": bins.first, "counts": bins.counts.tolist()}
            if answer.log is not None:
                log = answer.log
                negative, positive = log.negative.tolist(), log.positive.tolist()
                content["log"] = {"first": log.first, "negative": negative, "positive": positive}
            return content
        case _:
            raise TypeError(f"{type(answer).__name__} is not saved")


def _from_content(content: Mapping[str, Any]) -> StatisticTable:
    answers: dict[tuple[str, Request], Answer] = {}
    names = {}
    for tensor in content["tensors"]:
        names[str(tensor["cone"])] = str(tensor["tensor"])
        for entry in tensor["statistics"]:
            answers[str(tensor["cone"]), _request(entry)] = _answer(entry)
    data = content["data"]
    identity = DataIdentity(str(data["source"]), str(data["digest"]), int(data["samples"]))
    return StatisticTable(answers, names=names, data=identity)


def _request(entry: Mapping[str, Any]) -> Request:
    options = {key: entry[key] for key in ("axis", "momentum") if key in entry}
    return _KINDS[entry["kind"]](tensor="", **options)


def _answer(entry: Mapping[str, Any]) -> Answer:
    excluded = Excluded(**{key: int(value) for key, value in entry.get("excluded", {}).items()})
    match entry["kind"]:
        case "histogram":
            return _histogram(entry, excluded)
        case "moments":
            return MomentsStatistic(_ints(entry["count"]), _floats(entry["mean"]), _floats(entry["variance"]), excluded)
        case _:
            return RangeStatistic(_floats(entry["low"]), _floats(entry["high"]), excluded)


def _histogram(entry: Mapping[str, Any], excluded: Excluded) -> HistogramStatistic:
    linear, log = entry.get("linear"), entry.get("log")
    return HistogramStatistic(
        int(entry["count"]),
        int(entry["zeros"]),
        float(entry["low"]),
        float(entry["high"]),
        linear and LinearBins(int(linear["exponent"]), int(linear["first"]), _ints(linear["counts"])),
        log and LogBins(int(log["first"]), _ints(log["positive"]), _ints(log["negative"])),
        excluded,
    )


def _floats(values: object) -> np.ndarray:
    return np.array(values, np.float64)


def _ints(values: object) -> np.ndarray:
    return np.array(values, np.int64)
