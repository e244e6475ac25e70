"""What of a TorchScript archive's code is taken to `torch.jit.load`, which compiles it and runs parts of it.

Code is written by PyTorch's printer and read by TorchScript's own parser, which takes more than the printer writes:
spaces around dots, other names for a library (`t = torch`), `getattr(torch, "save")`. So what is looked at is what the
printer writes, and anything else is refused: each use of a library is one word, `torch.NAME` or `ops.LIBRARY.NAME`.
"""

from __future__ import annotations

import re

#: A text in quotes as the printer writes it: on one line, and no part of a longer one (triple quotes, two in a row).
_TEXT = re.compile(r'"(?:[^"\\\n]|\\.)*"(?!")')
#: What begins texts, comments and continued lines that the printer does not write.
_UNPRINTED = re.compile(r"[\"'#\\]")
#: A library by its name, which is no attribute of something else: `__torch__.torch.nn` names a class.
_LIBRARY = re.compile(r"(?<![\w.])(?:torch|ops)\b")
#: How it may go on: to one operator; `ops : ...` declares an attribute of that name.
_USE = re.compile(r"torch\.(\w+)|ops\.(?:aten|prim|prims|quantized|torchvision)\.(\w+)|ops : ")
#: Operators that read and write files.
_FILES = frozenset({"save", "load", "from_file"})
#: They talk to other machines.
_REMOTE = re.compile(r"\brpc_\w+")


def harm_in(code: str) -> str:
    """Why a file of code could do more than compute, a sentence; "" if it cannot."""
    bare = _TEXT.sub("0", code)
    if _UNPRINTED.search(bare):
        return "it has a text, comment or continued line that PyTorch does not write"
    if found := _REMOTE.search(bare):
        return f"it calls {found[0]}, which is no operator that only computes"
    for library in _LIBRARY.finditer(bare):
        use = _USE.match(bare, library.start())
        if use is None or _FILES & {use[1], use[2]}:
            called = re.match(r"[\w.]+", bare[library.start() :])
            assert called is not None
            return f"it calls {called[0]}, which is no operator that only computes"
    return ""
