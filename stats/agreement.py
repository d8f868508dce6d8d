"""Agreement of sites, scans and methods: intraclass correlation and Bland-Altman analysis."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from .reproducibility import roi_values

ALL = "all"
_ICC_COLUMNS = ("icc", "ci_low", "ci_high", "f", "df1", "df2", "p")
_PAIR_COLUMNS = ["comparison", "method", "roi", "first", "second"]


def intraclass_correlation(
    table: pd.DataFrame,
    *,
    exclude_rois: Sequence[str] = (),
    confidence: float = 0.95,
    unit: str = "ppm",
) -> pd.DataFrame:
    """Compute intraclass correlations of a single measurement, ICC(2,1) and ICC(3,1).

    ICC(2,1), absolute agreement, treats raters as a sample of all raters and counts their offsets
    as error. ICC(3,1), consistency, treats them as the only raters of interest and ignores their
    offsets. The interval of ICC(3,1) is exact. That of ICC(2,1) is an approximation that is too
    narrow with few raters: with three sites that differ by a third of the subjects' SD, it covers
    about 90 % instead of 95 %. There are three kinds of raters:

    * sites: a site rates a subject by the mean of all scans there. The noise of single scans is
      averaged out, so this ICC applies to studies that scan each subject as often.
    * scans: the scans of a site, in their order, one ICC per site.
    * all: every scan index at every site is a rater. Scans of one site share its offset. This ICC
      ignores that, so its interval is too narrow where sites differ; `variance_components`
      separates sites from scans.

    The ICCs need a complete table. Raters of fewer than half of the subjects (such as a scan that
    only one subject repeated) are left out first, then subjects that lack one of the remaining
    raters.

    Parameters
    ----------
    table : DataFrame
        Long ROI table, see `reproducibility.roi_values`.
    exclude_rois : sequence of str
        ROIs to leave out in addition to the reference.
    confidence : float
        Confidence of the intervals.
    unit : str
        Unit of the values.

    Returns
    -------
    DataFrame
        One row per method, ROI, kind of raters, site and form:

        * method, roi
        * raters: sites, scans or all; site: the site of scans, else "all"
        * form: ICC(2,1) or ICC(3,1)
        * icc, ci_low, ci_high: the correlation and its confidence interval
        * f, df1, df2, p: F test of no difference between subjects; the same for both forms
        * n_subjects, n_raters: subjects and raters in the correlation
        * n_left_out, n_raters_left_out: subjects and raters that have values but are left out

        With fewer than two subjects or raters, or values that are all equal, everything but the
        counts is NaN.

    Raises
    ------
    ValueError
        See `reproducibility.roi_values`.

    References
    ----------
    Shrout and Fleiss, Psychol Bull 86:420-428 (1979); McGraw and Wong, Psychol Methods 1:30-46
    (1996), tables 4 and 7.

    Examples
    --------
    Site B measures consistently more than site A, so that consistency exceeds agreement.

    >>> table = pd.DataFrame({"subject": list("112233"), "site": list("ABABAB")})
    >>> table["mean"] = [0.040, 0.049, 0.050, 0.061, 0.060, 0.070]
    >>> table = table.assign(scan=1, method="medi", roi="putamen")
    >>> icc = intraclass_correlation(table).query("raters == 'sites'")
    >>> icc[["form", "icc"]].round(2).values.tolist()
    [['ICC(2,1)', 0.68], ['ICC(3,1)', 1.0]]
    """
    rows = []
    roi_table = roi_values(table, exclude_rois=exclude_rois, unit=unit)
    for (method, roi), group in roi_table.groupby(["method", "roi"], sort=False):
        for raters, site, cells in _ratings(group):
            complete = _complete(cells)
            names = {"method": method, "roi": roi, "raters": raters, "site": site}
            counts = {
                "n_subjects": complete.shape[0],
                "n_raters": complete.shape[1],
                "n_left_out": int(cells.notna().any(axis=1).sum()) - complete.shape[0],
                "n_raters_left_out": int(cells.notna().any(axis=0).sum()) - complete.shape[1],
            }
            for form, values in _icc(complete.to_numpy(np.float64), confidence).items():
                rows.append({**names, "form": form, **values, **counts})
    return pd.DataFrame(rows)


def bland_altman(
    table: pd.DataFrame, *, exclude_rois: Sequence[str] = (), confidence: float = 0.95
) -> pd.DataFrame:
    """Compute bias and limits of agreement between every pair of sites and of methods.

    Differences are first minus second, in the order of the table.

    Sites are compared by the mean of each subject's scans at the site. The limits are therefore
    those of such means, not of single scans. They and their exact intervals follow from the normal
    distribution of the differences (noncentral t).

    Methods are compared scan by scan. A subject's scans are not independent, so the variance of the
    differences is the sum of two parts, between the subjects' mean differences and within subjects:
    SD² = s²_between + (1 - 1/m) s²_within, with m the harmonic mean of scans per subject. The bias
    is the mean of the subjects' mean differences, and intervals follow from the two variances
    (MOVER).

    Limits of agreement are bias ± 1.96 SD, 95 % whatever the confidence of the intervals.

    Parameters
    ----------
    table : DataFrame
        Long ROI table, see `reproducibility.roi_values`.
    exclude_rois : sequence of str
        ROIs to leave out in addition to the reference.
    confidence : float
        Confidence of the intervals.

    Returns
    -------
    DataFrame
        One row per comparison, ROI and pair. Empty with one site and one method.

        * comparison: sites or methods
        * method: the method for which sites are compared, else "all"
        * roi, first, second
        * bias, bias_low, bias_high: ppb
        * sd: standard deviation of the differences, ppb
        * lower, lower_low, lower_high, upper, upper_low, upper_high: limits of agreement and their
          intervals, ppb
        * n_subjects, n_differences: subjects and differences in the comparison
        * n_left_out: subjects (for sites) or scans (for methods) with only one of the two values

        With fewer than two subjects, everything but bias and counts is NaN.

    Raises
    ------
    ValueError
        See `reproducibility.roi_values`.

    References
    ----------
    Bland and Altman, Stat Methods Med Res 8:135-160 (1999), sections 2 and 5; J Biopharm Stat
    17:571-582 (2007); Carkeet, Optom Vis Sci 92:e71-e80 (2015); Zou, Stat Methods Med Res
    22:630-642 (2013), section 3.
    """
    rows = []
    for names, pairs in _pairs(table, exclude_rois):
        complete = pairs.dropna()
        differences = (complete["first"] - complete["second"]).groupby("subject")
        limits = _limits_of_means if names["comparison"] == "sites" else _limits_of_repeats
        counts = {
            "n_subjects": differences.ngroups,
            "n_differences": len(complete),
            "n_left_out": int(pairs.notna().any(axis=1).sum()) - len(complete),
        }
        rows.append({**names, **limits(differences, confidence), **counts})
    columns = [
        *_PAIR_COLUMNS,
        *_interval_names("bias"),
        "sd",
        *_interval_names("lower"),
        *_interval_names("upper"),
    ]
    return pd.DataFrame(rows, columns=[*columns, "n_subjects", "n_differences", "n_left_out"])


def bland_altman_points(table: pd.DataFrame, *, exclude_rois: Sequence[str] = ()) -> pd.DataFrame:
    """Return the points of the Bland-Altman plots, see `bland_altman`.

    Parameters
    ----------
    table : DataFrame
        Long ROI table, see `reproducibility.roi_values`.
    exclude_rois : sequence of str
        ROIs to leave out in addition to the reference.

    Returns
    -------
    DataFrame
        One row per point:

        * comparison, method, roi, first, second: as in `bland_altman`
        * subject, site, scan: where sites are compared, the last two are NaN
        * mean, difference (first minus second) of the two values, ppb

    Raises
    ------
    ValueError
        See `reproducibility.roi_values`.
    """
    columns = [*_PAIR_COLUMNS, "subject", "site", "scan", "mean", "difference"]
    tables = []
    for names, pairs in _pairs(table, exclude_rois):
        points = pairs.dropna().reset_index()
        points["mean"] = (points["first"] + points["second"]) / 2
        points["difference"] = points["first"] - points["second"]
        tables.append(points.assign(**names).reindex(columns=columns))
    if not tables:
        return pd.DataFrame(columns=columns)
    return pd.concat(tables, ignore_index=True)


def _ratings(group):
    """Yield kind of raters, site and the values (subjects × raters) of one method and ROI."""
    yield "sites", ALL, group.groupby(["subject", "site"])["mean"].mean().unstack("site")
    for site, scans in group.groupby("site"):
        yield "scans", site, scans.pivot(index="subject", columns="scan", values="mean")
    yield "all", ALL, group.pivot(index="subject", columns=["site", "scan"], values="mean")


def _complete(cells):
    """Leave out rare raters, then subjects that lack a rater."""
    is_measured = cells.notna()
    is_common = is_measured.sum(axis=0) * 2 >= is_measured.any(axis=1).sum()
    return cells.loc[:, is_common & is_measured.any(axis=0)].dropna()


def _icc(y, confidence):
    """Return both forms of the ICC with the F test, from the mean squares of a two-way ANOVA."""
    n, k = y.shape
    empty = dict.fromkeys(_ICC_COLUMNS, np.nan)
    if n < 2 or k < 2 or not np.ptp(y):
        return {"ICC(2,1)": empty, "ICC(3,1)": empty}
    rows = y.mean(axis=1)
    columns = y.mean(axis=0)
    ms_rows = k * rows.var(ddof=1)
    ms_columns = n * columns.var(ddof=1)
    df1 = n - 1
    df2 = (n - 1) * (k - 1)
    ms_error = np.sum((y - rows[:, None] - columns + y.mean()) ** 2) / df2
    with np.errstate(divide="ignore", invalid="ignore"):  # without any error F is infinite
        f = np.float64(ms_rows) / ms_error
    test = {"f": f, "df1": df1, "df2": df2, "p": stats.f.sf(f, df1, df2)}
    return {
        "ICC(2,1)": {**_agreement(ms_rows, ms_columns, ms_error, n, k, confidence), **test},
        "ICC(3,1)": {**_consistency(f, n, k, confidence), **test},
    }


def _agreement(ms_rows, ms_columns, ms_error, n, k, confidence):
    """McGraw and Wong's ICC(A,1); its interval rests on Satterthwaite's degrees of freedom."""
    icc = (ms_rows - ms_error) / (ms_rows + (k - 1) * ms_error + k / n * (ms_columns - ms_error))
    if not ms_columns and not ms_error:
        return {"icc": icc, "ci_low": icc, "ci_high": icc}
    tail = (1 - confidence) / 2
    # n (1 - ICC) times McGraw and Wong's a and b
    a = k * icc
    b = n * (1 + (k - 1) * icc) - k * icc
    df = (a * ms_columns + b * ms_error) ** 2 / (
        (a * ms_columns) ** 2 / (k - 1) + (b * ms_error) ** 2 / ((n - 1) * (k - 1))
    )
    spread = k * ms_columns + (k * n - k - n) * ms_error
    f_low = stats.f.isf(tail, n - 1, df)
    f_high = stats.f.isf(tail, df, n - 1)
    low = n * (ms_rows - f_low * ms_error) / (f_low * spread + n * ms_rows)
    high = n * (f_high * ms_rows - ms_error) / (spread + n * f_high * ms_rows)
    return {"icc": icc, "ci_low": low, "ci_high": high}


def _consistency(f, n, k, confidence):
    """McGraw and Wong's ICC(C,1), whose interval follows from that of F."""
    tail = (1 - confidence) / 2
    df1 = n - 1
    df2 = (n - 1) * (k - 1)
    ratios = np.array([f, f / stats.f.isf(tail, df1, df2), f * stats.f.isf(tail, df2, df1)])
    # The same as (F - 1) / (F + k - 1), and 1 where F is infinite.
    icc, low, high = 1 - k / (ratios + k - 1)
    return {"icc": icc, "ci_low": low, "ci_high": high}


def _pairs(table, exclude_rois):
    """Yield the names of a pair and a table of its values (ppb), columns first and second.

    The table has one row per subject where sites are compared, and one per scan where methods are.
    """
    rows = roi_values(table, exclude_rois=exclude_rois)
    rows = rows.assign(mean=1000 * rows["mean"])
    for (method, roi), group in rows.groupby(["method", "roi"], sort=False):
        means = group.groupby(["subject", "site"])["mean"].mean().unstack("site")
        yield from _each_pair(
            means, group["site"].unique(), comparison="sites", method=method, roi=roi
        )
    for roi, group in rows.groupby("roi", sort=False):
        scans = group.pivot(index=["subject", "site", "scan"], columns="method", values="mean")
        yield from _each_pair(
            scans, group["method"].unique(), comparison="methods", method=ALL, roi=roi
        )


def _each_pair(values, labels, **names):
    for first, second in combinations(labels, 2):
        pair = values[[first, second]].set_axis(["first", "second"], axis=1)
        yield {**names, "first": first, "second": second}, pair


def _interval_names(name):
    return [name, f"{name}_low", f"{name}_high"]


def _limits(bias, bias_reach, sd, inner, outer):
    """Return the columns of bias and limits of agreement.

    `inner` and `outer` are the distances from the bias to the ends of a limit's interval.
    """
    z = stats.norm.isf(0.025)
    return {
        "bias": bias,
        "bias_low": bias - bias_reach,
        "bias_high": bias + bias_reach,
        "sd": sd,
        "lower": bias - z * sd,
        "lower_low": bias - outer,
        "lower_high": bias - inner,
        "upper": bias + z * sd,
        "upper_low": bias + inner,
        "upper_high": bias + outer,
    }


def _limits_of_means(differences, confidence):
    """Return bias and limits of agreement of independent differences, one for each subject."""
    d = differences.mean().to_numpy()
    if d.size < 2:
        return {"bias": d.mean() if d.size else np.nan}
    n = d.size
    sd = d.std(ddof=1)
    tail = (1 - confidence) / 2
    # (mean + 1.96 σ - d̄) / s, times √n, follows the noncentral t distribution.
    ends = stats.nct.ppf([tail, 1 - tail], n - 1, stats.norm.isf(0.025) * np.sqrt(n)) / np.sqrt(n)
    return _limits(d.mean(), stats.t.isf(tail, n - 1) * sd / np.sqrt(n), sd, *(ends * sd))


def _limits_of_repeats(differences, confidence):
    """Return bias and limits of agreement of repeated differences, several for each subject."""
    means = differences.mean().to_numpy()
    counts = differences.count().to_numpy()
    n = means.size
    if n < 2:
        return {"bias": means.mean() if n else np.nan}
    df = counts.sum() - n
    between = means.var(ddof=1)
    within = ((counts - 1) * differences.var(ddof=1).fillna(0)).sum() / df if df else 0.0
    parts = np.array([between, (1 - np.mean(1 / counts)) * within])
    dfs = np.array([n - 1, max(df, 1)])
    variance = parts.sum()
    tail = (1 - confidence) / 2
    z = stats.norm.isf(0.025)
    sd = np.sqrt(variance)
    # Distances from the variance to the ends of its interval (MOVER): those of its two parts,
    # combined as a root sum of squares.
    below = np.sqrt(np.sum((parts * (1 - dfs / stats.chi2.isf(tail, dfs))) ** 2))
    above = np.sqrt(np.sum((parts * (1 - dfs / stats.chi2.isf(1 - tail, dfs))) ** 2))
    bias_reach = stats.t.isf(tail, n - 1) * np.sqrt(between / n)
    sd_below = sd - np.sqrt(variance - below)
    sd_above = np.sqrt(variance + above) - sd
    inner = z * sd - np.hypot(bias_reach, z * sd_below)
    outer = z * sd + np.hypot(bias_reach, z * sd_above)
    return _limits(means.mean(), bias_reach, sd, inner, outer)
