"""How well repeated scans agree: imprecision within a site and across sites, and its tests."""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

IMPRECISIONS = ("within", "cross")

_TEST_COLUMNS = [
    *("n_subjects", "mean_difference", "ci_low", "ci_high", "statistic", "df"),
    *("p", "n_tests", "p_bonferroni", "significant"),
]
_ZERO = 1e-6  # ppm; what rounding leaves of the reference region's zero


def require_columns(table, columns):
    """Refuse a table that lacks a column.

    Parameters
    ----------
    table : DataFrame
        Any table.
    columns : sequence of str
        The columns that it must have.

    Raises
    ------
    ValueError
        If a column is absent; the message names those that are.
    """
    absent = [column for column in columns if column not in table.columns]
    if absent:
        raise ValueError(
            f"the table has no column {', '.join(absent)}; it has "
            f"{', '.join(map(str, table.columns))}"
        )


def roi_values(table, *, exclude_rois=()):
    """Check a long ROI table and leave out the reference region.

    Parameters
    ----------
    table : DataFrame
        Long ROI table: one row per scan, method and ROI with columns subject, site, scan, method,
        roi and mean (ppm; NaN where missing). `scan` counts the scans of a subject at a site.
    exclude_rois : sequence of str
        ROIs to leave out.

    Returns
    -------
    DataFrame
        The rows of the other ROIs, in their order. An ROI whose mean is zero in every scan of a
        method (to 1e-6 ppm) is the reference itself and is left out too.

    Raises
    ------
    ValueError
        If a column or label is missing, a scan appears twice, the unit is not ppm, phantom tubes
        and in-vivo regions are mixed, or nothing is left.
    """
    labels = ["subject", "site", "scan", "method", "roi"]
    require_columns(table, [*labels, "mean"])
    nameless = [label for label in labels if table[label].isna().any()]
    if nameless:
        raise ValueError(
            f"{', '.join(nameless)}: every row of the ROI table needs one, some have none"
        )
    twice = table.duplicated(labels)
    if twice.any():
        first = table.loc[twice, labels].iloc[0]
        raise ValueError(
            f"the same scan appears twice: {', '.join(f'{k} {v}' for k, v in first.items())}"
        )
    if "unit" in table.columns and (table["unit"] != "ppm").any():
        raise ValueError(
            f"values must be in ppm, got {', '.join(map(str, table['unit'].unique()))}"
        )
    if "expected" in table.columns and table["expected"].notna().nunique() > 1:
        raise ValueError(
            "phantom tubes (with an expected value) and in-vivo regions are mixed: give one of them"
        )

    largest = table["mean"].abs().groupby([table["method"], table["roi"]]).transform("max")
    kept = table[~(largest <= _ZERO) & ~table["roi"].isin(exclude_rois)]
    if kept.empty:
        raise ValueError("no ROI is left: all are excluded or zero in every scan")
    return kept


def imprecision(table, *, exclude_rois=()):
    r"""Within-site and cross-site imprecision of each subject.

    With χ[a, i] an ROI's mean at site a in scan i, within-site imprecision is the mean over sites
    of the standard deviation over scans, cross-site imprecision the mean over scans of the standard
    deviation over sites; both are sample standard deviations (n - 1). Missing scans (no row, or
    NaN) are tolerated: a site counts with two scans or more, a scan index with two sites or more,
    each with the same weight.

    Parameters
    ----------
    table : DataFrame
        Long ROI table, see `roi_values`.
    exclude_rois : sequence of str
        ROIs to leave out beside the reference.

    Returns
    -------
    DataFrame
        One row per subject, method and ROI of the table, NaN where there is too little:

        * subject, method, roi
        * mean: mean of all scans, ppm
        * within, cross: imprecision, ppm
        * within_percent, cross_percent: imprecision in % of this subject's \|mean\|
        * n_sites, n_scans: what the subject has
        * n_within: sites with two scans or more; n_cross: scan indices with two sites or more

    Raises
    ------
    ValueError
        See `roi_values`.

    References
    ----------
    Lin et al., AJNR 36:1644 (2015), statistical analysis.
    """
    found = []
    rows = roi_values(table, exclude_rois=exclude_rois)
    for (subject, method, roi), group in rows.groupby(["subject", "method", "roi"], sort=False):
        chi = group.pivot(index="scan", columns="site", values="mean")
        over_scans = chi.std(axis=0, ddof=1)
        over_sites = chi.std(axis=1, ddof=1)
        mean = group["mean"].mean()
        within = over_scans.mean()
        cross = over_sites.mean()
        found.append(
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
    return pd.DataFrame(found)


def summarise_imprecision(imprecisions):
    r"""Imprecision averaged over subjects, the published table.

    The percentages are ratios of averages: the mean imprecision over subjects in % of the mean
    susceptibility over the same subjects. So the published table is formed: its within-site and
    cross-site percentages of an ROI share one divisor. The average of the subjects' own percentages
    is another number (larger where a subject's susceptibility is near zero); `imprecision` holds
    them.

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
        * n_within, n_cross: subjects with a within-site, cross-site imprecision

    References
    ----------
    Lin et al., AJNR 36:1644 (2015), table of imprecision.
    """
    require_columns(imprecisions, ["method", "roi", "mean", *IMPRECISIONS])
    found = []
    for (method, roi), group in imprecisions.groupby(["method", "roi"], sort=False):
        row = {"method": method, "roi": roi, "n_subjects": int(group["mean"].notna().sum())}
        row |= {"mean": group["mean"].mean(), "mean_sd": group["mean"].std(ddof=1)}
        for kind in IMPRECISIONS:
            known = group.dropna(subset=[kind])
            size = known[kind].mean()
            spread = known[kind].std(ddof=1)
            level = known["mean"].mean()
            row |= {
                kind: size,
                f"{kind}_sd": spread,
                f"{kind}_percent": _percent(size, level),
                f"{kind}_sd_percent": _percent(spread, level),
                f"n_{kind}": len(known),
            }
        found.append(row)
    return pd.DataFrame(found)


def within_versus_cross(imprecisions, *, alpha=0.05):
    """Test whether imprecision across sites differs from that within a site.

    Paired two-sided t-test over subjects per method and ROI, Bonferroni over the ROIs of a method:
    each is judged at alpha / n_tests.

    Parameters
    ----------
    imprecisions : DataFrame
        Result of `imprecision`.
    alpha : float
        Family-wise error of the tests of a method.

    Returns
    -------
    DataFrame
        One row per method and ROI:

        * method, roi
        * n_subjects: subjects with both values
        * mean_difference, ci_low, ci_high: cross - within and its 95 % confidence interval (not
          widened for the number of tests), ppm
        * statistic, df, p: Student's t, its degrees of freedom, two-sided p
        * n_tests, p_bonferroni, significant: tests made of the family, p times that (at most 1),
          and whether it is below alpha

        A test that cannot be made (fewer than two subjects, or differences that are all the same)
        has NaN and does not count in n_tests.

    References
    ----------
    Lin et al., AJNR 36:1644 (2015), statistical analysis.
    """
    require_columns(imprecisions, ["method", "roi", *IMPRECISIONS])
    found = [
        {"method": method, "roi": roi, **_paired_t(group["cross"] - group["within"])}
        for (method, roi), group in imprecisions.groupby(["method", "roi"], sort=False)
    ]
    return _bonferroni(found, ["method", "roi"], family=["method"], alpha=alpha)


def between_rois(imprecisions, *, alpha=0.05):
    """Test whether ROIs differ in imprecision, in pairs.

    Paired two-sided t-test over subjects for every pair of ROIs, for within-site and cross-site
    imprecision; Bonferroni over the pairs of a method and measure.

    Parameters
    ----------
    imprecisions : DataFrame
        Result of `imprecision`.
    alpha : float
        Family-wise error of the tests of a method and measure.

    Returns
    -------
    DataFrame
        One row per method, measure ("within", "cross") and pair: method, measure, roi_1, roi_2, and
        the columns of `within_versus_cross` with mean_difference = roi_1 - roi_2. Empty with a
        single ROI.

    References
    ----------
    Lin et al., AJNR 36:1644 (2015), statistical analysis.
    """
    require_columns(imprecisions, ["subject", "method", "roi", *IMPRECISIONS])
    found = []
    for method, group in imprecisions.groupby("method", sort=False):
        for measure in IMPRECISIONS:
            values = group.pivot(index="subject", columns="roi", values=measure)
            for one, two in combinations(group["roi"].unique(), 2):
                names = {"method": method, "measure": measure, "roi_1": one, "roi_2": two}
                found.append({**names, **_paired_t(values[one] - values[two])})
    return _bonferroni(
        found, ["method", "measure", "roi_1", "roi_2"], family=["method", "measure"], alpha=alpha
    )


def between_methods(imprecisions, *, alpha=0.05):
    """Test whether methods differ in mean susceptibility and imprecision, in pairs.

    Paired two-sided t-test over subjects for every pair of methods and ROI; Bonferroni over the
    ROIs of a pair of methods and measure.

    Parameters
    ----------
    imprecisions : DataFrame
        Result of `imprecision`.
    alpha : float
        Family-wise error of the tests of a pair of methods and measure.

    Returns
    -------
    DataFrame
        One row per pair of methods, measure ("mean", "within", "cross") and ROI: method_1,
        method_2, measure, roi, and the columns of `within_versus_cross` with mean_difference =
        method_1 - method_2. Empty with a single method.
    """
    require_columns(imprecisions, ["subject", "method", "roi", "mean", *IMPRECISIONS])
    found = []
    values = imprecisions.pivot(
        index=["subject", "roi"], columns="method", values=["mean", *IMPRECISIONS]
    )
    for one, two in combinations(imprecisions["method"].unique(), 2):
        for measure in ("mean", *IMPRECISIONS):
            difference = values[measure, one] - values[measure, two]
            for roi in imprecisions["roi"].unique():
                names = {"method_1": one, "method_2": two, "measure": measure, "roi": roi}
                found.append({**names, **_paired_t(difference.xs(roi, level="roi"))})
    names = ["method_1", "method_2", "measure", "roi"]
    return _bonferroni(found, names, family=names[:3], alpha=alpha)


def within_subject_sd(table, *, exclude_rois=()):
    """Within-subject standard deviation (SDw) within a site and across sites.

    Variances are pooled over subjects, weighted by their degrees of freedom: with no scan missing,
    SDw is the root mean square of the standard deviations. Three definitions, in column
    `definition`:

    * within_site: scans about their subject's mean at the same site. Repeatability of one scanner.
    * all_scans: scans about their subject's mean over all sites. What a single scan at any of the
      sites is good for. Its confidence interval takes scans as independent; it is too narrow where
      sites differ.
    * site_means: a subject's site means about their mean. The scatter between sites; the noise of
      the scans still adds within_site² / scans per site to its square.

    Parameters
    ----------
    table : DataFrame
        Long ROI table, see `roi_values`.
    exclude_rois : sequence of str
        ROIs to leave out beside the reference.

    Returns
    -------
    DataFrame
        One row per method, ROI and definition, NaN where there is too little:

        * method, roi, definition
        * sdw, ci_low, ci_high: SDw and its 95 % confidence interval (chi-square, normal errors),
          ppb
        * df: degrees of freedom
        * n_subjects, n_scans: all that have a value

    Raises
    ------
    ValueError
        See `roi_values`.

    References
    ----------
    Bland & Altman, BMJ 313:744 (1996).
    """
    found = []
    for (method, roi), group in roi_values(table, exclude_rois=exclude_rois).groupby(
        ["method", "roi"], sort=False
    ):
        known = group.dropna(subset=["mean"])
        site_means = known.groupby(["subject", "site"])["mean"].mean()
        counts = {"n_subjects": known["subject"].nunique(), "n_scans": len(known)}
        cells = {
            "within_site": known.groupby(["subject", "site"])["mean"],
            "all_scans": known.groupby("subject")["mean"],
            "site_means": site_means.groupby("subject"),
        }
        for definition, grouped in cells.items():
            names = {"method": method, "roi": roi, "definition": definition}
            found.append({**names, **_pooled_sd(grouped, scale=1000), **counts})  # ppm to ppb
    return pd.DataFrame(found)


def _percent(part, whole):
    return 100 * part / abs(whole) if whole else np.nan


def _paired_t(difference):
    """One-sample t-test of the differences that are known."""
    d = difference.dropna().to_numpy(float)
    row = {
        "n_subjects": d.size,
        "df": d.size - 1,
        "mean_difference": d.mean() if d.size else np.nan,
    }
    # Differences that are equal up to rounding have no spread to test against.
    if d.size < 2 or np.ptp(d) <= 1e-12 * np.abs(d).max():
        return row | dict.fromkeys(("ci_low", "ci_high", "statistic", "p"), np.nan)
    se = d.std(ddof=1) / np.sqrt(d.size)
    t = d.mean() / se
    reach = stats.t.isf(0.025, d.size - 1) * se
    p = 2 * stats.t.sf(abs(t), d.size - 1)
    return row | {"ci_low": d.mean() - reach, "ci_high": d.mean() + reach, "statistic": t, "p": p}


def _bonferroni(found, names, *, family, alpha):
    tests = pd.DataFrame(found, columns=[*names, *_TEST_COLUMNS])
    tests["n_tests"] = tests.groupby(family)["p"].transform("count")
    tests["p_bonferroni"] = (tests["p"] * tests["n_tests"]).clip(upper=1)
    tests["significant"] = tests["p_bonferroni"] < alpha
    return tests


def _pooled_sd(grouped, *, scale):
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
