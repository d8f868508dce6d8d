"""Planning of studies: smallest detectable change, sample size and power."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

DESIGNS = ("change", "groups")
_MOST_SUBJECTS = 10_000_000


@dataclass(frozen=True)
class SmallestDetectableChange:
    """Result of `smallest_detectable_change`, in the unit of the within-subject SD.

    Attributes
    ----------
    value : float or ndarray
        Smallest detectable change.
    ci_low, ci_high : float or ndarray
        Confidence interval; NaN where the degrees of freedom are unknown.
    """

    value: float | np.ndarray
    ci_low: float | np.ndarray
    ci_high: float | np.ndarray


def smallest_detectable_change(
    sdw: ArrayLike, *, df: ArrayLike | None = None, confidence: float = 0.95
) -> SmallestDetectableChange:
    """Return the smallest change of one subject that measurement error does not explain.

    For two scans, SDC = z √2 SDw with z = 1.96 at 95 %. The interval follows from that of SDw, by
    the χ² distribution of its square.

    Parameters
    ----------
    sdw : float or array_like
        Within-subject standard deviation.
    df : float or array_like, optional
        Degrees of freedom of `sdw`: scans minus subjects if it was pooled over subjects.
    confidence : float
        Confidence of the interval, and of the change itself.

    Returns
    -------
    SmallestDetectableChange

    Raises
    ------
    ValueError
        If a standard deviation is negative, degrees of freedom are not positive, or the confidence
        is not between 0 and 1.

    References
    ----------
    Bland and Altman, Stat Methods Med Res 8:135-160 (1999), section 2; Beckerman et al., Qual Life
    Res 10:571 (2001).

    Examples
    --------
    >>> round(float(smallest_detectable_change(5.0).value), 2)
    13.86
    """
    deviation = np.asarray(sdw, np.float64)
    freedom = np.asarray(np.nan if df is None else df, np.float64)
    _check_probability(confidence, "confidence")
    if (deviation < 0).any():
        raise ValueError("a within-subject standard deviation cannot be negative")
    if (freedom <= 0).any():
        raise ValueError(
            "degrees of freedom must be positive: leave `df` out where they are unknown"
        )
    tail = (1 - confidence) / 2
    value = -stats.norm.ppf(tail) * np.sqrt(2) * deviation
    low = value * np.sqrt(freedom / stats.chi2.ppf(1 - tail, freedom))
    high = value * np.sqrt(freedom / stats.chi2.ppf(tail, freedom))
    return SmallestDetectableChange(value[()], low[()], high[()])


def change_sd(
    residual_sd: float,
    *,
    n_scans: int = 1,
    subject_site_sd: float = 0.0,
    site_sd: float = 0.0,
    true_change_sd: float = 0.0,
) -> float:
    """Return the standard deviation, over subjects, of the change between two time points.

    The change is a difference of two means of `n_scans` scans each. Its components of variance
    depend on where and how the second time point is scanned:

    * the same site both times: the site's effect cancels, and the residual remains;
    * a new session each time: if every subject had one session per site, the component subject ×
      site includes the variation from session to session, which cannot be separated. Passing it is
      the conservative choice;
    * any site each time: pass the components subject × site and site.

    Parameters
    ----------
    residual_sd : float
        Standard deviation of repeated scans of one session.
    n_scans : int
        Scans averaged at each time point.
    subject_site_sd, site_sd : float
        Standard deviations of the components subject × site and site, if they do not cancel.
    true_change_sd : float
        Standard deviation of the subjects' true changes.

    Returns
    -------
    float
        Standard deviation in the unit of the arguments.

    Raises
    ------
    ValueError
        If a standard deviation is negative or `n_scans` below one.

    Examples
    --------
    Averaging four scans at each time point halves the standard deviation.

    >>> change_sd(4.0), change_sd(4.0, n_scans=4)
    (5.656854249492381, 2.8284271247461903)
    """
    _check_components(n_scans, residual_sd, subject_site_sd, site_sd, true_change_sd)
    error = site_sd**2 + subject_site_sd**2 + residual_sd**2 / n_scans
    return float(np.sqrt(true_change_sd**2 + 2 * error))


def group_sd(
    subject_sd: float,
    residual_sd: float,
    *,
    n_scans: int = 1,
    subject_site_sd: float = 0.0,
    site_sd: float = 0.0,
) -> float:
    """Return the standard deviation, over subjects of a group, of a value measured once each.

    Parameters
    ----------
    subject_sd : float
        Standard deviation of the subjects' true values.
    residual_sd : float
        Standard deviation of repeated scans of one session.
    n_scans : int
        Scans averaged for each subject.
    subject_site_sd : float
        Standard deviation of the component subject × site.
    site_sd : float
        Standard deviation of the component site. It cancels, and is zero, if the analysis has the
        site as a factor and every site scans equally many subjects of both groups. If the analysis
        ignores sites, passing it is the conservative choice.

    Returns
    -------
    float
        Standard deviation in the unit of the arguments.

    Raises
    ------
    ValueError
        If a standard deviation is negative or `n_scans` below one.
    """
    _check_components(n_scans, subject_sd, residual_sd, subject_site_sd, site_sd)
    variance = subject_sd**2 + site_sd**2 + subject_site_sd**2 + residual_sd**2 / n_scans
    return float(np.sqrt(variance))


def power(
    effect: float, sd: float, n: int, *, design: str, n_sites: int = 1, alpha: float = 0.05
) -> float:
    """Return the power of a two-sided t-test, from the noncentral t distribution.

    Parameters
    ----------
    effect : float
        Mean change, or difference between the groups' means.
    sd : float
        Standard deviation over subjects in the same unit, see `change_sd` and `group_sd`.
    n : int
        Subjects of a study of change, subjects in each group of a comparison of groups.
    design : {'change', 'groups'}
        Paired change of one group, or two groups of equal size, equally distributed over sites.
    n_sites : int
        Number of sites, which the analysis has as a factor. Each beyond the first costs one degree
        of freedom.
    alpha : float
        Two-sided significance level.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the design is unknown, the SD or a count is not positive, `n` is too small, or `alpha` is
        not between 0 and 1.

    References
    ----------
    Cohen, Statistical Power Analysis for the Behavioral Sciences, 2nd ed. (1988), section 12.3.

    Examples
    --------
    >>> round(power(0.5, 1.0, 64, design="groups"), 4)
    0.8015
    """
    _check_test(sd, design, n_sites, alpha)
    if n < _fewest(design, n_sites):
        raise ValueError(
            f"n = {n} leaves no degree of freedom: at least {_fewest(design, n_sites)} are needed"
        )
    return _power(effect, sd, n, design, n_sites, alpha)


def sample_size(
    effect: float,
    sd: float,
    *,
    design: str,
    n_sites: int = 1,
    alpha: float = 0.05,
    power: float = 0.8,
) -> int:
    """Return the fewest subjects with which a two-sided t-test has a given power.

    Parameters
    ----------
    effect, sd, design, n_sites, alpha
        See `power`.
    power : float
        Power to reach.

    Returns
    -------
    int
        Subjects of a study of change, subjects in each group of a comparison of groups.

    Raises
    ------
    ValueError
        If the effect is zero, `power` refuses an argument, or ten million subjects are not enough.

    Examples
    --------
    Subjects in each group to detect a difference of half a standard deviation.

    >>> sample_size(0.5, 1.0, design="groups")
    64
    """
    _check_test(sd, design, n_sites, alpha)
    _check_probability(power, "power")
    if not effect:
        raise ValueError("an effect of zero cannot be detected, whatever the number of subjects")

    low = high = _fewest(design, n_sites)
    while _power(effect, sd, high, design, n_sites, alpha) < power:
        if high > _MOST_SUBJECTS:
            raise ValueError(
                f"more than {_MOST_SUBJECTS} subjects would be needed: the effect is too small for "
                "its SD"
            )
        low = high + 1
        high = 2 * high
    while low < high:
        middle = (low + high) // 2
        if _power(effect, sd, middle, design, n_sites, alpha) < power:
            low = middle + 1
        else:
            high = middle
    return int(high)


def correlation_power(correlation: float, n: int, *, alpha: float = 0.05) -> float:
    """Return the power of the two-sided test of Pearson's correlation.

    It is exact for two normal variables. Conditional on one variable, t of the regression on it
    follows the noncentral t distribution. Its noncentrality is proportional to the root of that
    variable's sum of squares, which follows a χ² distribution.

    Parameters
    ----------
    correlation : float
        Correlation in the population.
    n : int
        Subjects.
    alpha : float
        Two-sided significance level.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the correlation is not between -1 and 1, `n` is below 3, or `alpha` is not between 0 and
        1.

    References
    ----------
    Cohen, Statistical Power Analysis for the Behavioral Sciences, 2nd ed. (1988), section 12.2;
    Gatsonis and Sampson, Psychol Bull 106:516-524 (1989), eq. 3.
    """
    _check_probability(alpha, "alpha")
    if not -1 < correlation < 1:
        raise ValueError(f"a correlation lies between -1 and 1; it is {correlation}")
    if n < 3:
        raise ValueError(f"the test of a correlation needs three subjects or more, not {n}")
    # The mean over that distribution, by Gauss-Legendre quadrature over its probabilities.
    nodes, weights = np.polynomial.legendre.leggauss(64)
    root_sum_of_squares = stats.chi.ppf((nodes + 1) / 2, n - 1)
    noncentrality = abs(correlation) / np.sqrt(1 - correlation**2) * root_sum_of_squares
    return float(weights @ _two_sided_t(noncentrality, n - 2, alpha) / 2)


def detectable_correlation(n: int, *, power: float = 0.8, alpha: float = 0.05) -> float:
    """Return the smallest correlation that `n` subjects detect with a given power.

    The power is that of `correlation_power`.

    Parameters
    ----------
    n : int
        Subjects.
    power : float
        Power to reach.
    alpha : float
        Two-sided significance level.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If `n` is below 4, `power` or `alpha` is not between 0 and 1, or the power is not above
        `alpha`.

    Examples
    --------
    >>> round(detectable_correlation(95), 2)
    0.28
    """
    _check_probability(power, "power")
    _check_probability(alpha, "alpha")
    if n < 4:
        raise ValueError(f"a detectable correlation needs four subjects or more, not {n}")
    if power <= alpha:
        raise ValueError(
            f"a power of {power} is reached without any correlation at alpha = {alpha}"
        )

    def excess(correlation: float) -> float:
        return correlation_power(correlation, n, alpha=alpha) - power

    return float(optimize.brentq(excess, 0, 1 - 1e-9))


def _fewest(design, n_sites):
    """Return the fewest subjects (per group) that leave the error one degree of freedom.

    There is at least one subject per site.
    """
    return n_sites + 1 if design == "change" else max(n_sites, 2)


def _power(effect, sd, n, design, n_sites, alpha):
    if design == "change":
        return float(_two_sided_t(abs(effect) / sd * np.sqrt(n), n - n_sites, alpha))
    return float(_two_sided_t(abs(effect) / sd * np.sqrt(n / 2), 2 * n - 1 - n_sites, alpha))


def _two_sided_t(noncentrality, df, alpha):
    """Return the probability that |t| exceeds its critical value."""
    critical = stats.t.isf(alpha / 2, df)
    # scipy returns NaN where the opposite tail is smaller than the smallest number.
    lower_tail = np.nan_to_num(stats.nct.cdf(-critical, df, noncentrality))
    return np.nan_to_num(stats.nct.sf(critical, df, noncentrality), nan=1.0) + lower_tail


def _check_test(sd, design, n_sites, alpha):
    _check_probability(alpha, "alpha")
    if design not in DESIGNS:
        raise ValueError(f"design {design!r} is unknown: choose one of {', '.join(DESIGNS)}")
    if not sd > 0:
        raise ValueError(f"the standard deviation must be positive, not {sd}")
    if n_sites < 1:
        raise ValueError(f"a study has one site or more, not {n_sites}")


def _check_components(n_scans, *deviations):
    if min(deviations) < 0:
        raise ValueError("a standard deviation cannot be negative")
    if n_scans < 1:
        raise ValueError(f"a time point needs one scan or more, not {n_scans}")


def _check_probability(value, name):
    if not 0 < value < 1:
        raise ValueError(f"{name} must be between 0 and 1, not {value}")
