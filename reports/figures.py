"""Figures of a study: tables and arrays in, matplotlib figures out.

Tables hold susceptibility in ppm; axes show ppb, except the phantom's, whose values are a hundred times larger.
A site has one colour and one marker in all figures, both from `site_styles`.
"""

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ..stats.calibration import POOLED

PPB = 1000  # ppb in one ppm
# Okabe and Ito's colours, distinct for every kind of colour vision.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5D3A9B")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
INK, GREY, RULE = "#1f2933", "#7b8794", "#e4e7eb"
WITHIN, CROSS = "#8ecae6", "#0b5d8f"
ANALYSES = {
    # Drawn wide below narrow: the lines of a balanced study coincide.
    "naive": ("all scans as if independent", "#c3cad2", "-", 5.0),
    "subject_means": ("subject means", PALETTE[0], "-", 2.0),
    "random_intercept": ("random intercept", PALETTE[1], (0, (1, 2)), 2.0),
}
# Koo and Li, J Chiropr Med 15:155-163 (2016): poor, moderate, good, excellent.
ICC_BANDS = ((0.5, 0.75, "moderate", 0.35), (0.75, 0.9, "good", 0.7), (0.9, 1.0, "excellent", 1.0))
LONGEST = 28  # characters of a label; longer ones would leave no room for the data
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
LABELS = ("subject", "site", "method", "roi", "first", "second")
PLANES = (2, 1, 0)  # axes that axial, coronal and sagittal planes are perpendicular to
TINT = (1.0, 0.82, 0.5)
CHI_WINDOW = (-0.1, 0.15)  # ppm
REGION, EXCLUDED, REFERENCE = "#ffd166", "#ef476f", "#4cc9f0"


def readable(name):
    """Write a label as words: underscores become spaces.

    Parameters
    ----------
    name : object
        A region's or column's name.

    Returns
    -------
    str

    Examples
    --------
    >>> readable("globus_pallidus")
    'globus pallidus'
    """
    return " ".join(str(name).replace("_", " ").split())


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


def site_styles(sites):
    """Give every site its colour and marker, in the order of the labels.

    Parameters
    ----------
    sites : iterable of str
        All sites of the study, with or without repeats, so that a site that is missing in one figure does not change
        the others' colours there.

    Returns
    -------
    dict of str to dict
        ``color`` and ``marker`` of each site; the pair repeats after 56 sites.

    Examples
    --------
    >>> site_styles(["B", "A", "B"])["B"]
    {'color': '#D55E00', 'marker': 's'}
    """
    return {
        site: {"color": PALETTE[i % len(PALETTE)], "marker": MARKERS[i % len(MARKERS)]}
        for i, site in enumerate(sorted({str(site) for site in sites}))
    }


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
    tubes = _needed(tubes, ("site", "method", "mean", "expected"), "the table of tubes")
    calibration = _needed(calibration, ("site", "method", "slope", "intercept", "r_squared"), "the calibration table")
    styles = site_styles(tubes["site"] if sites is None else sites)
    methods = _labels(tubes, "method")
    figure, axes = _panels(1, len(methods), 4.6, 4.2, sharex=True, sharey=True)
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
        _finish(axis, title=_text(method), x="expected susceptibility (ppm)", y="measured susceptibility (ppm)")
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
    table = _needed(per_subject, ("subject", "method", "roi", "within", "cross"), "the table of imprecision")
    subjects, methods, rois = sorted(_labels(table, "subject")), _labels(table, "method"), _labels(table, "roi")
    width = float(np.clip(0.34 * len(subjects) + 1.6, 3.6, 8))
    figure, axes = _panels(len(rois), len(methods), width, 1.75, sharex=True, sharey="row")
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
            _finish(axis, title=f"{_text(roi)}, {_text(method)}", y="SD (ppb)" if axis is row[0] else None)
            _name_ticks(axis, [*subjects, "mean"], places)
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
    table = _of_method(_needed(table, ("subject", "method", "roi", "mean", "age"), "the ROI table"), method)
    table = _without_reference(table).dropna(subset=["age", "mean"])
    method = table["method"].iloc[0] if len(table) else method
    fits = _needed(age_table, ("method", "roi", "analysis", "slope", "intercept", "p"), "the table of age")
    fits = fits[fits["method"] == method]
    if per_subject is not None:
        per_subject = _needed(per_subject, ("subject", "method", "roi", "cross"), "the table of imprecision")
    rois = [roi for roi in _labels(table, "roi") if roi in set(fits["roi"])]
    if not rois:
        raise ValueError("no region has both measurements with an age and a regression on it")
    figure, axes = _grid(len(rois), 3, 3.6, 3.1)
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
                label=f"{_text(name)}: {_association(fit)}",
            )
        _finish(axis, title=_text(roi), x="age (years)", y="susceptibility (ppb)")
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
    points = _needed(points, (*names, "mean", "difference"), "the table of points")
    limits = _needed(limits, (*names, "bias", "lower", "upper"), "the table of limits")
    points = points[points["comparison"] == comparison]
    if points.empty:
        raise ValueError(f"there are no points that compare {comparison}")
    points = _of_method(points, method)
    limits = limits[(limits["comparison"] == comparison) & (limits["method"] == points["method"].iloc[0])]
    every, rois = points[["first", "second"]].drop_duplicates(), _labels(points, "roi")
    pairs = every.head(MOST_PAIRS).to_numpy().tolist()
    figure, axes = _panels(len(pairs), len(rois), 2.5, 2.1, sharex="col", sharey=True)
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
            _finish(
                axis,
                title=_text(roi) if number == 0 else None,
                x="mean (ppb)" if number == len(pairs) - 1 else None,
                y=f"{_text(first)} − {_text(second)} (ppb)" if axis is row[0] else None,
            )
    title = _text(points["method"].iloc[0]) if comparison == "sites" else "methods"
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
    table = _needed(table, ("method", "roi", "raters", "site", "form", "icc", "ci_low", "ci_high"), "the table of ICC")
    table = table[table["form"] == form]
    if table.empty:
        raise ValueError(f"the table of ICC has no form {form!r}")
    scans = table["raters"] == "scans"
    styles = site_styles(table.loc[scans, "site"] if sites is None else sites)
    methods, rois = _labels(table, "method"), _labels(table, "roi")
    kinds = list(table[["raters", "site"]].drop_duplicates().itertuples(index=False, name=None))
    height = max(2.4, 0.115 * len(rois) * max(len(kinds), 3) + 1.2)
    figure, axes = _panels(1, len(methods), 4.6, height, sharex=True, sharey=True)
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
                label=f"scans at {_text(site)}" if raters == "scans" else _text(RATERS.get(raters, raters)),
                **(styles[str(site)] if raters == "scans" else style),
            )
        axis.set_yticks(np.arange(len(rois)), [_text(roi) for roi in rois])
        _finish(axis, x=f"{form} and 95 % CI")
        axis.grid(False, axis="y")
        for border in np.arange(1, len(rois)) - 0.5:
            axis.axhline(border, color=RULE, linewidth=0.8)
        axis.set_title(_text(method), fontsize=9.5, fontweight="bold", color=INK, loc="left", pad=14)
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
    table = _needed(components, ("method", "roi", "component", "sd"), "the table of variance components")
    methods, rois, names = (_labels(table, name) for name in ("method", "roi", "component"))
    figure, axes = _panels(1, len(methods), 4.8, 0.42 * len(rois) + 1.4, sharey=True)
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
                label=_text(component_name(name)),
            )
            for place, (part, value) in enumerate(zip(share[name], sd[name], strict=True)):
                if part > 9:  # %, wide enough for the number
                    axis.text(left[place] + part / 2, place, f"{value:.1f}", ha="center", va="center", fontsize=7.5,
                              color="white" if dark else INK, fontweight="bold")  # fmt: skip
            left += share[name].to_numpy()
        axis.set_yticks(np.arange(len(rois)), [_text(roi) for roi in rois])
        axis.set_ylim(len(rois) - 0.5, -0.5)
        axis.set_xlim(0, 100)
        _finish(axis, title=_text(method), x="share of variance (%); numbers: SD in ppb")
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
    table = _without_reference(_needed(table, ("subject", "site", "method", "roi", "mean"), "the ROI table"))
    styles = site_styles(table["site"] if sites is None else sites)
    subjects, methods, rois = sorted(_labels(table, "subject")), _labels(table, "method"), _labels(table, "roi")
    if len(subjects) == 1:
        figure, axes = _panels(1, len(methods), max(4.2, 0.85 * len(rois) + 1.2), 3.4, sharey=True)
        for axis, method in zip(axes[0], methods, strict=True):
            _strip(axis, table[table["method"] == method], "roi", rois, styles)
            _name_ticks(axis, rois, np.arange(len(rois)))
            _finish(axis, title=_text(method), y="susceptibility (ppb)" if axis is axes[0, 0] else None)
    else:
        width = float(np.clip(0.42 * len(subjects) + 1.4, 3.6, 9))
        figure, axes = _panels(len(rois), len(methods), width, 1.9, sharex=True, sharey="row")
        for row, roi in zip(axes, rois, strict=True):
            for axis, method in zip(row, methods, strict=True):
                chosen = table[(table["method"] == method) & (table["roi"] == roi)]
                _strip(axis, chosen, "subject", subjects, styles)
                _finish(axis, title=f"{_text(roi)}, {_text(method)}", y="χ (ppb)" if axis is row[0] else None)
                _name_ticks(axis, subjects, np.arange(len(subjects)))
        for axis in axes[-1]:
            axis.set_xlabel("subject", color=INK, fontsize=9)
    _legend_of_sites(figure, styles, table["site"])
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
        _without_reference(_needed(t, columns, f"the table {w}")) for t, w in ((before, "before"), (after, "after"))
    ]
    methods, rois = _labels(tables[0], "method"), _labels(tables[0], "roi")
    styles = site_styles(tables[0]["site"] if sites is None else sites)
    figure, axes = _panels(len(methods), 2, max(4.4, 0.85 * len(rois) + 1.2), 2.9, sharex=True, sharey=True)
    for row, method in zip(axes, methods, strict=True):
        for axis, table, title in zip(row, tables, ("before", "after"), strict=True):
            table = table[table["method"] == method]
            centre = table.groupby(["subject", "roi", "site"])["mean"].mean().groupby(["subject", "roi"]).mean()
            known = pd.MultiIndex.from_frame(table[["subject", "roi"]])
            table = table.assign(mean=table["mean"].to_numpy(float) - centre.reindex(known).to_numpy())
            axis.axhline(0, color=GREY, linewidth=0.8)
            _strip(axis, table, "roi", rois, styles, bars=True, alpha=0.45)
            _name_ticks(axis, rois, np.arange(len(rois)))
            _finish(axis, title=f"{_text(method)}, {title}", y="difference (ppb)" if axis is row[0] else None)
    _legend_of_sites(figure, styles, tables[0]["site"])
    return figure


def compare_maps_figure(maps, mask, voxel_size, window, unit, *, share=0.5):
    """Draw the same three planes of several maps side by side, in radiological convention.

    Parameters
    ----------
    maps : dict of str to ndarray, shape (x, y, z)
        Maps in RAS+ orientation by their titles.
    mask : ndarray of bool, shape (x, y, z)
        What is shown; the picture is cropped to it.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    window : sequence of 2 floats, or dict of str to sequence of 2 floats
        Values shown black and white, one window for all or one for each title.
    unit : str
        Unit of the values.
    share : float
        Where the planes lie, as a share of the mask's extent along each axis.

    Returns
    -------
    matplotlib.figure.Figure
        One column per map, on black.

    Raises
    ------
    ValueError
        If there is no map, a shape differs from the mask's, or the mask is empty.
    """
    box = _box(maps, mask)
    windows = dict(window) if isinstance(window, dict) else dict.fromkeys(maps, tuple(window))
    size = np.array([(part.stop - part.start) * v for part, v in zip(box, voxel_size, strict=True)])
    width = 3.0
    heights = [width * size[up] / max(size[0], size[1]) for up in (1, 2, 2)]
    figure = Figure(figsize=(width * len(maps) + 0.2, sum(heights) + 0.9), layout="constrained", facecolor="black")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.05, wspace=0, hspace=0)
    axes = figure.subplots(3, len(maps), squeeze=False, gridspec_kw={"height_ratios": heights})
    inside = mask[box]
    drawn = []
    for column, (title, values) in zip(axes.T, maps.items(), strict=True):
        shown = np.where(inside, values[box], np.nan)
        for axis, plane in zip(column, PLANES, strict=True):
            picture, aspect = _plane(shown, plane, voxel_size, share)
            low, high = windows[title]
            image = axis.imshow(picture, cmap="gray", vmin=low, vmax=high, origin="lower", aspect=aspect)
            axis.axis("off")
        column[0].set_title(_text(title), color="white", fontsize=11)
        drawn.append(image)
    if len(set(map(tuple, windows.values()))) == 1:
        _bar(figure, drawn[0], axes, unit, 0.5 / len(maps) if len(maps) > 1 else 0.7)
    else:
        for image, column in zip(drawn, axes.T, strict=True):
            _bar(figure, image, column, unit, 0.7)
    return figure


def registration_figure(average, images, voxel_size, *, mask=None, tiles=8, columns=5):
    """Draw each registered scan and the average as a checkerboard: edges that break show a misregistration.

    Parameters
    ----------
    average : ndarray, shape (x, y, z)
        Average of the registered scans, RAS+ orientation. Its squares are grey.
    images : dict of str to ndarray, shape (x, y, z)
        The registered scans by their titles. Their squares are tinted.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    mask : ndarray of bool, shape (x, y, z), optional
        Crops the picture; without it everything is shown.
    tiles : int
        Squares along the longer side of the axial plane.
    columns : int
        Scans in one row.

    Returns
    -------
    matplotlib.figure.Figure
        An axial and a sagittal plane of every scan, on black.

    Raises
    ------
    ValueError
        If there is no scan, a shape differs from the average's, or the mask is empty.
    """
    region = np.ones(average.shape, bool) if mask is None else mask
    box = _box({"average": average, **images}, region)
    if not images:
        raise ValueError("there is no scan to compare with the average")
    size = np.array([(part.stop - part.start) * v for part, v in zip(box, voxel_size, strict=True)])
    square = max(size[:2]) / tiles
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    width = 2.2
    heights = [width * size[up] / max(size[:2]) for up in (1, 2)]
    figure = Figure(figsize=(width * columns, rows * (sum(heights) + 0.35)), layout="constrained", facecolor="black")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.05, wspace=0, hspace=0)
    axes = figure.subplots(2 * rows, columns, squeeze=False, gridspec_kw={"height_ratios": heights * rows})
    for axis in axes.flat:
        axis.axis("off")
    still = _scaled(average[box])
    for number, (title, values) in enumerate(images.items()):
        row, column = divmod(number, columns)
        moved = _scaled(values[box])
        for axis, plane in zip(axes[2 * row : 2 * row + 2, column], (2, 0), strict=True):
            (one, aspect), (other, _) = (_plane(v, plane, voxel_size, 0.5) for v in (still, moved))
            spacing = [v for a, v in enumerate(voxel_size) if a != plane]
            index = [np.arange(n) * step // square for n, step in zip(one.shape, spacing[::-1], strict=True)]
            odd = (np.add.outer(*index) % 2).astype(bool)
            board = np.where(odd[..., None], other[..., None] * np.array(TINT), one[..., None])
            axis.imshow(board, origin="lower", aspect=aspect)
        axes[2 * row, column].set_title(_text(title), color="white", fontsize=9)
    return figure


def region_figure(chi, regions, excluded, reference, voxel_size, *, title, window=CHI_WINDOW, margin=15.0):
    """Draw regions, what was left out of them and the reference on a susceptibility map, in radiological convention.

    Parameters
    ----------
    chi : ndarray, shape (x, y, z)
        Susceptibility in RAS+ orientation, ppm.
    regions, excluded, reference : ndarray of bool, shape (x, y, z)
        Regions whose outlines are drawn, voxels that are left out of them, and the reference region.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    title : str
    window : sequence of 2 floats
        Values shown black and white, ppm.
    margin : float
        What is shown around regions and reference, mm.

    Returns
    -------
    matplotlib.figure.Figure
        Three axial, one coronal and two sagittal planes through the regions; an axial and a coronal one through the
        reference.

    Raises
    ------
    ValueError
        If a shape differs, or there is no region.
    """
    volumes = {"the excluded voxels": excluded, "the reference": reference, "the map": chi}
    _box(volumes, regions)
    shown = regions | reference
    room = [int(np.ceil(margin / side)) for side in voxel_size]
    box = tuple(
        slice(max(part.start - m, 0), part.stop + m)
        for part, m in zip(_box({"the map": chi}, shown), room, strict=True)
    )
    chi, regions, excluded, reference = (volume[box] for volume in (chi, regions, excluded, reference))
    planes = [(2, _level(regions, 2, share)) for share in (0.25, 0.5, 0.75)]
    planes += [(2, _fullest(reference, 2)), (1, _level(regions, 1, 0.5))]
    planes += [(0, _level(regions, 0, share)) for share in (0.15, 0.85)] + [(1, _fullest(reference, 1))]
    figure = Figure(figsize=(13, 7.6), layout="constrained", facecolor="black")
    axes = figure.subplots(2, 4)
    for axis, (plane, index) in zip(axes.flat, planes, strict=True):
        picture, aspect = _slice(chi, plane, voxel_size, index)
        image = axis.imshow(picture, cmap="gray", vmin=window[0], vmax=window[1], origin="lower", aspect=aspect)
        for volume, colour in ((regions, REGION), (reference, REFERENCE)):
            outline, _ = _slice(volume, plane, voxel_size, index)
            if outline.any() and not outline.all():
                axis.contour(outline, [0.5], colors=colour, linewidths=1.0)
        left_out, _ = _slice(excluded, plane, voxel_size, index)
        axis.imshow(_tinted(left_out, EXCLUDED), origin="lower", aspect=aspect)
        axis.axis("off")
    figure.suptitle(title, color="white", fontsize=12)
    _bar(figure, image, axes, "ppm", 0.4)
    named = ((REGION, "region"), (EXCLUDED, "left out as veins"), (REFERENCE, "reference"))
    handles = [Patch(facecolor=colour, label=label) for colour, label in named]
    figure.legend(handles=handles, loc="outside lower right", ncols=3, frameon=False, labelcolor="white", fontsize=9)
    return figure


def lesion_figure(flair, lesions, voxel_size, *, slices=6):
    """Draw lesions on axial planes of the FLAIR image, each plane with and without their outlines.

    Parameters
    ----------
    flair : ndarray, shape (x, y, z)
        Image in RAS+ orientation, any unit.
    lesions : ndarray of bool, shape (x, y, z)
        May be empty: then planes through the head are shown.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    slices : int
        How many planes, spread evenly over the lesions so that each has as much of their volume.

    Returns
    -------
    matplotlib.figure.Figure
        On black, in radiological convention.

    Raises
    ------
    ValueError
        If the shapes differ or the image is empty.
    """
    high = 1.3 * float(np.percentile(flair, 99.5))  # room above tissue, should lesions be few
    head = flair > 0.1 * high
    box = _box({"the lesions": lesions}, head)
    flair, lesions = flair[box], lesions[box]
    area = lesions.sum(axis=(0, 1)) if lesions.any() else head[box].sum(axis=(0, 1))
    wanted = (np.arange(slices) + 0.5) / slices * area.sum()
    levels = np.searchsorted(np.cumsum(area), wanted)
    size = np.multiply(flair.shape[:2], voxel_size[:2])
    width = 2.2
    height = 2 * (width * size[1] / size[0] + 0.1) + 0.5
    figure = Figure(figsize=(width * slices, height), layout="constrained", facecolor="black")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    for column, level in zip(figure.subplots(2, slices, squeeze=False).T, levels, strict=True):
        picture, aspect = _slice(flair, 2, voxel_size, level)
        outline, _ = _slice(lesions, 2, voxel_size, level)
        for axis in column:
            axis.imshow(picture, cmap="gray", vmin=0, vmax=high, origin="lower", aspect=aspect)
            axis.axis("off")
        if outline.any():
            column[1].contour(outline, [0.5], colors=EXCLUDED, linewidths=0.9)
    figure.suptitle("FLAIR and lesions", color="white", fontsize=11)
    return figure


def _needed(table, columns, name):
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ValueError(f"{name} has no column {', '.join(missing)}: it has {', '.join(map(str, table.columns))}")
    if table.empty:
        raise ValueError(f"{name} has no rows: there is nothing to draw")
    # A table read from a file may have numbers for labels.
    return table.assign(**{n: table[n].map(str, na_action="ignore") for n in LABELS if n in table.columns})


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


def _text(name):
    text = readable(name)
    if len(text) > LONGEST:
        text = text[: LONGEST - 1] + "…"
    return text.replace("$", r"\$")  # unescaped dollars would start a formula


def _fit_label(site, fits):
    name = "all sites" if site == POOLED else _text(site)
    if site not in fits.index or not np.isfinite(fits.loc[site, "slope"]):
        return f"{name}: no fit"
    fit = fits.loc[site]
    r_squared = f"R² {fit['r_squared']:.4f}" if fit["r_squared"] < 0.9999 else "R² > 0.9999"
    return f"{name}: slope {fit['slope']:.3f}, {r_squared}"


def _association(fit):
    p = "P < .001" if fit["p"] < 0.001 else f"P = {fit['p']:.3f}".replace("0.", ".")
    r = fit.get("r", np.nan)
    return p if not np.isfinite(r) else f"r = {r:.2f}, ".replace("-", "−") + p


def _panels(rows, columns, width, height, **shared):
    figure = Figure(figsize=(width * columns, height * rows + 0.4), layout="constrained", facecolor="white")
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def _grid(count, columns, width, height):
    columns = min(columns, count)
    figure, axes = _panels(-(-count // columns), columns, width, height)
    for spare in axes.flat[count:]:
        spare.remove()
    return figure, axes.flat[:count]


def _finish(axis, *, title=None, x=None, y=None):
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color(GREY)
    axis.tick_params(colors=INK, labelsize=8, color=GREY)
    axis.grid(True, axis="both" if x else "y", color=RULE, linewidth=0.7)
    axis.set_axisbelow(True)
    if title:
        axis.set_title(title, fontsize=9.5, fontweight="bold", color=INK, loc="left")
    if x:
        axis.set_xlabel(x, fontsize=9, color=INK)
    if y:
        axis.set_ylabel(y, fontsize=9, color=INK)


def _name_ticks(axis, names, places):
    names = [_text(name) for name in names]
    step = -(-len(names) // 40)
    crowded = len(names) > 12 or max(map(len, names)) > 8
    axis.set_xticks(places[::step], names[::step])
    if crowded:
        axis.tick_params(axis="x", labelrotation=30 if len(names) <= 12 else 90)
        for label in axis.get_xticklabels():
            label.set_horizontalalignment("right" if len(names) <= 12 else "center")
            label.set_rotation_mode("anchor" if len(names) <= 12 else "default")


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


def _legend_of_sites(figure, styles, present):
    present = set(map(str, present))
    handles = [
        Line2D([], [], linestyle="none", label=f"site {_text(site)}", **style)
        for site, style in styles.items()
        if site in present
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 8), frameon=False, fontsize=9)


def _box(volumes, mask):
    if not volumes:
        raise ValueError("there is no map to draw")
    for title, values in volumes.items():
        if values.shape != mask.shape:
            raise ValueError(f"{title!r} has the shape {values.shape} and the mask {mask.shape}: resample one of them")
    if not mask.any():
        raise ValueError("the mask is empty")
    extents = (np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3))
    return tuple(slice(extent[0], extent[-1] + 1) for extent in extents)


def _plane(values, plane, voxel_size, share):
    """A plane at a share of the volume's extent, as of `_slice`."""
    return _slice(values, plane, voxel_size, int(share * (values.shape[plane] - 1)))


def _slice(values, plane, voxel_size, index):
    """A plane as a picture whose first row is the lowest; left is the patient's right, or the back of the head."""
    picture = np.take(values, index, axis=plane).T
    spacing = [v for axis, v in enumerate(voxel_size) if axis != plane]
    return picture if plane == 0 else picture[:, ::-1], spacing[1] / spacing[0]


def _level(region, axis, share):
    """Index of the plane at a share of a region's extent."""
    used = np.flatnonzero(region.any(axis=tuple(a for a in range(3) if a != axis)))
    return int(used[round(share * (used.size - 1))])


def _fullest(region, axis):
    """Index of the plane that holds most of a region; the first where it is empty."""
    return int(np.argmax(region.sum(axis=tuple(a for a in range(3) if a != axis))))


def _tinted(region, colour):
    """A picture of a colour where a region is, else transparent."""
    picture = np.zeros((*region.shape, 4))
    picture[region] = to_rgba(colour, 0.75)
    return picture


def _scaled(values):
    high = np.percentile(values, 99)
    return np.clip(values / high, 0, 1) if high > 0 else np.zeros(values.shape)


def _bar(figure, image, axes, unit, shrink):
    bar = figure.colorbar(image, ax=axes, orientation="horizontal", shrink=shrink, aspect=30, pad=0.02)
    bar.set_label(unit, color="white", fontsize=9)
    bar.ax.tick_params(colors="white", labelsize=8)
    bar.outline.set_edgecolor(GREY)
