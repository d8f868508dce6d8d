"""Calibration by a phantom: regression of measured on expected susceptibility of its tubes."""

from collections.abc import Collection

import numpy as np
import pandas as pd

from .regression import ols
from .reproducibility import require_columns

POOLED = "all"
# R² of published and simulated phantoms is .999 or more with inversions that use edges, and mostly
# .98 to .995 with closed-form inversions, whose streaks run from tube to tube. Below .98 the SD of
# the scatter about the line is more than a seventh of that of the tubes, and the slope does not
# characterise the site.
LOWEST_R_SQUARED = 0.98
# Regularisation and voxel size reduce the slope by some tenths. A slope outside this range has
# another cause, such as a wrong field strength or the echo times of another scan.
LIKELY_SLOPES = (0.5, 1.5)
LOOK_AT = "check the phantom's mask and map, the labels of its tubes and their susceptibility_ppm"


def calibrate(table: pd.DataFrame) -> pd.DataFrame:
    """Fit measured = slope · expected + intercept over the phantom's tubes.

    A point of the fit is a tube's mean over its scans at a site: repeated scans of a tube share its
    preparation and position, so they are not independent and would make the standard errors too
    small. The pooled fit ("all") has a point for every tube and site. The same tubes at several
    sites are not independent either, so its standard errors are optimistic.

    Parameters
    ----------
    table : DataFrame
        Long ROI table: subject, session, run, site, method, roi, mean (ppm, NaN where missing) and
        expected (ppm). Rows without an expected value are not a phantom's and are ignored.

    Returns
    -------
    DataFrame
        One row per method and site, and per method with site "all":

        * method, site
        * slope, slope_se, slope_ci_low, slope_ci_high: dimensionless, 95 % confidence interval
        * intercept, intercept_se, intercept_ci_low, intercept_ci_high: ppm
        * r_squared, residual_sd (ppm)
        * n_tubes, n_points, n_scans: tubes with a value, points of the fit, scans of these points
        * n_missing: rows of tubes without a value
        * note: the reason for a fit of NaN (such as fewer than three tubes), else NaN

    Raises
    ------
    ValueError
        If a column is missing, no row has an expected value, or a site is called "all".

    References
    ----------
    Lin et al., AJNR 36:467-474 (2015), phantom experiment.

    Examples
    --------
    A scanner that measures 90 % of the expected susceptibility, with an offset.

    >>> tubes = pd.DataFrame({"roi": ["tube 1", "tube 2", "tube 3"], "expected": [0.2, 0.4, 0.8]})
    >>> tubes["mean"] = 0.9 * tubes["expected"] - 0.05
    >>> tubes = tubes.assign(subject="phantom", session="A", run="1", site="A", method="medi")
    >>> calibrate(tubes)[["site", "slope", "intercept"]].round(3).values.tolist()
    [['A', 0.9, -0.05], ['all', 0.9, -0.05]]
    """
    require_columns(
        table, ["subject", "session", "run", "site", "method", "roi", "mean", "expected"]
    )
    tubes = table[table["expected"].notna()]
    if tubes.empty:
        raise ValueError(
            "no row has an expected susceptibility: calibration needs a phantom's tubes"
        )
    if (tubes["site"] == POOLED).any():
        raise ValueError(f"a site is called {POOLED!r}, the name of the pooled fit: rename it")
    rows = []
    for method, group in tubes.groupby("method", sort=False):
        for site, points in [*group.groupby("site", sort=False), (POOLED, group)]:
            rows.append({"method": method, "site": site, **_calibration_line(points)})
    columns = [
        *("method", "site", "slope", "slope_se", "slope_ci_low", "slope_ci_high"),
        *("intercept", "intercept_se", "intercept_ci_low", "intercept_ci_high"),
        *("r_squared", "residual_sd", "n_tubes", "n_points", "n_scans", "n_missing", "note"),
    ]
    return pd.DataFrame(rows, columns=columns)


def apply_calibration(
    table: pd.DataFrame, calibration: pd.DataFrame, *, as_measured: Collection[str] = ()
) -> pd.DataFrame:
    """Correct in-vivo susceptibility by the calibration of its site and method.

    In-vivo values are relative to a reference region. The intercept of the calibration cancels in
    that difference, so only the slope matters: values and their spread are divided by it. The
    slope's uncertainty is shared by all values of a site and is not added to theirs.

    Parameters
    ----------
    table : DataFrame
        Long ROI table: site, method, mean, and optionally sd, median and se. Rows with an expected
        value (phantom tubes) do not change.
    calibration : DataFrame
        Result of `calibrate`.
    as_measured : collection of str
        Methods whose values are not corrected, such as those of `calibration_refusals`.

    Returns
    -------
    DataFrame
        Copy of the table with the additional columns calibrated (bool) and calibration_slope (NaN
        where not calibrated).

    Raises
    ------
    ValueError
        If a column is missing, the table is calibrated already, or a site and method has no
        phantom, no positive slope or an R² below `LOWEST_R_SQUARED`; the message names them.
    """
    is_corrected = _is_in_vivo(table) & ~table["method"].isin(as_measured)
    refusals = calibration_refusals(table[is_corrected], calibration)
    if refusals:
        raise ValueError("; ".join(refusals.values()))
    labels = pd.MultiIndex.from_frame(table[["method", "site"]])
    slopes = calibration.set_index(["method", "site"])["slope"].reindex(labels)
    slopes = slopes.set_axis(table.index).astype(float).where(is_corrected)
    out = table.copy()
    for column in ("mean", "sd", "median", "se", "se_noise", "se_systematic"):
        if column in out.columns:
            out[column] = out[column] / slopes.where(is_corrected, 1)
    return out.assign(calibrated=is_corrected, calibration_slope=slopes)


def calibration_refusals(table: pd.DataFrame, calibration: pd.DataFrame) -> dict[str, str]:
    """List the methods whose in-vivo values cannot be calibrated.

    A method is calibrated at all sites of its values or at none: otherwise differences between
    sites would partly be those between calibrated and measured values.

    Parameters
    ----------
    table : DataFrame
        Long ROI table: site, method and mean (ppm), optionally expected.
    calibration : DataFrame
        Result of `calibrate`.

    Returns
    -------
    dict of str to str
        The reason of each of these methods: a site without phantom, without positive slope or with
        an R² below `LOWEST_R_SQUARED`.

    Raises
    ------
    ValueError
        If a column is missing or the table is calibrated already.
    """
    require_columns(calibration, ["site", "method", "slope", "r_squared"])
    reasons = {}
    for method, values in table[_is_in_vivo(table)].groupby("method", sort=False):
        lines = calibration[calibration["method"] == method].set_index("site")
        reason = _refusal(lines, method, sorted(values["site"].unique()))
        if reason:
            reasons[method] = reason
    return reasons


def _is_in_vivo(table):
    """Return which rows are a person's, after a check of the table."""
    require_columns(table, ["site", "method", "mean"])
    if "calibrated" in table.columns and table["calibrated"].any():
        raise ValueError("the table is calibrated already: use the values before calibration")
    if "expected" in table.columns:
        return table["expected"].isna()
    return pd.Series(True, index=table.index)


def _refusal(lines, method, sites):
    """Say why the lines of a method do not calibrate the values of some sites; "" if they do."""
    absent = [site for site in sites if site not in lines.index]
    if absent:
        return (
            f"no phantom was measured for (method, site): {_listed(method, absent)}; scan one "
            "there, or do without calibration"
        )
    needed = lines.loc[sites]
    without_slope = needed.index[~(needed["slope"] > 0)]
    if len(without_slope):
        listed = _listed(method, without_slope)
        return f"no positive calibration slope for (method, site): {listed}; {LOOK_AT}"
    poor = needed[needed["r_squared"] < LOWEST_R_SQUARED].reset_index()
    if len(poor):
        return (
            f"no line to calibrate by: {', '.join(map(_line_text, poor.itertuples()))}; {LOOK_AT}"
        )
    return ""


def _listed(method, sites):
    return ", ".join(str((method, site)) for site in sites)


def doubtful_lines(calibration: pd.DataFrame) -> list[str]:
    """List the calibration lines that cast doubt on the phantom's measurement.

    Parameters
    ----------
    calibration : DataFrame
        Result of `calibrate`.

    Returns
    -------
    list of str
        One text for each site and method with R² below `LOWEST_R_SQUARED` or a slope outside
        `LIKELY_SLOPES`. The pooled line has the same points and is not listed.
    """
    least, most = LIKELY_SLOPES
    is_likely = calibration["slope"].between(least, most)
    is_doubtful = (calibration["r_squared"] < LOWEST_R_SQUARED) | ~is_likely
    is_fitted = np.isfinite(calibration["slope"]) & (calibration["site"] != POOLED)
    doubtful = calibration[is_doubtful & is_fitted]
    return [f"{_line_text(row)}; {LOOK_AT}" for row in doubtful.itertuples()]


def _line_text(row):
    """Describe a calibration line, and say which of its numbers is doubtful."""
    least, most = LIKELY_SLOPES
    fit = f"R² {row.r_squared:.4f}"
    if not row.r_squared >= LOWEST_R_SQUARED:
        fit += f" (should be at least {LOWEST_R_SQUARED:g})"
    slope = f"slope {row.slope:.2f}"
    if not least <= row.slope <= most:
        slope += f" (should be {least:g} to {most:g})"
    return f"calibration of site {row.site}, {row.method}: {fit}, {slope}"


def _calibration_line(group):
    """Fit the line of one site and method and return the columns of its row."""
    measured = group.dropna(subset=["mean"])
    points = measured.groupby(["site", "subject", "roi", "expected"], as_index=False)["mean"].mean()
    row = {
        "n_tubes": len(points[["subject", "roi"]].drop_duplicates()),
        "n_points": len(points),
        "n_scans": len(measured[["subject", "session", "run", "site"]].drop_duplicates()),
        "n_missing": len(group) - len(measured),
    }
    try:
        fit = ols(points["mean"], points[["expected"]])
    except ValueError as reason:
        return row | {"note": str(reason)}
    for name, label in (("slope", "expected"), ("intercept", "intercept")):
        coefficient = fit.coefficients.loc[label]
        row[name] = coefficient["coefficient"]
        for part in ("se", "ci_low", "ci_high"):
            row[f"{name}_{part}"] = coefficient[part]
    return row | {"r_squared": fit.r_squared, "residual_sd": fit.residual_sd}
