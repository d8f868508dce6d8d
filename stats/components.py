"""Components of variance: how much of the variation is the subject's, the site's, the session's and
the scan's.
"""

import numpy as np
import pandas as pd
from scipy import optimize, stats

from .reproducibility import roi_values

COMPONENTS = ("subject", "site", "run", "subject_site", "residual")
_NEGLIGIBLE = 1e-10  # of the total variance: a component this small is zero
_CONVERGED = 1e-12  # of the deviance
_MOST_STEPS = 200


def variance_components(table, *, exclude_rois=(), confidence=0.95):
    r"""Components of variance by restricted maximum likelihood (REML).

    The model of an ROI's value in scan i of subject s at site a is

        y[s,a,i] = μ + subject[s] + site[a] + run[i] + subject_site[s,a] + residual[s,a,i]

    with independent normal effects of mean zero:

    * subject: true differences between people.
    * site: offsets of sites shared by all subjects.
    * run: what the position of a scan in its session (column `scan`) does in all subjects and sites
      alike, warming up for instance. Usually near zero.
    * subject_site: how a subject's mean at a site departs from both. With one session per subject
      and site it holds the variation from session to session too; the data cannot tell them apart.
    * residual: scans of one session, after the effect of their position.

    Components are not negative: one that would fit best below zero is given as 0, with its upper
    limit.

    The intervals come from the profile of the restricted likelihood, the set of values that a
    likelihood ratio test (χ² with one degree of freedom) does not reject. It holds for unbalanced
    data as well as for balanced, never leaves the range of a variance, and stays near its nominal
    level with few levels: 93 % instead of 95 % for a mean square of two degrees of freedom, such as
    that of three sites. Three sites know little of the variance of all sites, and the interval says
    so: its upper end lies several times above the estimate.

    Parameters
    ----------
    table : DataFrame
        Long ROI table, see `reproducibility.roi_values`. Missing scans are tolerated.
    exclude_rois : sequence of str
        ROIs to leave out beside the reference.
    confidence : float
        Confidence of the intervals.

    Returns
    -------
    DataFrame
        One row per method, ROI and component:

        * method, roi, component
        * variance, ci_low, ci_high: ppb²
        * sd, sd_low, sd_high: their square roots, ppb
        * share: percent of the sum of all components
        * n_levels: subjects, sites, scan indices, subject × site cells, or scans
        * n_scans: scans with a value

        A component without two levels, or that the design confounds with another, is not in the
        model and NaN: with one site subject_site is in subject; with one scan per subject and site
        it is in residual, and run too.

    Raises
    ------
    ValueError
        If an ROI has too few scans for the components of its design, or its values are all the
        same. See `reproducibility.roi_values` too.

    References
    ----------
    Patterson and Thompson, Biometrika 58:545-554 (1971); Searle, Casella and McCulloch, Variance
    Components (1992), chapter 6; Lindstrom and Bates, J Am Stat Assoc 83:1014-1022 (1988), eq.
    2.9-2.12 (the form of the likelihood).
    """
    found = []
    rows = roi_values(table, exclude_rois=exclude_rois)
    for (method, roi), group in rows.groupby(["method", "roi"], sort=False):
        known = group.dropna(subset=["mean"])
        levels = _levels(known)
        names = _in_model(levels, len(known))
        try:
            model = _Likelihood(
                1000 * known["mean"].to_numpy(np.float64), [levels[name] for name in names[:-1]]
            )
        except ValueError as error:
            raise ValueError(f"{roi} ({method}): {error}") from None
        estimates = model.fit()
        intervals = [model.interval(estimates, k, confidence) for k in range(len(names))]
        fitted = {name: (estimates[k], *intervals[k]) for k, name in enumerate(names)}
        for name in COMPONENTS:
            variance, low, high = model.scale**2 * np.array(fitted.get(name, [np.nan] * 3))
            found.append(
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
                    "share": 100 * variance / (model.scale**2 * estimates.sum()),
                    "n_levels": len(known) if name == "residual" else int(levels[name].max()) + 1,
                    "n_scans": len(known),
                }
            )
    return pd.DataFrame(found)


def _levels(known):
    """Number the levels of every component but the residual."""
    columns = {
        "subject": "subject",
        "site": "site",
        "run": "scan",
        "subject_site": ["subject", "site"],
    }
    return {name: known.groupby(column).ngroup().to_numpy() for name, column in columns.items()}


def _in_model(levels, n_scans):
    """Components that the design can tell apart."""
    n = {name: level.max() + 1 for name, level in levels.items()}
    repeated = n["subject_site"] < n_scans
    wanted = {
        "subject": n["subject"] > 1,
        "site": n["site"] > 1,
        "run": n["run"] > 1 and repeated,
        "subject_site": repeated and min(n["subject"], n["site"]) > 1,
        "residual": True,
    }
    return [name for name in COMPONENTS if wanted[name]]


class _Likelihood:
    """Restricted likelihood of y = μ + Σ Z_k u_k + e, u_k ~ N(0, v_k I), e ~ N(0, v_e I); y is
    scaled to unit SD.

    All it needs of the data are the cross products of Z = [Z_1 Z_2 …], the intercept and y, so an
    evaluation costs the number of levels cubed, whatever the number of scans.
    """

    def __init__(self, y, factors):
        if y.size < 2 or np.ptp(y) <= 1e-9 * np.abs(y).max():
            raise ValueError("its values are all the same, so there is no variance to take apart")
        self.scale = y.std(ddof=1)
        self._n = y.size
        owner = np.repeat(np.arange(len(factors)), [factor.max() + 1 for factor in factors])
        # levels × components
        self._member = (owner[:, None] == np.arange(len(factors))).astype(np.float64)
        indicators = [factor[:, None] == np.arange(factor.max() + 1) for factor in factors]
        known = np.column_stack([*indicators, np.ones(y.size), (y - y.mean()) / self.scale]).astype(
            np.float64
        )
        if np.linalg.matrix_rank(known[:, :-1]) == y.size:
            raise ValueError("there are too few scans to tell its components apart")
        self._products = known.T @ known

    def fit(self):
        """Components that maximise the likelihood, the residual last."""
        start = np.maximum(self._moment_estimates(), 0.0)
        start[-1] = max(start[-1], 1e-3)
        best, _ = self._maximise(start)
        best[best < _NEGLIGIBLE * best.sum()] = 0.0
        return best

    def interval(self, estimates, k, confidence):
        """Ends of the profile interval of component k."""
        lowest = self._evaluate(estimates)[0]
        limit = lowest + stats.chi2.ppf(confidence, 1)
        start = estimates.copy()

        def excess(variance):
            """How far the deviance, the other components at their best, is above the limit."""
            nonlocal start
            start[k] = variance
            start, deviance = self._maximise(start, fixed=k)
            return deviance - limit

        def crossing(inside, outside):
            return np.exp(
                optimize.brentq(
                    lambda log: excess(np.exp(log)), *np.log([inside, outside]), xtol=1e-4
                )
            )

        floor = _NEGLIGIBLE * estimates.sum()
        inside = max(estimates[k], floor)
        low = 0.0 if excess(floor) <= 0 else crossing(inside, floor)
        start = estimates.copy()
        outside = max(2 * inside, 1e-3 * estimates.sum())
        while excess(outside) <= 0:
            outside *= 4
        return low, crossing(inside, outside)

    def _maximise(self, start, fixed=None):
        """Fisher scoring; each step is the best of the quadratic model among components that are
        not negative.
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
            while (tried := self._evaluate(x + length * step))[
                0
            ] > deviance - 1e-4 * length * descent:
                length /= 2
                if length < 1e-8:
                    return x, deviance  # no more to gain in double precision
            x = x + length * step
            deviance, gradient, curvature = tried
        return x, deviance

    def _moment_estimates(self):
        """Moment estimates by MINQUE(0), one step from no component at all; for balanced data those
        of the ANOVA.
        """
        none = np.append(np.zeros(self._member.shape[1]), 1.0)
        _, gradient, curvature = self._evaluate(none)
        if np.linalg.matrix_rank(curvature, tol=1e-9 * self._n**2) < none.size:
            raise ValueError("there are too few scans to tell its components apart")
        return none - np.linalg.solve(curvature, gradient)

    def _project(self, ratios):
        """[Z y]ᵀ P [Z y] for residual variance 1 and the other components' ratios to it; log |V|
        and log |XᵀV⁻¹X|.
        """
        root = np.sqrt(self._member @ ratios)
        q = root.size
        inner = np.eye(q) + root[:, None] * self._products[:q, :q] * root
        scaled = root[:, None] * self._products[:q]
        # Not by triangular solves, which spread over threads that cost far more than they save at
        # this size.
        # [Z 1 y]ᵀ V⁻¹ [Z 1 y]
        weighted = self._products - scaled.T @ np.linalg.solve(inner, scaled)
        intercept = weighted[q]
        precision = weighted[q, q]
        keep = np.arange(q + 2) != q
        projected = (weighted - np.outer(intercept, intercept) / precision)[np.ix_(keep, keep)]
        return projected, np.linalg.slogdet(inner)[1], np.log(precision)

    def _evaluate(self, components):
        """Deviance -2 log L up to a constant, its gradient and its expected second derivatives."""
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
        # From P V P = P: the residual's share of each is what the other components leave.
        own_trace = (df - v @ trace) / residual
        own_power = (square - v @ power) / residual
        across = (trace - between @ v) / residual
        own = (own_trace - v @ across) / residual
        curvature = np.block([[between, across[:, None]], [across, own]])
        return deviance, np.append(trace - power, own_trace - own_power), curvature

    def _sum_levels(self, x):
        return self._member.T @ x
