"""Which of TFLite's operators the importer takes, and why not the others."""

from __future__ import annotations

from edgecc_tflite.importing.base import ImportTable
from edgecc_tflite.importing.model_file import CUSTOM, builtin_names

_STATE = "it keeps a state between runs of the model, for which ONNX has no place"
_COMPLEX = "ONNX has no complex tensors"
_STRINGS = "it works on strings, or on a table of them"
_STABLEHLO = "an operator of StableHLO, which TFLite's own converter does not write"

#: Operators with a kernel in LiteRT and without a rule.
ABSENT = {
    **dict.fromkeys(("ASSIGN_VARIABLE", "CALL_ONCE", "READ_VARIABLE", "VAR_HANDLE", "SVDF"), _STATE),
    **dict.fromkeys(("LSTM", "RNN"), f"{_STATE}; the operators on sequences are imported"),
    **dict.fromkeys(("COMPLEX_ABS", "IMAG", "REAL", "RFFT2D"), _COMPLEX),
    **dict.fromkeys(("HASHTABLE", "HASHTABLE_FIND", "HASHTABLE_IMPORT", "HASHTABLE_LOOKUP"), _STRINGS),
    **dict.fromkeys(("HASHTABLE_SIZE", "LSH_PROJECTION", "SKIP_GRAM"), _STRINGS),
    "DENSIFY": "sparse weights are not read",
    "EMBEDDING_LOOKUP_SPARSE": "no converter in use writes it",
    **dict.fromkeys(("REDUCE_WINDOW", "STABLEHLO_CASE", "STABLEHLO_GATHER", "STABLEHLO_PAD"), _STABLEHLO),
    **dict.fromkeys(("STABLEHLO_REDUCE_WINDOW", "STABLEHLO_RNG_BIT_GENERATOR"), _STABLEHLO),
    **dict.fromkeys(("STABLEHLO_SCATTER", "STABLEHLO_SHIFT_LEFT"), _STABLEHLO),
}

#: Operators of the schema that LiteRT 2.3 has no kernel for; a file with one of them does not load.
_KERNELLESS = frozenset(
    {
        *("CONCAT_EMBEDDINGS", "CALL", "CUSTOM", "DELEGATE", "PLACEHOLDER_FOR_GREATER_OP_CODES"),
        *(f"STABLEHLO_{name}" for name in ("LOGISTIC", "DIVIDE", "RESHAPE", "CLAMP", "CONCATENATE", "CONVOLUTION")),
        *(f"STABLEHLO_{name}" for name in ("BROADCAST_IN_DIM", "SLICE", "CUSTOM_CALL", "REDUCE", "ABS", "COSINE")),
        *(f"STABLEHLO_{name}" for name in ("EXPONENTIAL", "FLOOR", "LOG", "NEGATE", "OR", "POWER", "REMAINDER")),
        *(f"STABLEHLO_{name}" for name in ("RSQRT", "SELECT", "SUBTRACT", "TANH", "COMPARE", "CONVERT", "IOTA")),
        *(f"STABLEHLO_{name}" for name in ("DYNAMIC_SLICE", "DYNAMIC_UPDATE_SLICE", "DOT_GENERAL", "SORT")),
        *(f"STABLEHLO_{name}" for name in ("WHILE", "TRANSPOSE", "CBRT")),
    }
)


def with_kernels() -> list[str]:
    """The schema's operators that LiteRT's CPU kernels run, by name."""
    return sorted(set(builtin_names().values()) - _KERNELLESS)


def to_markdown(rules: ImportTable) -> str:
    """How many operators are imported, one row for each, and one for each that is not, with the reason."""
    names = with_kernels()
    taken = [name for name in names if rules.find(name) is not None]
    lines = [
        f"LiteRT has CPU kernels for {len(names)} operators; {len(taken)} of them are imported.",
        "",
        "| TFLite operator | ONNX operators | note |",
        "|---|---|---|",
    ]
    for rule in sorted(rules, key=lambda rule: rule.builtin):
        name = rule.builtin.removeprefix(CUSTOM)
        lines.append(f"| {name} | {', '.join(rule.gives)} | {rule.note} |")
    lines += ["", "| not imported | why |", "|---|---|"]
    lines += [f"| {name} | {why} |" for name, why in sorted(ABSENT.items())]
    return "\n".join(lines) + "\n"
