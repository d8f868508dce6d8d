"""Linear regression: ordinary least squares and its diagnostics."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import linalg, stats

MOST_FOR_SHAPIRO = 5000  # rows


@dataclass(frozen=True)
class LinearFit:
    """Result of `ols`.

    Attributes
    ----------
    coefficients : DataFrame
        Indexed by "intercept" and the covariates' names; columns coefficient, se, t, p, ci_low and
        ci_high (two-sided p, 95 % confidence interval).
    r_squared : float
        Fraction of the outcome's variance that is explained; NaN for a constant outcome.
    residual_sd : float
        Standard deviation of the residuals, with `df` degrees of freedom.
    n, df : int
        Rows used and residual degrees of freedom.
    missing_rows : tuple
        Labels of the rows left out because a value is missing.
    """

    coefficients: pd.DataFrame
    r_squared: float
    residual_sd: float
    n: int
    df: int
    missing_rows: tuple

    @property
    def n_missing(self) -> int:
        """Number of rows left out because a value is missing."""
        return len(self.missing_rows)

    @property
    def adjusted_r_squared(self) -> float:
        """Adjusted R², which a covariate without effect does not raise on average."""
        return 1 - (1 - self.r_squared) * (self.n - 1) / self.df


@dataclass(frozen=True)
class Diagnostics:
    """Result of `diagnose`.

    Attributes
    ----------
    rows : DataFrame
        Indexed as the rows used; columns:

        * outcome, fitted, residual
        * leverage: diagonal of the hat matrix, from 0 to 1; the sum over rows is the number of
          coefficients
        * studentised: residual divided by its standard deviation, estimated without the row
          (externally studentised)
        * cook: Cook's distance
    variance_inflation : Series
        Variance inflation factor of each covariate; 1 without correlation with the others.
    shapiro_w, shapiro_p : float
        Shapiro and Wilk's test of the residuals' normality; NaN for more than 5000 rows, for which
        the distribution of W is not available.
    breusch_pagan, breusch_pagan_df, breusch_pagan_p : float
        Test of whether the residuals' variance depends on the covariates, in Koenker's form: n R²
        of the squared residuals on the covariates. It does not assume normal residuals.
    """

    rows: pd.DataFrame
    variance_inflation: pd.Series
    shapiro_w: float
    shapiro_p: float
    breusch_pagan: float
    breusch_pagan_df: int
    breusch_pagan_p: float


def ols(outcome: pd.Series | np.ndarray, covariates: pd.DataFrame) -> LinearFit:
    """Regress an outcome on named covariates and an intercept by ordinary least squares.

    Parameters
    ----------
    outcome : Series or ndarray, shape (n,)
        Outcome; NaN where missing.
    covariates : DataFrame, shape (n, p)
        Numeric or boolean covariates; NaN where missing. Categories must be coded as numbers. If
        `outcome` is a Series, both must have the same index.

    Returns
    -------
    LinearFit

    Raises
    ------
    ValueError
        If numbers of rows differ, a covariate is not numeric, infinite, constant or a linear
        combination of others (the message names them), or there are no more complete rows than
        coefficients.

    Examples
    --------
    >>> fit = ols(np.array([1.0, 2.0, 2.0, 3.0]), pd.DataFrame({"age": [20, 30, 40, 50]}))
    >>> fit.coefficients["coefficient"].round(3).to_dict()
    {'intercept': -0.1, 'age': 0.06}
    """
    y, x, names, present = design_matrix(outcome, covariates)
    df = y.size - len(names)
    beta, residual, _, r = least_squares(y, x)
    variance = float(residual @ residual) / df
    total = float(np.sum((y - y.mean()) ** 2))
    return LinearFit(
        coefficients=inference(names, beta, variance * inverse_gram(r), df),
        r_squared=max(1 - variance * df / total, 0.0) if np.ptp(y) > 0 else np.nan,
        residual_sd=float(np.sqrt(variance)),
        n=y.size,
        df=df,
        missing_rows=tuple(present.index[~present]),
    )


def diagnose(outcome: pd.Series | np.ndarray, covariates: pd.DataFrame) -> Diagnostics:
    """Compute diagnostics of an ordinary least-squares regression.

    Parameters
    ----------
    outcome, covariates
        See `ols`; there must be at least one covariate.

    Returns
    -------
    Diagnostics
        Studentised residual and Cook's distance are NaN in a row of leverage 1, on which a
        coefficient depends alone.

    Raises
    ------
    ValueError
        If there is no covariate, or the fit is perfect: its residuals are rounding errors. See also
        `ols`.

    References
    ----------
    Belsley, Kuh and Welsch, Regression Diagnostics (1980), sections 2.1 and 3.3; Cook,
    Technometrics 19:15-18 (1977); Shapiro and Wilk, Biometrika 52:591-611 (1965); Koenker, J
    Econometrics 17:107-112 (1981).
    """
    y, x, names, present = design_matrix(outcome, covariates)
    if len(names) < 2:
        raise ValueError("a regression without covariates has nothing to diagnose")
    _, residual, q, _ = least_squares(y, x)
    n, n_coefficients = x.shape
    # The second limit is for a constant outcome, whose spread is a rounding error as its residuals
    # are.
    if residual @ residual <= max(1e-20 * np.sum((y - y.mean()) ** 2), 1e-24 * (y @ y)):
        raise ValueError(
            "the fit is perfect: its residuals are rounding errors, and there is nothing to "
            "diagnose"
        )
    leverage = np.sum(q**2, axis=1)
    df = n - n_coefficients
    remainder = np.where(leverage > 1 - 1e-10, np.nan, 1 - leverage)
    variance = residual @ residual / df
    # Leaving out a row reduces the sum of squares by residual² / (1 - leverage), and the degrees of
    # freedom by one.
    left_out_variance = np.full(n, np.nan)
    if df > 1:
        left_out_variance = (residual @ residual - residual**2 / remainder) / (df - 1)
    left_out_variance = np.where(left_out_variance > 0, left_out_variance, np.nan)
    rows = {
        "outcome": y,
        "fitted": y - residual,
        "residual": residual,
        "leverage": leverage,
        "studentised": residual / np.sqrt(left_out_variance * remainder),
        "cook": residual**2 * leverage / (remainder**2 * n_coefficients * variance),
    }
    shapiro = stats.shapiro(residual) if n <= MOST_FOR_SHAPIRO else (np.nan, np.nan)
    squares = residual**2
    unexplained = least_squares(squares, x)[1]
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


def design_matrix(
    outcome: pd.Series | np.ndarray, covariates: pd.DataFrame
) -> tuple[np.ndarray, np.ndarray, list[str], pd.Series]:
    """Check outcome and covariates of a regression and return its design matrix.

    Parameters
    ----------
    outcome, covariates
        See `ols`.

    Returns
    -------
    y : ndarray, shape (n_complete,)
        Outcome of the complete rows.
    x : ndarray, shape (n_complete, 1 + p)
        Design matrix of the complete rows, the intercept first.
    names : list of str
        Names of its columns.
    is_complete : Series of bool, shape (n,)
        Rows without missing values.

    Raises
    ------
    ValueError
        See `ols`.
    """
    if isinstance(outcome, pd.Series) and not outcome.index.equals(covariates.index):
        raise ValueError("outcome and covariates have different indices: align them first")
    if len(outcome) != len(covariates):
        raise ValueError(
            f"{len(outcome)} outcomes and {len(covariates)} rows of covariates: their numbers must "
            "be equal"
        )
    names = ["intercept", *map(str, covariates.columns)]
    if len(set(names)) < len(names):
        raise ValueError(f"names must differ, and 'intercept' is reserved: {', '.join(names[1:])}")
    y = pd.Series(outcome).to_numpy(float, na_value=np.nan)
    x = np.column_stack([np.ones(len(y)), *(numbers(column) for _, column in covariates.items())])
    is_infinite = np.isinf(np.column_stack([y, x[:, 1:]])).any(axis=0)
    if is_infinite.any():
        infinite = np.array(["outcome", *names[1:]])[is_infinite]
        raise ValueError(f"infinite values in {', '.join(infinite)}: transform or correct them")
    is_complete = pd.Series(np.isfinite(y) & np.isfinite(x).all(axis=1), index=covariates.index)
    y = y[is_complete]
    x = x[is_complete]
    if y.size <= len(names):
        raise ValueError(
            f"rows with every value: {y.size}, too few for {len(names)} coefficients "
            f"({', '.join(names)})"
        )
    _check_columns(x[:, 1:], names[1:])
    return y, x, names, is_complete


def numbers(column: pd.Series) -> np.ndarray:
    """Convert a column to an array of floats, or raise a ValueError if it is not numeric."""
    if not pd.api.types.is_numeric_dtype(column):  # booleans are numeric
        raise ValueError(
            f"{column.name} is not numeric ({column.dtype}): use numbers, and code categories as "
            "numbers"
        )
    return column.to_numpy(float, na_value=np.nan)


def _check_columns(x, names):
    """Refuse constant and collinear covariates."""
    centred = x - x.mean(axis=0)
    size = np.linalg.norm(centred, axis=0)
    constant = size <= 1e-12 * np.linalg.norm(x, axis=0)
    if constant.any():
        raise ValueError(
            f"constant in the rows used: {', '.join(np.array(names)[constant])}; leave it out"
        )
    if not names:
        return
    # Each vanishing singular value is a linear dependence of the covariates in its singular vector.
    _, strengths, dependences = np.linalg.svd(centred / size, full_matrices=False)
    is_involved = (np.abs(dependences[strengths < 1e-9]) > 1e-6).any(axis=0)
    if is_involved.any():
        raise ValueError(
            f"collinear: {', '.join(np.array(names)[is_involved])}; leave one of them out"
        )


def least_squares(
    y: np.ndarray, x: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return coefficients, residuals, and Q and R of the design X = QR."""
    q, r = np.linalg.qr(x)
    beta = linalg.solve_triangular(r, q.T @ y)
    return beta, y - x @ beta, q, r


def inverse_gram(r: np.ndarray) -> np.ndarray:
    """Return (XᵀX)⁻¹ from the R of X = QR."""
    inverse = linalg.solve_triangular(r, np.eye(len(r)))
    return inverse @ inverse.T


def _variance_inflation(x):
    """Return the diagonal of the inverse of the covariates' correlation matrix."""
    centred = x - x.mean(axis=0)
    _, r = np.linalg.qr(centred / np.linalg.norm(centred, axis=0))
    return np.diag(inverse_gram(r))


def inference(
    names: Sequence[str], beta: np.ndarray, covariance: np.ndarray, df: int
) -> pd.DataFrame:
    """Return standard errors, t statistics, P values and confidence limits of coefficients."""
    se = np.sqrt(np.diag(covariance))
    with np.errstate(divide="ignore", invalid="ignore"):  # t of a perfect fit is infinite or NaN
        t = beta / se
    half_width = stats.t.isf(0.025, df) * se
    columns = {
        "coefficient": beta,
        "se": se,
        "t": t,
        "p": 2 * stats.t.sf(np.abs(t), df),
        "ci_low": beta - half_width,
        "ci_high": beta + half_width,
    }
    return pd.DataFrame(columns, index=names)
