"""Whether a program's changes to its arguments may decide: only where they cannot make the expected values, too.

``k = f(v)`` and ``assert v[:k] == [1, 2]`` ask for changes to ``v``. In ``assert f(v) == sorted(v)`` nobody asks for
them, and a program that empties ``v`` and returns it would be right: there the tests compare with what they passed.
"""

from __future__ import annotations

import ast
import builtins
from collections import Counter
from collections.abc import Iterator, Sequence

_IDENTITY = (ast.Is, ast.IsNot)
_PLAIN_METHODS = frozenset().union(*map(dir, (list, dict, set, frozenset, tuple, str, bytes, bytearray, int, float)))
_STORING_METHODS = frozenset({"append", "add", "extend", "insert", "update", "setdefault"})


def changes_may_decide(tree: ast.Module, remote: set[str]) -> bool:
    """False where the tests compare two things that a program can both determine: its answers and what it was passed.
    What is compared with a constant after the last call is fixed, and so is all that is compared with it. Which object
    something is may always be asked.

    ``tree`` is the parsed tests, ``remote`` the program's names. Follows names in the order of the text, not of the
    run, and does not look into the tests' own functions.
    """
    nodes = list(ast.walk(tree))
    reach = _Reach(nodes, remote)
    equal = [
        [node.left, *node.comparators]
        for node in nodes
        if isinstance(node, ast.Compare) and not all(isinstance(op, _IDENTITY) for op in node.ops)
    ]
    given = Counter(name for names, *_ in reach.flows for name in names)
    fixed = {
        part.id
        for parts in equal
        if not all(map(reach.touches, parts))
        for part in parts
        if isinstance(part, ast.Name) and given[part.id] == 1 and part.lineno >= reach.last_passed.get(part.id, 0)
    }
    together = equal + [[node.left, node.right] for node in nodes if isinstance(node, ast.BinOp)]
    together += [parts for node in nodes if isinstance(node, ast.Call) and (parts := reach.compared_by(node))]
    return not any(
        all(map(reach.touches, parts)) and sum(bool(reach.touches(part) - fixed) for part in parts) > 1
        for parts in together
    )


class _Reach:
    """Which names of the tests a program can determine: those that hold its ``answers``, or what it was ``passed``."""

    def __init__(self, nodes: Sequence[ast.AST], remote: set[str]) -> None:
        self._remote = remote
        #: Names given a value, the value, and whether they hold parts of it.
        self.flows = list(_flows(nodes))
        self._answers: set[str] = set()
        self._passed: set[str] = set()
        self._first_passed: dict[str, int] = {}
        self.last_passed: dict[str, int] = {}
        size = -1
        while size < len(self._answers) + len(self._passed):
            size = len(self._answers) + len(self._passed)
            for node in nodes:
                if isinstance(node, ast.Call) and self._is_remote(node):
                    for name in _names(*node.args, *(keyword.value for keyword in node.keywords)):
                        self._passed.add(name)
                        self._first_passed[name] = min(node.lineno, self._first_passed.get(name, node.lineno))
                        self.last_passed[name] = max(node.lineno, self.last_passed.get(name, 0))
            for names, value, parts in self.flows:
                if _names(value) & (self._remote | self._answers):
                    self._answers |= names
                elif self._shares(value):
                    self._passed |= names
                elif names & self._passed and not parts and not _copies(value):
                    self._passed |= _names(value) - set(dir(builtins))

    def touches(self, part: ast.AST) -> set[str]:
        """The names in an expression that the program can determine."""
        return _names(part) & (self._answers | self._passed | self._remote)

    def compared_by(self, call: ast.Call) -> list[ast.expr]:
        """What a call of a function of the tests or a library may compare; empty for calls of the program, for
        builtins, and where something is only stored."""
        if self._is_remote(call) or (isinstance(call.func, ast.Name) and hasattr(builtins, call.func.id)):
            return []
        parts = [*call.args, *(keyword.value for keyword in call.keywords)]
        if isinstance(call.func, ast.Attribute):
            if call.func.attr in _STORING_METHODS or call.func.attr in ("assertIs", "assertIsNot"):
                return []
            parts += [call.func.value] if self.touches(call.func.value) else []
        return parts if len(parts) > 1 else []

    def _is_remote(self, call: ast.Call) -> bool:
        """A call of the program's function, or of a method that only an object of the program can have."""
        function = call.func
        if isinstance(function, ast.Name):
            return function.id in self._remote | self._answers
        return (
            isinstance(function, ast.Attribute)
            and function.attr not in _PLAIN_METHODS
            and bool(_names(function.value) & (self._remote | self._answers))
        )

    def _shares(self, value: ast.AST) -> bool:
        """Whether a value may be, or hold, what the program was passed; or is made of it when that may have changed."""
        first = min((self._first_passed.get(name, 0) for name in _names(value) & self._passed), default=None)
        return first is not None and not (_copies(value) and getattr(value, "lineno", 0) < first)


def _copies(value: ast.AST) -> bool:
    """Whether an expression makes a new object: a call, a slice, a comprehension, arithmetic."""
    if isinstance(value, ast.Subscript):
        return isinstance(value.slice, ast.Slice)
    return isinstance(value, (ast.Call, ast.BinOp, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp))


def _flows(nodes: Sequence[ast.AST]) -> Iterator[tuple[set[str], ast.AST, bool]]:
    for node in nodes:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield _names(target), node.value, not isinstance(target, ast.Name)
        elif isinstance(node, (ast.AnnAssign, ast.AugAssign, ast.NamedExpr)) and node.value is not None:
            yield _names(node.target), node.value, False
        elif isinstance(node, (ast.For, ast.comprehension)):
            yield _names(node.target), node.iter, True


def _names(*parts: ast.AST) -> set[str]:
    return {node.id for part in parts for node in ast.walk(part) if isinstance(node, ast.Name)}
