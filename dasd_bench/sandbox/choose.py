"""Which of an answer's blocks is its program, and what it needs of the others."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable
from dataclasses import dataclass

from .inside.names import module_names
from .programs import DEFINITION, body_of, tree_of


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of an answer that may be Python. ``names``: the functions and classes that it defines, or values that it
    assigns, at its top level. ``body``: whether it is the body of a function."""

    code: str
    tree: ast.Module | None
    names: frozenset[str]
    body: bool

    @classmethod
    def of(cls, code: str) -> Block:
        """The block of that text."""
        tree = tree_of(code)
        names = set(DEFINITION.findall(code))
        for node in tree.body if tree else ():
            names |= _assigned(node)
        return cls(code, tree, frozenset(names), tree is None and bool(body_of(code)))

    def defines(self, name: str | None) -> bool:
        """Whether it parses and defines ``name``; any name where that is None."""
        return self.tree is not None and (name in self.names if name else bool(self.names))

    def is_stub(self, name: str | None) -> bool:
        """Whether all that it says of the function or class ``name`` is what it is called with."""
        found = [node for node in self.tree.body if getattr(node, "name", None) == name] if self.tree else []
        return bool(found) and _is_stub(found[-1])


def _is_stub(node: ast.AST) -> bool:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return all(map(_is_stub, node.body))
    if isinstance(node, ast.Raise):
        return "NotImplemented" in ast.dump(node)
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    return isinstance(node, ast.Pass)


def _assigned(node: ast.stmt) -> set[str]:
    """Names that an assignment gives a value that does not come from the name itself."""
    if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
        return set()
    read = {part.id for part in ast.walk(node.value) if isinstance(part, ast.Name)}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return {target.id for target in targets if isinstance(target, ast.Name)} - read


def choose(blocks: list[Block], entry_point: str | None) -> str:
    """The program of several blocks, with what it needs of the others in front of it."""
    if len(blocks) == 1:
        return blocks[0].code
    order = range(len(blocks))
    ranked = [
        [i for i in order if entry_point and blocks[i].defines(entry_point) and not blocks[i].is_stub(entry_point)],
        [i for i in order if entry_point and blocks[i].defines(entry_point)],
        [i for i in order if blocks[i].body][:1],
        [i for i in order if entry_point in blocks[i].names],
        [i for i in order if blocks[i].names and blocks[i].tree],
        [i for i in order if blocks[i].names],
        [i for i in order if blocks[i].tree],
        list(order),
    ]
    chosen = next(found for found in ranked if found)[-1]
    if blocks[chosen].body:
        body = blocks[chosen].code
        helpers = _needed(f"def _():\n{body}", blocks[:chosen] + blocks[chosen + 1 :])
        return "\n".join([body, *helpers])
    kept, taken = [blocks[chosen].code], set(blocks[chosen].names)
    left = blocks[chosen + 1 :]
    for block in reversed(blocks[:chosen]):
        if block.tree and not block.names & taken and _only_definitions(block.tree):
            kept.insert(0, block.code)
        else:
            left.insert(0, block)
        taken |= block.names
    return "\n".join([*_needed("\n".join(kept), left), *kept])


def _needed(program: str, blocks: Iterable[Block]) -> list[str]:
    """The imports and definitions of the blocks that the program uses and does not have, the last of each name."""
    sources: dict[str, tuple[str, ast.stmt]] = {}
    for block in blocks:
        for node in block.tree.body if block.tree else ():
            for name in _bound(node):
                sources[name] = block.code, node
    found: list[str] = []
    have = set(dir(builtins))
    try:
        bound, wanted = module_names(program)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return found
    have |= bound
    while missing := sorted(name for name in wanted - have if name in sources):
        code, node = sources[missing[0]]
        first = min([node.lineno, *(part.lineno for part in getattr(node, "decorator_list", ()))])
        found.insert(0, "\n".join(code.split("\n")[first - 1 : node.end_lineno]) + "\n")
        bound, used = module_names(found[0])
        have |= bound
        wanted |= used
    return found


def _bound(node: ast.stmt) -> set[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return set() if _is_stub(node) else {node.name}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {(name.asname or name.name).partition(".")[0] for name in node.names}
    return _assigned(node)


def _only_definitions(tree: ast.Module) -> bool:
    """Whether running a block defines names and does nothing else: usage examples are no helpers, nor is an assignment
    that needs a name from elsewhere."""
    known = set(dir(builtins))
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            known.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            known |= {(name.asname or name.name).partition(".")[0] for name in node.names}
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            names = [part for part in ast.walk(node) if isinstance(part, ast.Name)]
            known |= {name.id for name in names if isinstance(name.ctx, ast.Store)}
            bound = {part.arg for part in ast.walk(node) if isinstance(part, ast.arg)}
            if any(name.id not in known | bound for name in names):
                return False
        else:
            return False
    return True
