"""What of an exported program is taken to `torch.export.load`, which evaluates some of the texts in it.

Needs only the standard library: the runner's session uses it too. What `torch.export.load` does with a program:

    target of a node     looked up from `torch`, `operator` or `math` on, attribute by attribute, and called when the
                         graph is decomposed: only operators of known libraries are let through
    expr_str             evaluated by sympy: only arithmetic of symbols and numbers
    guards_code          Python source that is compiled: dropped
    in_spec, out_spec    may name modules to import: nothing but tuples, lists and dictionaries is kept
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

#: Of Python's module `operator`, for sizes.
ARITHMETIC = frozenset(
    {"add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "neg", "pos", "abs", "getitem"}
    | {"eq", "ne", "lt", "le", "gt", "ge", "and_", "or_", "not_", "xor", "lshift", "rshift"}
)
#: Libraries of operators that only compute.
_LIBRARIES = "aten|prims|quantized_decomposed|torchao|torchvision|onnx"
#: What registers the operators of those that are not PyTorch's own.
_MODULES = {
    "quantized_decomposed": "torch.ao.quantization.fx._decomposed",
    "torchao": "torchao",
    "torchvision": "torchvision",
}
_OPERATOR = re.compile(rf"torch\.ops\.(?:{_LIBRARIES})\.(?:[A-Za-z]\w*|_[a-z]\w*|__[a-z]+__)\.[A-Za-z]\w*")
#: Of PyTorch's own, those that read or write files.
_FILES = re.compile(r"torch\.ops\.aten\.(?:from_file|save|load)\b")
_DUNDER = re.compile(r"\.__(?!(?:and|or|xor|lshift|rshift|iand|ior|ixor|ilshift|irshift)__\.)")
_OTHER = re.compile(
    r"torch\.ops\.higher_order\.(?:cond|while_loop|scan|map_impl|wrap_with_set_grad_enabled|wrap_with_autocast|"
    r"wrap|wrap_activation_checkpoint|invoke_subgraph)"
    r"|torch\.sym_(?:int|float|max|min|not|ite|sum|sqrt)"
    r"|math\.(?:ceil|floor|trunc|sqrt)"
)
#: Functions of sympy and of torch.utils._sympy that sizes are written with.
_FUNCTIONS = frozenset(
    {"FloorDiv", "ModularIndexing", "Where", "PythonMod", "Mod", "CleanDiv", "CeilToInt", "FloorToInt", "CeilDiv"}
    | {"LShift", "RShift", "PowByNatural", "FloatPow", "FloatTrueDiv", "IntTrueDiv", "TruncToFloat", "TruncToInt"}
    | {"RoundToInt", "RoundDecimal", "ToFloat", "Identity", "IsNonOverlappingAndDenseIndicator"}
    | {"Max", "Min", "Abs", "floor", "ceiling", "sqrt", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not"}
    | {"Piecewise", "ExprCondPair", "Symbol", "Integer", "Rational", "Float", "Add", "Mul", "Pow"}
    | {"Equality", "Unequality", "LessThan", "StrictLessThan", "GreaterThan", "StrictGreaterThan"}
)
_POWERS = frozenset({"Pow", "PowByNatural", "FloatPow", "LShift"})
_ASSUMPTIONS = frozenset({"integer", "positive", "nonnegative", "negative", "nonzero", "real", "precision"})
_SYMBOL = re.compile(r"(?:s|u|zuf|zf|f)\d+|true|false|True|False|oo|int_oo")
_NUMBER = re.compile(r"-?\d{1,40}(?:\.\d{1,40})?(?:e[+-]?\d{1,3})?")
_MAX_EXPRESSION = 2000
_MAX_POWERS, _MAX_EXPONENT = 4, 16
_NUMBERS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)
_WORDS = (ast.operator, ast.unaryop, ast.cmpop, ast.boolop, ast.expr_context)
_METADATA = ("stack_trace", "nn_module_stack", "torch_fn")


class ProgramError(ValueError):
    """The program holds what could run code, or is none.

    Attributes:
        what, where, why: as in the message of an error.
    """

    def __init__(self, what: str, *, where: str = "", why: str = "") -> None:
        super().__init__(what)
        self.what, self.where, self.why = what, where, why


def check_program(program: dict[str, Any]) -> dict[str, Any]:
    """The program, changed in place: without guards, module signatures and what else only Python code needs.

    Raises:
        ProgramError: an operator or expression that is not known to be harmless.
    """
    try:
        for part in _dicts(program):
            _check_part(part)
        program["guards_code"] = []
        module = program["graph_module"]
        module["module_call_graph"] = [_plain_entry(entry) for entry in module["module_call_graph"]]
        module["treespec_namedtuple_fields"] = {}
        module["metadata"] = {}
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ProgramError("is damaged", why=f"its program lacks a part ({error!r})") from error
    return program


def modules_of(program: dict[str, Any]) -> list[str]:
    """The modules that bring the program's operators, beside PyTorch itself."""
    targets = (part["target"] for part in _dicts(program) if "target" in part and "inputs" in part)
    libraries = {target.split(".")[2] for target in targets if target.startswith("torch.ops.")}
    return sorted(_MODULES[library] for library in libraries & _MODULES.keys())


def _dicts(program: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every dictionary in it; without recursion, since a hostile program may be nested deeply."""
    waiting: list[Any] = [program]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _check_part(part: dict[str, Any]) -> None:
    if "target" in part and "inputs" in part:
        check_target(part["target"], str(part.get("name") or "") or _first_output(part))
        part["metadata"] = {key: part["metadata"][key] for key in _METADATA if key in part.get("metadata", {})}
    if "as_operator" in part:
        check_target(part["as_operator"], "an argument")
    if "expr_str" in part:
        _check_expression(part["expr_str"])
    if part.get("custom_obj_values"):
        raise ProgramError(
            _REFUSED, where=", ".join(part["custom_obj_values"]), why="it uses custom objects (TorchBind)"
        )


_REFUSED = "holds what could run code when it is read"


def _first_output(node: dict[str, Any]) -> str:
    outputs = node.get("outputs") or [{}]
    value = next(iter(outputs[0].values()), None)
    return str(value.get("name", "")) if isinstance(value, dict) else ""


def check_target(target: Any, node: str) -> None:
    """Whether a node calls an operator that only computes.

    Raises:
        ProgramError: it does not, or nobody knows.
    """
    if not isinstance(target, str):
        raise ProgramError("is damaged", where=node, why="a node without an operator")
    if target.startswith("_operator.") and target.removeprefix("_operator.") in ARITHMETIC:
        return
    computes = _OPERATOR.fullmatch(target) and not _DUNDER.search(target) and not _FILES.match(target)
    if computes or _OTHER.fullmatch(target):
        return
    raise ProgramError(_REFUSED, where=f"node {node!r}", why=f"it calls {target[:200]}, which may do more than compute")


def _check_expression(text: Any) -> None:
    try:
        if not isinstance(text, str) or len(text) > _MAX_EXPRESSION:
            raise ValueError("too long")
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
        for node in nodes:
            _check_node(node)
        if sum(map(_is_power, nodes)) > _MAX_POWERS:
            raise ValueError("many powers")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ProgramError(_REFUSED, where=f"size {str(text)[:200]!r}", why=f"no plain arithmetic ({error})") from error


def _check_node(node: ast.AST) -> None:
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.func.id not in _FUNCTIONS:
            raise ValueError("it calls an unknown function")
        if not {keyword.arg for keyword in node.keywords} <= _ASSUMPTIONS:
            raise ValueError("an unknown argument")
        if _is_power(node) and not (len(node.args) == 2 and _is_small(node.args[1])):
            raise ValueError("a large power")
    elif isinstance(node, ast.Name):
        if node.id not in _FUNCTIONS and not _SYMBOL.fullmatch(node.id):
            raise ValueError(f"{node.id} is no symbol")
    elif isinstance(node, ast.Constant):
        named = isinstance(node.value, str) and (_SYMBOL.fullmatch(node.value) or _NUMBER.fullmatch(node.value))
        if type(node.value) not in (int, float, bool) and not named:
            raise ValueError("a text")
    elif isinstance(node, ast.BinOp):
        if not isinstance(node.op, _NUMBERS) or (_is_power(node) and not _is_small(node.right)):
            raise ValueError("an unknown operation or a large power")
    elif not isinstance(node, (ast.Expression, ast.UnaryOp, ast.Compare, ast.BoolOp, ast.Tuple, ast.keyword, *_WORDS)):
        raise ValueError(type(node).__name__)


def _is_power(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _POWERS
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow)


def _is_small(node: ast.expr) -> bool:
    """A number of at most 16, plain, negated or as `Integer(2)`."""
    if isinstance(node, ast.Call) and len(node.args) == 1:
        return _is_small(node.args[0])
    if isinstance(node, ast.UnaryOp):
        return _is_small(node.operand)
    return isinstance(node, ast.Constant) and isinstance(node.value, int) and abs(node.value) <= _MAX_EXPONENT


def _plain_entry(entry: dict[str, Any]) -> dict[str, Any]:
    """How one module is called; only the outermost one's containers matter."""
    signature = entry.get("signature")
    if entry["fqn"] or not signature:
        return {**entry, "signature": None}
    specs = {key: _plain_spec(signature[key]) for key in ("in_spec", "out_spec")}
    return {**entry, "signature": {**signature, **specs}}


def _plain_spec(text: str) -> str:
    version, tree = json.loads(text)
    return json.dumps([version, _plain_tree(tree, 0)])


def _are_keys(context: Any, count: int) -> bool:
    return isinstance(context, list) and len(context) == count and all(isinstance(key, str) for key in context)


def _plain_tree(tree: dict[str, Any], depth: int) -> dict[str, Any]:
    if depth > 100:
        raise ProgramError("is damaged", why="its inputs are nested too deeply")
    children = [_plain_tree(child, depth + 1) for child in tree["children_spec"]]
    if tree["type"] is None:
        return {"type": None, "context": None, "children_spec": []}
    kind, context = "builtins.tuple", None
    if tree["type"] in ("builtins.list", "builtins.tuple"):
        kind = tree["type"]
    elif _are_keys(keys := json.loads(tree["context"]), len(children)):
        # A dictionary, or a class like one, such as Transformers' ModelOutput.
        kind, context = "builtins.dict", keys
    return {"type": kind, "context": json.dumps(context), "children_spec": children}
