"""`import edgecc` and `edgecc --help` against the packages without which there is no edgecc.

Run it with `python -m benchmarks.import_time [ROUNDS]`.
"""

from __future__ import annotations

import sys

from benchmarks.measuring import edgecc_command, in_turns, machine, python, show_times

PEER = "import onnx, pydantic"


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    commands = {
        PEER: python(PEER),
        "import edgecc": python("import edgecc"),
        "import edgecc, every name": python("import edgecc; [getattr(edgecc, name) for name in edgecc.__all__]"),
        "edgecc --help": edgecc_command("--help"),
        "edgecc compile --help": edgecc_command("compile", "--help"),
        "python": python("pass"),
    }
    times = in_turns(commands, rounds)
    show_times(f"Import time ({machine()})", times, PEER, {"import edgecc": 1.3})


if __name__ == "__main__":
    main()
