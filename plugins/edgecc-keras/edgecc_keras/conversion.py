"""TensorFlow in a process of its own: its import of seconds, its logs and its crashes stay out of edgecc."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from edgecc.errors import InvalidModelError, PluginError, Unsupported, UnsupportedError

_SHOWN_LINES = 8
#: What TensorFlow's process is told of this one's environment: enough to find libraries, temporary folders and settings
#: of the numeric ones. Secrets in the rest are no business of a process that reads a file from elsewhere.
_PASSED = frozenset(
    {"HOME", "LANG", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "TZ"}
)
_PASSED_PREFIXES = ("COVERAGE_", "LC_", "MKL_", "OMP_", "OPENBLAS_", "TF_", "XLA_")
#: Lines of TensorFlow's log, which say nothing about the model.
_LOG_LINE = re.compile(r"^([IWE]\d{4} |WARNING:|INFO:|To enable the following|\d{4}-\d\d-\d\d .*: [IWE] )")


@dataclass(frozen=True)
class Limits:
    """What TensorFlow may take.

    Attributes:
        seconds: of time.
        gigabytes: of memory; 0 for three quarters of this machine's.
    """

    seconds: int
    gigabytes: float = 0


def convert(path: Path, source: Path, work: Path, signature: str, limits: Limits) -> tuple[Path, tuple[str, ...]]:
    """The ONNX file that TensorFlow and tf2onnx make of a model, and what of the model has no place in it.

    Args:
        path: what the user named, for messages.
        source: a SavedModel folder, an `.h5` file or the folder of an unpacked `.keras` archive.
        work: an empty folder for the child's files.
        signature: of a SavedModel; "" for the only or default one.
        limits: of time and memory.

    Raises:
        PluginError: TensorFlow, or another package that is needed, is not installed.
        InvalidModelError: the model cannot be read, or TensorFlow crashed or did not end in time.
        UnsupportedError: ONNX has nothing for one of its operators.
    """
    for module in ("tensorflow", "tf2onnx", "h5py"):
        if importlib.util.find_spec(module) is None:
            raise PluginError(f"{module} is not installed, which edgecc-keras needs", hint=f"pip install {module}")
    request = {"source": str(source), "signature": signature, "result": str(work / "result.json")}
    request["memory"] = str(_bytes(limits))
    request["output"] = str(work / "converted.onnx")
    log = work / "log.txt"
    with log.open("wb") as stream:
        command = [sys.executable, "-P", "-m", "edgecc_keras.child.main", json.dumps(request)]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                cwd=work,
                env=_environment(),
                timeout=limits.seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise InvalidModelError(
                f"TensorFlow did not read {path} within {limits.seconds} s and was ended",
                why=_tail(log),
                hint=f"give it more time: --importer timeout={4 * limits.seconds}",
            ) from None
    result = _result(Path(request["result"]))
    if (done.returncode or not result) and _ran_out_of_memory(log):
        raise InvalidModelError(
            f"TensorFlow wants more memory for {path} than it may take, {_bytes(limits) / 1e9:.1f} GB",
            why=_tail(log),
            hint="the file may be damaged or made to exhaust memory; otherwise allow more: --importer memory=GIGABYTES",
        )
    if done.returncode or not result:
        raise InvalidModelError(
            f"TensorFlow failed at {path}",
            why=_tail(log) or _exit_in_words(done.returncode),
            hint="the file may be damaged; if TensorFlow itself can load it, please report this",
        )
    if "error" in result:
        _refuse(path, result)
    return Path(request["output"]), tuple(map(str, result.get("lost", ())))


def _bytes(limits: Limits) -> int:
    """Bytes of memory; 0 where the system does not say how much there is."""
    if limits.gigabytes:
        return int(limits.gigabytes * 1e9)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4 * 3
    except (AttributeError, OSError, ValueError):
        return 0


#: What Python, C++, TensorFlow and the C library say, in small letters.
_OUT_OF_MEMORY = ("memoryerror", "std::bad_alloc", "resourceexhausted", "cannot allocate memory")


def _ran_out_of_memory(log: Path) -> bool:
    text = log.read_text(encoding="utf-8", errors="replace").lower()
    return any(words in text for words in _OUT_OF_MEMORY)


def _environment() -> dict[str, str]:
    """What of this process's environment is needed, its module paths, and neither TensorFlow's log nor GPUs."""
    passed = {key: value for key, value in os.environ.items() if key in _PASSED or key.startswith(_PASSED_PREFIXES)}
    paths = [str(Path(entry or ".").absolute()) for entry in sys.path]
    return {
        **passed,
        "PYTHONPATH": os.pathsep.join(paths),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "CUDA_VISIBLE_DEVICES": "-1",
        "KERAS_BACKEND": "tensorflow",
    }


def _result(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _refuse(path: Path, result: dict[str, Any]) -> NoReturn:
    what = str(result["what"]).replace("{path}", str(path))
    where, why, hint = (str(result.get(key, "")) for key in ("where", "why", "hint"))
    if result["error"] == "missing":
        raise PluginError(what, why=why, hint=hint)
    if result["error"] == "unsupported":
        nodes = [Unsupported(node, op, "ONNX has nothing for it") for node, op in result["nodes"]]
        raise UnsupportedError(str(path), nodes, done="imported from")
    raise InvalidModelError(what, where=where, why=why, hint=hint)


def _tail(log: Path) -> str:
    """The last lines of the child's output that are not TensorFlow's log."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    told = [line.rstrip() for line in lines if line.strip() and not _LOG_LINE.match(line)]
    return "\n       ".join(told[-_SHOWN_LINES:])[-2000:]


def _exit_in_words(code: int) -> str:
    from edgecc.running.worker_process import describe_exit

    return describe_exit(code)
