"""Components of variance: the variation due to subjects, sites, sessions and scans."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import optimize, stats

from .reproducibility import roi_values

COMPONENTS = ("subject", "site", "run", "subject_site", "residual")
_NEGLIGIBLE = 1e-10  # fraction of the total variance below which a component is zero
_CONVERGED = 1e-12  # expected decrease of the deviance at which the fit stops
_MOST_STEPS = 200
_TOO_FEW_SCANS = "there are too few scans to separate its components of variance"


def variance_components(
    table: pd.DataFrame, *, exclude_rois: Sequence[str] = (), confidence: float = 0.95
) -> pd.DataFrame:
    r"""Estimate components of variance by restricted maximum likelihood (REML).

    The model of an ROI's value in scan i of subject s at site a is

        y[s,a,i] = μ + subject[s] + site[a] + run[i] + subject_site[s,a] + residual[s,a,i]

    with independent normal effects of mean zero:

    * subject: true differences between people.
    * site: offsets of sites shared by all subjects.
    * run: the effect of a scan's position in its session (column `scan`) that is common to all
      subjects and sites, such as warming up. Usually near zero.
    * subject_site: deviation of a subject's mean at a site from the sum of both effects. With one
      session per subject and site it includes the variation from session to session, which such
      data cannot separate.
    * residual: variation between scans of one session, after the effect of their position.

    Components are not negative: where the best fit would be below zero, the estimate is 0, with its
    upper limit.

    The intervals come from the profile of the restricted likelihood: they contain the values that a
    likelihood ratio test (χ² with one degree of freedom) does not reject. They are valid for
    balanced and unbalanced data, stay within the range of a variance, and cover close to their
    nominal level with few levels: 93 % instead of 95 % for a mean square of two degrees of freedom,
    such as that of three sites. Three sites say little about the variance of all sites, so the
    upper limit is several times the estimate.

    Parameters
    ----------
    table : DataFrame
        Long ROI table, see `reproducibility.roi_values`. Scans may be missing.
    exclude_rois : sequence of str
        ROIs to leave out in addition to the reference.
    confidence : float
        Confidence of the intervals.

    Returns
    -------
    DataFrame
        One row per method, ROI and component:

        * method, roi, component
        * variance, ci_low, ci_high: ppb²
        * sd, sd_low, sd_high: their square roots, ppb
        * percent_of_variance: percent of the sum of all components
        * n_levels: number of subjects, sites, scan indices, subject × site cells, or scans
        * n_scans: scans with a value

        A component with fewer than two levels, or that the design confounds with another, is not in
        the model and NaN. With one site, subject_site is part of subject; with one scan per subject
        and site, subject_site and run are part of residual.

    Raises
    ------
    ValueError
        If an ROI has too few scans for the components of its design, or its values are all equal.
        See also `reproducibility.roi_values`.

    References
    ----------
    Patterson and Thompson, Biometrika 58:545-554 (1971); Searle, Casella and McCulloch, Variance
    Components (1992), chapter 6; Lindstrom and Bates, J Am Stat Assoc 83:1014-1022 (1988), eq.
    2.9-2.12 (the form of the likelihood).
    """
    rows = []
    values = roi_values(table, exclude_rois=exclude_rois)
    for (method, roi), group in values.groupby(["method", "roi"], sort=False):
        measured = group.dropna(subset=["mean"])
        levels = _levels(measured)
        n_levels = {name: int(level.max()) + 1 for name, level in levels.items()}
        n_levels["residual"] = len(measured)
        names = _in_model(n_levels)
        try:
            model = _Likelihood(
                1000 * measured["mean"].to_numpy(np.float64), [levels[name] for name in names[:-1]]
            )
        except ValueError as error:
            raise ValueError(f"{roi} ({method}): {error}") from None
        estimates = model.fit()
        limits = dict.fromkeys(COMPONENTS, (np.nan, np.nan, np.nan))
        for k, name in enumerate(names):
            limits[name] = (estimates[k], *model.interval(estimates, k, confidence))
        for name in COMPONENTS:
            variance, low, high = model.scale**2 * np.array(limits[name])
            rows.append(
                {
                    "method": method,
                    "roi": roi,
                    "component": name,
                    "variance": variance,
                    "ci_low": low,
                    "ci_high": high,
                    "sd": np.sqrt(variance),
                    "sd_low": np.sqrt(low),
                    "sd_high": np.sqrt(high),
                    "percent_of_variance": 100 * variance / (model.scale**2 * estimates.sum()),
                    "n_levels": n_levels[name],
                    "n_scans": len(measured),
                }
            )
    return pd.DataFrame(rows)


def _levels(measured):
    """Number the levels of every component but the residual."""
    return {
        "subject": measured.groupby("subject").ngroup().to_numpy(),
        "site": measured.groupby("site").ngroup().to_numpy(),
        "run": measured.groupby("scan").ngroup().to_numpy(),
        "subject_site": measured.groupby(["subject", "site"]).ngroup().to_numpy(),
    }


def _in_model(n_levels):
    """List the components that the design does not confound."""
    is_repeated = n_levels["subject_site"] < n_levels["residual"]
    names = []
    if n_levels["subject"] > 1:
        names.append("subject")
    if n_levels["site"] > 1:
        names.append("site")
    if n_levels["run"] > 1 and is_repeated:
        names.append("run")
    if min(n_levels["subject"], n_levels["site"]) > 1 and is_repeated:
        names.append("subject_site")
    return [*names, "residual"]


class _Likelihood:
    """Restricted likelihood of y = μ + Σ Z_k u_k + e, u_k ~ N(0, v_k I), e ~ N(0, v_e I).

    y is scaled to unit SD. The data enter only by the cross products of Z = [Z_1 Z_2 …], the
    intercept and y, so an evaluation costs the cube of the number of levels, whatever the number of
    scans.
    """

    def __init__(self, y: np.ndarray, factors: Sequence[np.ndarray]) -> None:
        if y.size < 2:
            raise ValueError("there is only one scan: there is no variance to decompose")
        if np.ptp(y) <= 1e-9 * np.abs(y).max():
            raise ValueError("all its values are equal: there is no variance to decompose")
        self.scale = y.std(ddof=1)
        self._n = y.size
        indicators = [factor[:, None] == np.arange(factor.max() + 1) for factor in factors]
        component = np.repeat(np.arange(len(factors)), [z.shape[1] for z in indicators])
        # levels × components: 1 where a level belongs to a component
        self._member = (component[:, None] == np.arange(len(factors))).astype(np.float64)
        columns = [*indicators, np.ones(y.size), (y - y.mean()) / self.scale]
        data = np.column_stack(columns).astype(np.float64)
        if np.linalg.matrix_rank(data[:, :-1]) == y.size:
            raise ValueError(_TOO_FEW_SCANS)
        self._products = data.T @ data

    def fit(self) -> np.ndarray:
        """Return the components that maximise the likelihood, the residual last."""
        start = np.maximum(self._moment_estimates(), 0.0)
        start[-1] = max(start[-1], 1e-3)
        best, _ = self._maximise(start)
        best[best < _NEGLIGIBLE * best.sum()] = 0.0
        return best

    def interval(self, estimates: np.ndarray, k: int, confidence: float) -> tuple[float, float]:
        """Return the limits of the profile interval of component k."""
        lowest = self._evaluate(estimates)[0]
        limit = lowest + stats.chi2.ppf(confidence, 1)
        start = estimates.copy()

        def excess(variance: float) -> float:
            """Return the profile deviance at a variance of component k, minus the limit."""
            nonlocal start
            start[k] = variance
            start, deviance = self._maximise(start, fixed=k)
            return deviance - limit

        def log_excess(log: float) -> float:
            return excess(np.exp(log))

        def crossing(inside: float, outside: float) -> float:
            """Return the variance at which the profile deviance reaches the limit."""
            ends = np.log([inside, outside])
            return np.exp(optimize.brentq(log_excess, *ends, xtol=1e-4))

        floor = _NEGLIGIBLE * estimates.sum()
        inside = max(estimates[k], floor)
        low = 0.0 if excess(floor) <= 0 else crossing(inside, floor)
        start = estimates.copy()
        outside = max(2 * inside, 1e-3 * estimates.sum())
        while excess(outside) <= 0:
            outside *= 4
        return low, crossing(inside, outside)

    def _maximise(self, start, fixed=None):
        """Maximise the likelihood by Fisher scoring.

        Each step minimises the quadratic model among components that are not negative. A component
        `fixed` keeps its value.
        """
        x = start.copy()
        free = np.arange(start.size) != fixed
        deviance, gradient, curvature = self._evaluate(x)
        for _ in range(_MOST_STEPS):
            factor = np.linalg.cholesky(curvature[np.ix_(free, free)])
            target = factor.T @ x[free] - np.linalg.solve(factor, gradient[free])
            step = np.zeros_like(x)
            step[free] = optimize.nnls(factor.T, target)[0] - x[free]
            descent = -gradient @ step
            if descent < _CONVERGED:
                break
            length = min(1.0, 0.9 * x[-1] / max(-step[-1], 1e-300))  # the residual stays positive
            trial = self._evaluate(x + length * step)
            while trial[0] > deviance - 1e-4 * length * descent:  # Armijo's condition
                length /= 2
                if length < 1e-8:
                    return x, deviance  # double precision allows no further progress
                trial = self._evaluate(x + length * step)
            x = x + length * step
            deviance, gradient, curvature = trial
        return x, deviance

    def _moment_estimates(self):
        """Return moment estimates by MINQUE(0), a single step from all components at zero.

        For balanced data these are the estimates of the ANOVA.
        """
        none = np.append(np.zeros(self._member.shape[1]), 1.0)
        _, gradient, curvature = self._evaluate(none)
        if np.linalg.matrix_rank(curvature, tol=1e-9 * self._n**2) < none.size:
            raise ValueError(_TOO_FEW_SCANS)
        return none - np.linalg.solve(curvature, gradient)

    def _project(self, ratios):
        """Return [Z y]ᵀ P [Z y], log |V| and log |XᵀV⁻¹X| for a residual variance of 1.

        `ratios` are those of the other components to the residual variance.
        """
        root = np.sqrt(self._member @ ratios)
        q = root.size
        inner = np.eye(q) + root[:, None] * self._products[:q, :q] * root
        scaled = root[:, None] * self._products[:q]
        # [Z 1 y]ᵀ V⁻¹ [Z 1 y]. Not by triangular solves: they use threads, which at this size cost
        # far more than they save.
        weighted = self._products - scaled.T @ np.linalg.solve(inner, scaled)
        intercept = weighted[q]
        precision = weighted[q, q]
        keep = np.arange(q + 2) != q
        projected = (weighted - np.outer(intercept, intercept) / precision)[np.ix_(keep, keep)]
        return projected, np.linalg.slogdet(inner)[1], np.log(precision)

    def _evaluate(self, components):
        """Return the deviance -2 log L up to a constant, its gradient and expected Hessian."""
        v = components[:-1]
        residual = components[-1]
        projected, log_v, log_precision = self._project(v / residual)
        df = self._n - 1
        square = projected[-1, -1] / residual
        deviance = df * np.log(residual) + log_v + log_precision + square
        inner = projected[:-1, :-1]
        last = projected[:-1, -1]
        trace = self._sum_levels(np.diag(inner)) / residual  # tr P V_k
        power = self._sum_levels(last**2) / residual**2  # yᵀ P V_k P y
        between = self._sum_levels(self._sum_levels(inner**2).T) / residual**2  # tr P V_k P V_l
        # P V P = P gives the derivatives by the residual variance: those by all components,
        # weighted with the components, add up to a known total.
        own_trace = (df - v @ trace) / residual
        own_power = (square - v @ power) / residual
        across = (trace - between @ v) / residual
        own = (own_trace - v @ across) / residual
        curvature = np.block([[between, across[:, None]], [across, own]])
        return deviance, np.append(trace - power, own_trace - own_power), curvature

    def _sum_levels(self, x):
        """Sum over the levels of each component."""
        return self._member.T @ x
