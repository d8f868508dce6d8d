"""Figures of a study: tables in, matplotlib figures out.

Tables hold susceptibility in ppm; axes show ppb, except the phantom's, whose values are a hundred times larger.
"""

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgba
from matplotlib.patches import Patch

from ..stats.calibration import POOLED
from .drawing import (
    GREY,
    INK,
    PALETTE,
    PPB,
    RULE,
    finish_axis,
    legend_of_sites,
    name_ticks,
    panel_grid,
    panels,
    readable,
    short_name,
    site_styles,
    with_columns,
)

WITHIN, CROSS = "#8ecae6", "#0b5d8f"
ANALYSES = {
    # Drawn wide below narrow: the lines of a balanced study coincide.
    "naive": ("all scans as if independent", "#c3cad2", "-", 5.0),
    "subject_means": ("subject means", PALETTE[0], "-", 2.0),
    "random_intercept": ("random intercept", PALETTE[1], (0, (1, 2)), 2.0),
}

# Koo and Li, J Chiropr Med 15:155-163 (2016): poor, moderate, good, excellent.
ICC_BANDS = ((0.5, 0.75, "moderate", 0.35), (0.75, 0.9, "good", 0.7), (0.9, 1.0, "excellent", 1.0))
SMALLEST = 1e-6  # ppm; a region whose every mean is below is the reference itself
MOST_PAIRS = 6
COMPONENTS = {  # not the sites' colours: these are no sites
    "subject": "#0b5d8f",
    "site": "#b5420a",
    "run": "#5d3a9b",
    "subject_site": "#e0a458",
    "residual": "#c3cad2",
}
RATERS = {"sites": "sites (means)", "all": "all scans"}


def component_name(name):
    """Write a component of variance as words.

    Parameters
    ----------
    name : str

    Returns
    -------
    str

    Examples
    --------
    >>> component_name("subject_site")
    'subject × site'
    """
    return "subject × site" if name == "subject_site" else readable(name)


def calibration_figure(tubes, calibration, *, sites=None):
    """Draw measured on expected susceptibility of the phantom's tubes, with the regression of each site.

    Parameters
    ----------
    tubes : DataFrame
        Columns ``site``, ``method``, ``mean`` and ``expected`` (ppm): one row per scan, method and tube.
    calibration : DataFrame
        Columns ``site`` (or ``all``), ``method``, ``slope``, ``intercept`` (ppm) and ``r_squared``, see
        `stats.calibration.calibrate`.
    sites : iterable of str, optional
        All sites of the study, for their colours.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per method.

    Raises
    ------
    ValueError
        If a column is missing or there is nothing to draw.
    """
    tubes = with_columns(tubes, ("site", "method", "mean", "expected"), "the table of tubes")
    calibration = with_columns(
        calibration, ("site", "method", "slope", "intercept", "r_squared"), "the calibration table"
    )
    styles = site_styles(tubes["site"] if sites is None else sites)
    methods = _labels(tubes, "method")
    figure, axes = panels(1, len(methods), 4.6, 4.2, sharex=True, sharey=True)
    span = np.array([tubes["expected"].min(), tubes["expected"].max()])
    span = span + np.array([-0.04, 0.04]) * np.ptp(span)
    for axis, method in zip(axes[0], methods, strict=True):
        axis.plot(span, span, color=GREY, linestyle="--", linewidth=1, label="identity")
        fits = calibration[calibration["method"] == method].set_index("site")
        for site, style in styles.items():
            points = tubes[(tubes["method"] == method) & (tubes["site"] == site)]
            if points.empty:
                continue
            axis.plot(
                points["expected"], points["mean"], linestyle="none", markerfacecolor="none", markersize=6, **style
            )
            if site in fits.index:
                fit = fits.loc[site]
                axis.plot(span, fit["intercept"] + fit["slope"] * span, color=style["color"], linewidth=1.2)
            axis.plot([], [], linewidth=1.2, **style, markerfacecolor="none", label=_fit_label(site, fits))
        if POOLED in fits.index:
            fit = fits.loc[POOLED]
            axis.plot(
                span,
                fit["intercept"] + fit["slope"] * span,
                color=INK,
                linewidth=1.2,
                linestyle="-.",
                label=_fit_label(POOLED, fits),
            )
        finish_axis(
            axis, title=short_name(method), x="expected susceptibility (ppm)", y="measured susceptibility (ppm)"
        )
        axis.yaxis.set_tick_params(labelleft=True)
        axis.legend(fontsize=7.5, frameon=False, loc="upper left")
    return figure


def imprecision_figure(per_subject):
    """Draw within- and cross-site imprecision of each subject as bars, with the mean over subjects.

    Parameters
    ----------
    per_subject : DataFrame
        Columns ``subject``, ``method``, ``roi``, ``within`` and ``cross`` (ppm).

    Returns
    -------
    matplotlib.figure.Figure
        One row per region, one column per method; methods share the scale of a region.

    Raises
    ------
    ValueError
        If a column is missing or there is nothing to draw.
    """
    table = with_columns(per_subject, ("subject", "method", "roi", "within", "cross"), "the table of imprecision")
    subjects, methods, rois = sorted(_labels(table, "subject")), _labels(table, "method"), _labels(table, "roi")
    width = float(np.clip(0.34 * len(subjects) + 1.6, 3.6, 8))
    figure, axes = panels(len(rois), len(methods), width, 1.75, sharex=True, sharey="row")
    places = np.append(np.arange(len(subjects)), len(subjects) + 0.6)
    for row, roi in zip(axes, rois, strict=True):
        for axis, method in zip(row, methods, strict=True):
            chosen = table[(table["roi"] == roi) & (table["method"] == method)]
            values = chosen.groupby("subject")[["within", "cross"]].mean().reindex(subjects) * PPB
            axis.axvspan(len(subjects) - 0.2, len(subjects) + 1.4, color="#f4f6f8", zorder=0)
            for shift, name, color in ((-0.2, "within", WITHIN), (0.2, "cross", CROSS)):
                bars = np.append(values[name].to_numpy(float), values[name].mean())
                axis.bar(places + shift, bars, width=0.4, color=color)
            axis.set_xlim(-0.7, len(subjects) + 1.4)
            finish_axis(
                axis, title=f"{short_name(roi)}, {short_name(method)}", y="SD (ppb)" if axis is row[0] else None
            )
            name_ticks(axis, [*subjects, "mean"], places)
    for axis in axes[-1]:
        axis.set_xlabel("subject", color=INK, fontsize=9)
    handles = [Patch(color=WITHIN, label="within-site"), Patch(color=CROSS, label="cross-site")]
    figure.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    return figure


def age_figure(table, age_table, per_subject=None, *, method=None):
    """Draw regions' susceptibility on age: every subject's mean and all scans, and the lines of each analysis.

    Parameters
    ----------
    table : DataFrame
        The ROI table: columns ``subject``, ``method``, ``roi``, ``mean`` (ppm) and ``age`` (years).
    age_table : DataFrame
        Columns ``method``, ``roi``, ``analysis`` (``naive``, ``subject_means`` or ``random_intercept``), ``slope``
        (ppm per year), ``intercept`` (ppm), ``p`` and, where the analysis has one, ``r``.
    per_subject : DataFrame, optional
        Columns ``subject``, ``method``, ``roi`` and ``cross`` (ppm): the error bars.
    method : str, optional
        Method to show; the first of the table if not given.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per region.

    Raises
    ------
    ValueError
        If a column is missing or there is nothing to draw.
    """
    table = _of_method(with_columns(table, ("subject", "method", "roi", "mean", "age"), "the ROI table"), method)
    table = _without_reference(table).dropna(subset=["age", "mean"])
    method = table["method"].iloc[0] if len(table) else method
    fits = with_columns(age_table, ("method", "roi", "analysis", "slope", "intercept", "p"), "the table of age")
    fits = fits[fits["method"] == method]
    if per_subject is not None:
        per_subject = with_columns(per_subject, ("subject", "method", "roi", "cross"), "the table of imprecision")
    rois = [roi for roi in _labels(table, "roi") if roi in set(fits["roi"])]
    if not rois:
        raise ValueError("no region has both measurements with an age and a regression on it")
    figure, axes = panel_grid(len(rois), 3, 3.6, 3.1)
    for axis, roi in zip(axes, rois, strict=True):
        scans = table[table["roi"] == roi]
        means = scans.groupby("subject")[["age", "mean"]].mean()
        axis.plot(scans["age"], scans["mean"] * PPB, ".", color=GREY, alpha=0.4, markersize=3.5, zorder=1)
        bars = None
        if per_subject is not None:
            bars = per_subject[(per_subject["method"] == method) & (per_subject["roi"] == roi)]
            bars = bars.set_index("subject")["cross"].reindex(means.index).to_numpy(float) * PPB
        axis.errorbar(
            means["age"], means["mean"] * PPB, yerr=bars, fmt="o", color=INK, markersize=4.5, elinewidth=1, capsize=2
        )
        ages = np.array([means["age"].min(), means["age"].max()])
        for fit in fits[fits["roi"] == roi].dropna(subset=["slope", "intercept"]).to_dict("records"):
            name, color, line, width = ANALYSES.get(fit["analysis"], (readable(fit["analysis"]), PALETTE[2], "-.", 1.5))
            axis.plot(
                ages,
                (fit["intercept"] + fit["slope"] * ages) * PPB,
                color=color,
                linestyle=line,
                linewidth=width,
                zorder=1.5,
                label=f"{short_name(name)}: {_association(fit)}",
            )
        finish_axis(axis, title=short_name(roi), x="age (years)", y="susceptibility (ppb)")
        if axis.get_legend_handles_labels()[0]:  # with few people there may be no line
            low, high = axis.get_ylim()
            axis.set_ylim(low, high + 0.32 * (high - low))  # room for the legend
            axis.legend(fontsize=7, frameon=False, loc="upper left", handlelength=2.2)
    return figure


def bland_altman_figure(points, limits, *, comparison="sites", method=None):
    """Draw differences between two sites (or methods) on their mean, with bias and limits of agreement.

    Parameters
    ----------
    points : DataFrame
        Columns ``comparison``, ``method``, ``roi``, ``first``, ``second``, ``mean`` and ``difference`` (ppb), see
        `stats.agreement.bland_altman_points`.
    limits : DataFrame
        Columns ``comparison``, ``method``, ``roi``, ``first``, ``second``, ``bias``, ``lower`` and ``upper`` (ppb).
    comparison : {'sites', 'methods'}
        What is compared.
    method : str, optional
        Method to show; the first of the comparison if not given.

    Returns
    -------
    matplotlib.figure.Figure
        One row per pair (of more than six the first six, which its title says), one column per region.

    Raises
    ------
    ValueError
        If a column is missing or there is nothing to draw.
    """
    names = ("comparison", "method", "roi", "first", "second")
    points = with_columns(points, (*names, "mean", "difference"), "the table of points")
    limits = with_columns(limits, (*names, "bias", "lower", "upper"), "the table of limits")
    points = points[points["comparison"] == comparison]
    if points.empty:
        raise ValueError(f"there are no points that compare {comparison}")
    points = _of_method(points, method)
    limits = limits[(limits["comparison"] == comparison) & (limits["method"] == points["method"].iloc[0])]
    every, rois = points[["first", "second"]].drop_duplicates(), _labels(points, "roi")
    pairs = every.head(MOST_PAIRS).to_numpy().tolist()
    figure, axes = panels(len(pairs), len(rois), 2.5, 2.1, sharex="col", sharey=True)
    for number, (row, (first, second)) in enumerate(zip(axes, pairs, strict=True)):
        for axis, roi in zip(row, rois, strict=True):
            shown, lines = (
                t[(t["first"] == first) & (t["second"] == second) & (t["roi"] == roi)] for t in (points, limits)
            )
            for line in lines.to_dict("records"):
                axis.axhspan(line["lower"], line["upper"], color=to_rgba(PALETTE[0], 0.09), linewidth=0)
                axis.axhline(line["bias"], color=PALETTE[0], linewidth=1.4)
                for limit in (line["lower"], line["upper"]):
                    axis.axhline(limit, color=PALETTE[0], linewidth=0.9, linestyle="--")
            axis.axhline(0, color=GREY, linewidth=0.7)
            axis.plot(shown["mean"], shown["difference"], "o", color=INK, markersize=3.2, alpha=0.8)
            finish_axis(
                axis,
                title=short_name(roi) if number == 0 else None,
                x="mean (ppb)" if number == len(pairs) - 1 else None,
                y=f"{short_name(first)} − {short_name(second)} (ppb)" if axis is row[0] else None,
            )
    title = short_name(points["method"].iloc[0]) if comparison == "sites" else "methods"
    if len(every) > len(pairs):
        title += f": the first {len(pairs)} of {len(every)} pairs"
    figure.suptitle(title, fontsize=10, fontweight="bold", color=INK)
    return figure


def icc_figure(table, *, form="ICC(2,1)", sites=None):
    """Draw intraclass correlations with their confidence intervals as a forest plot.

    Parameters
    ----------
    table : DataFrame
        Columns ``method``, ``roi``, ``raters``, ``site``, ``form``, ``icc``, ``ci_low`` and ``ci_high``, see
        `stats.agreement.intraclass_correlation`.
    form : str
        Which form to show.
    sites : iterable of str, optional
        All sites of the study, for their colours.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per method; bands mark moderate, good and excellent reliability.

    Raises
    ------
    ValueError
        If a column is missing or there is nothing to draw.

    References
    ----------
    Koo and Li, J Chiropr Med 15:155-163 (2016).
    """
    table = with_columns(
        table, ("method", "roi", "raters", "site", "form", "icc", "ci_low", "ci_high"), "the table of ICC"
    )
    table = table[table["form"] == form]
    if table.empty:
        raise ValueError(f"the table of ICC has no form {form!r}")
    scans = table["raters"] == "scans"
    styles = site_styles(table.loc[scans, "site"] if sites is None else sites)
    methods, rois = _labels(table, "method"), _labels(table, "roi")
    kinds = list(table[["raters", "site"]].drop_duplicates().itertuples(index=False, name=None))
    height = max(2.4, 0.115 * len(rois) * max(len(kinds), 3) + 1.2)
    figure, axes = panels(1, len(methods), 4.6, height, sharex=True, sharey=True)
    for axis, method in zip(axes[0], methods, strict=True):
        for low, high, name, alpha in ICC_BANDS:
            axis.axvspan(low, high, color=to_rgba("#d8efe4", alpha), linewidth=0, zorder=0)
            axis.text((low + high) / 2, 1.0, name, fontsize=6.5, color=GREY, ha="center", va="bottom",
                      transform=axis.get_xaxis_transform())  # fmt: skip
        for number, (raters, site) in enumerate(kinds):
            rows = table[(table["method"] == method) & (table["raters"] == raters) & (table["site"] == site)]
            rows = rows.drop_duplicates("roi").set_index("roi").reindex(rois)
            places = np.arange(len(rois)) + (number - (len(kinds) - 1) / 2) * 0.75 / len(kinds)
            bars = np.array([rows["icc"] - rows["ci_low"], rows["ci_high"] - rows["icc"]], dtype=float)
            style = {"color": INK if raters == "sites" else GREY, "marker": "D" if raters == "sites" else "x"}
            axis.errorbar(
                rows["icc"],
                places,
                xerr=np.maximum(bars, 0),
                linestyle="none",
                markersize=4.5,
                elinewidth=1.3,
                capsize=2,
                label=f"scans at {short_name(site)}" if raters == "scans" else short_name(RATERS.get(raters, raters)),
                **(styles[str(site)] if raters == "scans" else style),
            )
        axis.set_yticks(np.arange(len(rois)), [short_name(roi) for roi in rois])
        finish_axis(axis, x=f"{form} and 95 % CI")
        axis.grid(False, axis="y")
        for border in np.arange(1, len(rois)) - 0.5:
            axis.axhline(border, color=RULE, linewidth=0.8)
        axis.set_title(short_name(method), fontsize=9.5, fontweight="bold", color=INK, loc="left", pad=14)
    lowest = table["ci_low"].min()
    axes[0, 0].set_xlim(max(min(0.0, lowest), -1.0) if np.isfinite(lowest) else 0.0, 1)
    axes[0, 0].set_ylim(len(rois) - 0.5, -0.5)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(kinds), 5), frameon=False, fontsize=8.5)
    return figure


def variance_figure(components):
    """Draw each component's share of a region's variance as stacked bars, with its SD in ppb written in.

    Parameters
    ----------
    components : DataFrame
        Columns ``method``, ``roi``, ``component`` and ``sd`` (ppb), see `stats.components.variance_components`.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per method. Variances add up and SDs do not, so lengths are shares of variance.

    Raises
    ------
    ValueError
        If a column is missing or there is nothing to draw.
    """
    table = with_columns(components, ("method", "roi", "component", "sd"), "the table of variance components")
    methods, rois, names = (_labels(table, name) for name in ("method", "roi", "component"))
    figure, axes = panels(1, len(methods), 4.8, 0.42 * len(rois) + 1.4, sharey=True)
    for axis, method in zip(axes[0], methods, strict=True):
        sd = table[table["method"] == method].pivot_table(index="roi", columns="component", values="sd")
        sd = sd.reindex(index=rois, columns=names).fillna(0.0)
        total = (sd**2).sum(axis=1)
        share = (100 * (sd**2).div(total.where(total > 0), axis=0)).fillna(0.0)
        left = np.zeros(len(rois))
        for number, name in enumerate(names):
            color = COMPONENTS.get(name, PALETTE[number % len(PALETTE)])
            dark = np.dot(to_rgba(color)[:3], (0.299, 0.587, 0.114)) < 0.55  # luma
            axis.barh(
                np.arange(len(rois)),
                share[name],
                left=left,
                color=color,
                height=0.62,
                label=short_name(component_name(name)),
            )
            for place, (part, value) in enumerate(zip(share[name], sd[name], strict=True)):
                if part > 9:  # %, wide enough for the number
                    axis.text(left[place] + part / 2, place, f"{value:.1f}", ha="center", va="center", fontsize=7.5,
                              color="white" if dark else INK, fontweight="bold")  # fmt: skip
            left += share[name].to_numpy()
        axis.set_yticks(np.arange(len(rois)), [short_name(roi) for roi in rois])
        axis.set_ylim(len(rois) - 0.5, -0.5)
        axis.set_xlim(0, 100)
        finish_axis(axis, title=short_name(method), x="share of variance (%); numbers: SD in ppb")
        axis.grid(False, axis="y")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(names), 5), frameon=False, fontsize=8.5)
    return figure


def roi_figure(table, *, sites=None):
    """Draw the regions' mean susceptibility in every scan, coloured by site.

    Parameters
    ----------
    table : DataFrame
        The ROI table: columns ``subject``, ``site``, ``method``, ``roi`` and ``mean`` (ppm). The reference region is
        left out.
    sites : iterable of str, optional
        All sites of the study, for their colours.

    Returns
    -------
    matplotlib.figure.Figure
        Of one subject, one panel per method with the regions side by side; of more, one row per region and one
        column per method with the subjects side by side.

    Raises
    ------
    ValueError
        If a column is missing or there is nothing to draw.
    """
    table = _without_reference(with_columns(table, ("subject", "site", "method", "roi", "mean"), "the ROI table"))
    styles = site_styles(table["site"] if sites is None else sites)
    subjects, methods, rois = sorted(_labels(table, "subject")), _labels(table, "method"), _labels(table, "roi")
    if len(subjects) == 1:
        figure, axes = panels(1, len(methods), max(4.2, 0.85 * len(rois) + 1.2), 3.4, sharey=True)
        for axis, method in zip(axes[0], methods, strict=True):
            _strip(axis, table[table["method"] == method], "roi", rois, styles)
            name_ticks(axis, rois, np.arange(len(rois)))
            finish_axis(axis, title=short_name(method), y="susceptibility (ppb)" if axis is axes[0, 0] else None)
    else:
        width = float(np.clip(0.42 * len(subjects) + 1.4, 3.6, 9))
        figure, axes = panels(len(rois), len(methods), width, 1.9, sharex=True, sharey="row")
        for row, roi in zip(axes, rois, strict=True):
            for axis, method in zip(row, methods, strict=True):
                chosen = table[(table["method"] == method) & (table["roi"] == roi)]
                _strip(axis, chosen, "subject", subjects, styles)
                finish_axis(
                    axis, title=f"{short_name(roi)}, {short_name(method)}", y="χ (ppb)" if axis is row[0] else None
                )
                name_ticks(axis, subjects, np.arange(len(subjects)))
        for axis in axes[-1]:
            axis.set_xlabel("subject", color=INK, fontsize=9)
    legend_of_sites(figure, styles, table["site"])
    return figure


def harmonization_figure(before, after, *, sites=None):
    """Draw what is left of each site's own offset before and after harmonisation.

    Parameters
    ----------
    before, after : DataFrame
        ROI tables: columns ``subject``, ``site``, ``method``, ``roi`` and ``mean`` (ppm).
    sites : iterable of str, optional
        All sites of the study, for their colours.

    Returns
    -------
    matplotlib.figure.Figure
        One row per method, one column each for before and after: every scan's difference from the mean of its
        subject's site means, and a bar at each site's mean of it.

    Raises
    ------
    ValueError
        If a column is missing or there is nothing to draw.
    """
    columns = ("subject", "site", "method", "roi", "mean")
    tables = [
        _without_reference(with_columns(t, columns, f"the table {w}"))
        for t, w in ((before, "before"), (after, "after"))
    ]
    methods, rois = _labels(tables[0], "method"), _labels(tables[0], "roi")
    styles = site_styles(tables[0]["site"] if sites is None else sites)
    figure, axes = panels(len(methods), 2, max(4.4, 0.85 * len(rois) + 1.2), 2.9, sharex=True, sharey=True)
    for row, method in zip(axes, methods, strict=True):
        for axis, table, title in zip(row, tables, ("before", "after"), strict=True):
            table = table[table["method"] == method]
            centre = table.groupby(["subject", "roi", "site"])["mean"].mean().groupby(["subject", "roi"]).mean()
            known = pd.MultiIndex.from_frame(table[["subject", "roi"]])
            table = table.assign(mean=table["mean"].to_numpy(float) - centre.reindex(known).to_numpy())
            axis.axhline(0, color=GREY, linewidth=0.8)
            _strip(axis, table, "roi", rois, styles, bars=True, alpha=0.45)
            name_ticks(axis, rois, np.arange(len(rois)))
            finish_axis(axis, title=f"{short_name(method)}, {title}", y="difference (ppb)" if axis is row[0] else None)
    legend_of_sites(figure, styles, tables[0]["site"])
    return figure


def _of_method(table, method):
    chosen = table[table["method"] == (table["method"].iloc[0] if method is None else method)]
    if chosen.empty:
        raise ValueError(f"there are no rows of method {method!r}: choose one of {', '.join(_labels(table, 'method'))}")
    return chosen


def _without_reference(table):
    largest = table.groupby("roi")["mean"].transform(lambda values: values.abs().max())
    kept = table[~(largest < SMALLEST)]
    if kept.empty:
        raise ValueError("every region is zero in all scans: there is nothing to draw beside the reference")
    return kept


def _labels(table, column):
    return [str(label) for label in pd.unique(table[column].dropna())]


def _fit_label(site, fits):
    name = "all sites" if site == POOLED else short_name(site)
    if site not in fits.index or not np.isfinite(fits.loc[site, "slope"]):
        return f"{name}: no fit"
    fit = fits.loc[site]
    r_squared = f"R² {fit['r_squared']:.4f}" if fit["r_squared"] < 0.9999 else "R² > 0.9999"
    return f"{name}: slope {fit['slope']:.3f}, {r_squared}"


def _association(fit):
    p = "P < .001" if fit["p"] < 0.001 else f"P = {fit['p']:.3f}".replace("0.", ".")
    r = fit.get("r", np.nan)
    return p if not np.isfinite(r) else f"r = {r:.2f}, ".replace("-", "−") + p


def _strip(axis, table, column, order, styles, *, bars=False, alpha=0.85):
    """Scans of a site stand side by side in their own order, so that drifts show; no random jitter."""
    slot = 0.8 / len(styles)
    for number, (site, style) in enumerate(styles.items()):
        left = -0.4 + slot * number
        chosen = table[table["site"] == site]
        for place, label in enumerate(order):
            values = chosen.loc[chosen[column] == label, "mean"].to_numpy(float) * PPB
            if not values.size:
                continue
            offsets = left + slot * (np.arange(values.size) + 0.5) / values.size
            axis.plot(
                place + offsets, values, linestyle="none", markersize=3.2, alpha=alpha, markeredgewidth=0, **style
            )
            if bars:
                axis.plot([place + left, place + left + slot], [np.nanmean(values)] * 2, color=INK, linewidth=1.8)
    axis.set_xlim(-0.6, len(order) - 0.4)
