"""Linear regression with a random intercept for each subject."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize

from .regression import design_matrix, inference, inverse_gram, least_squares


@dataclass(frozen=True)
class RandomInterceptFit:
    """Result of `random_intercept`.

    Attributes
    ----------
    coefficients : DataFrame
        Coefficients, as in `multiqsm.stats.regression.LinearFit`.
    between_variance, within_variance : float
        Variance of the groups' intercepts, and of the rows within a group.
    n, n_groups, df : int
        Rows and groups used, degrees of freedom of the t-tests.
    missing_rows : tuple
        Labels of the rows left out because a value is missing.
    """

    coefficients: pd.DataFrame
    between_variance: float
    within_variance: float
    n: int
    n_groups: int
    df: int
    missing_rows: tuple


def random_intercept(
    outcome: pd.Series | np.ndarray,
    covariates: pd.DataFrame,
    groups: Sequence | pd.Series | np.ndarray,
) -> RandomInterceptFit:
    r"""Fit a linear model with a random intercept per group by restricted maximum likelihood.

    With θ the ratio of the variance between groups to that within, the model is ordinary least
    squares after subtracting the fraction 1 - 1/√(1 + n θ) of its mean from each group of n rows.
    The only other parameter, θ, is a root of the restricted likelihood's derivative, or 0 at its
    boundary.

    Parameters
    ----------
    outcome : Series or ndarray, shape (n,)
        Outcome; NaN where missing.
    covariates : DataFrame, shape (n, p)
        Covariates, as in `multiqsm.stats.regression.ols`.
    groups : sequence, shape (n,)
        The group (person) of each row.

    Returns
    -------
    RandomInterceptFit
        Its tests have n_groups - (p + 1) degrees of freedom. This is exact for covariates that do
        not vary within a group: for groups of equal size and θ > 0 the tests are those of
        `multiqsm.stats.regression.ols` on the groups' means. It is conservative for other
        covariates. The uncertainty of θ is not propagated; at θ = 0 the standard errors are those
        of `multiqsm.stats.regression.ols` on all rows.

    Raises
    ------
    ValueError
        If a row has no group, there are no more groups than coefficients, or nothing varies within
        any group, so that the two variances cannot be separated. See also
        `multiqsm.stats.regression.ols`.

    References
    ----------
    Patterson & Thompson, Biometrika 58:545-554 (1971); Fuller & Battese, J Am Stat Assoc 68:626-632
    (1973).

    Examples
    --------
    Two scans of each of four people, whose true values rise by 1 every 10 years.

    >>> scans = pd.DataFrame({"age": [20, 20, 30, 30, 40, 40, 50, 50], "who": list("AABBCCDD")})
    >>> chi = scans["age"] / 10 + np.array([0.3, 0.1, -0.2, -0.4, 0.2, 0.0, 0.1, -0.1])
    >>> fit = random_intercept(chi, scans[["age"]], scans["who"])
    >>> fit.n_groups, fit.df, round(float(fit.coefficients.loc["age", "coefficient"]), 3)
    (4, 2, 0.098)
    """
    y, x, names, present = design_matrix(outcome, covariates)
    codes, counts = _group_codes(groups, present)
    df = counts.size - len(names)
    if df < 1:
        raise ValueError(
            f"{counts.size} groups are too few for {len(names)} coefficients ({', '.join(names)})"
        )
    residual = least_squares(y, x)[1]
    within_squares = np.sum((residual - _group_means(residual, codes, counts)) ** 2)
    if within_squares <= 1e-10 * np.sum((y - y.mean()) ** 2):
        raise ValueError(
            "values do not vary within any group: repeated, differing values are needed"
        )

    theta = _variance_ratio(y, x, codes, counts)
    beta, residual, _, r = _partially_demeaned(theta, y, x, codes, counts)
    within = float(residual @ residual) / (y.size - len(names))
    return RandomInterceptFit(
        coefficients=inference(names, beta, within * inverse_gram(r), df),
        between_variance=theta * within,
        within_variance=within,
        n=y.size,
        n_groups=counts.size,
        df=df,
        missing_rows=tuple(present.index[~present]),
    )


def _group_codes(groups, present):
    """Number the groups of the complete rows, and count the rows of each."""
    if len(groups) != len(present):
        raise ValueError(f"{len(groups)} groups for {len(present)} rows: give one for each row")
    codes, _ = pd.factorize(np.asarray(groups)[present])
    if (codes < 0).any():
        raise ValueError("every row needs a group, but some have none")
    return codes, np.bincount(codes)


def _group_sums(values, codes, counts):
    sums = np.zeros((counts.size, *values.shape[1:]))
    np.add.at(sums, codes, values)
    return sums


def _group_means(values, codes, counts):
    sums = _group_sums(values, codes, counts)
    return (sums / counts.reshape(-1, *[1] * (sums.ndim - 1)))[codes]


def _partially_demeaned(theta, y, x, codes, counts):
    """Solve generalised least squares for V = I + θ J as ordinary least squares.

    See Fuller & Battese (1973), section 2.
    """
    fraction = (1 - 1 / np.sqrt(1 + counts * theta))[codes]
    return least_squares(
        y - fraction * _group_means(y, codes, counts),
        x - fraction[:, None] * _group_means(x, codes, counts),
    )


def _variance_ratio(y, x, codes, counts):
    """Return the θ ≥ 0 that maximises the restricted likelihood."""
    df = y.size - x.shape[1]

    def deviance(theta: float) -> float:
        _, residual, _, r = _partially_demeaned(theta, y, x, codes, counts)
        logdet = 2 * np.log(np.abs(np.diag(r))).sum()
        return df * np.log(residual @ residual) + np.log1p(counts * theta).sum() + logdet

    def slope(theta: float) -> float:
        # d deviance / dθ = tr(P ZZᵀ) - df yᵀP ZZᵀP y / yᵀP y. P y is the whitened residual, and the
        # trace follows from the whitened Q.
        _, residual, q, _ = _partially_demeaned(theta, y, x, codes, counts)
        weight = 1 / (1 + counts * theta)
        trace = weight @ (counts - (_group_sums(q, codes, counts) ** 2).sum(axis=1))
        return trace - df * (weight @ _group_sums(residual, codes, counts) ** 2) / (
            residual @ residual
        )

    grid = np.concatenate([[0], np.logspace(-4, 12, 33)])
    best = int(np.argmin(list(map(deviance, grid))))
    if best == 0 and slope(0) >= 0:
        return 0.0
    return float(optimize.brentq(slope, grid[max(best - 1, 0)], grid[best + 1], xtol=1e-13))
