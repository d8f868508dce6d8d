"""Coefficients before and after adjustment side by side, as papers print them."""

import numpy as np
import pandas as pd

from .specification import ALL

STAGES = {False: "before", True: "after"}
PARTS = {"coefficient": "", "ci_low": "_low", "ci_high": "_high", "p": "_p"}
PUBLISHED_PARTS = {
    "published": "",
    "published_low": "_low",
    "published_high": "_high",
    "published_text": "_text",
    "published_p": "_p",
}
REGRESSION = ["subset", "outcome", "predictor"]
KEYS = ["node", *REGRESSION]
# Of the same regression, published coefficients of all subsets have the same unit.
UNIT_KEYS = ["outcome", "predictor", "adjusted"]


def before_and_after(
    coefficients: pd.DataFrame, published: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Put coefficients before and after adjustment side by side, beside published ones.

    Parameters
    ----------
    coefficients : DataFrame
        Table ``coefficients`` of `stats.model.run_model`: one row for each regression.
    published : DataFrame, optional
        Published coefficients: columns ``outcome``, ``predictor``, ``adjusted``, ``published``,
        ``published_low``, ``published_high``, ``published_p`` (NaN where not published), and
        ``published_text``, coefficient and interval as the paper prints them; ``unit``,
        that of the published coefficient, and ``factor``, by which our coefficients are multiplied
        to convert them to it (1000 from mL to mm³); optionally ``subset``, NaN for all patients.

    Returns
    -------
    DataFrame
        One row for each outcome and predictor of a node and subset:

        * node, subset, outcome, predictor; unit, NaN if there are no published coefficients, and
          ours has the units of the columns
        * before, before_low, before_high, before_p: coefficient before adjustment, its 95 %
          confidence interval and P
        * after, after_low, after_high, after_p: the same after adjustment
        * published_before, …, published_after_p, if there are published coefficients: their
          values, and published_before_text and published_after_text as printed; NaN in subsets for
          which nothing is published

    Raises
    ------
    ValueError
        If a regression has more than one published coefficient, or more than one unit.

    Examples
    --------
    >>> rows = [("t", "all", "y", "x", False, 0.1, 0, 0.2, 0.04), ("t", "all", "y", "x", True, 0.2,
    ...         0.1, 0.3, 0.01)]
    >>> names = [*KEYS, "adjusted", "coefficient", "ci_low", "ci_high", "p"]
    >>> before_and_after(pd.DataFrame(rows, columns=names))[["before", "after"]].values.tolist()
    [[0.1, 0.2]]
    """
    scaled = coefficients[[*KEYS, "adjusted", *PARTS]].assign(unit=np.nan)
    if published is not None:
        scaled = _in_published_units(scaled, published)
    table = scaled[KEYS].drop_duplicates().reset_index(drop=True)
    units = scaled.dropna(subset=["unit"])[[*KEYS, "unit"]].drop_duplicates(KEYS)
    table = table.merge(units, on=KEYS, how="left")
    for adjusted, stage in STAGES.items():
        part = scaled[scaled["adjusted"] == adjusted]
        names = {column: f"{stage}{ending}" for column, ending in PARTS.items()}
        table = table.merge(part[[*KEYS, *PARTS]].rename(columns=names), on=KEYS, how="left")
    if published is None:
        return table
    published = published.assign(subset=_subsets(published))
    for adjusted, stage in STAGES.items():
        names = {column: f"published_{stage}{end}" for column, end in PUBLISHED_PARTS.items()}
        part = published.loc[published["adjusted"] == adjusted, [*REGRESSION, *PUBLISHED_PARTS]]
        part = part.rename(columns=names)
        table = table.merge(part, on=REGRESSION, how="left", validate="many_to_one")
    return table


def _in_published_units(coefficients, published):
    """Multiply coefficients and their intervals by the factors of the published units."""
    units = published[[*UNIT_KEYS, "unit", "factor"]].drop_duplicates()
    without_unit = coefficients.drop(columns="unit")
    scaled = without_unit.merge(units, on=UNIT_KEYS, how="left", validate="many_to_one")
    for part in ("coefficient", "ci_low", "ci_high"):
        scaled[part] *= scaled["factor"].fillna(1)
    return scaled


def _subsets(published):
    """Return the subset of each published coefficient."""
    if "subset" not in published:
        return ALL
    return published["subset"].fillna(ALL)
