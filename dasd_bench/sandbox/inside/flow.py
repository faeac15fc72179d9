"""Whether what the tests ask may depend on what was answered before.

Calls may be sent ahead of the answers, as an earlier passing run asked them, only where it does not: else a program
could read in a later question what the right answer to an earlier one is.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

_WORD = re.compile(r"\w+")
#: What most of a test's nodes are, and no rule here asks for.
_LITERALS = frozenset(
    {ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.Set, ast.UnaryOp, ast.USub, ast.Load, ast.Store}
)


def questions_use_answers(text: str, tree: ast.Module, statements: Sequence[ast.stmt], remote: set[str]) -> bool:
    """True where an argument of a call to one of the ``remote`` names may hold or derive from another call's answer.

    ``tree`` is the parsed ``text``, ``statements`` all of its statements. Errs to True: names are followed whatever
    their scope and order, and whatever may carry an answer counts.
    """
    named = sum(word in remote for word in _WORD.findall(text))
    if named == sum(_plain_uses(statement, remote) for statement in statements):
        return False
    nodes = [node for node in ast.walk(tree) if type(node) not in _LITERALS]
    carriers = _carriers(nodes, remote)
    if _leave_sight(nodes, remote, carriers):
        return True
    for node in nodes:
        if isinstance(node, (ast.If, ast.While, ast.IfExp)) and _carries(node.test, remote, carriers):
            return True
        if isinstance(node, ast.Call) and (_root(node.func) in remote | carriers or isinstance(node.func, ast.Call)):
            parts = [*node.args, *(keyword.value for keyword in node.keywords)]
            if any(_carries(part, remote, carriers) for part in parts):
                return True
    return False


def _leave_sight(nodes: list[ast.AST], remote: set[str], carriers: set[str]) -> bool:
    """Whether answers go where names do not show it: through a pattern, a method or a lambda, or into whatever is given
    the function itself (``reduce(candidate, numbers)`` asks with what it was answered)."""
    asking = {node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name in carriers} | remote
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    for node in nodes:
        if isinstance(node, ast.Match):
            return True
        if isinstance(node, ast.Name) and node.id in asking and id(node) not in called:
            return True
        if isinstance(node, (ast.Lambda, ast.ClassDef)) and _carries(node, asking, asking):
            return True
        if isinstance(node, ast.FunctionDef) and node.decorator_list and node.name in asking:
            return True
    return False


def _plain_uses(statement: ast.stmt, remote: set[str]) -> int:
    """How often a statement names one of them where its answer goes nowhere: the usual ``assert f(x) == y``, and the
    head of ``def check(candidate)``. Saves most problems the full search."""
    if isinstance(statement, ast.FunctionDef):
        return sum(argument.arg in remote for argument in statement.args.args) if statement.name == "check" else 0
    if not isinstance(statement, ast.Assert):
        return 0
    test = statement.test
    parts = [test.left, *test.comparators] if isinstance(test, ast.Compare) else [test]
    return sum(
        isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id in remote for part in parts
    )


def _carriers(nodes: list[ast.AST], remote: set[str]) -> set[str]:
    """Names that may hold an answer, or a function of the tests that gives one."""
    carriers: set[str] = {node.name for node in nodes if isinstance(node, ast.ExceptHandler) and node.name}
    flows = list(_flows(nodes))
    grown = True
    while grown:
        grown = False
        for value, names in flows:
            if not names <= carriers and _carries(value, remote, carriers):
                carriers |= names
                grown = True
    return carriers


def _flows(nodes: list[ast.AST]) -> Iterator[tuple[ast.AST, set[str]]]:
    """Pairs of code and the names that its value may end up in."""
    for node in nodes:
        if isinstance(node, ast.Assign):
            yield node.value, {name for target in node.targets for name in _names(target)}
        elif isinstance(node, (ast.AugAssign, ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
            yield node.value, _names(node.target)
        elif isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
            yield node.iter, _names(node.target)
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            yield node.context_expr, _names(node.optional_vars)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name != "check":
            yield node, {node.name}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):  # things.append(answer)
            root = _root(node.func)
            if root:
                for part in (*node.args, *(keyword.value for keyword in node.keywords)):
                    yield part, {root}


def _carries(node: ast.AST, remote: set[str], carriers: set[str]) -> bool:
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and part.id in carriers:
            return True
        if isinstance(part, ast.Call) and _root(part.func) in remote:
            return True
    return False


def _root(node: ast.AST) -> str:
    """The name at the left of ``name``, ``name.attribute``, ``name[item]``; empty where there is none."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _names(target: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(target) if isinstance(part, ast.Name)}
