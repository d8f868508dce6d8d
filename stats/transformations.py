"""Transformations of a table's columns, and the ladder of powers that helps to choose one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

LADDER = {
    -3.0: "1/x³",
    -2.0: "1/x²",
    -1.0: "1/x",
    -0.5: "1/√x",
    0.0: "log x",
    0.5: "√x",
    1.0: "x",
    2.0: "x²",
    3.0: "x³",
}
_LADDER_COLUMNS = ["column", "power", "formula", "chi2", "p", "n", "chosen", "note"]
ODD = (1.0, 3.0)  # powers that keep the order of negative values as well
FEWEST_FOR_LADDER = 20  # values that the χ² approximation of the kurtosis test needs


@dataclass(frozen=True)
class Transformation:
    """One transformation of one column.

    Attributes
    ----------
    name : str
        One of `TRANSFORMATIONS`.
    column : str
        Column to transform.
    output : str
        Name of the result. For ``Factor`` it is a prefix: ``sex`` gives ``sex.F`` and ``sex.M``.
    options : mapping
        ``Value`` of ``Power`` (the exponent) and of ``Center`` (the number to subtract; the mean by
        default).
    """

    name: str
    column: str
    output: str
    options: Mapping[str, Any] = field(default_factory=dict)


def power(values: pd.Series, exponent: float) -> pd.Series:
    """Raise values to a power; the power zero is the natural logarithm.

    Parameters
    ----------
    values : Series, shape (n,)
        Values; NaN where missing.
    exponent : float
        Exponent.

    Returns
    -------
    Series, shape (n,)

    Raises
    ------
    ValueError
        If the power is not defined for a value; the message names the rows.

    Examples
    --------
    >>> power(pd.Series([4.0, 9.0]), 0.5).tolist()
    [2.0, 3.0]
    """
    is_whole = float(exponent).is_integer() and exponent != 0
    is_undefined = (values == 0) & (exponent <= 0) | (values < 0) & (not is_whole)
    if is_undefined.any():
        rows = ", ".join(map(str, values.index[is_undefined][:10]))
        function = "the logarithm" if exponent == 0 else f"the power {exponent:g}"
        raise ValueError(
            f"{function} of {values.name} is not defined for {values[is_undefined].iloc[0]:g} "
            f"({rows}): choose another transformation, or leave these rows out"
        )
    return np.log(values) if exponent == 0 else values**exponent


def ladder_of_powers(values: pd.Series) -> pd.DataFrame:
    """Test how normal each power of Tukey's ladder makes the values.

    The statistic is D'Agostino and Pearson's K² of skewness and kurtosis, χ² with two degrees of
    freedom under normality. It is that of Stata's ``ladder`` without its adjustment for small
    samples. The power with the smallest statistic is marked as chosen; of equal ones, the one
    closest to 1. Powers that would change the order of the values or are not defined for them are
    not tested: with zeros, those of 0 and below; with negative values, all but 1 and 3.

    Parameters
    ----------
    values : Series, shape (n,)
        Values; NaN where missing.

    Returns
    -------
    DataFrame
        One row for each power, from the lowest: ``column``, ``power`` (0 is the natural logarithm),
        ``formula``, ``chi2``, ``p``, ``n``, ``chosen``, ``note``. ``chi2`` and ``p`` are NaN for
        powers that are not tested, and ``note`` says why.

    Raises
    ------
    ValueError
        If there are fewer than 20 values, or all are equal.

    References
    ----------
    Tukey, Exploratory Data Analysis (1977), chapter 3; D'Agostino and Pearson, Biometrika
    60:613-622 (1973).

    Examples
    --------
    >>> spread = pd.Series(np.exp(stats.norm.ppf(np.arange(1, 100) / 100)), name="lesions")
    >>> ladder_of_powers(spread).query("chosen")["formula"].item()
    'log x'
    """
    measured = values.dropna()
    if len(measured) < FEWEST_FOR_LADDER:
        raise ValueError(
            f"{values.name}: the ladder of powers needs {FEWEST_FOR_LADDER} values, not "
            f"{len(measured)}"
        )
    if measured.nunique() == 1:
        raise ValueError(f"{values.name} is constant: no power makes it normal")
    rows = []
    for exponent, formula in LADDER.items():
        chi2 = np.nan
        p = np.nan
        note = _why_not_tested(measured, exponent)
        if note is None:
            chi2, p = stats.normaltest(power(measured, exponent).to_numpy(float))
        names = {"column": values.name, "power": exponent, "formula": formula}
        rows.append({**names, "chi2": chi2, "p": p, "note": note})
    table = pd.DataFrame(rows).assign(n=len(measured))
    distance = (table["power"] - 1).abs()
    chosen = table.assign(distance=distance).sort_values(["chi2", "distance"]).index[0]
    return table.assign(chosen=table.index == chosen)[_LADDER_COLUMNS]


def _why_not_tested(values: pd.Series, exponent: float) -> str | None:
    """Say why a power of values is not tested; None if it is."""
    if values.min() < 0 and exponent not in ODD:
        is_whole = exponent.is_integer() and exponent != 0
        return f"{'changes the order of' if is_whole else 'not defined for'} negative values"
    if exponent <= 0 and (values == 0).any():
        return "not defined for zero"
    return None


def apply_transformations(
    table: pd.DataFrame, transformations: Sequence[Transformation]
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, str]]:
    """Apply transformations one after another; a later one may use an earlier one's result.

    Parameters
    ----------
    table : DataFrame, shape (n, ...)
        Table of the columns to transform.
    transformations : sequence of Transformation
        Transformations in their order.

    Returns
    -------
    table : DataFrame
        Copy of the table with the results as additional columns.
    ladders : DataFrame
        Result of `ladder_of_powers` for every ``Ladder`` among the transformations.
    problems : dict of str to str
        For each result that could not be computed, the reason.
    """
    table = table.copy()
    ladders: list[pd.DataFrame] = []
    problems: dict[str, str] = {}
    for step in transformations:
        try:
            if step.column in problems:
                raise ValueError(f"{step.column} could not be computed: {problems[step.column]}")
            if step.column not in table:
                raise ValueError(
                    f"no column {step.column}; there are {', '.join(map(str, table.columns))}"
                )
            if step.name == "Factor":
                results = _factor(table[step.column], step)
            else:
                results = _numeric(table, step, ladders)
            existing = [name for name in results if name in table]
            if existing:
                raise ValueError(
                    f"there is a column {', '.join(existing)} already: choose another Output"
                )
        except ValueError as reason:
            problems[step.output] = f"{step.name} of {step.column}: {reason}"
        else:
            table = table.assign(**results)
    if not ladders:
        return table, pd.DataFrame(columns=_LADDER_COLUMNS), problems
    return table, pd.concat(ladders, ignore_index=True), problems


def _numeric(table, step, ladders):
    """Transform numbers; the test of a ladder of powers is appended to `ladders`."""
    values = table[step.column]
    if not pd.api.types.is_numeric_dtype(values):
        raise ValueError("it holds texts: code them as numbers by Factor")
    values = values.astype(float)
    if step.name == "Ladder":
        rungs = ladder_of_powers(values)
        ladders.append(rungs)
        result = power(values, rungs.loc[rungs["chosen"], "power"].item())
    else:
        result = TRANSFORMATIONS[step.name](values, step.options.get("Value"))
    return {step.output: result.rename(step.output)}


def _factor(values, step):
    """Return one column of 0 and 1 for every level, named as in pybids."""
    levels = sorted(values.dropna().unique(), key=str)
    if len(levels) < 2:
        raise ValueError(
            f"it has {len(levels)} level ({', '.join(map(str, levels))}): there is nothing to "
            "compare"
        )
    indicators = {}
    for level in levels:
        indicator = (values == level).astype(float).where(values.notna())
        indicators[f"{step.output}.{_level(level)}"] = indicator
    return indicators


def _level(level):
    return f"{level:g}" if isinstance(level, float) else str(level)


def _scale(values, _):
    if values.nunique() < 2:
        raise ValueError("it is constant: its standard deviation is zero")
    return (values - values.mean()) / values.std()


TRANSFORMATIONS = {
    "Log": lambda values, _: power(values, 0.0),
    "Sqrt": lambda values, _: power(values, 0.5),
    "Reciprocal": lambda values, _: power(values, -1.0),
    "Power": power,
    "Center": lambda values, centre: values - (values.mean() if centre is None else centre),
    "Scale": _scale,
    "Ladder": None,  # the power depends on the values, see `_numeric`
    "Factor": None,  # several columns, see `_factor`
}
