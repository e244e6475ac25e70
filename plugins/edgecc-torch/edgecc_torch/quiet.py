"""PyTorch without its noise: versions, logs and warnings."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import traceback
import warnings
from collections.abc import Iterator

from edgecc.errors import PluginError

#: Oldest minor version whose archives and exporter are the ones that are written and read here.
OLDEST = (2, 13)


class LastError(logging.Handler):
    """Remembers the last exception that was logged instead of being raised."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._error: BaseException | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self._error = record.exc_info[1]

    def last_error(self) -> str:
        """Its type and text; "" if there was none."""
        return "".join(traceback.format_exception_only(self._error)) if self._error is not None else ""


@contextlib.contextmanager
def quiet() -> Iterator[LastError]:
    """Keep PyTorch's logs and warnings from the user, who can do nothing about them; gives what was logged last."""
    # PyTorch gives several of its loggers a handler of their own.
    known = [logging.getLogger(name) for name in ("torch", *logging.root.manager.loggerDict) if _is_torch(name)]
    handler = LastError()
    former = [(log, log.handlers, log.propagate) for log in known]
    for log in known:
        log.handlers, log.propagate = [handler], False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield handler
    finally:
        for log, handlers, propagate in former:
            log.handlers, log.propagate = handlers, propagate


def _is_torch(name: str) -> bool:
    return name.partition(".")[0] in ("torch", "onnxscript", "torchao")


def require_torch(*modules: str) -> None:
    """Raise PluginError if PyTorch, or another module that is needed beside it, is missing or too old."""
    for module in ("torch", *modules):
        if importlib.util.find_spec(module) is None:
            raise PluginError(f"{module} is not installed, which edgecc-torch needs", hint=f"pip install {module}")
    import torch

    found = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if found < OLDEST:
        raise PluginError(
            f"PyTorch {torch.__version__} is too old",
            why=f"exported programs are read from {'.'.join(map(str, OLDEST))} on",
            hint=f"pip install 'torch>={'.'.join(map(str, OLDEST))}'",
        )
