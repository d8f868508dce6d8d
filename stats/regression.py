"""Linear regression: least squares with its diagnostics, a random intercept per subject, susceptibility on age."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import linalg, optimize, stats

from .reproducibility import require_columns, roi_values

MOST_FOR_SHAPIRO = 5000
AGE_ANALYSES = {
    "naive": "every scan a point, as if repeated scans of one person were independent (as published); p is too small",
    "subject_means": "one point a person: the mean of their scans and ages",
    "random_intercept": "every scan a point, a random intercept per person (REML)",
}


@dataclass(frozen=True)
class LinearFit:
    """Result of `ols`.

    Attributes
    ----------
    coefficients : DataFrame
        Indexed by "intercept" and the covariates' names; columns coefficient, se, t, p, ci_low and ci_high
        (two-sided p, 95 % confidence interval).
    r_squared : float
        Share of the outcome's variance that is explained; NaN for a constant outcome.
    residual_sd : float
        Standard deviation of the residuals, with `df`.
    n, df : int
        Rows used and residual degrees of freedom.
    missing : tuple
        Labels of the rows that were left out because a value is missing.
    """

    coefficients: pd.DataFrame
    r_squared: float
    residual_sd: float
    n: int
    df: int
    missing: tuple

    @property
    def n_missing(self):
        """Number of rows left out because a value is missing."""
        return len(self.missing)

    @property
    def adjusted_r_squared(self):
        """R² that a covariate without effect does not raise on average."""
        return 1 - (1 - self.r_squared) * (self.n - 1) / self.df


@dataclass(frozen=True)
class Diagnostics:
    """Result of `diagnose`.

    Attributes
    ----------
    rows : DataFrame
        Indexed as the rows used; columns:

        * outcome, fitted, residual
        * leverage: diagonal of the hat matrix, from 0 to 1; their sum is the number of coefficients
        * studentised: residual by its standard deviation, estimated without the row (externally studentised)
        * cook: Cook's distance
    variance_inflation : Series
        Of each covariate; 1 where it has no correlation with the others.
    shapiro_w, shapiro_p : float
        Shapiro and Wilk's test of the residuals' normality; NaN for more than 5000 rows, where its P is not known.
    breusch_pagan, breusch_pagan_df, breusch_pagan_p : float
        Test of whether the residuals' variance depends on the covariates: Koenker's form, n R² of the squared
        residuals on the covariates, which does not need normal residuals.
    """

    rows: pd.DataFrame
    variance_inflation: pd.Series
    shapiro_w: float
    shapiro_p: float
    breusch_pagan: float
    breusch_pagan_df: int
    breusch_pagan_p: float


@dataclass(frozen=True)
class RandomInterceptFit:
    """Result of `random_intercept`.

    Attributes
    ----------
    coefficients : DataFrame
        As in `LinearFit`.
    between_variance, within_variance : float
        Variance of the groups' intercepts and of a row about its group's.
    n, n_groups, df : int
        Rows and groups used, degrees of freedom of the t-tests.
    missing : tuple
        Labels of the rows that were left out because a value is missing.
    """

    coefficients: pd.DataFrame
    between_variance: float
    within_variance: float
    n: int
    n_groups: int
    df: int
    missing: tuple


def ols(outcome, covariates):
    """Ordinary least squares of an outcome on named covariates and an intercept.

    Parameters
    ----------
    outcome : Series or ndarray, shape (n,)
        Outcome; NaN where missing.
    covariates : DataFrame, shape (n, p)
        Numeric or boolean covariates; NaN where missing. Categories must be coded as numbers before. If `outcome`
        is a Series, both must have the same index.

    Returns
    -------
    LinearFit

    Raises
    ------
    ValueError
        If rows do not fit together, a covariate is not numeric, infinite, constant or a linear combination of
        others (the message names them), or the rows with all values are no more than the coefficients.

    Examples
    --------
    >>> fit = ols(np.array([1.0, 2.0, 2.0, 3.0]), pd.DataFrame({"age": [20, 30, 40, 50]}))
    >>> fit.coefficients["coefficient"].round(3).to_dict()
    {'intercept': -0.1, 'age': 0.06}
    """
    y, x, names, present = _design(outcome, covariates)
    df = y.size - len(names)
    beta, residual, _, r = _least_squares(y, x)
    variance = float(residual @ residual) / df
    total = float(np.sum((y - y.mean()) ** 2))
    return LinearFit(
        coefficients=_inference(names, beta, variance * _inverse_gram(r), df),
        r_squared=max(1 - variance * df / total, 0.0) if np.ptp(y) > 0 else np.nan,
        residual_sd=float(np.sqrt(variance)),
        n=y.size,
        df=df,
        missing=tuple(present.index[~present]),
    )


def diagnose(outcome, covariates):
    """Diagnostics of an ordinary least-squares regression.

    Parameters
    ----------
    outcome, covariates
        As of `ols`; at least one covariate.

    Returns
    -------
    Diagnostics
        Of a row on which the fit depends alone (leverage 1), studentised residual and Cook's distance are NaN.

    Raises
    ------
    ValueError
        As `ols`; and if there is no covariate, or the fit is perfect: its residuals are rounding errors.

    References
    ----------
    Belsley, Kuh and Welsch, Regression Diagnostics (1980), sections 2.1 and 3.3; Cook, Technometrics 19:15-18 (1977);
    Shapiro and Wilk, Biometrika 52:591-611 (1965); Koenker, J Econometrics 17:107-112 (1981).
    """
    y, x, names, present = _design(outcome, covariates)
    if len(names) < 2:
        raise ValueError("a regression without covariates has nothing to diagnose")
    _, residual, q, _ = _least_squares(y, x)
    n, n_coefficients = x.shape
    # The second: an outcome that is the same for all has no spread but rounding errors, as large as its residuals.
    if residual @ residual <= max(1e-20 * np.sum((y - y.mean()) ** 2), 1e-28 * (y @ y)):
        raise ValueError("the fit is perfect: its residuals are rounding errors, and there is nothing to diagnose")
    leverage, df = np.sum(q**2, axis=1), n - n_coefficients
    alone = leverage > 1 - 1e-10
    room, variance = np.where(alone, np.nan, 1 - leverage), residual @ residual / df
    # Without the row, the sum of squares is smaller by residual² / (1 - leverage), and so are the degrees of freedom.
    without = (residual @ residual - residual**2 / room) / (df - 1) if df > 1 else np.full(n, np.nan)
    rows = {"outcome": y, "fitted": y - residual, "residual": residual, "leverage": leverage}
    rows["studentised"] = residual / np.sqrt(np.where(without > 0, without, np.nan) * room)
    rows["cook"] = residual**2 * leverage / (room**2 * n_coefficients * variance)
    shapiro = stats.shapiro(residual) if n <= MOST_FOR_SHAPIRO else (np.nan, np.nan)
    squares = residual**2
    unexplained = _least_squares(squares, x)[1]
    koenker = n * (1 - unexplained @ unexplained / np.sum((squares - squares.mean()) ** 2))
    return Diagnostics(
        rows=pd.DataFrame(rows, index=present.index[present]),
        variance_inflation=pd.Series(_variance_inflation(x[:, 1:]), index=names[1:]),
        shapiro_w=float(shapiro[0]),
        shapiro_p=float(shapiro[1]),
        breusch_pagan=float(koenker),
        breusch_pagan_df=n_coefficients - 1,
        breusch_pagan_p=float(stats.chi2.sf(koenker, n_coefficients - 1)),
    )


def random_intercept(outcome, covariates, groups):
    r"""Linear mixed model with a random intercept per group, by restricted maximum likelihood.

    With θ the ratio of the variance between groups to that within, the model is ordinary least squares on data from
    which the share 1 - 1/√(1 + n θ) of the mean of a group of n rows has been taken away; θ, the only parameter left,
    is a root of the restricted likelihood's derivative, or 0 at its boundary.

    Parameters
    ----------
    outcome : Series or ndarray, shape (n,)
        Outcome; NaN where missing.
    covariates : DataFrame, shape (n, p)
        As in `ols`.
    groups : sequence, shape (n,)
        The group (person) of each row.

    Returns
    -------
    RandomInterceptFit
        Its tests have n_groups - (p + 1) degrees of freedom: right for covariates that do not vary within a group (for
        equal groups and θ > 0 they are then exactly those of `ols` on the groups' means), cautious for others. The
        uncertainty of θ is not propagated; at θ = 0 the standard errors are those of `ols` on all rows.

    Raises
    ------
    ValueError
        As `ols`; and if a row has no group, the groups are no more than the coefficients, or nothing varies within
        any group, so that the two variances cannot be told apart.

    References
    ----------
    Patterson & Thompson, Biometrika 58:545-554 (1971); Fuller & Battese, J Am Stat Assoc 68:626-632 (1973).
    """
    y, x, names, present = _design(outcome, covariates)
    codes, counts = _group_codes(groups, present)
    df = counts.size - len(names)
    if df < 1:
        raise ValueError(f"{counts.size} groups are too few for {len(names)} coefficients ({', '.join(names)})")
    flat = _least_squares(y, x)[1]
    if np.sum((flat - _group_means(flat, codes, counts)) ** 2) <= 1e-10 * np.sum((y - y.mean()) ** 2):
        raise ValueError("values do not vary within any group: repeated, differing values are needed")

    theta = _variance_ratio(y, x, codes, counts)
    beta, residual, _, r = _partially_demeaned(theta, y, x, codes, counts)
    within = float(residual @ residual) / (y.size - len(names))
    return RandomInterceptFit(
        coefficients=_inference(names, beta, within * _inverse_gram(r), df),
        between_variance=theta * within,
        within_variance=within,
        n=y.size,
        n_groups=counts.size,
        df=df,
        missing=tuple(present.index[~present]),
    )


def age_regression(table, *, exclude_rois=()):
    """Regress ROI susceptibility on age, three ways.

    Repeated scans of one person are not independent; the published analysis takes them so and its p is too
    small. Column `analysis` says which of `AGE_ANALYSES` a row is:

    * naive: every scan a point, Pearson r (as published);
    * subject_means: one point a person, the mean of their scans (and ages), whatever their number;
    * random_intercept: every scan a point, with a random intercept per person; see `random_intercept` for its
      degrees of freedom (n_subjects - 2). Sites are not modelled: their differences count as variance within a person.

    Parameters
    ----------
    table : DataFrame
        Long ROI table, see `roi_values`, with column age (years).
    exclude_rois : sequence of str
        ROIs to leave out beside the reference.

    Returns
    -------
    DataFrame
        One row per method, ROI and analysis:

        * method, roi, analysis
        * slope, se, ci_low, ci_high: ppm per year, standard error and 95 % confidence interval
        * intercept: ppm at age 0
        * r: Pearson's correlation (NaN for random_intercept)
        * statistic, df, p: Student's t of the slope
        * n_scans, n_subjects: scans with age and value, and of how many people
        * n_missing: rows left out because age or value is missing
        * between_variance, within_variance: variance components of random_intercept, ppm², else NaN
        * note: why a row has NaN instead of a slope, else NaN

    Raises
    ------
    ValueError
        If ages are not numbers (such as "89+"); see also `roi_values`.

    References
    ----------
    Lin et al., AJNR 36:1644 (2015), statistical analysis.
    """
    require_columns(table, ["age"])
    _numbers(table["age"])
    found = []
    for (method, roi), group in roi_values(table, exclude_rois=exclude_rois).groupby(["method", "roi"], sort=False):
        known = group.dropna(subset=["mean", "age"])
        people = known.groupby("subject", sort=False)[["mean", "age"]].mean()
        counts = {"n_scans": len(known), "n_subjects": len(people), "n_missing": len(group) - len(known)}
        fits = {
            "naive": _age_line(ols, known),
            "subject_means": _age_line(ols, people),
            "random_intercept": _age_line(random_intercept, known, known["subject"]),
        }
        for analysis, line in fits.items():
            found.append({"method": method, "roi": roi, "analysis": analysis, **line, **counts})
    columns = [
        *("method", "roi", "analysis", "slope", "se", "ci_low", "ci_high", "intercept", "r", "statistic", "df", "p"),
        *("n_scans", "n_subjects", "n_missing", "between_variance", "within_variance", "note"),
    ]
    return pd.DataFrame(found, columns=columns)


def _age_line(model, points, *groups):
    try:
        fit = model(points["mean"], points[["age"]], *groups)
    except ValueError as reason:
        return {"note": str(reason)}
    age = fit.coefficients.loc["age"]
    row = {"slope": age["coefficient"], "statistic": age["t"], **age[["se", "p", "ci_low", "ci_high"]]}
    row |= {"intercept": fit.coefficients.loc["intercept", "coefficient"], "df": fit.df}
    if isinstance(fit, LinearFit):
        return row | {"r": np.copysign(np.sqrt(fit.r_squared), age["coefficient"])}
    return row | {"between_variance": fit.between_variance, "within_variance": fit.within_variance}


def _design(outcome, covariates):
    """Outcome, design matrix, names and which rows (Series of bool) have every value; all checked."""
    if isinstance(outcome, pd.Series) and not outcome.index.equals(covariates.index):
        raise ValueError("outcome and covariates have different indices: align them first")
    if len(outcome) != len(covariates):
        raise ValueError(f"{len(outcome)} outcomes and {len(covariates)} rows of covariates do not fit together")
    names = ["intercept", *map(str, covariates.columns)]
    if len(set(names)) < len(names):
        raise ValueError(f"names must differ, and 'intercept' is taken: {', '.join(names[1:])}")
    y = pd.Series(outcome).to_numpy(float, na_value=np.nan)
    x = np.column_stack([np.ones(len(y)), *(_numbers(covariates.iloc[:, i]) for i in range(covariates.shape[1]))])
    infinite = [
        name for name, column in zip(["outcome", *names[1:]], [y, *x.T[1:]], strict=True) if np.isinf(column).any()
    ]
    if infinite:
        raise ValueError(f"infinite values in {', '.join(infinite)}: transform or correct them")
    present = pd.Series(np.isfinite(y) & np.isfinite(x).all(axis=1), index=covariates.index)
    y, x = y[present], x[present]
    if y.size <= len(names):
        raise ValueError(
            f"{y.size} rows with every value are too few for {len(names)} coefficients ({', '.join(names)})"
        )
    _check_columns(x[:, 1:], names[1:])
    return y, x, names, present


def _numbers(column):
    if not pd.api.types.is_numeric_dtype(column):  # booleans are numeric
        raise ValueError(f"{column.name} is not numeric ({column.dtype}): give numbers, for categories their codes")
    return column.to_numpy(float, na_value=np.nan)


def _check_columns(x, names):
    centred = x - x.mean(axis=0)
    size = np.linalg.norm(centred, axis=0)
    constant = size <= 1e-12 * np.linalg.norm(x, axis=0)
    if constant.any():
        raise ValueError(f"constant in the rows used: {', '.join(np.array(names)[constant])}; leave it out")
    if not names:
        return
    _, strength, axes = np.linalg.svd(centred / size, full_matrices=False)
    involved = (np.abs(axes[strength < 1e-9]) > 1e-6).any(axis=0)
    if involved.any():
        raise ValueError(f"collinear: {', '.join(np.array(names)[involved])}; leave one of them out")


def _least_squares(y, x):
    q, r = np.linalg.qr(x)
    beta = linalg.solve_triangular(r, q.T @ y)
    return beta, y - x @ beta, q, r


def _inverse_gram(r):
    """(XᵀX)⁻¹ from the R of X = QR."""
    inverse = linalg.solve_triangular(r, np.eye(len(r)))
    return inverse @ inverse.T


def _variance_inflation(x):
    """Diagonal of the inverse of the covariates' correlation matrix."""
    centred = x - x.mean(axis=0)
    _, r = np.linalg.qr(centred / np.linalg.norm(centred, axis=0))
    return np.diag(_inverse_gram(r))


def _inference(names, beta, covariance, df):
    se = np.sqrt(np.diag(covariance))
    with np.errstate(divide="ignore", invalid="ignore"):  # a perfect fit: t is infinite or undefined
        t = beta / se
    reach = stats.t.isf(0.025, df) * se
    columns = {"coefficient": beta, "se": se, "t": t, "p": 2 * stats.t.sf(np.abs(t), df)}
    return pd.DataFrame({**columns, "ci_low": beta - reach, "ci_high": beta + reach}, index=names)


def _group_codes(groups, present):
    if len(groups) != len(present):
        raise ValueError(f"{len(groups)} groups and {len(present)} rows do not fit together")
    codes, _ = pd.factorize(np.asarray(groups)[present])
    if (codes < 0).any():
        raise ValueError("every row needs a group, some have none")
    return codes, np.bincount(codes)


def _group_sums(values, codes, counts):
    sums = np.zeros((counts.size, *values.shape[1:]))
    np.add.at(sums, codes, values)
    return sums


def _group_means(values, codes, counts):
    sums = _group_sums(values, codes, counts)
    return (sums / counts.reshape(-1, *[1] * (sums.ndim - 1)))[codes]


def _partially_demeaned(theta, y, x, codes, counts):
    """Generalised least squares for V = I + θ J as ordinary least squares (Fuller & Battese 1973, section 2)."""
    share = (1 - 1 / np.sqrt(1 + counts * theta))[codes]
    return _least_squares(
        y - share * _group_means(y, codes, counts), x - share[:, None] * _group_means(x, codes, counts)
    )


def _variance_ratio(y, x, codes, counts):
    """The θ ≥ 0 at which the restricted likelihood, profiled over all else, is largest."""
    df = y.size - x.shape[1]

    def deviance(theta):
        _, residual, _, r = _partially_demeaned(theta, y, x, codes, counts)
        logdet = 2 * np.log(np.abs(np.diag(r))).sum()
        return df * np.log(residual @ residual) + np.log1p(counts * theta).sum() + logdet

    def slope(theta):
        # d deviance / dθ = tr(P ZZᵀ) - df yᵀP ZZᵀP y / yᵀP y, P y being the whitened residual, tr from the whitened Q.
        _, residual, q, _ = _partially_demeaned(theta, y, x, codes, counts)
        weight = 1 / (1 + counts * theta)
        trace = weight @ (counts - (_group_sums(q, codes, counts) ** 2).sum(axis=1))
        return trace - df * (weight @ _group_sums(residual, codes, counts) ** 2) / (residual @ residual)

    grid = np.concatenate([[0], np.logspace(-4, 12, 33)])
    best = int(np.argmin([deviance(theta) for theta in grid]))
    if best == 0 and slope(0) >= 0:
        return 0.0
    return float(optimize.brentq(slope, grid[max(best - 1, 0)], grid[best + 1], xtol=1e-13))
