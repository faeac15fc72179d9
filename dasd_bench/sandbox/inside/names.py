"""Which names a module binds and which it takes from elsewhere."""

from __future__ import annotations

import symtable


def module_names(text: str) -> tuple[set[str], set[str]]:
    """Names that the code binds at module level, and names that it looks up there, from any depth. Raises SyntaxError
    or ValueError for a text that is no Python."""
    bound, used = set(), set()
    top = symtable.symtable(text, "<tests>", "exec")
    tables = [top]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            binds = symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()
            if binds and (table is top or symbol.is_declared_global()):
                bound.add(symbol.get_name())
            if symbol.is_referenced() and symbol.is_global():
                used.add(symbol.get_name())
    return bound, used
