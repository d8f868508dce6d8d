"""Equivalence of imprecision within and across sites.

A test that finds no significant difference is no evidence that there is none. Two one-sided tests
give it: they reject that the difference is as large as a margin.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import optimize, special, stats

from . import planning
from .families import correct_p, family_of
from .reproducibility import require_columns, roi_values, standard_error

KEY = ["method", "roi"]
TEST_COLUMNS = [
    *("method", "roi", "family", "n_subjects", "df", "within", "cross", "mean_difference"),
    *("ci_low", "ci_high", "margin", "statistic", "p", "power", "detectable"),
]
# Nodes of the quadratures over the distribution of a standard deviation.
NODES, WEIGHTS = np.polynomial.legendre.leggauss(64)


def sd_bias(n: np.ndarray | float) -> np.ndarray | float:
    """Return c4, the expectation of the sample SD of `n` normal values relative to the true SD.

    Parameters
    ----------
    n : float or ndarray
        Number of values; NaN below 2.

    Returns
    -------
    float or ndarray

    References
    ----------
    Cureton, Am Stat 22:22 (1968).

    Examples
    --------
    Without site effects, published imprecision over three sites is 6 % lower than over five scans.

    >>> round(float(sd_bias(3) / sd_bias(5)), 3)
    0.943
    """
    n = np.where(np.asarray(n) >= 2, n, np.nan)
    half = (n - 1) / 2
    return np.exp(special.gammaln(half + 0.5) - special.gammaln(half)) / np.sqrt(half)


def unbiased_imprecision(table: pd.DataFrame) -> pd.DataFrame:
    """Compute imprecision within and across sites without the bias of small samples.

    The published imprecisions are means of sample SDs, over scans at a site and over sites. Those
    of fewer values are smaller on average (`sd_bias`), so that the two are not comparable. Here
    each SD is divided by its bias before the mean is taken.

    Parameters
    ----------
    table : DataFrame
        Long ROI table, see `reproducibility.roi_values`.

    Returns
    -------
    DataFrame
        One row per subject, method and ROI: subject, method, roi, within and cross (ppm, NaN where
        there are too few scans).

    Raises
    ------
    ValueError
        See `reproducibility.roi_values`.

    Examples
    --------
    >>> table = pd.DataFrame({"site": list("AABB"), "scan": [1, 2, 1, 2]})
    >>> table["mean"] = [0.040, 0.042, 0.050, 0.052]
    >>> table = table.assign(subject="01", method="medi", roi="putamen")
    >>> unbiased_imprecision(table)[["within", "cross"]].round(4).values.tolist()
    [[0.0018, 0.0089]]
    """
    rows = []
    for names, group in roi_values(table).groupby(["subject", *KEY], sort=False):
        chi = group.pivot(index="scan", columns="site", values="mean")
        row = dict(zip(["subject", *KEY], names, strict=True))
        for kind, axis in (("within", 0), ("cross", 1)):
            row[kind] = (chi.std(axis=axis) / sd_bias(chi.count(axis=axis))).mean()
        rows.append(row)
    return pd.DataFrame(rows, columns=["subject", *KEY, "within", "cross"])


def equivalence_tests(
    imprecisions: pd.DataFrame,
    margins: Mapping[str, float] | float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
) -> pd.DataFrame:
    """Test whether imprecision across sites is equivalent to that within a site.

    Two one-sided paired t-tests over subjects for each method and ROI reject, at `alpha`, that the
    mean difference is at or beyond the margin on either side. P is the larger of their two P
    values, corrected for the number of ROIs of a family and method as in
    `reproducibility.within_versus_cross`.

    Parameters
    ----------
    imprecisions : DataFrame
        Result of `unbiased_imprecision`.
    margins : float or mapping of str to float
        Margin of all ROIs, or of each, ppm. ROIs without margin are not tested.
    alpha : float
        Family-wise error of the tests of a family and method.
    power : float
        Power of `detectable`.

    Returns
    -------
    DataFrame
        One row per method and ROI with a margin:

        * method, roi, family
        * n_subjects, df: subjects with both values, degrees of freedom
        * within, cross: unbiased imprecision, mean over subjects, ppm
        * mean_difference, ci_low, ci_high: cross - within and its 90 % confidence interval, which
          lies within the margin if an uncorrected test at .05 finds equivalence, ppm
        * margin: ppm
        * statistic, p: Student's t of the one-sided test with the larger P, and that P
        * power: probability that an uncorrected test at `alpha` finds equivalence if the true
          difference is zero and its SD over subjects is the measured one
        * detectable: true difference that the test of no difference would find at `alpha` with the
          given power, ppm
        * n_tests, p_bonferroni, significant: as in `reproducibility.within_versus_cross`;
          significant means equivalent

        A test that is impossible has NaN and does not count in n_tests.

    Raises
    ------
    ValueError
        If a column is missing or a margin is not positive.

    References
    ----------
    Schuirmann, J Pharmacokinet Biopharm 15:657-680 (1987).
    """
    require_columns(imprecisions, ["subject", *KEY, "within", "cross"])
    measured = imprecisions["roi"].unique()
    rows = []
    for (method, roi), group in imprecisions.groupby(KEY, sort=False):
        margin = margins.get(roi) if isinstance(margins, Mapping) else margins
        if margin is None:
            continue
        if not margin > 0:
            raise ValueError(f"the margin of {roi} must be positive, got {margin} ppm")
        complete = group.dropna(subset=["within", "cross"])
        row = {
            "method": method,
            "roi": roi,
            "family": family_of([roi], measured),
            "within": complete["within"].mean(),
            "cross": complete["cross"].mean(),
            "margin": margin,
        }
        difference = (complete["cross"] - complete["within"]).to_numpy(float)
        rows.append(row | _two_one_sided(difference, margin, alpha, power))
    tests = pd.DataFrame(rows, columns=TEST_COLUMNS)
    return correct_p(tests, ["method", "family"], alpha=alpha)


def equivalence_power(margin: float, sd: float, n: int, *, alpha: float = 0.05) -> float:
    """Return the power of two one-sided paired t-tests if there is no true difference.

    Parameters
    ----------
    margin : float
        Margin of equivalence.
    sd : float
        Standard deviation of the differences over subjects, in the same unit.
    n : int
        Subjects.
    alpha : float
        Level of each one-sided test.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the margin or the SD is not positive, or there are fewer than two subjects.

    References
    ----------
    Phillips, J Pharmacokinet Biopharm 18:137-144 (1990).

    Examples
    --------
    Nine people and a margin of one standard deviation.

    >>> round(equivalence_power(1.0, 1.0, 9), 2)
    0.72
    """
    if not (margin > 0 and sd > 0):
        raise ValueError(f"margin and SD must be positive, got {margin} and {sd}")
    if n < 2:
        raise ValueError(f"paired tests need two subjects or more, not {n}")
    # Given the sample SD, the mean difference has to lie within the margin less the critical value
    # times its standard error. The mean over the sample SD's χ distribution is taken by quadrature
    # over its probabilities.
    sample_sd = sd * stats.chi.ppf((NODES + 1) / 2, n - 1) / np.sqrt(n - 1)
    reach = margin - stats.t.isf(alpha, n - 1) * sample_sd / np.sqrt(n)
    within = np.clip(2 * stats.norm.cdf(reach * np.sqrt(n) / sd) - 1, 0, None)
    return float(WEIGHTS @ within / 2)


def detectable_difference(sd: float, n: int, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return the true difference that a two-sided paired t-test finds with a given power.

    Parameters
    ----------
    sd : float
        Standard deviation of the differences over subjects.
    n : int
        Subjects.
    alpha, power : float
        Level and power of the test.

    Returns
    -------
    float
        In the unit of `sd`.

    Raises
    ------
    ValueError
        See `planning.power`.

    Examples
    --------
    >>> round(detectable_difference(1.0, 9), 2)
    1.07
    """

    def excess(effect: float) -> float:
        return planning.power(effect, 1.0, n, design="change", alpha=alpha) - power

    largest = 1.0
    while excess(largest) < 0:
        largest *= 2
    return sd * float(optimize.brentq(excess, 0, largest))


def _two_one_sided(difference, margin, alpha, power):
    """Return the columns of a test; those of an impossible one are NaN."""
    n = difference.size
    row = {"n_subjects": n, "df": n - 1, "mean_difference": difference.mean() if n else np.nan}
    se = standard_error(difference)
    if np.isnan(se):
        return row
    mean = row["mean_difference"]
    half_width = stats.t.isf(0.05, n - 1) * se
    statistic = (margin - abs(mean)) / se
    return row | {
        "ci_low": mean - half_width,
        "ci_high": mean + half_width,
        "statistic": statistic,
        "p": stats.t.sf(statistic, n - 1),
        "power": equivalence_power(margin, se * np.sqrt(n), n, alpha=alpha),
        "detectable": detectable_difference(se * np.sqrt(n), n, alpha=alpha, power=power),
    }
