"""Runs onnx's backend node tests through import, passes, lowering and LiteRT.

    python plugins/edgecc-tflite/tests/node_tests/run_cases.py [PART_OF_A_NAME]     prints what differs, and why
    python plugins/edgecc-tflite/tests/node_tests/run_cases.py --update             writes expectations.txt
    python plugins/edgecc-tflite/tests/node_tests/run_cases.py --imported ...       the same of the importer

A case is `ok` (right on XNNPACK and on the reference kernels), `unsupported` (a node without a rule that takes it) or
`refused` (the model cannot be imported). Everything else is a bug: `wrong`, `runtime`, `error`, `crash`, `hang`.
With `--imported` the file that a case comes to is imported and ONNX Runtime's result compared with LiteRT's; a case of
which there is no file is `unwritten`.

Cases run in child processes, so that a crash or a hang of the runtime is a result like any other.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from onnx.backend.test.case.test_case import TestCase

EXPECTATIONS = Path(__file__).with_name("expectations.txt")
IMPORTED = Path(__file__).with_name("imported.txt")
ALLOWED = ("ok", "unsupported", "refused", "unwritten")
#: Seconds after which a case hangs; the slowest takes less than two on a busy machine.
LIMIT = 60.0
#: Of a value, and of the largest one beside it (never taken for less than one): sums are made in another order.
_FLOAT32 = (1e-3, 1e-5)
#: float16 has 11 bits.
_SMALL_FLOAT = (1e-2, 1e-2)

#: Judged on XNNPACK alone, the runtime's default: in these an infinity comes out of an addition, where the reference
#: kernels clamp to finite numbers. Rows of attention that are masked altogether are told by it.
_INFINITE = frozenset(
    f"test_{name}{ending}"
    for name in (
        "attention_4d_causal_nonpad_negative_offset_structural_empty",
        "attention_4d_with_past_and_present_qk_matmul_bias_3d_mask_causal",
        "attention_4d_with_past_and_present_qk_matmul_bias_4d_mask_causal",
        "attention_causal_boolmask_nan_robustness",
        "mod_float_edge_cases_fmod_0_float32",
    )
    for ending in ("", "_expanded")
)

#: What became of a case, and why.
Result = tuple[str, str]


# ------------------------------------------------------------------------------------------------------------- cases


def cases() -> dict[str, TestCase]:
    """The node tests of the installed onnx whose inputs and outputs are plain tensors of numbers."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name: case for case in collect_testcases(None) if _is_plain(case.model)}


def _is_plain(model: onnx.ModelProto) -> bool:
    import onnx

    kinds = [value.type for value in (*model.graph.input, *model.graph.output)]
    return all(k.HasField("tensor_type") and k.tensor_type.elem_type != onnx.TensorProto.STRING for k in kinds)


# ------------------------------------------------------------------------------------------------------------- child


def child(is_imported: bool) -> None:
    """Read names from stdin, and write a line before and after each case."""
    known = cases()
    warnings.simplefilter("ignore")
    judge = outcome
    if is_imported:
        sys.path.insert(0, str(Path(__file__).parents[1]))
        from node_tests.importing import outcome as judge
    for case in [known[name] for name in json.load(sys.stdin)]:
        print("START", case.name, flush=True)
        print("END", json.dumps([case.name, *judge(case)]), flush=True)


def outcome(case: TestCase) -> Result:
    """Run one case here: a crash takes this process with it."""
    from edgecc.errors import RequestError, UnsupportedError

    try:
        contents = compiled(case.model)
    except UnsupportedError as error:
        return "unsupported", "; ".join(f"{node.op}: {node.reason}" for node in error.nodes)
    except RequestError as error:
        return "refused", str(error)
    except Exception as error:
        return "error", f"{type(error).__name__}: {error}"
    for xnnpack in (True,) if case.name in _INFINITE else (True, False):
        state, why = _run(case, contents, xnnpack)
        if state != "ok":
            return state, f"{'XNNPACK' if xnnpack else 'reference kernels'}: {why}"
    return "ok", ""


def compiled(proto: onnx.ModelProto) -> bytes:
    import edgecc
    from edgecc.compiler import arrange
    from edgecc.errors import UnsupportedError
    from edgecc.passes.base import PassContext
    from edgecc.passes.pipeline import PassPipeline
    from edgecc.registry import default_registry

    backend = default_registry().backend("tflite")
    target = backend.target()
    model = edgecc.load(proto)
    PassPipeline(arrange((), backend, target)).run(model, PassContext(target, _generator()))
    problems = backend.find_unsupported(model, target)
    if problems:
        raise UnsupportedError(target.spec(), problems)
    return bytes(backend.compile(model, target).files[".tflite"])


def _generator() -> np.random.Generator:
    import numpy as np

    return np.random.default_rng(0)


def _run(case: TestCase, contents: bytes, xnnpack: bool) -> Result:
    """Every data set of a case, on one kind of kernels."""
    from edgecc_tflite.session import Session

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "case.tflite")
        path.write_bytes(contents)
        for inputs, outputs in case.data_sets:
            try:
                session = Session(str(path), {"xnnpack": xnnpack})
                session.set_inputs(feeds_of(case.model.graph, inputs))
                session.run()
                found = session.get_outputs()
            except Exception as error:  # the runtime raises what it likes
                return "runtime", str(error)
            for value, wanted in zip(case.model.graph.output, outputs, strict=True):
                why = difference(found[value.name], _array(wanted))
                if why:
                    return "wrong", f"{value.name}: {why}"
    return "ok", ""


def feeds_of(graph: onnx.GraphProto, inputs: Sequence[Any]) -> dict[str, np.ndarray]:
    stored = {tensor.name for tensor in graph.initializer}
    names = [value.name for value in graph.input if value.name not in stored]
    return dict(zip(names, map(_array, inputs), strict=True))


def _array(value: Any) -> np.ndarray:
    import numpy as np
    import onnx

    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def difference(found: np.ndarray, wanted: np.ndarray) -> str:
    import numpy as np

    if found.shape != wanted.shape:
        return f"shape {found.shape}, not {wanted.shape}"
    if found.dtype != wanted.dtype:
        return f"type {found.dtype}, not {wanted.dtype}"
    if found.dtype.kind in "biu":
        count = int(np.count_nonzero(found != wanted))
        return f"{count} of {found.size} differ: {found.ravel()[:8]}, not {wanted.ravel()[:8]}" if count else ""
    relative, absolute = _FLOAT32 if wanted.dtype.itemsize >= 4 else _SMALL_FLOAT
    a, b = found.astype(np.float64), wanted.astype(np.float64)
    largest = max(1.0, float(np.max(np.abs(b[np.isfinite(b)]), initial=0)))
    far = ~np.isclose(a, b, rtol=relative, atol=absolute * largest, equal_nan=True)
    if not far.any():
        return ""
    return f"{int(far.sum())} of {far.size} differ: {a[far][:4]}, not {b[far][:4]}"


# ------------------------------------------------------------------------------------------------------------ parent


def run(names: Sequence[str], jobs: int, flags: tuple[str, ...] = ()) -> dict[str, Result]:
    """What becomes of each case, in `jobs` child processes side by side that get the flags."""
    shares = [share for share in (list(names[start::jobs]) for start in range(jobs)) if share]
    drive = functools.partial(_drive, flags=flags)
    with ThreadPoolExecutor(jobs) as pool:
        results = {name: result for share in pool.map(drive, shares) for name, result in share.items()}
    return {name: results[name] for name in names}


def _drive(names: Sequence[str], flags: tuple[str, ...] = ()) -> dict[str, Result]:
    """Start children until every case has a result; each goes on behind the case that ended the one before."""
    results: dict[str, Result] = {}
    while pending := [name for name in names if name not in results]:
        results |= dict(_one_child(pending, flags))
    return results


def _one_child(names: Sequence[str], flags: tuple[str, ...] = ()) -> Iterator[tuple[str, Result]]:
    """Results as they come; the case at which the child ended is a crash or a hang.

    Raises:
        RuntimeError: the child ended outside of any case, which says nothing about cases.
    """
    command = [sys.executable, str(Path(__file__)), "--child", *flags]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, encoding="utf-8"
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(list(names)))
        process.stdin.close()
        current, timer = "", threading.Timer(LIMIT, process.kill)
        timer.start()
        for line in process.stdout:
            timer.cancel()
            word, _, rest = line.rstrip("\n").partition(" ")
            if word == "START":
                current = rest
            elif word == "END":
                name, state, why = json.loads(rest)
                current = ""
                yield name, (state, why)
            timer = threading.Timer(LIMIT, process.kill)
            timer.start()
        is_hang = not timer.is_alive()
        timer.cancel()
        code = process.wait()
        process.stdout.close()
        if current:
            yield current, ("hang", f"over {LIMIT:.0f} s") if is_hang else ("crash", f"exit code {code}")
        elif code:
            errors.seek(0)
            raise RuntimeError(f"the child that runs cases ended with {code}:\n{errors.read().decode()[-2000:]}")


# ------------------------------------------------------------------------------------------------------ expectations


def read(text: str) -> tuple[str, dict[str, str]]:
    """The onnx version that the expectations were written with, and the expected state of each case."""
    version, *lines = text.splitlines()
    pairs = ((name, state) for name, state in map(str.split, lines))
    return version.removeprefix("# onnx "), dict(pairs)


def write(version: str, states: dict[str, str]) -> str:
    return "\n".join([f"# onnx {version}", *(f"{name} {state}" for name, state in sorted(states.items())), ""])


def moved(expected: dict[str, str], results: dict[str, Result]) -> list[str]:
    """A line for each case that is not what is expected, of those that both know; new cases must not be bugs."""
    lines = []
    for name, (state, why) in results.items():
        before = expected.get(name, state if state in ALLOWED else "no bug")
        if before != state:
            lines.append(f"{name}: {before} -> {state}{': ' + why.splitlines()[0] if why else ''}")
    return lines


def main() -> int:
    import onnx

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", default="", help="only cases with this in their name")
    parser.add_argument("--update", action="store_true", help="write what was found to expectations.txt")
    parser.add_argument("--why", action="store_true", help="print every case that is not right, with the reason")
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1), help="child processes side by side")
    parser.add_argument("--imported", action="store_true", help="what the importer makes of the files")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.imported)
        return 0
    path, flags = (IMPORTED, ("--imported",)) if options.imported else (EXPECTATIONS, ())
    results = run([name for name in sorted(cases()) if options.part in name], options.jobs, flags)
    _, expected = read(path.read_text(encoding="utf-8")) if path.exists() else ("", {})
    if options.why:
        print("\n".join(f"{name}: {state}: {why}" for name, (state, why) in results.items() if state != "ok"))
    print("\n".join(moved(expected, results)) or "nothing moved")
    print(dict(Counter(state for state, _ in results.values()).most_common()))
    if not options.update:
        return 0
    bugs = [f"{name}: {state}: {why}" for name, (state, why) in results.items() if state not in ALLOWED]
    if bugs:
        print("not written: these are bugs, to be mended or refused with a reason first", *bugs, sep="\n  ")
        return 1
    kept = expected if options.part else {}
    states = kept | {name: state for name, (state, _) in results.items()}
    path.write_text(write(onnx.__version__, states), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
