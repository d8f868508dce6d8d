"""Calibration against a phantom: measured susceptibility of its tubes on what is expected."""

import numpy as np
import pandas as pd

from .regression import ols
from .reproducibility import require_columns

POOLED = "all"
# Tubes lie on a line: published and simulated phantoms have R² of .999 and more with the inversions
# that know edges, and mostly .98 to .995 with the closed form, whose streaks run from tube to tube.
# Below .98 the scatter about the line is more than a seventh of that of the tubes (SD over SD), and
# the slope is no measure of the site.
LOWEST_R_SQUARED = 0.98
# Regularisation and voxels cost some tenths of the slope; what doubles it or leaves half of it,
# such as another field strength or echo times of another scan, is an error of another kind.
LIKELY_SLOPES = (0.5, 1.5)
LOOK_AT = (
    "look at the phantom's mask and map, at the labels of its tubes and at their susceptibility_ppm"
)


def calibrate(table):
    """Fit measured = slope · expected + intercept over the phantom's tubes.

    A point of the fit is a tube's mean over its scans at a site: repeated scans of a tube share its
    preparation and position, so they are not independent and would make the standard errors too
    small. The pooled fit ("all") has a point for every tube and site; the same tubes at several
    sites are not independent either, so take its standard errors as optimistic.

    Parameters
    ----------
    table : DataFrame
        Long ROI table: subject, session, run, site, method, roi, mean (ppm, NaN where missing) and
        expected (ppm). Rows without an expected value are not of a phantom and are not used.

    Returns
    -------
    DataFrame
        One row per method and site, and per method with site "all":

        * method, site
        * slope, slope_se, slope_ci_low, slope_ci_high: dimensionless, 95 % confidence interval
        * intercept, intercept_se, intercept_ci_low, intercept_ci_high: ppm
        * r_squared, residual_sd (ppm)
        * n_tubes, n_points, n_scans: tubes with a value, points of the fit, scans they come from
        * n_missing: rows of tubes without a value
        * note: why a row has NaN instead of a fit (such as fewer than three tubes), else NaN

    Raises
    ------
    ValueError
        If a column is missing, no row has an expected value, or a site is called "all".

    References
    ----------
    Lin et al., AJNR 36:1644 (2015), phantom experiment.
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
    found = []
    for method, rows in tubes.groupby("method", sort=False):
        for site, group in [*rows.groupby("site", sort=False), (POOLED, rows)]:
            found.append({"method": method, "site": site, **_calibration_line(group)})
    lines = [
        f"{name}{part}"
        for name in ("slope", "intercept")
        for part in ("", "_se", "_ci_low", "_ci_high")
    ]
    counts = ["n_tubes", "n_points", "n_scans", "n_missing"]
    return pd.DataFrame(
        found, columns=["method", "site", *lines, "r_squared", "residual_sd", *counts, "note"]
    )


def apply_calibration(table, calibration):
    """Correct in-vivo susceptibility by the calibration of its site and method.

    In-vivo values are relative to a reference region: an intercept would be subtracted from both
    and cancels, so only the slope matters. Values and their spread are divided by it. The slope's
    own uncertainty is common to all values of a site; it is not added to theirs.

    Parameters
    ----------
    table : DataFrame
        Long ROI table: site, method, mean, and if there are sd, median and se. Rows with an
        expected value (phantom tubes) stay as they are.
    calibration : DataFrame
        Result of `calibrate`.

    Returns
    -------
    DataFrame
        Copy of the table with two columns more: calibrated (bool) and calibration_slope (NaN where
        not calibrated).

    Raises
    ------
    ValueError
        If a column is missing, the table has calibrated rows, or a site and method has no phantom,
        no positive slope or a line of R² below `LOWEST_R_SQUARED`; the message names them.
    """
    require_columns(table, ["site", "method", "mean"])
    require_columns(calibration, ["site", "method", "slope", "r_squared"])
    if "calibrated" in table.columns and table["calibrated"].any():
        raise ValueError("the table is calibrated already")
    in_vivo = (
        table["expected"].isna()
        if "expected" in table.columns
        else pd.Series(True, index=table.index)
    )
    slopes = {(row.method, row.site): row.slope for row in calibration.itertuples()}
    pairs = list(zip(table["method"], table["site"], strict=True))
    needed = set(zip(table["method"][in_vivo], table["site"][in_vivo], strict=True))
    absent = sorted(needed - set(slopes))
    if absent:
        raise ValueError(
            f"no phantom was measured for (method, site): {_listed(absent)}; scan one there, or go "
            "without calibration"
        )
    wrong = sorted(pair for pair in needed if not slopes[pair] > 0)
    if wrong:
        raise ValueError(
            f"no positive calibration slope for (method, site): {_listed(wrong)}; {LOOK_AT}"
        )
    poor = [
        _line_text(row)
        for row in calibration.itertuples()
        if (row.method, row.site) in needed and row.r_squared < LOWEST_R_SQUARED
    ]
    if poor:
        raise ValueError(f"no line to calibrate by: {', '.join(poor)}; {LOOK_AT}")
    used = pd.Series(
        [slopes.get(pair, np.nan) for pair in pairs], index=table.index, dtype=float
    ).where(in_vivo)
    out = table.copy()
    for column in ("mean", "sd", "median", "se"):
        if column in out.columns:
            out[column] = out[column] / used.where(in_vivo, 1)
    return out.assign(calibrated=in_vivo, calibration_slope=used)


def _listed(pairs):
    return ", ".join(map(str, pairs))


def doubtful_lines(calibration):
    """Name the lines that no phantom has which was measured well.

    Parameters
    ----------
    calibration : DataFrame
        Result of `calibrate`.

    Returns
    -------
    list of str
        One for each site and method with R² below `LOWEST_R_SQUARED` or a slope outside
        `LIKELY_SLOPES`; the pooled line is made of the same points.
    """
    least, most = LIKELY_SLOPES
    return [
        f"{_line_text(row)}; {LOOK_AT}"
        for row in calibration.itertuples()
        if row.site != POOLED
        and (row.r_squared < LOWEST_R_SQUARED or not least <= row.slope <= most)
        if np.isfinite(row.slope)
    ]


def _line_text(row):
    """A line in words, and which of its numbers is doubtful."""
    least, most = LIKELY_SLOPES
    fits = row.r_squared >= LOWEST_R_SQUARED
    is_likely = least <= row.slope <= most
    of_fit = f"R² {row.r_squared:.4f}" + (
        "" if fits else f" (at least {LOWEST_R_SQUARED:g} is wanted)"
    )
    of_slope = f"slope {row.slope:.2f}" + (
        "" if is_likely else f" ({least:g} to {most:g} is likely)"
    )
    return f"calibration of site {row.site}, {row.method}: {of_fit}, {of_slope}"


def _calibration_line(group):
    known = group.dropna(subset=["mean"])
    points = known.groupby(["site", "subject", "roi", "expected"], as_index=False)["mean"].mean()
    row = {
        "n_tubes": len(points[["subject", "roi"]].drop_duplicates()),
        "n_points": len(points),
        "n_scans": len(known[["subject", "session", "run", "site"]].drop_duplicates()),
        "n_missing": len(group) - len(known),
    }
    try:
        fit = ols(points["mean"], points[["expected"]])
    except ValueError as reason:
        return row | {"note": str(reason)}
    for name, label in (("slope", "expected"), ("intercept", "intercept")):
        found = fit.coefficients.loc[label]
        row |= {name: found["coefficient"]} | {
            f"{name}_{part}": found[part] for part in ("se", "ci_low", "ci_high")
        }
    return row | {"r_squared": fit.r_squared, "residual_sd": fit.residual_sd}
