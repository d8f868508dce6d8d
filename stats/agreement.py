"""Agreement: of sites and of repeated scans (intraclass correlation), of pairs of sites and methods
(Bland-Altman).
"""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from .reproducibility import roi_values

ALL = "all"
_ICC_COLUMNS = ("icc", "ci_low", "ci_high", "f", "df1", "df2", "p")
_PAIR_COLUMNS = ["comparison", "method", "roi", "first", "second"]


def intraclass_correlation(table, *, exclude_rois=(), confidence=0.95):
    """Intraclass correlations of a single measurement, ICC(2,1) and ICC(3,1).

    ICC(2,1), absolute agreement, takes raters as a sample of all raters and counts their offsets as
    error; ICC(3,1), consistency, takes them as the only ones of interest and ignores offsets. The
    interval of ICC(3,1) is exact, that of ICC(2,1) an approximation that is too narrow with few
    raters (three sites that differ by a third of the subjects' SD: covers about 90 % instead of 95
    %). Three kinds of raters:

    * sites: every site rates a subject with the mean of its scans there, of all scans that there
      are. The noise of single scans is averaged out, so this ICC is that of a study that scans as
      often.
    * scans: the scans of a site, in their order, one ICC per site.
    * all: every scan index at every site is a rater. Scans of one site share its offset, which this
      ICC does not know; its interval is too narrow where sites differ. `variance_components` tells
      the two apart.

    The ICCs need a complete table. First raters that fewer than half of the subjects have are left
    out (a scan repeated for one subject only), then subjects that lack one of the raters that
    remain.

    Parameters
    ----------
    table : DataFrame
        Long ROI table, see `reproducibility.roi_values`.
    exclude_rois : sequence of str
        ROIs to leave out beside the reference.
    confidence : float
        Confidence of the intervals.

    Returns
    -------
    DataFrame
        One row per method, ROI, kind of raters, site and form:

        * method, roi
        * raters: sites, scans or all; site: the site of scans, else "all"
        * form: ICC(2,1) or ICC(3,1)
        * icc, ci_low, ci_high: the correlation and its confidence interval
        * f, df1, df2, p: F test of no difference between subjects; the same for both forms
        * n_subjects, n_raters: what the correlation is made of
        * n_left_out, n_raters_left_out: subjects and raters with values that are left out

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
    """
    found = []
    rows = roi_values(table, exclude_rois=exclude_rois)
    for (method, roi), group in rows.groupby(["method", "roi"], sort=False):
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
                found.append({**names, "form": form, **values, **counts})
    return pd.DataFrame(found)


def bland_altman(table, *, exclude_rois=(), confidence=0.95):
    """Bias and limits of agreement between every pair of sites and every pair of methods.

    Differences are first minus second, in the order in which the table names them.

    Sites are compared on the mean of each subject's scans at the site, so the limits are those of
    such means, not of single scans; limits and their exact intervals follow from the normal
    distribution of the differences (noncentral t).

    Methods are compared scan by scan. A subject's scans are no independent sample, so the variance
    of the differences is put together from the variance between the subjects' mean differences and
    the variance of differences within subjects: SD² = s²_between + (1 - 1/m) s²_within, with m the
    harmonic mean of scans per subject. The bias is the mean of the subjects' mean differences, and
    intervals follow from the two variances (MOVER).

    Limits of agreement are bias ± 1.96 SD, 95 % whatever the confidence of the intervals.

    Parameters
    ----------
    table : DataFrame
        Long ROI table, see `reproducibility.roi_values`.
    exclude_rois : sequence of str
        ROIs to leave out beside the reference.
    confidence : float
        Confidence of the intervals.

    Returns
    -------
    DataFrame
        One row per comparison, ROI and pair. Empty with one site and one method.

        * comparison: sites or methods; method: the method that sites are compared in, else "all"
        * roi, first, second
        * bias, bias_low, bias_high: ppb
        * sd: standard deviation of the differences, ppb
        * lower, lower_low, lower_high, upper, upper_low, upper_high: limits of agreement and their
          intervals, ppb
        * n_subjects, n_differences: what they are made of
        * n_left_out: subjects (of sites) or scans (of methods) with only one of the two values

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
    found = []
    for names, pairs in _pairs(table, exclude_rois):
        known = pairs.dropna()
        differences = (known["first"] - known["second"]).groupby("subject")
        limits = _limits_of_means if names["comparison"] == "sites" else _limits_of_repeats
        counts = {
            "n_subjects": differences.ngroups,
            "n_differences": len(known),
            "n_left_out": int(pairs.notna().any(axis=1).sum()) - len(known),
        }
        found.append({**names, **limits(differences, confidence), **counts})
    columns = [
        *_PAIR_COLUMNS,
        *_interval_names("bias"),
        "sd",
        *_interval_names("lower"),
        *_interval_names("upper"),
    ]
    return pd.DataFrame(found, columns=[*columns, "n_subjects", "n_differences", "n_left_out"])


def bland_altman_points(table, *, exclude_rois=()):
    """Give the points of the Bland-Altman plots, see `bland_altman`.

    Parameters
    ----------
    table : DataFrame
        Long ROI table, see `reproducibility.roi_values`.
    exclude_rois : sequence of str
        ROIs to leave out beside the reference.

    Returns
    -------
    DataFrame
        One row per point: comparison, method, roi, first, second as in `bland_altman`, subject,
        site, scan (the last two NaN where sites are compared), mean and difference (first minus
        second) of the two values, ppb.

    Raises
    ------
    ValueError
        See `reproducibility.roi_values`.
    """
    columns = [*_PAIR_COLUMNS, "subject", "site", "scan", "mean", "difference"]
    found = [pd.DataFrame(columns=columns)]
    for names, pairs in _pairs(table, exclude_rois):
        points = pairs.dropna().reset_index()
        points["mean"] = (points["first"] + points["second"]) / 2
        points["difference"] = points["first"] - points["second"]
        found.append(points.assign(**names).reindex(columns=columns))
    return pd.concat(found[1:] or found, ignore_index=True)


def _ratings(group):
    """Yield kind of raters, site and the cells (subjects × raters) of one method and ROI."""
    yield "sites", ALL, group.groupby(["subject", "site"])["mean"].mean().unstack("site")
    for site, scans in group.groupby("site"):
        yield "scans", site, scans.pivot(index="subject", columns="scan", values="mean")
    yield "all", ALL, group.pivot(index="subject", columns=["site", "scan"], values="mean")


def _complete(cells):
    """Leave out rare raters, then subjects that lack a rater."""
    there = cells.notna()
    common = there.sum(axis=0) * 2 >= there.any(axis=1).sum()
    return cells.loc[:, common & there.any(axis=0)].dropna()


def _icc(y, confidence):
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
    with np.errstate(divide="ignore", invalid="ignore"):  # no error at all: F is infinite
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
    tail = (1 - confidence) / 2
    df1 = n - 1
    df2 = (n - 1) * (k - 1)
    ratios = np.array([f, f / stats.f.isf(tail, df1, df2), f * stats.f.isf(tail, df2, df1)])
    # The same as (F - 1) / (F + k - 1), and 1 where F is infinite.
    icc, low, high = 1 - k / (ratios + k - 1)
    return {"icc": icc, "ci_low": low, "ci_high": high}


def _pairs(table, exclude_rois):
    """Yield the names of a pair and its values in ppb: columns first and second, one row per
    subject or scan.
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
    """Name bias and limits; `inner` and `outer` are the distances from the bias to the ends of a
    limit's interval.
    """
    z = stats.norm.isf(0.025)
    lower = (bias - z * sd, bias - outer, bias - inner)
    upper = (bias + z * sd, bias + inner, bias + outer)
    return {
        **dict(
            zip(_interval_names("bias"), (bias, bias - bias_reach, bias + bias_reach), strict=True)
        ),
        "sd": sd,
        **dict(zip(_interval_names("lower"), lower, strict=True)),
        **dict(zip(_interval_names("upper"), upper, strict=True)),
    }


def _limits_of_means(differences, confidence):
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
    # from the variance to the ends of its interval
    below, above = (
        np.sqrt(np.sum((parts * (1 - dfs / stats.chi2.isf(p, dfs))) ** 2)) for p in (tail, 1 - tail)
    )
    bias_reach = stats.t.isf(tail, n - 1) * np.sqrt(between / n)
    sd_below = sd - np.sqrt(variance - below)
    sd_above = np.sqrt(variance + above) - sd
    inner = z * sd - np.hypot(bias_reach, z * sd_below)
    outer = z * sd + np.hypot(bias_reach, z * sd_above)
    return _limits(means.mean(), bias_reach, sd, inner, outer)
