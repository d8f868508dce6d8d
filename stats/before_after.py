"""Coefficients before and after adjustment side by side, as papers print them."""

import pandas as pd

from .model import ALL

STAGES = {False: "before", True: "after"}
PARTS = {"coefficient": "", "ci_low": "_low", "ci_high": "_high", "p": "_p"}
PUBLISHED_PARTS = {
    "published": "",
    "published_low": "_low",
    "published_high": "_high",
    "published_p": "_p",
}
KEYS = ["node", "subset", "outcome", "predictor"]


def before_and_after(
    coefficients: pd.DataFrame, published: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Put coefficients before and after adjustment side by side, beside published ones.

    Parameters
    ----------
    coefficients : DataFrame
        Table ``coefficients`` of `stats.model.run_model`: one row for each regression.
    published : DataFrame, optional
        Published coefficients of all patients: columns ``outcome``, ``predictor``, ``adjusted``,
        ``published``, ``published_low``, ``published_high``, ``published_p``; ``unit``, that of the
        published coefficient, and ``factor``, by which our coefficients are multiplied to convert
        them to it (1000 from mL to mm³).

    Returns
    -------
    DataFrame
        One row for each outcome and predictor of a node and subset:

        * node, subset, outcome, predictor; unit, if there are published coefficients
        * before, before_low, before_high, before_p: coefficient before adjustment, its 95 %
          confidence interval and P
        * after, after_low, after_high, after_p: the same after adjustment
        * published_before, …, published_after_p: the published values; missing in subsets

    Examples
    --------
    >>> rows = [("t", "all", "y", "x", False, 0.1, 0, 0.2, 0.04), ("t", "all", "y", "x", True, 0.2,
    ...         0.1, 0.3, 0.01)]
    >>> names = [*KEYS, "adjusted", "coefficient", "ci_low", "ci_high", "p"]
    >>> before_and_after(pd.DataFrame(rows, columns=names))[["before", "after"]].values.tolist()
    [[0.1, 0.2]]
    """
    scaled = coefficients[[*KEYS, "adjusted", *PARTS]].copy()
    if published is not None:
        keys = ["outcome", "predictor", "adjusted"]
        scaled = scaled.merge(published, on=keys, how="left")
        factor = scaled["factor"].fillna(1)
        for part in ("coefficient", "ci_low", "ci_high"):
            scaled[part] *= factor
    table = scaled[KEYS].drop_duplicates().reset_index(drop=True)
    if published is not None:
        units = scaled.dropna(subset=["unit"])[[*KEYS, "unit"]].drop_duplicates(KEYS)
        table = table.merge(units, on=KEYS, how="left")
    for adjusted, stage in STAGES.items():
        part = scaled[scaled["adjusted"] == adjusted]
        names = {column: f"{stage}{ending}" for column, ending in PARTS.items()}
        table = table.merge(part[[*KEYS, *PARTS]].rename(columns=names), on=KEYS, how="left")
    if published is None:
        return table
    for adjusted, stage in STAGES.items():
        is_published = (scaled["adjusted"] == adjusted) & (scaled["subset"] == ALL)
        names = {column: f"published_{stage}{end}" for column, end in PUBLISHED_PARTS.items()}
        part = scaled.loc[is_published, [*KEYS, *PUBLISHED_PARTS]].rename(columns=names)
        table = table.merge(part, on=KEYS, how="left")
    return table
