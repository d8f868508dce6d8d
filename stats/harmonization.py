"""Harmonisation: removal of site effects from ROI values, and its benefit."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from .reproducibility import imprecision, require_columns, roi_values, within_subject_sd

_FEWEST_SUBJECTS = 3  # per site; a shift and a scale fit any two values exactly
_ROUNDING = 1e-9  # fraction of the largest value below which a residual is a rounding error


@dataclass(frozen=True)
class _Samples:
    """Means (ppm) of each subject at each site (rows) in every ROI (columns).

    Subjects and sites are numbers; covariates are centred.
    """

    values: np.ndarray
    subject: np.ndarray
    site: np.ndarray
    covariates: np.ndarray

    def at(self, rows: np.ndarray) -> "_Samples":
        """Return the samples of some rows."""
        return _Samples(
            self.values[rows], self.subject[rows], self.site[rows], self.covariates[rows]
        )


@dataclass(frozen=True)
class _SiteModel:
    """y = center + x slopes + shift[site] + scale[site] · residual, for every ROI (last axis)."""

    center: np.ndarray
    slopes: np.ndarray
    shift: np.ndarray
    scale: np.ndarray
    n_subjects: np.ndarray  # sites × ROIs

    def harmonise(
        self, y: np.ndarray, site: np.ndarray, roi: np.ndarray, covariates: np.ndarray
    ) -> np.ndarray:
        """Return values without the shift and scale of their site."""
        level = self.center[roi] + np.sum(covariates * self.slopes[:, roi].T, axis=1)
        return level + (y - level - self.shift[site, roi]) / self.scale[site, roi]


def shift_and_scale(
    table: pd.DataFrame,
    *,
    covariates: Sequence[str] = (),
    leave_one_out: bool = False,
    exclude_rois: Sequence[str] = (),
) -> pd.DataFrame:
    """Bring every site to the pooled mean and spread, ROI by ROI.

    A site's shift is its mean minus the pooled mean; its scale is the spread of its subjects
    relative to the pooled spread (root mean square). Both are estimated from the means of the
    subjects' scans at each site:

    * without covariates, from the subjects scanned at all sites (travelling subjects), who are the
      same people everywhere. The other subjects' scans are harmonised by these estimates.
    * with covariates, from all subjects, by a linear model of site and covariates, y = site + x β +
      error, for data where sites scanned different people. It removes everything that differs
      between sites beyond the covariates, including true differences between their people.

    A scale estimated from few subjects is itself uncertain: by about 25 % if each site scanned nine
    different people, and by less if they are the same people.

    Parameters
    ----------
    table : DataFrame
        Long ROI table, see `reproducibility.roi_values`, with a column per covariate.
    covariates : sequence of str
        Columns with properties of the subjects, numbers or categories, for instance age and sex.
    leave_one_out : bool
        Harmonise each subject by site effects that are estimated from all other subjects. Needed
        for an unbiased measure of the benefit of harmonisation: sites agree by construction in the
        scans that their effects are estimated from.
    exclude_rois : sequence of str
        ROIs to leave out in addition to the reference.

    Returns
    -------
    DataFrame
        The table without excluded ROIs, `mean` harmonised. Columns that are not harmonised (sd,
        median and se) are left out.

    Raises
    ------
    ValueError
        If a site has fewer than three subjects to estimate from (not counting the one left out) or
        all its subjects have the same value, a covariate is missing or differs within a subject, or
        site and covariates are collinear.

    Examples
    --------
    Site B measures 0.01 ppm more than site A.

    >>> table = pd.DataFrame({"subject": list("112233"), "site": list("ABABAB")})
    >>> table["mean"] = [0.040, 0.050, 0.050, 0.060, 0.060, 0.070]
    >>> table = table.assign(scan=1, method="medi", roi="putamen")
    >>> shift_and_scale(table)["mean"].round(3).tolist()
    [0.045, 0.045, 0.055, 0.055, 0.065, 0.065]
    """
    return _harmonise(table, _shift_and_scale_model, covariates, leave_one_out, exclude_rois)


def combat(
    table: pd.DataFrame,
    *,
    covariates: Sequence[str] = (),
    leave_one_out: bool = False,
    exclude_rois: Sequence[str] = (),
) -> pd.DataFrame:
    """Harmonise by ComBat: empirical Bayes over ROIs, with parametric priors.

    Like `shift_and_scale` with all subjects, but each site's shifts (in units of the residual SD)
    and squared scales are shrunk towards those of its other ROIs. This helps with many ROIs that a
    site affects alike; two or three say little about the priors. The effects are estimated for each
    method from the subjects' means at each site, where all ROIs are measured. They are treated as
    independent, which the means of one person at several sites are not: true differences between
    people that no covariate explains count as noise, and effects are shrunk more than necessary.

    Parameters
    ----------
    table, covariates, leave_one_out, exclude_rois
        See `shift_and_scale`.

    Returns
    -------
    DataFrame
        The table without excluded ROIs, `mean` harmonised. Columns that are not harmonised (sd,
        median and se) are left out.

    Raises
    ------
    ValueError
        If there are fewer than two ROIs; see also `shift_and_scale`.

    References
    ----------
    Johnson et al., Biostatistics 8:118-127 (2007), section 3.2;
    Fortin et al., NeuroImage 167:104-120 (2018), section 2.4.
    """
    return _harmonise(table, _combat_model, covariates, leave_one_out, exclude_rois)


def site_effects(
    table: pd.DataFrame,
    *,
    model: str = "shift_and_scale",
    covariates: Sequence[str] = (),
    exclude_rois: Sequence[str] = (),
) -> pd.DataFrame:
    """Return the shift and scale of every site that harmonisation removes.

    Parameters
    ----------
    table, covariates, exclude_rois
        See `shift_and_scale`.
    model : {'shift_and_scale', 'combat'}
        Harmonisation method.

    Returns
    -------
    DataFrame
        One row per method, ROI and site:

        * method, roi, site
        * shift (ppb), scale (relative)
        * n_subjects: subjects from whom they are estimated
        * n_left_out: other subjects of the site

    Raises
    ------
    ValueError
        If the model is unknown; see also `shift_and_scale` and `combat`.
    """
    fits = {"shift_and_scale": _shift_and_scale_model, "combat": _combat_model}
    if model not in fits:
        raise ValueError(f"model {model!r} is unknown: choose one of {', '.join(fits)}")
    rows = []
    values = roi_values(table, exclude_rois=exclude_rois)
    for method, _, samples, labels in _each_method(values, covariates):
        effects = _fit(fits[model], samples, labels)
        is_measured = np.isfinite(samples.values)
        for r, roi in enumerate(labels["roi"]):
            for s, site in enumerate(labels["site"]):
                n = int(effects.n_subjects[s, r])
                rows.append(
                    {
                        "method": method,
                        "roi": roi,
                        "site": site,
                        "shift": 1000 * effects.shift[s, r],
                        "scale": effects.scale[s, r],
                        "n_subjects": n,
                        "n_left_out": int(is_measured[samples.site == s, r].sum()) - n,
                    }
                )
    return pd.DataFrame(rows)


def harmonization_effect(
    before: pd.DataFrame, after: pd.DataFrame, *, exclude_rois: Sequence[str] = ()
) -> pd.DataFrame:
    """Compare variation between scans and sites before and after harmonisation.

    The comparison is unbiased only if no subject was harmonised by effects estimated from their own
    scans: harmonise with ``leave_one_out=True``. The variation between subjects is reported too,
    because a harmonisation that shrinks all values gains nothing.

    Parameters
    ----------
    before, after : DataFrame
        Long ROI tables of the same scans, see `reproducibility.roi_values`.
    exclude_rois : sequence of str
        ROIs to leave out in addition to the reference.

    Returns
    -------
    DataFrame
        One row per method, ROI and measure: method, roi, measure, before, after (ppb) and ratio
        (after / before). Measures are

        * within_site, all_scans, site_means: the definitions of `reproducibility.within_subject_sd`
        * within, cross: mean imprecision over subjects, see `reproducibility.imprecision`
        * between_subjects: standard deviation of the subjects' means

    Raises
    ------
    ValueError
        If the tables do not have the same scans. See also `reproducibility.roi_values`.
    """
    if not _measured_scans(before, exclude_rois).equals(_measured_scans(after, exclude_rois)):
        raise ValueError("the tables before and after must have the same scans, methods and ROIs")
    effect = _measures(before, exclude_rois).rename(columns={"value": "before"})
    harmonised = _measures(after, exclude_rois).rename(columns={"value": "after"})
    names = ["method", "roi", "measure"]
    effect = effect.merge(harmonised, on=names, how="left", validate="one_to_one")
    return effect.assign(ratio=effect["after"] / effect["before"].where(effect["before"] > 0))


def _measured_scans(table, exclude_rois):
    """Return the sorted labels of all values in a table."""
    measured = roi_values(table, exclude_rois=exclude_rois).dropna(subset=["mean"])
    return measured.set_index(["subject", "site", "scan", "method", "roi"]).index.sort_values()


def _measures(table, exclude_rois):
    """Return the measures (ppb) of `harmonization_effect` for one table, in column value."""
    sdw = within_subject_sd(table, exclude_rois=exclude_rois).rename(
        columns={"definition": "measure", "sdw": "value"}
    )
    grouped = imprecision(table, exclude_rois=exclude_rois).groupby(["method", "roi"], sort=False)
    means = 1000 * grouped[["within", "cross"]].mean().assign(
        between_subjects=grouped["mean"].std(ddof=1)
    )
    means = means.reset_index().melt(["method", "roi"], var_name="measure")
    return pd.concat([sdw, means], ignore_index=True)[["method", "roi", "measure", "value"]]


def _harmonise(table, fit, covariates, leave_one_out, exclude_rois):
    """Harmonise by a model that `fit` estimates from samples."""
    rows = roi_values(table, exclude_rois=exclude_rois).drop(
        columns=["sd", "median", "se", "se_noise", "se_systematic"], errors="ignore"
    )
    harmonised = np.full(len(rows), np.nan)
    for _, positions, samples, labels in _each_method(rows, covariates):
        group = rows.iloc[positions]
        subject = pd.Index(labels["subject"]).get_indexer(group["subject"])
        site = pd.Index(labels["site"]).get_indexer(group["site"])
        roi = pd.Index(labels["roi"]).get_indexer(group["roi"])
        x = samples.covariates[_first_of(subject, samples.subject)]
        y = group["mean"].to_numpy(np.float64)
        values = np.empty(positions.size)
        if not leave_one_out:
            model = _fit(fit, samples, labels)
        for number in np.unique(subject):
            own = subject == number
            if leave_one_out:
                model = _fit(fit, samples.at(samples.subject != number), labels)
            values[own] = model.harmonise(y[own], site[own], roi[own], x[own])
        harmonised[positions] = values
    return rows.assign(mean=harmonised)


def _first_of(subjects, sampled):
    """Return the first position of each of some subjects among the samples' subjects."""
    unique, first = np.unique(sampled, return_index=True)
    return first[np.searchsorted(unique, subjects)]


def _each_method(rows, covariates):
    """Yield each method, the positions of its rows, its samples and their labels.

    The labels of subjects, sites and ROIs are in the order of their numbers in the samples.
    """
    people = _covariates(rows, covariates)
    for method in rows["method"].unique():
        positions = np.flatnonzero(rows["method"] == method)
        group = rows.iloc[positions]
        cells = group.groupby(["subject", "site", "roi"])["mean"].mean().unstack("roi")
        cells = cells.reindex(columns=group["roi"].unique())
        subject, subjects = pd.factorize(cells.index.get_level_values("subject"))
        site, sites = pd.factorize(cells.index.get_level_values("site"), sort=True)
        x = people.loc[subjects].to_numpy(np.float64)[subject]
        samples = _Samples(cells.to_numpy(np.float64), subject, site, x - x.mean(axis=0))
        labels = {"subject": subjects, "site": sites, "roi": cells.columns}
        yield method, positions, samples, labels


def _covariates(rows, names):
    """Return the covariates of every subject; categories as indicators of all but one level."""
    names = list(names)
    require_columns(rows, names)
    for name in names:
        if rows[name].isna().any():
            raise ValueError(
                f"covariate {name} is missing for some subjects: add it, or leave them out"
            )
        if (rows.groupby("subject")[name].nunique() > 1).any():
            raise ValueError(f"covariate {name} must be the same in all rows of a subject")
    first = rows.drop_duplicates("subject").set_index("subject")[names]
    return pd.get_dummies(first, drop_first=True, dtype=float) if names else first


def _fit(fit, samples, labels):
    """Estimate a site model, and refuse one that rests on too few subjects or equal values."""
    model = fit(samples, len(labels["site"]))
    few = np.argwhere(model.n_subjects < _FEWEST_SUBJECTS)
    if few.size:
        site = labels["site"][few[0, 0]]
        roi = labels["roi"][few[0, 1]]
        n_subjects = int(model.n_subjects[tuple(few[0])])
        raise ValueError(
            f"site {site} has {n_subjects} subject{'s' * (n_subjects != 1)} to estimate its shift "
            f"and scale of {roi} from; {_FEWEST_SUBJECTS} or more are needed"
        )
    if not (np.isfinite(model.scale) & (model.scale > 0)).all():
        raise ValueError("a site has the same value in all subjects: it has no scale to estimate")
    return model


def _linear_model(samples, n_sites):
    """Fit y = site + x β to ROIs without missing values.

    Returns pooled level, slopes, shifts, residuals and the number of samples of each site.
    """
    indicators = (samples.site[:, None] == np.arange(n_sites)).astype(np.float64)
    design = np.hstack([indicators, samples.covariates])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise ValueError(
            "sites and covariates are collinear, or a site has no subject to estimate from: leave "
            "out a covariate or the site"
        )
    beta = np.linalg.lstsq(design, samples.values, rcond=None)[0]
    residual = samples.values - design @ beta
    residual[np.abs(residual) <= _ROUNDING * np.abs(samples.values).max(axis=0)] = 0.0
    counts = indicators.sum(axis=0)
    center = counts @ beta[:n_sites] / counts.sum()
    return center, beta[n_sites:], beta[:n_sites] - center, residual, counts


def _shift_and_scale_model(samples, n_sites):
    """Estimate shift and scale of each ROI separately."""
    models = [_roi_model(samples, r, n_sites) for r in range(samples.values.shape[1])]
    return _SiteModel(
        center=np.concatenate([model.center for model in models], axis=-1),
        slopes=np.concatenate([model.slopes for model in models], axis=-1),
        shift=np.concatenate([model.shift for model in models], axis=-1),
        scale=np.concatenate([model.scale for model in models], axis=-1),
        n_subjects=np.concatenate([model.n_subjects for model in models], axis=-1),
    )


def _roi_model(samples, r, n_sites):
    """Estimate shift and scale of ROI number `r`."""
    samples = samples.at(np.isfinite(samples.values[:, r]))
    samples = replace(samples, values=samples.values[:, [r]])
    n_covariates = samples.covariates.shape[1]
    if not n_covariates:
        n_visited = np.bincount(samples.subject)
        samples = samples.at(n_visited[samples.subject] == n_sites)
    counts = np.bincount(samples.site, minlength=n_sites)
    if counts.min() < _FEWEST_SUBJECTS:
        return _empty_model(counts[:, None], n_covariates)
    center, slopes, shift, residual, counts = _linear_model(samples, n_sites)
    squares = np.stack([np.mean(residual[samples.site == s] ** 2, axis=0) for s in range(n_sites)])
    pooled = np.mean(residual**2, axis=0)
    with np.errstate(invalid="ignore"):
        scale = np.sqrt(squares / pooled)
    return _SiteModel(center, slopes, shift, scale, counts[:, None].astype(int))


def _empty_model(n_subjects, n_covariates):
    """Return a model without estimates. `_fit` refuses it with the names of site and ROI."""
    n_rois = n_subjects.shape[1]
    empty = np.full(n_subjects.shape, np.nan)
    return _SiteModel(np.zeros(n_rois), np.zeros((n_covariates, n_rois)), empty, empty, n_subjects)


def _combat_model(samples, n_sites):
    """Estimate shifts and scales of all ROIs with common priors."""
    n_rois = samples.values.shape[1]
    if n_rois < 2:
        raise ValueError(
            "ComBat estimates its priors over ROIs and needs two or more: use shift_and_scale for "
            "one"
        )
    complete = samples.at(np.isfinite(samples.values).all(axis=1))
    counts = np.bincount(complete.site, minlength=n_sites)
    n_subjects = np.broadcast_to(counts[:, None], (n_sites, n_rois))
    if counts.min() < _FEWEST_SUBJECTS:
        return _empty_model(n_subjects, complete.covariates.shape[1])
    center, slopes, _, residual, _ = _linear_model(complete, n_sites)
    sd = np.sqrt(np.mean(residual**2, axis=0))
    if not (sd > 0).all():
        raise ValueError("an ROI has the same value in all subjects: it has no scale to estimate")
    z = (complete.values - center - complete.covariates @ slopes) / sd
    shift = np.empty((n_sites, n_rois))
    scale = np.empty((n_sites, n_rois))
    for s in range(n_sites):
        gamma, delta_squared = _shrink(z[complete.site == s])
        shift[s] = gamma * sd
        scale[s] = np.sqrt(delta_squared)
    return _SiteModel(center, slopes, shift, scale, n_subjects)


def _shrink(z):
    """Estimate a site's shifts and squared scales by empirical Bayes.

    `z` has the site's samples in rows and ROIs in columns (Johnson 2007, section 3.2).
    """
    n = len(z)
    shift = z.mean(axis=0)
    square = z.var(axis=0, ddof=1)
    shift_prior = shift.mean()
    shift_spread = shift.var(ddof=1)
    # The prior of the squared scales is an inverse gamma distribution with these moments.
    mean = square.mean()
    spread = square.var(ddof=1)
    shape = 2 + mean**2 / spread
    rate = mean + mean**3 / spread
    gamma = shift
    delta = square
    for _ in range(10_000):
        previous_gamma = gamma
        previous_delta = delta
        gamma = (n * shift_spread * shift + delta * shift_prior) / (n * shift_spread + delta)
        delta = (rate + 0.5 * np.sum((z - gamma) ** 2, axis=0)) / (n / 2 + shape - 1)
        has_converged = np.allclose(gamma, previous_gamma, rtol=1e-10, atol=1e-12)
        if has_converged and np.allclose(delta, previous_delta, rtol=1e-10):
            break
    return gamma, delta
