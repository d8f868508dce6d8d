"""Reproducibility of repeated scans: imprecision within a site and across sites, and its tests."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from .families import correct_p, family_of

IMPRECISIONS = ("within", "cross")

_TEST_COLUMNS = [
    *("n_subjects", "mean_difference", "ci_low", "ci_high", "statistic", "df"),
    *("p", "family", "n_tests", "p_bonferroni", "significant"),
]
_ZERO = 1e-6  # ppm; the mean of the reference region is zero up to rounding


def require_columns(table: pd.DataFrame, columns: Sequence[str]) -> None:
    """Refuse a table that lacks a column.

    Parameters
    ----------
    table : DataFrame
        Any table.
    columns : sequence of str
        Columns that it must have.

    Raises
    ------
    ValueError
        If a column is absent; the message names the absent ones.
    """
    absent = [column for column in columns if column not in table.columns]
    if absent:
        raise ValueError(
            f"the table has no column {', '.join(absent)}; it has "
            f"{', '.join(map(str, table.columns))}"
        )


def roi_values(
    table: pd.DataFrame, *, exclude_rois: Sequence[str] = (), unit: str = "ppm"
) -> pd.DataFrame:
    """Check a long ROI table and leave out the reference region.

    Parameters
    ----------
    table : DataFrame
        Long ROI table: one row per scan, method and ROI with columns subject, site, scan, method,
        roi and mean (ppm; NaN where missing). `scan` counts the scans of a subject at a site.
    exclude_rois : sequence of str
        ROIs to leave out.
    unit : str
        Unit of the values. A column ``unit`` is checked against it.

    Returns
    -------
    DataFrame
        The rows of the other ROIs, in their order. An ROI whose mean is zero (to 1e-6 ppm) in every
        scan of a method is the reference itself and is left out too.

    Raises
    ------
    ValueError
        If a column or label is missing, a scan appears twice, the unit is another, phantom tubes
        and in-vivo regions are mixed, or no ROI remains.

    Examples
    --------
    >>> table = pd.DataFrame({"roi": ["csf", "putamen"], "mean": [0.0, 0.045]})
    >>> table = table.assign(subject="01", site="A", scan=1, method="medi")
    >>> roi_values(table)["roi"].tolist()  # values are relative to the CSF
    ['putamen']
    """
    labels = ["subject", "site", "scan", "method", "roi"]
    require_columns(table, [*labels, "mean"])
    incomplete = [label for label in labels if table[label].isna().any()]
    if incomplete:
        raise ValueError(
            f"{', '.join(incomplete)}: every row of the ROI table needs one, but some have none"
        )
    is_repeated = table.duplicated(labels)
    if is_repeated.any():
        first = table.loc[is_repeated, labels].iloc[0]
        description = ", ".join(f"{label} {value}" for label, value in first.items())
        raise ValueError(f"the same scan appears twice: {description}")
    if "unit" in table.columns and (table["unit"] != unit).any():
        raise ValueError(
            f"values must be in {unit}, got {', '.join(map(str, table['unit'].unique()))}"
        )
    if "expected" in table.columns and table["expected"].notna().nunique() > 1:
        raise ValueError(
            "phantom tubes (with an expected value) and in-vivo regions are mixed: use only one of "
            "them"
        )

    largest = table["mean"].abs().groupby([table["method"], table["roi"]]).transform("max")
    values = table[~(largest <= _ZERO) & ~table["roi"].isin(exclude_rois)]
    if values.empty:
        raise ValueError("no ROI remains: all are excluded or zero in every scan")
    return values


def imprecision(
    table: pd.DataFrame, *, exclude_rois: Sequence[str] = (), unit: str = "ppm"
) -> pd.DataFrame:
    r"""Compute within-site and cross-site imprecision of each subject.

    With χ[a, i] an ROI's mean at site a in scan i, within-site imprecision is the mean over sites
    of the standard deviation over scans, and cross-site imprecision is the mean over scans of the
    standard deviation over sites. Both are sample standard deviations (n - 1). Scans may be missing
    (no row, or NaN): a site counts if it has two scans or more, a scan index if it has two sites or
    more, each with the same weight.

    Parameters
    ----------
    table : DataFrame
        Long ROI table, see `roi_values`.
    exclude_rois : sequence of str
        ROIs to leave out in addition to the reference.
    unit : str
        Unit of the values.

    Returns
    -------
    DataFrame
        One row per subject, method and ROI of the table, NaN where there are too few scans:

        * subject, method, roi
        * mean: mean of all scans, in the unit of the values
        * within, cross: imprecision, in the same unit
        * within_percent, cross_percent: imprecision in % of this subject's \|mean\|
        * n_sites, n_scans: sites and scans of the subject
        * n_within: sites with two scans or more; n_cross: scan indices with two sites or more

    Raises
    ------
    ValueError
        See `roi_values`.

    References
    ----------
    Lin et al., AJNR 36:467-474 (2015), statistical analysis.

    Examples
    --------
    Two scans at each of two sites, ppm.

    >>> table = pd.DataFrame({"site": list("AABB"), "scan": [1, 2, 1, 2]})
    >>> table["mean"] = [0.040, 0.042, 0.050, 0.052]
    >>> table = table.assign(subject="01", method="medi", roi="putamen")
    >>> imprecision(table)[["within", "cross"]].round(4).values.tolist()
    [[0.0014, 0.0071]]
    """
    rows = []
    values = roi_values(table, exclude_rois=exclude_rois, unit=unit)
    for (subject, method, roi), group in values.groupby(["subject", "method", "roi"], sort=False):
        chi = group.pivot(index="scan", columns="site", values="mean")
        over_scans = chi.std(axis=0, ddof=1)
        over_sites = chi.std(axis=1, ddof=1)
        mean = group["mean"].mean()
        within = over_scans.mean()
        cross = over_sites.mean()
        rows.append(
            {
                "subject": subject,
                "method": method,
                "roi": roi,
                "mean": mean,
                "within": within,
                "cross": cross,
                "within_percent": _percent(within, mean),
                "cross_percent": _percent(cross, mean),
                "n_sites": int(chi.notna().any(axis=0).sum()),
                "n_scans": int(group["mean"].notna().sum()),
                "n_within": int(over_scans.notna().sum()),
                "n_cross": int(over_sites.notna().sum()),
            }
        )
    return pd.DataFrame(rows)


def summarise_imprecision(imprecisions: pd.DataFrame) -> pd.DataFrame:
    r"""Average imprecision over subjects, as in the published table.

    The percentages are ratios of averages: the mean imprecision over subjects in % of the mean
    susceptibility over the same subjects. The published table does the same: its within-site and
    cross-site percentages of an ROI have the same divisor. The average of the subjects' own
    percentages, which `imprecision` returns, is larger where a subject's susceptibility is near
    zero.

    Parameters
    ----------
    imprecisions : DataFrame
        Result of `imprecision`.

    Returns
    -------
    DataFrame
        One row per method and ROI:

        * method, roi, n_subjects (with any value)
        * mean, mean_sd: susceptibility, mean and SD over subjects, ppm
        * within, within_sd, cross, cross_sd: imprecision, mean and SD over subjects, ppm
        * within_percent, within_sd_percent, cross_percent, cross_sd_percent: the same in % of
          \|mean\|
        * n_within, n_cross: subjects with a within-site and with a cross-site imprecision

    References
    ----------
    Lin et al., AJNR 36:467-474 (2015), table of imprecision.
    """
    require_columns(imprecisions, ["method", "roi", "mean", *IMPRECISIONS])
    rows = []
    for (method, roi), group in imprecisions.groupby(["method", "roi"], sort=False):
        row = {"method": method, "roi": roi, "n_subjects": int(group["mean"].notna().sum())}
        row |= {"mean": group["mean"].mean(), "mean_sd": group["mean"].std(ddof=1)}
        for kind in IMPRECISIONS:
            measured = group.dropna(subset=[kind])
            size = measured[kind].mean()
            spread = measured[kind].std(ddof=1)
            level = measured["mean"].mean()
            row |= {
                kind: size,
                f"{kind}_sd": spread,
                f"{kind}_percent": _percent(size, level),
                f"{kind}_sd_percent": _percent(spread, level),
                f"n_{kind}": len(measured),
            }
        rows.append(row)
    return pd.DataFrame(rows)


def within_versus_cross(imprecisions: pd.DataFrame, *, alpha: float = 0.05) -> pd.DataFrame:
    """Test whether imprecision across sites differs from that within a site.

    There is a paired two-sided t-test over subjects for each method and ROI, with Bonferroni
    correction over the ROIs of a family (`families.family_of`) and method: each is tested at
    alpha / n_tests.

    Parameters
    ----------
    imprecisions : DataFrame
        Result of `imprecision`.
    alpha : float
        Family-wise error of the tests of a family and method.

    Returns
    -------
    DataFrame
        One row per method and ROI:

        * method, roi
        * n_subjects: subjects with both values
        * mean_difference, ci_low, ci_high: cross - within and its 95 % confidence interval (not
          widened for the number of tests), ppm
        * statistic, df, p: Student's t, its degrees of freedom, two-sided p
        * family: see `families.family_of`
        * n_tests, p_bonferroni, significant: number of tests in the family, p times that number (at
          most 1), and whether it is below alpha

        A test that is impossible (fewer than two subjects, or differences that are all equal) has
        NaN and does not count in n_tests.

    References
    ----------
    Lin et al., AJNR 36:467-474 (2015), statistical analysis.
    """
    require_columns(imprecisions, ["method", "roi", *IMPRECISIONS])
    measured = imprecisions["roi"].unique()
    rows = []
    for (method, roi), group in imprecisions.groupby(["method", "roi"], sort=False):
        test = _paired_t(group["cross"] - group["within"])
        rows.append({"method": method, "roi": roi, "family": family_of([roi], measured), **test})
    return _bonferroni(rows, ["method", "roi"], within=["method"], alpha=alpha)


def between_rois(imprecisions: pd.DataFrame, *, alpha: float = 0.05) -> pd.DataFrame:
    """Test whether pairs of ROIs differ in imprecision.

    There is a paired two-sided t-test over subjects for every pair of ROIs, both for within-site
    and for cross-site imprecision, with Bonferroni correction over the pairs of a family, method
    and measure; pairs of two of the five deep grey nuclei are a family.

    Parameters
    ----------
    imprecisions : DataFrame
        Result of `imprecision`.
    alpha : float
        Family-wise error of the tests of a family, method and measure.

    Returns
    -------
    DataFrame
        One row per method, measure ("within", "cross") and pair: method, measure, roi_1, roi_2, and
        the columns of `within_versus_cross` with mean_difference = roi_1 - roi_2. Empty with a
        single ROI.

    References
    ----------
    Lin et al., AJNR 36:467-474 (2015), statistical analysis.
    """
    require_columns(imprecisions, ["subject", "method", "roi", *IMPRECISIONS])
    measured = imprecisions["roi"].unique()
    rows = []
    for method, group in imprecisions.groupby("method", sort=False):
        for measure in IMPRECISIONS:
            values = group.pivot(index="subject", columns="roi", values=measure)
            for first, second in combinations(group["roi"].unique(), 2):
                names = {"method": method, "measure": measure, "roi_1": first, "roi_2": second}
                names["family"] = family_of([first, second], measured)
                rows.append({**names, **_paired_t(values[first] - values[second])})
    return _bonferroni(
        rows, ["method", "measure", "roi_1", "roi_2"], within=["method", "measure"], alpha=alpha
    )


def between_methods(imprecisions: pd.DataFrame, *, alpha: float = 0.05) -> pd.DataFrame:
    """Test whether pairs of methods differ in mean susceptibility and imprecision.

    There is a paired two-sided t-test over subjects for every pair of methods and ROI, with
    Bonferroni correction over the ROIs of a family, pair of methods and measure.

    Parameters
    ----------
    imprecisions : DataFrame
        Result of `imprecision`.
    alpha : float
        Family-wise error of the tests of a family, pair of methods and measure.

    Returns
    -------
    DataFrame
        One row per pair of methods, measure ("mean", "within", "cross") and ROI: method_1,
        method_2, measure, roi, and the columns of `within_versus_cross` with mean_difference =
        method_1 - method_2. Empty with a single method.
    """
    require_columns(imprecisions, ["subject", "method", "roi", "mean", *IMPRECISIONS])
    measured = imprecisions["roi"].unique()
    rows = []
    values = imprecisions.pivot(
        index=["subject", "roi"], columns="method", values=["mean", *IMPRECISIONS]
    )
    for first, second in combinations(imprecisions["method"].unique(), 2):
        for measure in ("mean", *IMPRECISIONS):
            difference = values[measure, first] - values[measure, second]
            for roi in measured:
                names = {"method_1": first, "method_2": second, "measure": measure, "roi": roi}
                names["family"] = family_of([roi], measured)
                rows.append({**names, **_paired_t(difference.xs(roi, level="roi"))})
    columns = ["method_1", "method_2", "measure", "roi"]
    return _bonferroni(rows, columns, within=columns[:3], alpha=alpha)


def within_subject_sd(
    table: pd.DataFrame, *, exclude_rois: Sequence[str] = (), unit: str = "ppm"
) -> pd.DataFrame:
    """Compute the within-subject standard deviation (SDw) within a site and across sites.

    Variances are pooled over subjects, weighted by their degrees of freedom: if no scan is missing,
    SDw is the root mean square of the standard deviations. Column `definition` has one of three
    definitions:

    * within_site: deviation of scans from their subject's mean at the same site. This is the
      repeatability of one scanner.
    * all_scans: deviation of scans from their subject's mean over all sites. This is the precision
      of a single scan at any of the sites. Its confidence interval treats scans as independent and
      is too narrow where sites differ.
    * site_means: deviation of a subject's site means from their mean. This is the variation between
      sites; the noise of the scans still adds within_site² / scans per site to its square.

    Parameters
    ----------
    table : DataFrame
        Long ROI table, see `roi_values`.
    exclude_rois : sequence of str
        ROIs to leave out in addition to the reference.
    unit : str
        Unit of the values.

    Returns
    -------
    DataFrame
        One row per method, ROI and definition, NaN where there are too few scans:

        * method, roi, definition
        * sdw, ci_low, ci_high: SDw and its 95 % confidence interval (chi-square, normal errors),
          ppb for values in ppm, otherwise in their unit
        * df: degrees of freedom
        * n_subjects, n_scans: subjects and scans with a value

    Raises
    ------
    ValueError
        See `roi_values`.

    References
    ----------
    Bland & Altman, BMJ 313:744 (1996).
    """
    rows = []
    values = roi_values(table, exclude_rois=exclude_rois, unit=unit)
    scale = 1000 if unit == "ppm" else 1  # ppm to ppb
    for (method, roi), group in values.groupby(["method", "roi"], sort=False):
        measured = group.dropna(subset=["mean"])
        site_means = measured.groupby(["subject", "site"])["mean"].mean()
        counts = {"n_subjects": measured["subject"].nunique(), "n_scans": len(measured)}
        cells = {
            "within_site": measured.groupby(["subject", "site"])["mean"],
            "all_scans": measured.groupby("subject")["mean"],
            "site_means": site_means.groupby("subject"),
        }
        for definition, grouped in cells.items():
            names = {"method": method, "roi": roi, "definition": definition}
            rows.append({**names, **_pooled_sd(grouped, scale=scale), **counts})
    return pd.DataFrame(rows)


def _percent(part, whole):
    return 100 * part / abs(whole) if whole else np.nan


def standard_error(differences: np.ndarray) -> float:
    """Return the standard error of the mean of differences.

    Parameters
    ----------
    differences : ndarray, shape (n,)
        Finite values.

    Returns
    -------
    float
        NaN of fewer than two differences, or of differences that are equal up to rounding: no test
        can be made of them.
    """
    if differences.size < 2 or np.ptp(differences) <= 1e-12 * np.abs(differences).max():
        return np.nan
    return differences.std(ddof=1) / np.sqrt(differences.size)


def _paired_t(difference):
    """Test by a one-sample t-test whether the mean of measured differences is zero."""
    d = difference.dropna().to_numpy(float)
    row = {
        "n_subjects": d.size,
        "df": d.size - 1,
        "mean_difference": d.mean() if d.size else np.nan,
    }
    se = standard_error(d)
    if np.isnan(se):
        return row | dict.fromkeys(("ci_low", "ci_high", "statistic", "p"), np.nan)
    t = d.mean() / se
    half_width = stats.t.isf(0.025, d.size - 1) * se
    return row | {
        "ci_low": d.mean() - half_width,
        "ci_high": d.mean() + half_width,
        "statistic": t,
        "p": 2 * stats.t.sf(abs(t), d.size - 1),
    }


def _bonferroni(rows, names, *, within, alpha):
    """Tabulate tests with Bonferroni correction within each family of equal columns `within`."""
    tests = pd.DataFrame(rows, columns=[*names, *_TEST_COLUMNS])
    return correct_p(tests, [*within, "family"], alpha=alpha)


def _pooled_sd(grouped, *, scale):
    """Pool the standard deviations of groups, with a χ² confidence interval."""
    df = int((grouped.count() - 1).sum())
    if df < 1:
        return {"sdw": np.nan, "ci_low": np.nan, "ci_high": np.nan, "df": df}
    squares = float(((grouped.count() - 1) * grouped.var(ddof=1)).sum())
    low, high = np.sqrt(squares / stats.chi2.isf([0.025, 0.975], df))
    return {
        "sdw": scale * np.sqrt(squares / df),
        "ci_low": scale * low,
        "ci_high": scale * high,
        "df": df,
    }
