"""Planning of studies: the smallest change to be seen, the subjects a study needs, the power it
has.
"""

from dataclasses import dataclass

import numpy as np
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
        Confidence interval, NaN where the degrees of freedom are not known.
    """

    value: float | np.ndarray
    ci_low: float | np.ndarray
    ci_high: float | np.ndarray


def smallest_detectable_change(sdw, *, df=None, confidence=0.95):
    """Smallest change of one subject between two scans that measurement error does not explain.

    SDC = z √2 SDw, with z = 1.96 at 95 %. The interval is that of SDw, from the χ² distribution of
    its square.

    Parameters
    ----------
    sdw : float or array_like
        Within-subject standard deviation.
    df : float or array_like, optional
        Degrees of freedom of `sdw`: scans minus subjects where it was pooled over subjects.
    confidence : float
        Confidence of the interval, and of the change itself.

    Returns
    -------
    SmallestDetectableChange

    Raises
    ------
    ValueError
        If a standard deviation is negative, degrees of freedom are not positive, or the confidence
        is no probability.

    References
    ----------
    Bland and Altman, Stat Methods Med Res 8:135-160 (1999), section 2; Beckerman et al., Qual Life
    Res 10:571 (2001).

    Examples
    --------
    >>> round(float(smallest_detectable_change(5.0).value), 2)
    13.86
    """
    sdw = np.asarray(sdw, np.float64)
    df = np.asarray(np.nan if df is None else df, np.float64)
    _check_probability(confidence, "confidence")
    if (sdw < 0).any():
        raise ValueError("a within-subject standard deviation cannot be negative")
    if (df <= 0).any():
        raise ValueError(
            "degrees of freedom must be positive; leave `df` out where they are not known"
        )
    tail = (1 - confidence) / 2
    value = -stats.norm.ppf(tail) * np.sqrt(2) * sdw
    low, high = (value * np.sqrt(df / stats.chi2.ppf(p, df)) for p in (1 - tail, tail))
    return SmallestDetectableChange(value[()], low[()], high[()])


def change_sd(residual_sd, *, n_scans=1, subject_site_sd=0.0, site_sd=0.0, true_change_sd=0.0):
    """Standard deviation, over subjects, of the change between two time points.

    The change is a difference of two means of `n_scans` scans each. Which components of variance it
    holds depends on where and how the second time point is scanned:

    * the same site both times: what the site adds cancels, and the residual remains;
    * a new session each time: where every subject had one session per site, the component subject ×
      site holds the variation from session to session as well, and the two cannot be told apart.
      Giving it is the safe choice;
    * any site each time: give the components subject × site and site.

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
        In the unit of the arguments.

    Raises
    ------
    ValueError
        If a standard deviation is negative or `n_scans` below one.
    """
    _check_components(n_scans, residual_sd, subject_site_sd, site_sd, true_change_sd)
    error = site_sd**2 + subject_site_sd**2 + residual_sd**2 / n_scans
    return float(np.sqrt(true_change_sd**2 + 2 * error))


def group_sd(subject_sd, residual_sd, *, n_scans=1, subject_site_sd=0.0, site_sd=0.0):
    """Standard deviation, over the subjects of one group, of a value measured once per subject.

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
        Standard deviation of the component site. Zero where the analysis has the site as a factor
        and every site scans as many of one group as of the other: it cancels. Where the analysis
        ignores sites, giving it is safe.

    Returns
    -------
    float
        In the unit of the arguments.

    Raises
    ------
    ValueError
        If a standard deviation is negative or `n_scans` below one.
    """
    _check_components(n_scans, subject_sd, residual_sd, subject_site_sd, site_sd)
    return float(
        np.sqrt(subject_sd**2 + site_sd**2 + subject_site_sd**2 + residual_sd**2 / n_scans)
    )


def power(effect, sd, n, *, design, n_sites=1, alpha=0.05):
    """Power of a two-sided t-test, from the noncentral t distribution.

    Parameters
    ----------
    effect : float
        Mean change, or difference between the groups' means.
    sd : float
        Standard deviation over subjects in the same unit, see `change_sd` and `group_sd`.
    n : int
        Subjects of a study of change, subjects in each group of a comparison of groups.
    design : {'change', 'groups'}
        Paired change of one group, or two equally large groups, each equally large at every site.
    n_sites : int
        Sites that the analysis has as a factor; each beyond the first costs one degree of freedom.
    alpha : float
        Two-sided significance level.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the design is unknown, the SD or a count not positive, `n` too small, or `alpha` no
        probability.

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
            f"n = {n} leaves no degree of freedom; {_fewest(design, n_sites)} is the fewest"
        )
    return _power(effect, sd, n, design, n_sites, alpha)


def sample_size(effect, sd, *, design, n_sites=1, alpha=0.05, power=0.8):
    """Fewest subjects with which a two-sided t-test has the wanted power.

    Parameters
    ----------
    effect, sd, design, n_sites, alpha
        See `power`.
    power : float
        Wanted power.

    Returns
    -------
    int
        Subjects of a study of change, subjects in each group of a comparison of groups.

    Raises
    ------
    ValueError
        If the effect is zero, an argument is refused by `power`, or even ten million subjects are
        not enough.
    """
    _check_test(sd, design, n_sites, alpha)
    _check_probability(power, "power")
    if not effect:
        raise ValueError("an effect of zero cannot be detected, whatever the number of subjects")

    low = high = _fewest(design, n_sites)
    while _power(effect, sd, high, design, n_sites, alpha) < power:
        if high > _MOST_SUBJECTS:
            raise ValueError(
                f"more than {_MOST_SUBJECTS} subjects would be needed; the effect is too small for "
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


def correlation_power(correlation, n, *, alpha=0.05):
    """Power of the two-sided test of Pearson's correlation, exact for two normal variables.

    Given the one variable, t of the regression on it follows the noncentral t distribution, with a
    noncentrality proportional to the root of its sum of squares, which follows a χ² distribution.

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
        If the correlation is not between -1 and 1, `n` below 3, or `alpha` no probability.

    References
    ----------
    Cohen, Statistical Power Analysis for the Behavioral Sciences, 2nd ed. (1988), section 12.2;
    Gatsonis and Sampson, Psychol Bull 106:516-524 (1989), eq. 3.
    """
    _check_probability(alpha, "alpha")
    if not -1 < correlation < 1:
        raise ValueError(f"a correlation lies between -1 and 1, not at {correlation}")
    if n < 3:
        raise ValueError(f"the test of a correlation needs three subjects or more, not {n}")
    nodes, weights = np.polynomial.legendre.leggauss(64)
    root_sum_of_squares = stats.chi.ppf((nodes + 1) / 2, n - 1)
    noncentrality = abs(correlation) / np.sqrt(1 - correlation**2) * root_sum_of_squares
    return float(weights @ _two_sided_t(noncentrality, n - 2, alpha) / 2)


def detectable_correlation(n, *, power=0.8, alpha=0.05):
    """Smallest correlation that `n` subjects detect with the wanted power, see `correlation_power`.

    Parameters
    ----------
    n : int
        Subjects.
    power : float
        Wanted power.
    alpha : float
        Two-sided significance level.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If `n` is below 4, or `power` or `alpha` is no probability, or the power not above `alpha`.

    Examples
    --------
    >>> round(detectable_correlation(95), 2)
    0.28
    """
    _check_probability(power, "power")
    _check_probability(alpha, "alpha")
    if n < 4:
        raise ValueError(f"needs four subjects or more, not {n}")
    if power <= alpha:
        raise ValueError(
            f"a power of {power} is reached without any correlation at alpha = {alpha}"
        )
    return float(
        optimize.brentq(lambda r: correlation_power(r, n, alpha=alpha) - power, 0, 1 - 1e-9)
    )


def _fewest(design, n_sites):
    """Fewest subjects (per group) for one degree of freedom of the error and one subject per
    site.
    """
    return n_sites + 1 if design == "change" else max(n_sites, 2)


def _power(effect, sd, n, design, n_sites, alpha):
    if design == "change":
        return float(_two_sided_t(abs(effect) / sd * np.sqrt(n), n - n_sites, alpha))
    return float(_two_sided_t(abs(effect) / sd * np.sqrt(n / 2), 2 * n - 1 - n_sites, alpha))


def _two_sided_t(noncentrality, df, alpha):
    """Probability that |t| passes its critical value."""
    critical = stats.t.isf(alpha / 2, df)
    # scipy gives NaN where the tail on the other side is below the smallest number.
    other_side = np.nan_to_num(stats.nct.cdf(-critical, df, noncentrality))
    return np.nan_to_num(stats.nct.sf(critical, df, noncentrality), nan=1.0) + other_side


def _check_test(sd, design, n_sites, alpha):
    _check_probability(alpha, "alpha")
    if design not in DESIGNS:
        raise ValueError(f"design {design!r} is unknown; it is one of {', '.join(DESIGNS)}")
    if not sd > 0:
        raise ValueError(f"the standard deviation must be positive, not {sd}")
    if n_sites < 1:
        raise ValueError(f"a study has one site or more, not {n_sites}")


def _check_components(n_scans, *deviations):
    if min(deviations) < 0:
        raise ValueError("a standard deviation cannot be negative")
    if n_scans < 1:
        raise ValueError(f"needs one scan or more per time point, not {n_scans}")


def _check_probability(value, name):
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie between 0 and 1, not at {value}")
