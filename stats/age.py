"""Regression of susceptibility on age."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .families import correct_p, family_of
from .mixed_effects import random_intercept
from .regression import LinearFit, numbers, ols
from .reproducibility import require_columns, roi_values

AGE_ANALYSES = {
    "naive": "one point for each scan, as if repeated scans of one person were independent (as "
    "published); p is too small",
    "subject_means": "one point for each person: the mean of their scans and ages",
    "random_intercept": "one point for each scan, with a random intercept per person (REML)",
}
_COLUMNS = [
    *("method", "roi", "analysis", "slope", "se", "ci_low", "ci_high", "intercept"),
    *("r", "statistic", "df", "p", "family", "n_tests", "p_bonferroni", "significant"),
    *("n_scans", "n_subjects", "n_missing"),
    *("between_variance", "within_variance", "note"),
]


def age_regression(table: pd.DataFrame, *, exclude_rois: Sequence[str] = ()) -> pd.DataFrame:
    """Regress ROI susceptibility on age, three ways.

    Repeated scans of one person are not independent. The published analysis treats them as if they
    were, so its p is too small. Column `analysis` has the name of the analysis, one of
    `AGE_ANALYSES`:

    * naive: one point for each scan, Pearson r (as published);
    * subject_means: one point for each person, the mean of their scans and ages; people with more
      scans do not have more weight;
    * random_intercept: one point for each scan, with a random intercept per person; see
      `random_intercept` for its degrees of freedom (n_subjects - 2). Sites are not modelled: their
      differences count as variance within a person.

    Parameters
    ----------
    table : DataFrame
        Long ROI table, see `roi_values`, with column age (years).
    exclude_rois : sequence of str
        ROIs to leave out in addition to the reference.

    Returns
    -------
    DataFrame
        One row per method, ROI and analysis:

        * method, roi, analysis
        * slope, se, ci_low, ci_high: ppm per year, standard error and 95 % confidence interval
        * intercept: ppm at age 0
        * r: Pearson's correlation (NaN for random_intercept)
        * statistic, df, p: Student's t of the slope
        * family, n_tests, p_bonferroni, significant: family of the region (`families.family_of`),
          number of its regions with a test of this method and analysis, p times that number (at
          most 1), and whether that is below .05
        * n_scans, n_subjects: scans with age and value, and the number of people scanned
        * n_missing: rows left out because age or value is missing
        * between_variance, within_variance: variance components of random_intercept, ppm², else NaN
        * note: the reason for a slope of NaN, else NaN

    Raises
    ------
    ValueError
        If ages are not numbers (such as "89+"); see also `roi_values`.

    References
    ----------
    Lin et al., AJNR 36:467-474 (2015), statistical analysis.
    """
    require_columns(table, ["age"])
    numbers(table["age"])
    rows = []
    values = roi_values(table, exclude_rois=exclude_rois)
    regions = values["roi"].unique()
    for (method, roi), group in values.groupby(["method", "roi"], sort=False):
        measured = group.dropna(subset=["mean", "age"])
        people = measured.groupby("subject", sort=False)[["mean", "age"]].mean()
        counts = {
            "n_scans": len(measured),
            "n_subjects": len(people),
            "n_missing": len(group) - len(measured),
        }
        family = family_of([roi], regions)
        fits = {
            "naive": _age_line(ols, measured),
            "subject_means": _age_line(ols, people),
            "random_intercept": _age_line(random_intercept, measured, measured["subject"]),
        }
        for analysis, line in fits.items():
            names = {"method": method, "roi": roi, "analysis": analysis}
            rows.append({**names, "family": family, **line, **counts})
    return correct_p(pd.DataFrame(rows, columns=_COLUMNS), ["method", "analysis", "family"])


def _age_line(model, points, *groups):
    """Fit a model of the mean on age and return the columns of its row."""
    try:
        fit = model(points["mean"], points[["age"]], *groups)
    except ValueError as reason:
        return {"note": str(reason)}
    age = fit.coefficients.loc["age"]
    row = {
        "slope": age["coefficient"],
        "se": age["se"],
        "ci_low": age["ci_low"],
        "ci_high": age["ci_high"],
        "intercept": fit.coefficients.loc["intercept", "coefficient"],
        "statistic": age["t"],
        "df": fit.df,
        "p": age["p"],
    }
    if isinstance(fit, LinearFit):
        row["r"] = np.copysign(np.sqrt(fit.r_squared), age["coefficient"])
    else:
        row["between_variance"] = fit.between_variance
        row["within_variance"] = fit.within_variance
    return row
