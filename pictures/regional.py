"""Figures of regional values in all scans, against age, and in the tubes of a phantom."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..stats.calibration import POOLED
from .agreement import of_method
from .drawing import (
    GREY,
    INK,
    PALETTE,
    PPB,
    SiteStyles,
    finish_axis,
    labels_of,
    legend_of_sites,
    name_ticks,
    p_text,
    panel_grid,
    panels,
    readable,
    short_name,
    site_styles,
    with_columns,
)

ANALYSES = {
    # Wide lines are drawn below narrow ones, because the lines of a balanced study coincide.
    "naive": ("all scans as if independent", "#c3cad2", "-", 5.0),
    "subject_means": ("subject means", PALETTE[0], "-", 2.0),
    "random_intercept": ("random intercept", PALETTE[1], (0, (1, 2)), 2.0),
}
SMALLEST = 1e-6  # ppm; a region whose means are all smaller is the reference


def calibration_figure(
    tubes: pd.DataFrame, calibration: pd.DataFrame, *, sites: Iterable[object] | None = None
) -> Figure:
    """Draw measured against expected susceptibility of the phantom's tubes, with the regression of
    each site.

    Parameters
    ----------
    tubes : DataFrame
        Columns ``site``, ``method``, ``mean`` and ``expected`` (ppm): one row per scan, method and
        tube.
    calibration : DataFrame
        Columns ``site`` (or ``all``), ``method``, ``slope``, ``intercept`` (ppm) and ``r_squared``,
        see `stats.calibration.calibrate`.
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
    methods = labels_of(tubes, "method")
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
                points["expected"],
                points["mean"],
                linestyle="none",
                markerfacecolor="none",
                markersize=6,
                **style,
            )
            if site in fits.index:
                fit = fits.loc[site]
                axis.plot(
                    span,
                    fit["intercept"] + fit["slope"] * span,
                    color=style["color"],
                    linewidth=1.2,
                )
            axis.plot(
                [], [], linewidth=1.2, **style, markerfacecolor="none", label=_fit_label(site, fits)
            )
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
            axis,
            title=short_name(method),
            x="expected susceptibility (ppm)",
            y="measured susceptibility (ppm)",
        )
        axis.yaxis.set_tick_params(labelleft=True)
        axis.legend(fontsize=7.5, frameon=False, loc="upper left")
    return figure


def age_figure(
    table: pd.DataFrame,
    age_table: pd.DataFrame,
    per_subject: pd.DataFrame | None = None,
    *,
    method: str | None = None,
) -> Figure:
    """Draw regional susceptibility against age: the means of subjects, all scans, and the lines of
    each analysis.

    Parameters
    ----------
    table : DataFrame
        The ROI table: columns ``subject``, ``method``, ``roi``, ``mean`` (ppm) and ``age`` (years).
    age_table : DataFrame
        Columns ``method``, ``roi``, ``analysis`` (``naive``, ``subject_means`` or
        ``random_intercept``), ``slope`` (ppm per year), ``intercept`` (ppm), ``p_bonferroni`` and,
        where the analysis has one, ``r``.
    per_subject : DataFrame, optional
        Columns ``subject``, ``method``, ``roi`` and ``cross`` (ppm): the error bars.
    method : str, optional
        Method to show, by default the first of the table.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per region.

    Raises
    ------
    ValueError
        If a column is missing or there is nothing to draw.
    """
    table = of_method(
        with_columns(table, ("subject", "method", "roi", "mean", "age"), "the ROI table"), method
    )
    table = without_reference(table).dropna(subset=["age", "mean"])
    method = table["method"].iloc[0] if len(table) else method
    fits = with_columns(
        age_table,
        ("method", "roi", "analysis", "slope", "intercept", "p_bonferroni"),
        "the table of age",
    )
    fits = fits[fits["method"] == method]
    if per_subject is not None:
        per_subject = with_columns(
            per_subject, ("subject", "method", "roi", "cross"), "the table of imprecision"
        )
    rois = [roi for roi in labels_of(table, "roi") if roi in set(fits["roi"])]
    if not rois:
        raise ValueError("no region has both measurements with an age and a regression on age")
    figure, axes = panel_grid(len(rois), 3, 3.6, 3.1)
    for axis, roi in zip(axes, rois, strict=True):
        scans = table[table["roi"] == roi]
        means = scans.groupby("subject")[["age", "mean"]].mean()
        axis.plot(
            scans["age"], scans["mean"] * PPB, ".", color=GREY, alpha=0.4, markersize=3.5, zorder=1
        )
        bars = None
        if per_subject is not None:
            bars = per_subject[(per_subject["method"] == method) & (per_subject["roi"] == roi)]
            bars = bars.set_index("subject")["cross"].reindex(means.index).to_numpy(float) * PPB
        axis.errorbar(
            means["age"],
            means["mean"] * PPB,
            yerr=bars,
            fmt="o",
            color=INK,
            markersize=4.5,
            elinewidth=1,
            capsize=2,
        )
        ages = np.array([means["age"].min(), means["age"].max()])
        for fit in (
            fits[fits["roi"] == roi].dropna(subset=["slope", "intercept"]).to_dict("records")
        ):
            name, color, line, width = ANALYSES.get(
                fit["analysis"], (readable(fit["analysis"]), PALETTE[2], "-.", 1.5)
            )
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
        if axis.get_legend_handles_labels()[0]:  # with few subjects there may be no line
            low, high = axis.get_ylim()
            axis.set_ylim(low, high + 0.4 * (high - low))  # room for the legend
            legend = axis.legend(
                title="P corrected for the regions",
                title_fontsize=7,
                alignment="left",
                fontsize=7,
                frameon=False,
                loc="upper left",
                handlelength=2.2,
            )
            legend.get_title().set_color(INK)
    return figure


def roi_figure(table: pd.DataFrame, *, sites: Iterable[object] | None = None) -> Figure:
    """Draw the regions' mean susceptibility in every scan, coloured by site.

    Parameters
    ----------
    table : DataFrame
        The ROI table: columns ``subject``, ``site``, ``method``, ``roi`` and ``mean`` (ppm). The
        reference region is omitted.
    sites : iterable of str, optional
        All sites of the study, for their colours.

    Returns
    -------
    matplotlib.figure.Figure
        For one subject, one panel per method with the regions side by side. For several subjects,
        one row per region and one column per method with the subjects side by side.

    Raises
    ------
    ValueError
        If a column is missing or there is nothing to draw.
    """
    table = without_reference(
        with_columns(table, ("subject", "site", "method", "roi", "mean"), "the ROI table")
    )
    styles = site_styles(table["site"] if sites is None else sites)
    subjects = sorted(labels_of(table, "subject"))
    methods = labels_of(table, "method")
    rois = labels_of(table, "roi")
    if len(subjects) == 1:
        figure, axes = panels(1, len(methods), max(4.2, 0.85 * len(rois) + 1.2), 3.4, sharey=True)
        for axis, method in zip(axes[0], methods, strict=True):
            draw_strip(axis, table[table["method"] == method], "roi", rois, styles)
            name_ticks(axis, rois, np.arange(len(rois)))
            finish_axis(
                axis,
                title=short_name(method),
                y="susceptibility (ppb)" if axis is axes[0, 0] else None,
            )
    else:
        width = float(np.clip(0.42 * len(subjects) + 1.4, 3.6, 9))
        figure, axes = panels(len(rois), len(methods), width, 1.9, sharex=True, sharey="row")
        for row, roi in zip(axes, rois, strict=True):
            for axis, method in zip(row, methods, strict=True):
                chosen = table[(table["method"] == method) & (table["roi"] == roi)]
                draw_strip(axis, chosen, "subject", subjects, styles)
                finish_axis(
                    axis,
                    title=f"{short_name(roi)}, {short_name(method)}",
                    y="χ (ppb)" if axis is row[0] else None,
                )
                name_ticks(axis, subjects, np.arange(len(subjects)))
        for axis in axes[-1]:
            axis.set_xlabel("subject", color=INK, fontsize=9)
    legend_of_sites(figure, styles, table["site"])
    return figure


def without_reference(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of all regions but the reference, whose values are 0 by definition."""
    largest = table.groupby("roi")["mean"].transform(lambda values: values.abs().max())
    regions = table[~(largest < SMALLEST)]
    if regions.empty:
        raise ValueError(
            "all regions are zero in all scans: there is nothing to draw except the reference"
        )
    return regions


def _fit_label(site, fits):
    name = "all sites" if site == POOLED else short_name(site)
    if site not in fits.index or not np.isfinite(fits.loc[site, "slope"]):
        return f"{name}: no fit"
    fit = fits.loc[site]
    r_squared = f"R² {fit['r_squared']:.4f}" if fit["r_squared"] < 0.9999 else "R² > 0.9999"
    return f"{name}: slope {fit['slope']:.3f}, {r_squared}"


def _association(fit):
    p = p_text(fit["p_bonferroni"])
    r = fit.get("r", np.nan)
    return p if not np.isfinite(r) else f"r = {r:.2f}, ".replace("-", "−") + p


def draw_strip(
    axis: Axes,
    table: pd.DataFrame,
    column: str,
    order: Sequence[str],
    styles: SiteStyles,
    *,
    bars: bool = False,
    alpha: float = 0.85,
) -> None:
    """Draw the values of every scan, with the scans of a site side by side in their own order.

    The order takes the place of random jitter, so that drifts become visible. `bars` adds the mean
    of each site.
    """
    slot = 0.8 / len(styles)
    for number, (site, style) in enumerate(styles.items()):
        start = -0.4 + slot * number
        chosen = table[table["site"] == site]
        for place, label in enumerate(order):
            values = chosen.loc[chosen[column] == label, "mean"].to_numpy(float) * PPB
            if not values.size:
                continue
            offsets = start + slot * (np.arange(values.size) + 0.5) / values.size
            axis.plot(
                place + offsets,
                values,
                linestyle="none",
                markersize=3.2,
                alpha=alpha,
                markeredgewidth=0,
                **style,
            )
            if bars:
                axis.plot(
                    [place + start, place + start + slot],
                    [np.nanmean(values)] * 2,
                    color=INK,
                    linewidth=1.8,
                )
    axis.set_xlim(-0.6, len(order) - 0.4)
