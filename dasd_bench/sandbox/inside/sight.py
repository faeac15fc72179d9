"""Whether the tests could tell a program that changes its arguments, or gives an object out twice.

The judge holds copies of what the program holds: it sees neither. Where the tests could, what they say has to be
asked of a single process, too.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections import Counter
from collections.abc import Iterable, Sequence

_WORD = re.compile(r"\w+")
_LETTERS = re.compile(r"\b[A-Za-z_]\w*")
_REPEATED = re.compile(r"\]\s*\*|\*\s*\[")
_BUILTINS = frozenset(dir(builtins))


def tests_see_objects(text: str, tree: ast.Module, remote: set[str]) -> bool:
    """False where each call of a ``remote`` name gets arguments that nothing else refers to, and its answer is compared
    at once and dropped, as in ``assert f([1, 2]) == 3`` and in loops over a list of cases.

    ``tree`` is the parsed ``text``. Errs to True.
    """
    if _REPEATED.search(text) and any(map(_repeats_objects, ast.walk(tree))):
        return True
    sight = _Sight(text, tree, remote)
    return not sight.blind(tree.body, frozenset(), looped=False) or sight.left > 0


class _Sight:
    """Goes through the statements; ``left`` counts the uses of remote names that it has not come by."""

    def __init__(self, text: str, tree: ast.Module, remote: set[str]) -> None:
        self._lines = text.split("\n")
        words = _WORD.findall(text)
        self._counts = Counter(words)
        self._remote = remote
        self.left = sum(self._counts[name] for name in remote)
        self._inert = set(_BUILTINS)
        self._assigned: dict[str, ast.Assign] = {}
        for node in tree.body:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                self._inert |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ClassDef):
                self._inert.add(node.name)

    def blind(self, statements: Sequence[ast.stmt], fresh: frozenset[str], looped: bool) -> bool:
        """Whether none of the statements sees an object twice. ``fresh``: names that hold another object each time;
        ``looped``: whether the statements run more than once."""
        for node in statements:
            if isinstance(node, (ast.Assert, ast.Expr)):
                if not self._blind_to_call(node, fresh, looped):
                    return False
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self._assigned[node.targets[0].id] = node
            elif isinstance(node, ast.FunctionDef) and node.name == "check":
                self.left -= sum(argument.arg in self._remote for argument in node.args.args)
                if not self.blind(node.body, fresh, looped):
                    return False
            elif isinstance(node, (ast.For, ast.While)):
                names = fresh
                if isinstance(node, ast.For) and self._are_fresh(node.iter, fresh, looped):
                    targets = (part.id for part in ast.walk(node.target) if isinstance(part, ast.Name))
                    names |= {name for name in targets if self._counts[name] == 2}
                if not self.blind([*node.body, *node.orelse], names, looped=True):
                    return False
            elif isinstance(node, (ast.If, ast.With, ast.Try)):
                handled = [part for handler in getattr(node, "handlers", ()) for part in handler.body]
                rest = [*getattr(node, "orelse", ()), *getattr(node, "finalbody", ())]
                if not self.blind([*node.body, *handled, *rest], fresh, looped):
                    return False
        return True

    def _blind_to_call(self, node: ast.stmt, fresh: frozenset[str], looped: bool) -> bool:
        parts = list(ast.walk(node))
        named = [part for part in parts if isinstance(part, ast.Name) and part.id in self._remote]
        if not named:
            return True
        self.left -= len(named)
        calls = [part for part in parts if isinstance(part, ast.Call) and part.func in named]
        if len(named) > 1 or not calls:
            return False
        if any(isinstance(part, (ast.comprehension, ast.Lambda, ast.NamedExpr)) for part in parts):
            return False
        return not any(map(_compares_identity, parts)) and all(
            self._are_fresh(part, fresh, looped)
            for part in (*calls[0].args, *(keyword.value for keyword in calls[0].keywords))
        )

    def _are_fresh(self, node: ast.expr, fresh: frozenset[str], looped: bool) -> bool:
        """Whether nothing else holds what the expression gives."""
        return all(
            part.id in fresh or part.id in self._inert or (not looped and self._is_literal(part.id))
            for part in ast.walk(node)
            if isinstance(part, ast.Name)
        )

    def _is_literal(self, name: str) -> bool:
        """Whether the name is given a value once, one without names in it, and used once."""
        node = self._assigned.get(name)
        if node is None or self._counts[name] != 2:
            return False
        lines = self._lines[node.lineno - 1 : node.end_lineno]
        if set(_LETTERS.findall("\n".join(lines))) <= {name, "True", "False", "None"}:
            return True  # saves the walk through thousands of cases
        return all(part.id in self._inert for part in _names(node.value))


def _repeats_objects(node: ast.AST) -> bool:
    """``[[0] * 2] * 3``: one object in several places."""
    return (
        isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Mult)
        and any(
            isinstance(side, ast.List) and not all(isinstance(part, ast.Constant) for part in side.elts)
            for side in (node.left, node.right)
        )
    )


def _names(node: ast.AST) -> Iterable[ast.Name]:
    return (part for part in ast.walk(node) if isinstance(part, ast.Name))


def _compares_identity(node: ast.AST) -> bool:
    """Whether two objects are asked for being one: ``is`` beside a constant asks no such thing."""
    if isinstance(node, ast.Name):
        return node.id == "id"
    return (
        isinstance(node, ast.Compare)
        and any(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops)
        and not any(isinstance(part, ast.Constant) for part in (node.left, *node.comparators))
    )
