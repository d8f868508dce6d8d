"""Susceptibility on age."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .mixed_effects import random_intercept
from .regression import LinearFit, numbers, ols
from .reproducibility import require_columns, roi_values

AGE_ANALYSES = {
    "naive": "every scan a point, as if repeated scans of one person were independent (as "
    "published); p is too small",
    "subject_means": "one point a person: the mean of their scans and ages",
    "random_intercept": "every scan a point, a random intercept per person (REML)",
}


def age_regression(table: pd.DataFrame, *, exclude_rois: Sequence[str] = ()) -> pd.DataFrame:
    """Regress ROI susceptibility on age, three ways.

    Repeated scans of one person are not independent; the published analysis takes them so and its p
    is too small. Column `analysis` says which of `AGE_ANALYSES` a row is:

    * naive: every scan a point, Pearson r (as published);
    * subject_means: one point a person, the mean of their scans (and ages), whatever their number;
    * random_intercept: every scan a point, with a random intercept per person; see
      `random_intercept` for its degrees of freedom (n_subjects - 2). Sites are not modelled: their
      differences count as variance within a person.

    Parameters
    ----------
    table : DataFrame
        Long ROI table, see `roi_values`, with column age (years).
    exclude_rois : sequence of str
        ROIs to leave out beside the reference.

    Returns
    -------
    DataFrame
        One row per method, ROI and analysis:

        * method, roi, analysis
        * slope, se, ci_low, ci_high: ppm per year, standard error and 95 % confidence interval
        * intercept: ppm at age 0
        * r: Pearson's correlation (NaN for random_intercept)
        * statistic, df, p: Student's t of the slope
        * n_scans, n_subjects: scans with age and value, and of how many people
        * n_missing: rows left out because age or value is missing
        * between_variance, within_variance: variance components of random_intercept, ppm², else NaN
        * note: why a row has NaN instead of a slope, else NaN

    Raises
    ------
    ValueError
        If ages are not numbers (such as "89+"); see also `roi_values`.

    References
    ----------
    Lin et al., AJNR 36:1644 (2015), statistical analysis.
    """
    require_columns(table, ["age"])
    numbers(table["age"])
    rows = []
    for (method, roi), group in roi_values(table, exclude_rois=exclude_rois).groupby(
        ["method", "roi"], sort=False
    ):
        measured = group.dropna(subset=["mean", "age"])
        people = measured.groupby("subject", sort=False)[["mean", "age"]].mean()
        counts = {
            "n_scans": len(measured),
            "n_subjects": len(people),
            "n_missing": len(group) - len(measured),
        }
        fits = {
            "naive": _age_line(ols, measured),
            "subject_means": _age_line(ols, people),
            "random_intercept": _age_line(random_intercept, measured, measured["subject"]),
        }
        for analysis, line in fits.items():
            rows.append({"method": method, "roi": roi, "analysis": analysis, **line, **counts})
    columns = [
        *(
            "method",
            "roi",
            "analysis",
            "slope",
            "se",
            "ci_low",
            "ci_high",
            "intercept",
            "r",
            "statistic",
            "df",
            "p",
        ),
        *("n_scans", "n_subjects", "n_missing", "between_variance", "within_variance", "note"),
    ]
    return pd.DataFrame(rows, columns=columns)


def _age_line(model, points, *groups):
    try:
        fit = model(points["mean"], points[["age"]], *groups)
    except ValueError as reason:
        return {"note": str(reason)}
    age = fit.coefficients.loc["age"]
    row = {
        "slope": age["coefficient"],
        "statistic": age["t"],
        **age[["se", "p", "ci_low", "ci_high"]],
    }
    row |= {"intercept": fit.coefficients.loc["intercept", "coefficient"], "df": fit.df}
    if isinstance(fit, LinearFit):
        return row | {"r": np.copysign(np.sqrt(fit.r_squared), age["coefficient"])}
    return row | {"between_variance": fit.between_variance, "within_variance": fit.within_variance}
