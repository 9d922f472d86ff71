"""Conditions over index columns, such as ``faces >= 100 and class == 'chair'``: parsed, never evaluated as code."""

from __future__ import annotations

import ast
import io
import keyword
import tokenize
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maquette.errors import MaquetteError, unknown_name
from maquette_data3d.shards.index import IndexTable

_LONGEST = 2000
_ESCAPE = "column_"
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: pc.equal,
    ast.NotEq: pc.not_equal,
    ast.Lt: pc.less,
    ast.LtE: pc.less_equal,
    ast.Gt: pc.greater,
    ast.GtE: pc.greater_equal,
}
_REDUCE: dict[type[ast.boolop], Callable[[Any, Any], Any]] = {ast.And: pc.and_kleene, ast.Or: pc.or_kleene}
_COMPUTE: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: pc.add_checked,
    ast.Sub: pc.subtract_checked,
    ast.Mult: pc.multiply_checked,
    ast.Div: lambda left, right: pc.divide(pc.cast(left, pa.float64()), pc.cast(right, pa.float64())),
}
_NEGATE: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.Not: pc.invert, ast.USub: pc.negate_checked}


def matching(table: IndexTable, where: str) -> np.ndarray:
    """bool ``[n]``: the rows that a condition holds for; a row whose value is missing does not match.

    The grammar is a part of Python's: ``and or not``, comparisons (chains too), ``in`` and ``not in`` with a list
    or for a word within a text (``'wood' in caption``), ``is None``, ``+ - * /``, numbers, texts, True, False, and
    the names of columns, ``class`` among them.

    Raises:
        MaquetteError: it is no such condition, or names a column that is not there.
    """
    try:
        tree = ast.parse(_escaped(where, table.names), mode="eval")
        found = _value(tree.body, table, where)
    except (SyntaxError, tokenize.TokenError, RecursionError, MemoryError):
        raise _wrong(where, "it is no condition; write one like: faces >= 100 and class == 'chair'") from None
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise _wrong(where, " ".join(str(error).split())[:120]) from None
    if not pa.types.is_boolean(found.type):
        raise _wrong(where, "it is a value, and must be something true or false")
    if isinstance(found, pa.Scalar):
        return np.full(len(table), bool(found.as_py()))
    return pc.fill_null(found, False).to_numpy(zero_copy_only=False).astype(bool)


def _wrong(where: str, why: str) -> MaquetteError:
    return MaquetteError(f'condition "{" ".join(where.split())[:200]}": {why}')


def _escaped(where: str, names: Sequence[str]) -> str:
    """Columns named like Python's keywords, "class" above all, under names that its grammar takes."""
    if len(where) > _LONGEST:
        raise _wrong(where, f"it is longer than {_LONGEST} characters")
    words = []
    for token in tokenize.generate_tokens(io.StringIO(" ".join(where.split("\n")).strip()).readline):
        escape = token.type == tokenize.NAME and keyword.iskeyword(token.string) and token.string in names
        words.append((token.type, _ESCAPE + token.string if escape else token.string))
    return tokenize.untokenize(words).strip()


def _value(node: ast.expr, table: IndexTable, where: str) -> Any:
    match node:
        case ast.BoolOp(op, values):
            found = _value(values[0], table, where)
            for value in values[1:]:
                found = _REDUCE[type(op)](found, _value(value, table, where))
            return found
        case ast.UnaryOp(op, operand) if type(op) in _NEGATE:
            return _NEGATE[type(op)](_value(operand, table, where))
        case ast.BinOp(left, op, right) if type(op) in _COMPUTE:
            return _COMPUTE[type(op)](_value(left, table, where), _value(right, table, where))
        case ast.Compare(left, ops, rights):
            pairs = zip([left, *rights], ops, rights, strict=False)
            steps = [_comparison(first, op, second, table, where) for first, op, second in pairs]
            return steps[0] if len(steps) == 1 else _all(steps)
        case ast.Name(name):
            return _column(name, table)
        case ast.Constant(bool() | int() | float() | str() as value):
            return pa.scalar(value)
    raise _wrong(where, f"{type(node).__name__} has no place in a condition")


def _all(steps: Sequence[Any]) -> Any:
    found = steps[0]
    for step in steps[1:]:
        found = pc.and_kleene(found, step)
    return found


def _column(name: str, table: IndexTable) -> Any:
    plain = name.removeprefix(_ESCAPE) if name not in table.names else name
    if plain not in table.names:
        raise unknown_name("column", plain, table.names, where=f"in the index '{table.path}'")
    return table.column(plain)


def _comparison(left: ast.expr, op: ast.cmpop, right: ast.expr, table: IndexTable, where: str) -> Any:
    if isinstance(op, ast.Is | ast.IsNot):
        if not (isinstance(right, ast.Constant) and right.value is None):
            raise _wrong(where, "'is' goes with None only")
        return (pc.is_null if isinstance(op, ast.Is) else pc.is_valid)(_value(left, table, where))
    if isinstance(op, ast.In | ast.NotIn):
        found = _membership(left, right, table, where)
        return found if isinstance(op, ast.In) else pc.invert(found)
    return _COMPARE[type(op)](_value(left, table, where), _value(right, table, where))


def _membership(left: ast.expr, right: ast.expr, table: IndexTable, where: str) -> Any:
    if isinstance(right, ast.List | ast.Tuple | ast.Set):
        values = [element.value for element in right.elts if isinstance(element, ast.Constant)]
        if len(values) != len(right.elts):
            raise _wrong(where, "a list after 'in' holds plain values only")
        column = _value(left, table, where)
        return pc.is_in(column, value_set=pa.array(values, column.type))
    if isinstance(left, ast.Constant) and isinstance(left.value, str):
        return pc.match_substring(_value(right, table, where), left.value)
    raise _wrong(where, "'in' takes a list of values, or a word within a text column: 'wood' in caption")
