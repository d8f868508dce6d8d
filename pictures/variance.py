"""Figures of the components of variance, and of site offsets before and after harmonisation."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from .drawing import (
    GREY,
    INK,
    PALETTE,
    finish_axis,
    labels_of,
    legend_of_sites,
    name_ticks,
    panels,
    readable,
    short_name,
    site_styles,
    with_columns,
)
from .regional import draw_strip, without_reference

COMPONENTS = {  # colours that differ from those of the sites
    "subject": "#0b5d8f",
    "site": "#b5420a",
    "run": "#5d3a9b",
    "subject_site": "#e0a458",
    "residual": "#c3cad2",
}


def component_name(name: str) -> str:
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


def variance_figure(components: pd.DataFrame) -> Figure:
    """Draw each component's fraction of a region's variance as stacked bars, labelled with its SD.

    Parameters
    ----------
    components : DataFrame
        Columns ``method``, ``roi``, ``component`` and ``sd`` (ppb), see
        `stats.components.variance_components`.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per method. Lengths are fractions of the variance, because variances add up
        and SDs do not.

    Raises
    ------
    ValueError
        If a column is missing or there is nothing to draw.
    """
    table = with_columns(
        components, ("method", "roi", "component", "sd"), "the table of variance components"
    )
    methods = labels_of(table, "method")
    rois = labels_of(table, "roi")
    names = labels_of(table, "component")
    figure, axes = panels(1, len(methods), 4.8, 0.42 * len(rois) + 1.4, sharey=True)
    for axis, method in zip(axes[0], methods, strict=True):
        sd = table[table["method"] == method].pivot_table(
            index="roi", columns="component", values="sd"
        )
        sd = sd.reindex(index=rois, columns=names).fillna(0.0)
        total = (sd**2).sum(axis=1)
        percent = (100 * (sd**2).div(total.where(total > 0), axis=0)).fillna(0.0)
        starts = np.zeros(len(rois))
        for number, name in enumerate(names):
            color = COMPONENTS.get(name, PALETTE[number % len(PALETTE)])
            dark = np.dot(to_rgba(color)[:3], (0.299, 0.587, 0.114)) < 0.55  # luma
            axis.barh(
                np.arange(len(rois)),
                percent[name],
                left=starts,
                color=color,
                height=0.62,
                label=short_name(component_name(name)),
            )
            for place, (part, value) in enumerate(zip(percent[name], sd[name], strict=True)):
                if part > 9:  # %, wide enough for the number
                    axis.text(
                        starts[place] + part / 2,
                        place,
                        f"{value:.1f}",
                        ha="center",
                        va="center",
                        fontsize=7.5,
                        color="white" if dark else INK,
                        fontweight="bold",
                    )
            starts += percent[name].to_numpy()
        axis.set_yticks(np.arange(len(rois)), [short_name(roi) for roi in rois])
        axis.set_ylim(len(rois) - 0.5, -0.5)
        axis.set_xlim(0, 100)
        finish_axis(axis, title=short_name(method), x="fraction of variance (%); numbers: SD (ppb)")
        axis.grid(False, axis="y")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(len(names), 5),
        frameon=False,
        fontsize=8.5,
    )
    return figure


def harmonization_figure(
    before: pd.DataFrame, after: pd.DataFrame, *, sites: Iterable[object] | None = None
) -> Figure:
    """Draw the offset of each site before and after harmonisation.

    Parameters
    ----------
    before, after : DataFrame
        ROI tables: columns ``subject``, ``site``, ``method``, ``roi`` and ``mean`` (ppm).
    sites : iterable of str, optional
        All sites of the study, for their colours.

    Returns
    -------
    matplotlib.figure.Figure
        One row per method, one column each for before and after. Points are the differences
        between scans and the mean of their subject's site means; bars are the means of sites.

    Raises
    ------
    ValueError
        If a column is missing or there is nothing to draw.
    """
    columns = ("subject", "site", "method", "roi", "mean")
    tables = [
        without_reference(with_columns(before, columns, "the table before")),
        without_reference(with_columns(after, columns, "the table after")),
    ]
    methods = labels_of(tables[0], "method")
    rois = labels_of(tables[0], "roi")
    styles = site_styles(tables[0]["site"] if sites is None else sites)
    figure, axes = panels(
        len(methods), 2, max(4.4, 0.85 * len(rois) + 1.2), 2.9, sharex=True, sharey=True
    )
    for row, method in zip(axes, methods, strict=True):
        for axis, table, title in zip(row, tables, ("before", "after"), strict=True):
            table = table[table["method"] == method]
            centre = (
                table.groupby(["subject", "roi", "site"])["mean"]
                .mean()
                .groupby(["subject", "roi"])
                .mean()
            )
            keys = pd.MultiIndex.from_frame(table[["subject", "roi"]])
            table = table.assign(
                mean=table["mean"].to_numpy(float) - centre.reindex(keys).to_numpy()
            )
            axis.axhline(0, color=GREY, linewidth=0.8)
            draw_strip(axis, table, "roi", rois, styles, bars=True, alpha=0.45)
            name_ticks(axis, rois, np.arange(len(rois)))
            finish_axis(
                axis,
                title=f"{short_name(method)}, {title}",
                y="difference (ppb)" if axis is row[0] else None,
            )
    legend_of_sites(figure, styles, tables[0]["site"])
    return figure
