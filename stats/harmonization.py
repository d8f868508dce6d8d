"""Harmonisation: taking away what a site adds to ROI values, and what that gains."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from .reproducibility import imprecision, require_columns, roi_values, within_subject_sd

_FEWEST_SUBJECTS = 3  # per site; two have a spread, but their two numbers fit any shift and scale
_ROUNDING = 1e-9  # of the largest value: what is left of equal values


@dataclass(frozen=True)
class _Samples:
    """Means per subject and site (rows) of every ROI (columns), in ppm; sites as numbers;
    covariates, centred.
    """

    values: np.ndarray
    subject: np.ndarray
    site: np.ndarray
    covariates: np.ndarray

    def at(self, keep):
        return _Samples(
            self.values[keep], self.subject[keep], self.site[keep], self.covariates[keep]
        )


@dataclass(frozen=True)
class _SiteModel:
    """y = center + x slopes + shift[site] + scale[site] (what is left), for every ROI (last
    axis).
    """

    center: np.ndarray
    slopes: np.ndarray
    shift: np.ndarray
    scale: np.ndarray
    n_subjects: np.ndarray  # sites × ROIs

    def harmonise(self, y, site, roi, covariates):
        level = self.center[roi] + np.sum(covariates * self.slopes[:, roi].T, axis=1)
        return level + (y - level - self.shift[site, roi]) / self.scale[site, roi]


def shift_and_scale(table, *, covariates=(), leave_one_out=False, exclude_rois=()):
    """Bring every site to the pooled mean and spread, ROI by ROI.

    A site's shift is its mean minus the pooled mean, its scale the spread of subjects there
    relative to the pooled spread (root mean square). Both come from the means of the subjects'
    scans at each site:

    * without covariates from the subjects scanned at all sites (travelling subjects), who are the
      same people everywhere. The other subjects' scans are harmonised with them.
    * with covariates from all subjects, by a linear model of site and covariates, y = site + x β +
      error, for data where sites scanned different people. It removes everything that differs
      between sites beyond the covariates, true differences between their people included.

    A scale from few subjects is itself uncertain, by about 25 % where nine different people make up
    a site's spread, and by less where the same people do.

    Parameters
    ----------
    table : DataFrame
        Long ROI table, see `reproducibility.roi_values`, with a column per covariate.
    covariates : sequence of str
        Columns with properties of the subjects, numbers or categories, for instance age and sex.
    leave_one_out : bool
        Harmonise each subject with what all others say of the sites. Needed for an honest measure
        of what harmonisation gains: sites that are estimated from a subject's own scans agree in
        them by construction.
    exclude_rois : sequence of str
        ROIs to leave out beside the reference.

    Returns
    -------
    DataFrame
        The table without excluded ROIs, `mean` harmonised. Columns sd and median, which are not,
        are left out.

    Raises
    ------
    ValueError
        If a site has fewer than three subjects to estimate from (not counting the one left out) or
        all with the same value, a covariate is missing or differs within a subject, or site and
        covariates cannot be told apart.
    """
    return _harmonise(table, _shift_and_scale_model, covariates, leave_one_out, exclude_rois)


def combat(table, *, covariates=(), leave_one_out=False, exclude_rois=()):
    """ComBat: shifts and scales of sites, drawn together over ROIs by empirical Bayes (parametric
    priors).

    As `shift_and_scale` with all subjects, but each site's shifts (in units of the residual SD) and
    squared scales are shrunk to what is common to its ROIs. This pays with many ROIs that a site
    affects alike; with two or three there is little to learn the priors from. Estimated per method
    from the subjects' means at each site, those that have all ROIs. It takes them as independent,
    which those of one person at several sites are not: their true differences, if no covariate
    explains them, count as noise and make it shrink more than needed.

    Parameters
    ----------
    table, covariates, leave_one_out, exclude_rois
        See `shift_and_scale`.

    Returns
    -------
    DataFrame
        The table without excluded ROIs, `mean` harmonised. Columns sd and median, which are not,
        are left out.

    Raises
    ------
    ValueError
        If there are fewer than two ROIs, or for the reasons that `shift_and_scale` has.

    References
    ----------
    Johnson et al., Biostatistics 8:118-127 (2007), section 3.2;
    Fortin et al., NeuroImage 167:104-120 (2018), section 2.4.
    """
    return _harmonise(table, _combat_model, covariates, leave_one_out, exclude_rois)


def site_effects(table, *, model="shift_and_scale", covariates=(), exclude_rois=()):
    """Shift and scale of every site that harmonisation takes away.

    Parameters
    ----------
    table, covariates, exclude_rois
        See `shift_and_scale`.
    model : {'shift_and_scale', 'combat'}
        Which harmonisation.

    Returns
    -------
    DataFrame
        One row per method, ROI and site: method, roi, site, shift (ppb), scale (relative),
        n_subjects (that they are estimated from), n_left_out (subjects of the site that they are
        not).

    Raises
    ------
    ValueError
        If the model is unknown, or for the reasons that `shift_and_scale` and `combat` have.
    """
    fits = {"shift_and_scale": _shift_and_scale_model, "combat": _combat_model}
    if model not in fits:
        raise ValueError(f"model {model!r} is unknown; it is one of {', '.join(fits)}")
    found = []
    for method, _, samples, labels in _each_method(
        roi_values(table, exclude_rois=exclude_rois), covariates
    ):
        fitted = _fit(fits[model], samples, labels)
        there = np.isfinite(samples.values)
        for r, roi in enumerate(labels["roi"]):
            for s, site in enumerate(labels["site"]):
                n = int(fitted.n_subjects[s, r])
                found.append(
                    {
                        "method": method,
                        "roi": roi,
                        "site": site,
                        "shift": 1000 * fitted.shift[s, r],
                        "scale": fitted.scale[s, r],
                        "n_subjects": n,
                        "n_left_out": int(there[samples.site == s, r].sum()) - n,
                    }
                )
    return pd.DataFrame(found)


def harmonization_effect(before, after, *, exclude_rois=()):
    """Variation between scans and sites before and after harmonisation.

    It is honest only where `after` does not know the subjects that it is measured on: harmonise
    with ``leave_one_out=True``. The variation between subjects stands beside it, since a
    harmonisation that shrinks all values gains nothing.

    Parameters
    ----------
    before, after : DataFrame
        Long ROI tables of the same scans, see `reproducibility.roi_values`.
    exclude_rois : sequence of str
        ROIs to leave out beside the reference.

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
        If the tables do not hold the same scans. See `reproducibility.roi_values` too.
    """
    keys = ["subject", "site", "scan", "method", "roi"]
    scans = [
        roi_values(t, exclude_rois=exclude_rois).dropna(subset=["mean"]).set_index(keys).index
        for t in (before, after)
    ]
    if not scans[0].sort_values().equals(scans[1].sort_values()):
        raise ValueError("the tables before and after must hold the same scans, methods and ROIs")
    names = ["method", "roi", "measure"]
    one, two = (
        _measures(t, exclude_rois).rename(columns={"value": n})
        for t, n in ((before, "before"), (after, "after"))
    )
    both = one.merge(two, on=names, how="left", validate="one_to_one")
    return both.assign(ratio=both["after"] / both["before"].where(both["before"] > 0))


def _measures(table, exclude_rois):
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
    rows = roi_values(table, exclude_rois=exclude_rois).drop(
        columns=["sd", "median", "se"], errors="ignore"
    )
    harmonised = np.full(len(rows), np.nan)
    for _, here, samples, labels in _each_method(rows, covariates):
        codes = {name: rows[name].to_numpy()[here] for name in labels}
        codes = {name: pd.Index(labels[name]).get_indexer(values) for name, values in codes.items()}
        x = samples.covariates[_first_of(codes["subject"], samples.subject)]
        y = rows["mean"].to_numpy(np.float64)[here]
        found = np.empty(here.size)
        whole = None if leave_one_out else _fit(fit, samples, labels)
        for subject in np.unique(codes["subject"]):
            own = codes["subject"] == subject
            model = whole or _fit(fit, samples.at(samples.subject != subject), labels)
            found[own] = model.harmonise(y[own], codes["site"][own], codes["roi"][own], x[own])
        harmonised[here] = found
    return rows.assign(mean=harmonised)


def _first_of(subjects, among):
    """Where each subject stands first among the samples."""
    unique, first = np.unique(among, return_index=True)
    return first[np.searchsorted(unique, subjects)]


def _each_method(rows, covariates):
    """Yield each method, the positions of its rows, its samples and the labels that their numbers
    stand for.
    """
    people = _covariates(rows, covariates)
    for method in rows["method"].unique():
        here = np.flatnonzero(rows["method"] == method)
        group = rows.iloc[here]
        cells = group.groupby(["subject", "site", "roi"])["mean"].mean().unstack("roi")
        cells = cells.reindex(columns=group["roi"].unique())
        subject, subjects = pd.factorize(cells.index.get_level_values("subject"))
        site, sites = pd.factorize(cells.index.get_level_values("site"), sort=True)
        x = people.loc[subjects].to_numpy(np.float64)[subject]
        labels = {"subject": subjects, "site": sites, "roi": cells.columns}
        yield (
            method,
            here,
            _Samples(cells.to_numpy(np.float64), subject, site, x - x.mean(axis=0)),
            labels,
        )


def _covariates(rows, names):
    """Covariates of every subject; categories as indicators of all levels but the first."""
    names = list(names)
    require_columns(rows, names)
    for name in names:
        if rows[name].isna().any():
            raise ValueError(f"covariate {name} is missing for some subjects")
        if (rows.groupby("subject")[name].nunique() > 1).any():
            raise ValueError(f"covariate {name} must be the same in all rows of a subject")
    first = rows.drop_duplicates("subject").set_index("subject")[names]
    return pd.get_dummies(first, drop_first=True, dtype=float) if names else first


def _fit(fit, samples, labels):
    model = fit(samples, len(labels["site"]))
    few = np.argwhere(model.n_subjects < _FEWEST_SUBJECTS)
    if few.size:
        site = labels["site"][few[0, 0]]
        roi = labels["roi"][few[0, 1]]
        raise ValueError(
            f"site {site} has {model.n_subjects[tuple(few[0])]} subjects to estimate its shift and "
            f"scale of {roi} "
            f"from; {_FEWEST_SUBJECTS} or more are needed"
        )
    if not (np.isfinite(model.scale) & (model.scale > 0)).all():
        raise ValueError("a site has the same value in all subjects, so it has no scale")
    return model


def _linear_model(samples, n_sites):
    """Pooled level, slopes, shifts and residuals of y = site + x β, for ROIs without missing
    values.
    """
    indicators = (samples.site[:, None] == np.arange(n_sites)).astype(np.float64)
    design = np.hstack([indicators, samples.covariates])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise ValueError(
            "sites and covariates cannot be told apart, or a site has no subject to estimate from"
        )
    beta = np.linalg.lstsq(design, samples.values, rcond=None)[0]
    residual = samples.values - design @ beta
    residual[np.abs(residual) <= _ROUNDING * np.abs(samples.values).max(axis=0)] = 0.0
    counts = indicators.sum(axis=0)
    center = counts @ beta[:n_sites] / counts.sum()
    return center, beta[n_sites:], beta[:n_sites] - center, residual, counts


def _shift_and_scale_model(samples, n_sites):
    return _stack([_one_roi(samples, r, n_sites) for r in range(samples.values.shape[1])])


def _one_roi(samples, r, n_sites):
    here = samples.at(np.isfinite(samples.values[:, r]))
    here = _Samples(here.values[:, [r]], here.subject, here.site, here.covariates)
    if not here.covariates.shape[1]:
        n_visited = np.bincount(here.subject)
        here = here.at(n_visited[here.subject] == n_sites)
    counts = np.bincount(here.site, minlength=n_sites)
    if counts.min() < _FEWEST_SUBJECTS:  # refused by `_fit`, which knows the names
        empty = np.full((n_sites, 1), np.nan)
        return _SiteModel(
            np.zeros(1), np.zeros((here.covariates.shape[1], 1)), empty, empty, counts[:, None]
        )
    center, slopes, shift, residual, counts = _linear_model(here, n_sites)
    squares = np.stack([np.mean(residual[here.site == s] ** 2, axis=0) for s in range(n_sites)])
    pooled = np.mean(residual**2, axis=0)
    with np.errstate(invalid="ignore"):
        scale = np.sqrt(squares / pooled)
    return _SiteModel(center, slopes, shift, scale, counts[:, None].astype(int))


def _stack(models):
    parts = ("center", "slopes", "shift", "scale", "n_subjects")
    return _SiteModel(
        *(np.concatenate([getattr(m, part) for m in models], axis=-1) for part in parts)
    )


def _combat_model(samples, n_sites):
    n_rois = samples.values.shape[1]
    if n_rois < 2:
        raise ValueError(
            "ComBat learns its priors over ROIs and needs two or more; use shift_and_scale for one"
        )
    whole = samples.at(np.isfinite(samples.values).all(axis=1))
    counts = np.bincount(whole.site, minlength=n_sites)
    n_subjects = np.broadcast_to(counts[:, None], (n_sites, n_rois))
    if counts.min() < _FEWEST_SUBJECTS:  # refused by `_fit`, which knows the names
        empty = np.full((n_sites, n_rois), np.nan)
        return _SiteModel(
            empty[0], np.zeros((whole.covariates.shape[1], n_rois)), empty, empty, n_subjects
        )
    center, slopes, _, residual, _ = _linear_model(whole, n_sites)
    sd = np.sqrt(np.mean(residual**2, axis=0))
    if not (sd > 0).all():
        raise ValueError("an ROI has the same value in all subjects, so it has no scale")
    z = (whole.values - center - whole.covariates @ slopes) / sd
    shift, scale = np.empty((2, n_sites, n_rois))
    for s in range(n_sites):
        gamma, delta_squared = _shrink(z[whole.site == s])
        shift[s] = gamma * sd
        scale[s] = np.sqrt(delta_squared)
    return _SiteModel(center, slopes, shift, scale, n_subjects)


def _shrink(z):
    """Empirical Bayes estimates of a site's shifts and squared scales, ROIs in columns (Johnson
    2007, section 3.2).
    """
    n = len(z)
    shift = z.mean(axis=0)
    square = z.var(axis=0, ddof=1)
    shift_prior = shift.mean()
    shift_spread = shift.var(ddof=1)
    # moments of the inverse gamma distribution
    mean = square.mean()
    spread = square.var(ddof=1)
    shape = 2 + mean**2 / spread
    rate = mean + mean**3 / spread
    gamma = shift
    delta = square
    for _ in range(10_000):
        previous = gamma, delta
        gamma = (n * shift_spread * shift + delta * shift_prior) / (n * shift_spread + delta)
        delta = (rate + 0.5 * np.sum((z - gamma) ** 2, axis=0)) / (n / 2 + shape - 1)
        if np.allclose(gamma, previous[0], rtol=1e-10, atol=1e-12) and np.allclose(
            delta, previous[1], rtol=1e-10
        ):
            break
    return gamma, delta
