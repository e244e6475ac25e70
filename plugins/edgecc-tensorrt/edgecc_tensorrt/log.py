"""Log: keeps what TensorRT says while it parses and builds."""

from __future__ import annotations

from typing import Any, Protocol

#: Lines that say nothing to the user: types that the signature states anyway, the absence of a GPU, repetitions.
_NOISE = (
    *("Make sure input", "Make sure output", "RemoveDeadLayers", "Empty initializer"),
    *("catchCudaError", "CUDA driver version is insufficient"),
)


class Log(Protocol):
    """A logger of the SDK with what it was told."""

    messages: list[tuple[str, str]]


def make_log(module: Any) -> Log:
    """An `ILogger` that keeps `(severity, text)`.

    Args:
        module: `tensorrt` or `tensorrt_rtx`, whose class the logger must derive from.
    """
    base: Any = module.ILogger

    class _Log(base):  # type: ignore[misc]  # the base is known at run time only
        def __init__(self) -> None:
            base.__init__(self)
            self.messages: list[tuple[str, str]] = []

        def log(self, severity: Any, message: str) -> None:
            self.messages.append((str(severity).rpartition(".")[2], message))

    found: Log = _Log()
    return found


def warnings(log: Log) -> list[str]:
    """What the user should read, once each."""
    return _said(log, "WARNING")


def errors(log: Log) -> list[str]:
    return _said(log, "ERROR", "INTERNAL_ERROR")


def _said(log: Log, *severities: str) -> list[str]:
    texts = [text.strip() for severity, text in log.messages if severity in severities]
    return list(dict.fromkeys(text for text in texts if not any(noise in text for noise in _NOISE)))
