"""The script: `python -m edgecc_keras.child.main REQUEST`.

The request is JSON of `source`, `signature`, `memory` (bytes; 0 for no limit), `output` and `result`.
Writes an ONNX file to `output`, and to `result` what is wrong, as JSON, or {"status": "ok", "lost": [what has no place
in a Model]}.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from edgecc_keras.child.report import ModelError


def main(request: dict[str, str]) -> None:
    """Convert one model."""
    _die_first()
    _limit_memory(int(request["memory"]))
    result = Path(request["result"])
    try:
        lost = _convert(Path(request["source"]), request["signature"], Path(request["output"]))
    except ModelError as error:
        result.write_text(json.dumps(error.as_json()), encoding="utf-8")
        return
    result.write_text(json.dumps({"status": "ok", "lost": lost}), encoding="utf-8")


def _convert(source: Path, signature: str, output: Path) -> list[str]:
    from edgecc_keras.child.checked_model import check_keras_file
    from edgecc_keras.child.graph_check import check_saved_model

    if source.is_dir() and (source / "saved_model.pb").is_file():
        graph = check_saved_model(source)
        from edgecc_keras.child.saved_model import left_out, traced_saved_model

        traced = traced_saved_model(source, graph, signature)
        lost = left_out(source, graph, signature)
    else:
        checked = check_keras_file(source)
        from edgecc_keras.child.keras_model import traced_keras_model

        traced = traced_keras_model(checked)
        lost = list(checked.lost)
    from edgecc_keras.child.to_onnx import to_onnx

    output.write_bytes(to_onnx(traced))
    return lost


def _die_first() -> None:
    """Where memory runs out, this process is to be ended, and no other (Linux)."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    except OSError:
        return


def _limit_memory(nbytes: int) -> None:
    """What this process may allocate (Linux): what a model asks for beyond that fails here, and slows nobody down.

    Memory that is mapped from files does not count, as it would with RLIMIT_AS: TensorFlow maps gigabytes.
    """
    if nbytes and sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (nbytes, nbytes))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
