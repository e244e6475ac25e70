"""TorchScript archives: code for TorchScript's own interpreter, exported by tracing it once.

PyTorch has two ways to ONNX. Its TorchScript exporter takes traced and scripted modules of all architectures that were
tried, in under a second; converting to an exported program first (TS2EPConverter) takes 10 to 30 times as long, and
fails where a size is computed (a traced ShuffleNet). Neither takes a traced torch.nn.MultiheadAttention, which is why
edgecc has its own operators for that (`native_attention`).
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from edgecc.errors import InvalidModelError, Unsupported, UnsupportedError
from edgecc.importers.onnx import OnnxImporter
from edgecc_torch.archive import Archive, ArchiveError, write_script_copy
from edgecc_torch.example_inputs import check_shapes, example_inputs
from edgecc_torch.native_attention import register
from edgecc_torch.quiet import quiet, require_torch
from edgecc_torch.script_check import harm_in
from edgecc_torch.to_onnx import first_lines

if TYPE_CHECKING:
    import torch

    from edgecc.model import Model

#: Newest that this exporter knows well.
OPSET = 17
_EXPORT = "export the module itself: torch.export.save(torch.export.export(module, inputs), 'model.pt2')"
_MAX_CODE_BYTES = 1 << 26


def import_torchscript(path: Path, archive: Archive, shapes: Mapping[str, Sequence[int]]) -> Model:
    """The Model of a TorchScript module.

    Args:
        path: of the archive.
        archive: the same, open.
        shapes: of its inputs by name: the archive does not say them.

    Raises:
        ArchiveError: its code does more than compute.
        OptionError, UnknownNameError: `shapes` does not name its inputs.
        InvalidModelError, UnsupportedError: it cannot be read or exported.
    """
    _check_code(archive)
    require_torch()
    import torch

    source = str(path)
    try:
        with tempfile.TemporaryDirectory(prefix="edgecc-") as folder, quiet():
            copy = Path(folder) / "model.pt"
            write_script_copy(archive, copy)
            module = torch.jit.load(copy, map_location="cpu").eval()
    except ArchiveError:
        raise
    except Exception as error:  # PyTorch raises what it comes upon
        why = first_lines(str(error))
        raise InvalidModelError(f"{path} cannot be read as TorchScript", why=why, hint="save it again") from error
    names = [argument.name for argument in module.forward.schema.arguments[1:] if argument.default_value is None]
    check_shapes(names, shapes, source)
    proto = _exported(module, example_inputs(module, names, shapes, source), names, source)
    return OnnxImporter().from_proto(proto)


def _check_code(archive: Archive) -> None:
    for name in archive.sizes:
        if not name.startswith("code/") or not name.endswith(".py"):
            continue
        why = harm_in(archive.read(name, _MAX_CODE_BYTES).decode("utf-8", "replace"))
        if why:
            raise ArchiveError("holds code that could do harm", where=name, why=why, hint=_EXPORT)


@contextlib.contextmanager
def _no_graph_printed() -> Iterator[None]:
    """Keep the exporter, where it fails, from printing the whole graph to stdout, which belongs to results."""
    import torch

    torch._C._jit_set_onnx_log_output_stream("stderr")
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _exported(module: Any, example: tuple[torch.Tensor, ...], names: list[str], source: str) -> onnx.ModelProto:
    import torch

    register(OPSET)
    contents = io.BytesIO()
    try:
        with quiet(), _no_graph_printed(), torch.no_grad():
            torch.onnx.export(
                module, example, contents, input_names=names, opset_version=OPSET, dynamo=False, verbose=False
            )
    except Exception as error:  # of the exporter, and of the module's own code
        text = str(error)
        if missing := re.search(r"operator '([^']+)'", text):
            reason = "PyTorch's TorchScript exporter has no ONNX operators for it"
            raise UnsupportedError("ONNX", [Unsupported(missing[1], missing[1], reason, _EXPORT)]) from error
        raise InvalidModelError(
            f"{source} cannot be exported to ONNX",
            why=f"{type(error).__name__}: {first_lines(text)}",
            hint=_EXPORT,
        ) from error
    return onnx.load_model_from_string(contents.getvalue())
