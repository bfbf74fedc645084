"""One small change at a time in a module: what a test suite must notice.

Each mutant is the module's source with one expression or statement replaced. Messages (what stands in a `raise`, a log
call or an f-string), docstrings and annotations are left alone.
"""

import ast
import copy
import dataclasses
from collections.abc import Iterator

_COMPARE = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
_ARITHMETIC = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_NAMES = {
    "min": "max",
    "any": "all",
    "argmin": "argmax",
    "amin": "amax",
    "floor": "ceil",
    "sum": "mean",
    "left": "right",
}
_NAMES |= {other: name for name, other in _NAMES.items()} | {"abs": "float", "sorted": "list", "minimum": "maximum"}
_SILENT = ("_log", "log", "logger", "warnings")


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A changed module.

    Attributes:
        where: the function, "Class.method", or "" for the module itself.
        line: of the change.
        was, now: the changed part, before and after.
        number: counts mutants of one function with the same `was` and `now`.
        statement: its first line, and the line after its last; of a statement with a body the header alone.
        source: of the whole module.
    """

    where: str
    line: int
    was: str
    now: str
    number: int
    statement: tuple[int, int]
    source: str

    @property
    def name(self) -> str:
        """Stays the same when other functions change: function, number, before and after."""
        return f"{self.where}#{self.number}: {self.was} -> {self.now}"

    def undone(self, source: str) -> "Mutant":
        """The same with the unchanged source, which every test must pass."""
        return dataclasses.replace(self, source=source)


def mutants(source: str) -> list[Mutant]:
    """All mutants of a module's source, in the order of its lines."""
    tree = ast.parse(source)
    seen: dict[tuple[str, str, str], int] = {}
    found = []
    for where, statement, parent, field, place in _places(tree, "", (1, 1)):
        old = _get(parent, field, place)
        for shown, new in _changes(old):
            _put(parent, field, place, new)
            was, now = ast.unparse(shown[0]), ast.unparse(shown[1])
            key = (where, was, now)
            seen[key] = seen.get(key, -1) + 1
            whole = ast.unparse(ast.fix_missing_locations(tree))
            found.append(Mutant(where, old.lineno, was, now, seen[key], statement, whole))
            _put(parent, field, place, old)
    return sorted(found, key=lambda one: one.line)


def _places(
    node: ast.AST, where: str, statement: tuple[int, int]
) -> Iterator[tuple[str, tuple[int, int], ast.AST, str, int | None]]:
    for field, value in ast.iter_fields(node):
        if isinstance(node, ast.keyword) and node.arg == "strict":
            continue  # zip's own check
        if field in ("annotation", "returns", "decorator_list", "bases", "keywords" if _is_class(node) else ""):
            continue
        for place, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST) or _is_left_alone(child):
                continue
            inside = where
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                inside = f"{where}.{child.name}".strip(".")
            lines = _lines(child) if isinstance(child, ast.stmt) else statement
            if hasattr(child, "lineno"):
                yield inside, lines, node, field, place
            yield from _places(child, inside, lines)


def _lines(node: ast.stmt) -> tuple[int, int]:
    """The first line of a statement and the line after its last, without its body."""
    body = getattr(node, "body", None) or getattr(node, "cases", None)
    if not body:
        return node.lineno, (node.end_lineno or node.lineno) + 1
    first = getattr(body[0], "lineno", node.lineno + 1)
    return node.lineno, max(first, node.lineno + 1)


def _is_class(node: ast.AST) -> bool:
    return isinstance(node, ast.ClassDef)


def _is_left_alone(node: ast.AST) -> bool:
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Assert):
        return True
    if isinstance(node, ast.Expr):
        if isinstance(node.value, ast.Constant):
            return True  # a docstring
        called = node.value.func if isinstance(node.value, ast.Call) else None
        return isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.value.id in _SILENT
    return False


def _get(parent: ast.AST, field: str, place: int | None) -> ast.AST:
    value = getattr(parent, field)
    return value if place is None else value[place]


def _put(parent: ast.AST, field: str, place: int | None, child: ast.AST) -> None:
    if place is None:
        setattr(parent, field, child)
    else:
        getattr(parent, field)[place] = child


def _changes(node: ast.AST) -> Iterator[tuple[tuple[ast.AST, ast.AST], ast.AST]]:
    """((before, after) as shown, what to put in the node's place)."""
    for new in _replacements(node):
        yield (node, new), new
    if isinstance(node, ast.If | ast.While | ast.IfExp) and not isinstance(node.test, ast.Compare | ast.BoolOp):
        new = copy.deepcopy(node)
        new.test = node.test.operand if _is_not(node.test) else ast.UnaryOp(ast.Not(), node.test)
        yield (node.test, new.test), new


def _is_not(node: ast.AST) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)


def _replacements(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            for other in _COMPARE[type(operator)]:
                yield _with(node, ops=[*node.ops[:place], other(), *node.ops[place + 1 :]])
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        yield _with(node, op=_ARITHMETIC[type(node.op)]())
    elif isinstance(node, ast.AugAssign):
        if type(node.op) in _ARITHMETIC:
            yield _with(node, op=_ARITHMETIC[type(node.op)]())
        yield ast.copy_location(ast.Pass(), node)
    elif isinstance(node, ast.BoolOp):
        yield _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Invert):
        yield node.operand
    elif isinstance(node, ast.Constant):
        yield from _constants(node)
    elif _is_effect(node):
        yield ast.copy_location(ast.Pass(), node)
    elif isinstance(node, ast.Break | ast.Continue):
        yield ast.copy_location(ast.Continue() if isinstance(node, ast.Break) else ast.Break(), node)
    elif isinstance(node, ast.Call):
        yield from _calls(node)


def _is_effect(node: ast.AST) -> bool:
    """A call for what it does, or an assignment to a part of something."""
    if isinstance(node, ast.Assign):
        return isinstance(node.targets[0], ast.Attribute | ast.Subscript)
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)


def _constants(node: ast.Constant) -> Iterator[ast.AST]:
    if isinstance(node.value, bool):
        yield _with(node, value=not node.value)
    elif isinstance(node.value, int):
        yield _with(node, value=node.value + 1)
    elif isinstance(node.value, float):
        yield _with(node, value=node.value * 2 if node.value else 1.0)
    elif isinstance(node.value, str) and node.value:
        yield _with(node, value=f"{node.value}X")


def _calls(node: ast.Call) -> Iterator[ast.AST]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name in _NAMES:
        key = "attr" if isinstance(node.func, ast.Attribute) else "id"
        yield _with(node, func=_with(node.func, **{key: _NAMES[name]}))
    for place, keyword in enumerate(node.keywords):
        if keyword.arg not in (None, "strict"):
            yield _with(node, keywords=[*node.keywords[:place], *node.keywords[place + 1 :]])


def _with(node: ast.AST, **changed: object) -> ast.AST:
    new = copy.copy(node)
    for name, value in changed.items():
        setattr(new, name, value)
    return new
