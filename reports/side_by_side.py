"""Our results beside published ones, as texts for the tables of a report."""

from decimal import Decimal

import numpy as np
import pandas as pd

from .blocks import Column
from .html import MISSING, format_value

WIDTH_DIGITS = 3  # significant digits of an interval's width, as in most published tables
BEFORE_AND_AFTER = (
    Column("outcome"),
    Column("predictor"),
    Column("unit"),
    Column("before", "before adjustment (95 % CI)"),
    Column("before_p", "P", "p"),
    Column("published_before", "published"),
    Column("published_before_p", "P, published"),
    Column("after", "after adjustment (95 % CI)"),
    Column("after_p", "P", "p"),
    Column("published_after", "published"),
    Column("published_after_p", "P, published"),
)


def before_and_after_texts(table: pd.DataFrame) -> pd.DataFrame:
    """Write coefficients with their intervals as one text each, such as "9.0 (−28.0 to 46.1)".

    Parameters
    ----------
    table : DataFrame
        Rows of `stats.before_after.before_and_after`.

    Returns
    -------
    DataFrame
        Columns of `BEFORE_AND_AFTER`, without those that have no value. Ours are rounded such that
        the width of the interval has three significant digits; published ones are as printed.
    """
    texts = table[["outcome", "predictor", "unit", "before_p", "after_p"]].copy()
    for stage in ("before", "after"):
        texts[stage] = _interval_column(table, stage)
        published = f"published_{stage}"
        if published in table:
            texts[published] = table[f"{published}_text"]
            texts[f"{published}_p"] = table[f"{published}_p"].map(_published_p)
    return texts.replace(MISSING, np.nan).dropna(axis="columns", how="all")


def interval_text(value: float, low: float, high: float, decimals: int) -> str:
    """Write a coefficient with its confidence interval.

    Parameters
    ----------
    value, low, high : float
        Coefficient and limits of its interval.
    decimals : int
        Decimals of all three.

    Returns
    -------
    str
        Without limits the coefficient alone; n/a without a coefficient.

    Examples
    --------
    >>> interval_text(9, -28, 46.1, 1)
    '9.0 (−28.0 to 46.1)'
    """
    format = f".{decimals}f"
    if np.isnan(value) or np.isnan(low) or np.isnan(high):
        return format_value(value, format)
    return f"{format_value(value, format)} ({format_value(low, format)} to " + (
        f"{format_value(high, format)})"
    )


def of_width(value: float, low: float, high: float) -> int:
    """Return the decimals with which the width of an interval has three significant digits.

    Examples
    --------
    >>> of_width(9.02, -28.03, 46.07), of_width(-860, -2026, 305)
    (1, 0)
    """
    width = high - low
    if not np.isfinite(width) or width <= 0:
        return WIDTH_DIGITS
    return max(WIDTH_DIGITS - 1 - int(np.floor(np.log10(width))), 0)


def as_published(*values: float) -> int:
    """Return the most decimals that one of the published values needs.

    Examples
    --------
    >>> as_published(9.0, -28.0, 46.1), as_published(-8e-05, -0.003, 0.002)
    (1, 5)
    """
    decimals = 0
    for value in values:
        if np.isfinite(value):
            exponent = Decimal(f"{value:.12g}").as_tuple().exponent
            decimals = max(decimals, -int(exponent))
    return decimals


def descriptive_text(row: pd.Series) -> str:
    """Write the published mean, SD and range of a variable, or the number of patients with it.

    Parameters
    ----------
    row : Series
        ``published_mean``, ``published_sd``, ``published_minimum``, ``published_maximum``, or
        ``published_count`` and ``published_n``; NaN where not published.

    Returns
    -------
    str
        n/a if nothing is published.

    Examples
    --------
    >>> descriptive_text(pd.Series({"published_count": 57, "published_n": 95}))
    '57 of 95'
    """
    if pd.notna(row.get("published_count")):
        return f"{row['published_count']:.0f} of {row['published_n']:.0f}"
    if pd.isna(row.get("published_mean")):
        return MISSING
    ends = row[["published_minimum", "published_maximum"]].astype(float)
    low, high = (format_value(end, f".{as_published(*ends)}f") for end in ends)
    centre = row[["published_mean", "published_sd"]].astype(float)
    mean, sd = (format_value(part, f".{as_published(*centre)}f") for part in centre)
    return f"{mean} ± {sd} ({low} to {high})"


def _interval_column(table, name):
    texts = []
    for row in table[[name, f"{name}_low", f"{name}_high"]].astype(float).to_numpy():
        texts.append(interval_text(*row, of_width(*row)))
    return texts


def _published_p(p):
    """Write a P value with the digits of the paper."""
    return MISSING if np.isnan(p) else f"{p:g}".removeprefix("0")
