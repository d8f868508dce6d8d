"""Transformations of a table's columns, and the ladder of powers that helps to choose one."""

from collections.abc import Mapping
from dataclasses import dataclass, field

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
FEWEST_FOR_LADDER = 20  # the χ² approximation of the test's kurtosis needs as many


@dataclass(frozen=True)
class Transformation:
    """One transformation of one column.

    Attributes
    ----------
    name : str
        One of `TRANSFORMATIONS`.
    column : str
        What is transformed.
    output : str
        What the result is called. Of ``Factor`` it is the beginning: ``sex`` gives ``sex.F`` and
        ``sex.M``.
    options : dict
        ``Value`` of ``Power`` (the exponent) and ``Center`` (what is subtracted; the mean if not
        given).
    """

    name: str
    column: str
    output: str
    options: Mapping = field(default_factory=dict)


def power(values, exponent):
    """Raise to a power, the natural logarithm standing for the power zero.

    Parameters
    ----------
    values : Series, shape (n,)
        NaN where missing.
    exponent : float
        The power.

    Returns
    -------
    Series, shape (n,)

    Raises
    ------
    ValueError
        If the power is not defined for a value; the message names the rows.
    """
    whole = float(exponent).is_integer() and exponent != 0
    forbidden = (values == 0) & (exponent <= 0) | (values < 0) & (not whole)
    if forbidden.any():
        rows = ", ".join(map(str, values.index[forbidden][:10]))
        what = "the logarithm" if exponent == 0 else f"the power {exponent:g}"
        raise ValueError(
            f"{what} of {values.name} is not defined for {values[forbidden].iloc[0]:g} ({rows}): "
            "choose another "
            "transformation, or leave these rows out"
        )
    return np.log(values) if exponent == 0 else values**exponent


def ladder_of_powers(values):
    """Test each power of Tukey's ladder for how normal it makes the values.

    The statistic is D'Agostino and Pearson's K² of skewness and kurtosis, χ² with two degrees of
    freedom under normality: that of Stata's ``ladder`` without its adjustment for small samples.
    The power with the smallest is marked as chosen; of equal ones, the one closest to leaving
    values as they are. Powers that would change the order of the values, or are not defined for
    them, are left out: with zeros those of 0 and below, with negative values all but 1.

    Parameters
    ----------
    values : Series, shape (n,)
        NaN where missing.

    Returns
    -------
    DataFrame
        One row for each power, from the lowest: ``column``, ``power`` (0 is the natural logarithm),
        ``formula``, ``chi2``, ``p``, ``n``, ``chosen``. ``chi2`` is NaN for powers that are left
        out.

    Raises
    ------
    ValueError
        If fewer than 20 values are known, or all are equal.

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
    known = values.dropna()
    if len(known) < FEWEST_FOR_LADDER:
        raise ValueError(
            f"{values.name}: the ladder of powers needs {FEWEST_FOR_LADDER} values, not "
            f"{len(known)}"
        )
    if known.nunique() == 1:
        raise ValueError(f"{values.name} is constant: no power makes it normal")
    rows = []
    for exponent, formula in LADDER.items():
        chi2 = np.nan
        p = np.nan
        if exponent == 1 or known.min() > 0 or (exponent > 0 and known.min() == 0):
            chi2, p = stats.normaltest(power(known, exponent).to_numpy(float))
        rows.append(
            {"column": values.name, "power": exponent, "formula": formula, "chi2": chi2, "p": p}
        )
    table = pd.DataFrame(rows).assign(n=len(known))
    closest = (
        table.assign(distance=(table["power"] - 1).abs()).sort_values(["chi2", "distance"]).index[0]
    )
    return table.assign(chosen=table.index == closest)


def apply_transformations(table, transformations):
    """Apply transformations one after another; a later one may use an earlier one's result.

    Parameters
    ----------
    table : DataFrame, shape (n, ...)
        Columns to transform.
    transformations : sequence of Transformation

    Returns
    -------
    table : DataFrame
        With the results as further columns.
    ladders : DataFrame
        As of `ladder_of_powers`, of every ``Ladder`` among the transformations.
    problems : dict of str to str
        Why a result could not be made, by its name.
    """
    table = table.copy()
    ladders = []
    problems = {}
    for step in transformations:
        try:
            if step.column in problems:
                raise ValueError(f"{step.column} could not be made: {problems[step.column]}")
            if step.column not in table:
                raise ValueError(
                    f"no column {step.column}; there are {', '.join(map(str, table.columns))}"
                )
            results = (
                _factor(table[step.column], step)
                if step.name == "Factor"
                else _numeric(table, step, ladders)
            )
            if taken := [name for name in results if name in table]:
                raise ValueError(
                    f"there is a column {', '.join(taken)} already: name another Output"
                )
        except ValueError as reason:
            problems[step.output] = f"{step.name} of {step.column}: {reason}"
        else:
            table = table.assign(**results)
    return table, _together(ladders), problems


def _numeric(table, step, ladders):
    values = table[step.column]
    if not pd.api.types.is_numeric_dtype(values):
        raise ValueError("it holds texts; Factor makes numbers of them")
    values = values.astype(float)
    if step.name == "Ladder":
        rungs = ladder_of_powers(values)
        ladders.append(rungs)
        result = power(values, rungs.loc[rungs["chosen"], "power"].item())
    else:
        result = TRANSFORMATIONS[step.name](values, step.options.get("Value"))
    return {step.output: result.rename(step.output)}


def _factor(values, step):
    """One column of 0 and 1 for every level, named as pybids does."""
    levels = sorted(values.dropna().unique(), key=str)
    if len(levels) < 2:
        raise ValueError(
            f"it has {len(levels)} level ({', '.join(map(str, levels))}): there is nothing to "
            "compare"
        )
    return {
        f"{step.output}.{_level(level)}": (values == level).astype(float).where(values.notna())
        for level in levels
    }


def _level(level):
    return f"{level:g}" if isinstance(level, float) else str(level)


def _scale(values, _):
    if values.nunique() < 2:
        raise ValueError("it is constant: it has no standard deviation to be divided by")
    return (values - values.mean()) / values.std()


def _together(ladders):
    columns = ["column", "power", "formula", "chi2", "p", "n", "chosen"]
    return pd.concat(ladders, ignore_index=True) if ladders else pd.DataFrame(columns=columns)


TRANSFORMATIONS = {
    "Log": lambda values, _: power(values, 0.0),
    "Sqrt": lambda values, _: power(values, 0.5),
    "Reciprocal": lambda values, _: power(values, -1.0),
    "Power": power,
    "Center": lambda values, centre: values - (values.mean() if centre is None else centre),
    "Scale": _scale,
    "Ladder": None,  # a power, once the values have been seen
    "Factor": None,  # several columns
}
