"""Conditions on columns of a table, such as ``age <= 50``.

They have a grammar of their own, so that no text of a user is executed as code.
"""

import ast
import operator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

LONGEST = 500  # characters; people do not write longer conditions
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
_CONSTANTS = (int, float, str)


@dataclass(frozen=True)
class Filter:
    """A condition on columns of a table, the result of `parse_filter`.

    Attributes
    ----------
    text : str
        The condition as it was written.
    columns : tuple of str
        Columns that it needs.
    tree : ast.expr
        The parsed condition, which `apply_filter` evaluates.
    """

    text: str
    columns: tuple[str, ...]
    tree: ast.expr = field(compare=False, repr=False)


def parse_filter(text: str) -> Filter:
    """Parse a condition such as ``age <= 50 and sex == 'F'``.

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
            f"a filter is a text of at most {LONGEST} characters, such as 'age <= 50', not "
            f"{text!r:.80}"
        )
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"filter {text!r} cannot be read: {_GRAMMAR}") from error
    columns: list[str] = []
    _check_condition(tree, text, columns)
    if not columns:
        raise ValueError(f"filter {text!r} names no column: it would hold for all rows or for none")
    return Filter(text, tuple(dict.fromkeys(columns)), tree)


def apply_filter(condition: Filter, table: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Evaluate a condition for each row of a table.

    Parameters
    ----------
    condition : Filter
        The condition.
    table : DataFrame, shape (n, ...)
        Table with the columns of the condition.

    Returns
    -------
    holds : Series of bool, shape (n,)
        Rows for which the condition holds.
    unknown : Series of bool, shape (n,)
        Rows that lack a value that the condition needs; `holds` is False there.

    Raises
    ------
    ValueError
        If the table lacks a column, or numbers are compared with texts.

    Examples
    --------
    >>> people = pd.DataFrame({"age": [30, 70, np.nan]})
    >>> holds, unknown = apply_filter(parse_filter("age <= 50"), people)
    >>> holds.tolist(), unknown.tolist()
    ([True, False, False], [False, False, True])
    """
    absent = [name for name in condition.columns if name not in table]
    if absent:
        raise ValueError(
            f"filter {condition.text!r}: no column {', '.join(absent)}; there are "
            f"{', '.join(map(str, table.columns))}"
        )
    unknown = table[list(condition.columns)].isna().any(axis=1)
    complete = table.loc[~unknown]
    for name in condition.columns:
        _check_kinds(condition, name, complete[name])
    holds = pd.Series(False, index=table.index)
    try:
        holds[~unknown] = _evaluate(condition.tree, complete).astype(bool)
    except TypeError as error:
        raise ValueError(
            f"filter {condition.text!r} compares a column of numbers with one of texts"
        ) from error
    return holds, unknown


def _check_condition(node, text, columns):
    """Refuse whatever is not in the grammar, and collect the columns of a condition."""
    match node:
        case ast.BoolOp(values=parts):
            for part in parts:
                _check_condition(part, text, columns)
        case ast.UnaryOp(op=ast.Not(), operand=part):
            _check_condition(part, text, columns)
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            _check_value(left, text, columns)
            for op, right in zip(ops, comparators, strict=True):
                if type(op) in _MEMBERSHIPS and isinstance(right, ast.List | ast.Tuple):
                    for item in right.elts:
                        _check_constant(item, text)
                elif type(op) in _COMPARISONS:
                    _check_value(right, text, columns)
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
    kinds = _CONSTANTS
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
        kinds = (int, float)
    if not isinstance(node, ast.Constant) or type(node.value) not in kinds:
        raise ValueError(f"filter {text!r} cannot be read: {_GRAMMAR}")


def _check_kinds(condition, name, values):
    """Refuse a comparison of a column of numbers with a text, or of texts with a number."""
    is_numeric = pd.api.types.is_numeric_dtype(values)
    for node in ast.walk(condition.tree):
        if not isinstance(node, ast.Compare):
            continue
        names = set()
        constants = []
        for leaf in ast.walk(node):
            if isinstance(leaf, ast.Name):
                names.add(leaf.id)
            elif isinstance(leaf, ast.Constant):
                constants.append(leaf.value)
        n_texts = sum(isinstance(constant, str) for constant in constants)
        if name in names and is_numeric and n_texts:
            raise ValueError(
                f"filter {condition.text!r}: {name} holds numbers and is compared with a text"
            )
        if name in names and not is_numeric and n_texts < len(constants):
            raise ValueError(
                f"filter {condition.text!r}: {name} holds texts and is compared with a number"
            )


def _evaluate(node, table):
    """Evaluate a condition; the result has one value for each row."""
    match node:
        case ast.BoolOp(op=ast.And(), values=parts):
            return np.logical_and.reduce([_evaluate(part, table) for part in parts])
        case ast.BoolOp(op=ast.Or(), values=parts):
            return np.logical_or.reduce([_evaluate(part, table) for part in parts])
        case ast.UnaryOp(op=ast.Not(), operand=part):
            return np.logical_not(_evaluate(part, table))
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            # A chain such as 18 <= age <= 50 is the conjunction of its comparisons.
            holds = np.ones(len(table), bool)
            for op, right in zip(ops, comparators, strict=True):
                holds = np.logical_and(
                    holds, _compare(op, _value(left, table), _value(right, table))
                )
                left = right
            return holds


def _compare(op, left, right):
    if type(op) in _COMPARISONS:
        return _COMPARISONS[type(op)](left, right)
    is_member = np.False_
    for item in right:
        is_member = np.logical_or(is_member, left == item)
    return ~is_member if _MEMBERSHIPS[type(op)] else is_member


def _value(node, table):
    """Return the values of a column, a constant, or a list of constants."""
    if isinstance(node, ast.Name):
        return table[node.id].to_numpy()
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item, table) for item in node.elts]
    if isinstance(node, ast.UnaryOp):
        return -node.operand.value
    return node.value
