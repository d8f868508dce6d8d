"""Conditions on columns of a table, written as comparisons and read by a grammar of their own: no
text is run.
"""

import ast
import operator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

LONGEST = 500  # characters; more is no condition that a person wrote
_COMPARISONS = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_MEMBERSHIPS = {ast.In: False, ast.NotIn: True}
_GRAMMAR = (
    "write comparisons (< <= > >= == != in) of columns with numbers or texts, joined by and, or, "
    "not"
)


@dataclass(frozen=True)
class Filter:
    """Result of `parse_filter`.

    Attributes
    ----------
    text : str
        The condition as it was written.
    columns : tuple of str
        Columns that it needs.
    tree : ast.expr
        What `apply_filter` evaluates.
    """

    text: str
    columns: tuple
    tree: ast.expr = field(compare=False, repr=False)


def parse_filter(text):
    """Read a condition such as ``age <= 50 and sex == 'F'``.

    Parameters
    ----------
    text : str
        Comparisons (``<``, ``<=``, ``>``, ``>=``, ``==``, ``!=``, ``in``, ``not in``) of columns,
        numbers, texts and lists of them, joined by ``and``, ``or`` and ``not``.

    Returns
    -------
    Filter

    Raises
    ------
    ValueError
        If the text is anything else.

    Examples
    --------
    >>> parse_filter("18 <= age <= 50 and sex in ['F', 'M']").columns
    ('age', 'sex')
    """
    if not isinstance(text, str) or not text.strip() or len(text) > LONGEST:
        raise ValueError(
            f"a filter is a text of at most {LONGEST} characters, such as 'age <= 50'; got "
            f"{text!r:.80}"
        )
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"filter {text!r} cannot be read: {_GRAMMAR}") from error
    columns = []
    _check_condition(tree, text, columns)
    if not columns:
        raise ValueError(f"filter {text!r} names no column: it would hold for all or for none")
    return Filter(text, tuple(dict.fromkeys(columns)), tree)


def apply_filter(condition, table):
    """Tell for which rows a condition holds.

    Parameters
    ----------
    condition : Filter
        The condition.
    table : DataFrame, shape (n, ...)
        Has its columns.

    Returns
    -------
    holds : Series of bool, shape (n,)
        Where it holds.
    unknown : Series of bool, shape (n,)
        Where a column that it needs is missing, so that nobody can say; `holds` is False there.

    Raises
    ------
    ValueError
        If a column is missing from the table, or numbers are compared with texts.
    """
    missing = [name for name in condition.columns if name not in table]
    if missing:
        raise ValueError(
            f"filter {condition.text!r}: no column {', '.join(missing)}; there are {_listed(table)}"
        )
    unknown = table[list(condition.columns)].isna().any(axis=1)
    known = table.loc[~unknown]
    for name in condition.columns:
        _check_kinds(condition, name, known[name])
    holds = pd.Series(False, index=table.index)
    try:
        holds[~unknown] = np.broadcast_to(_evaluate(condition.tree, known), len(known)).astype(bool)
    except TypeError as error:
        raise ValueError(
            f"filter {condition.text!r} compares a column of numbers with one of texts"
        ) from error
    return holds, unknown


def _listed(table):
    return ", ".join(map(str, table.columns))


def _check_condition(node, text, columns):
    match node:
        case ast.BoolOp(values=parts):
            for part in parts:
                _check_condition(part, text, columns)
        case ast.UnaryOp(op=ast.Not(), operand=part):
            _check_condition(part, text, columns)
        case ast.Compare(left=left, ops=ops, comparators=others):
            _check_value(left, text, columns)
            for op, other in zip(ops, others, strict=True):
                if type(op) in _MEMBERSHIPS and isinstance(other, ast.List | ast.Tuple):
                    for item in other.elts:
                        _check_constant(item, text)
                elif type(op) in _COMPARISONS:
                    _check_value(other, text, columns)
                else:
                    raise ValueError(f"filter {text!r} cannot be read: {_GRAMMAR}")
        case _:
            raise ValueError(f"filter {text!r} cannot be read: {_GRAMMAR}")


def _check_value(node, text, columns):
    if isinstance(node, ast.Name):
        columns.append(node.id)
    else:
        _check_constant(node, text)


def _check_constant(node, text):
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
        kinds = (int, float)
    else:
        kinds = (int, float, str)
    if not isinstance(node, ast.Constant) or type(node.value) not in kinds:
        raise ValueError(f"filter {text!r} cannot be read: {_GRAMMAR}")


def _check_kinds(condition, name, values):
    """Numbers and texts do not compare; say which column is which."""
    numeric = pd.api.types.is_numeric_dtype(values)
    for node in ast.walk(condition.tree):
        if not isinstance(node, ast.Compare):
            continue
        sides = [node.left, *node.comparators]
        if not any(isinstance(side, ast.Name) and side.id == name for side in sides):
            continue
        constants = [
            leaf.value
            for side in sides
            for leaf in ast.walk(side)
            if isinstance(leaf, ast.Constant)
        ]
        if any(isinstance(constant, str) == numeric for constant in constants):
            kinds = ("numbers", "a text") if numeric else ("texts", "a number")
            raise ValueError(
                f"filter {condition.text!r}: {name} holds {kinds[0]} and is compared with "
                f"{kinds[1]}"
            )


def _evaluate(node, table):
    match node:
        case ast.BoolOp(op=op, values=parts):
            join = np.logical_and if isinstance(op, ast.And) else np.logical_or
            return join.reduce(
                [np.broadcast_to(_evaluate(part, table), len(table)) for part in parts]
            )
        case ast.UnaryOp(op=ast.Not(), operand=part):
            return np.logical_not(_evaluate(part, table))
        case ast.Compare(left=left, ops=ops, comparators=others):
            sides = [left, *others]
            pairs = [
                _compare(op, _value(a, table), _value(b, table))
                for op, a, b in zip(ops, sides, others, strict=False)
            ]
            return np.logical_and.reduce([np.broadcast_to(pair, len(table)) for pair in pairs])


def _compare(op, left, right):
    if type(op) in _MEMBERSHIPS:
        found = (
            np.logical_or.reduce([np.asarray(left == item) for item in right])
            if right
            else np.False_
        )
        return ~found if _MEMBERSHIPS[type(op)] else found
    return _COMPARISONS[type(op)](left, right)


def _value(node, table):
    if isinstance(node, ast.Name):
        return table[node.id].to_numpy()
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item, table) for item in node.elts]
    if isinstance(node, ast.UnaryOp):
        return -node.operand.value
    return node.value
