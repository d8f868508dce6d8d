"""Figures of how well scans, sites and methods agree."""

from collections.abc import Iterable
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .drawing import (
    GREY,
    INK,
    PALETTE,
    PPB,
    RULE,
    finish_axis,
    labels_of,
    name_ticks,
    p_text,
    panels,
    short_name,
    site_styles,
    with_columns,
)

WITHIN = "#8ecae6"
CROSS = "#0b5d8f"

# Koo and Li, J Chiropr Med 15:155-163 (2016): poor, moderate, good, excellent.
ICC_BANDS = ((0.5, 0.75, "moderate", 0.35), (0.75, 0.9, "good", 0.7), (0.9, 1.0, "excellent", 1.0))
MAX_PAIRS = 6
RATERS = {"sites": "sites (means)", "all": "all scans"}


def imprecision_figure(per_subject: pd.DataFrame, tests: pd.DataFrame | None = None) -> Figure:
    """Draw within- and cross-site imprecision of each subject as bars, with the mean over subjects.

    As in Lin 2015, figures 5 and 6, the title of a panel has the P value of the paired test.

    Parameters
    ----------
    per_subject : DataFrame
        Columns ``subject``, ``method``, ``roi``, ``within`` and ``cross`` (ppm).
    tests : DataFrame, optional
        Tests of within- against cross-site imprecision: columns ``method``, ``roi`` and
        ``p_bonferroni``.

    Returns
    -------
    matplotlib.figure.Figure
        One row per region, one column per method; methods share the scale of a region.

    Raises
    ------
    ValueError
        If a column is missing or there is nothing to draw.
    """
    table = with_columns(
        per_subject, ("subject", "method", "roi", "within", "cross"), "the table of imprecision"
    )
    subjects = sorted(labels_of(table, "subject"))
    methods = labels_of(table, "method")
    rois = labels_of(table, "roi")
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
                axis,
                title=f"{short_name(roi)}, {short_name(method)}{_test_text(tests, method, roi)}",
                y="SD (ppb)" if axis is row[0] else None,
            )
            name_ticks(axis, [*subjects, "mean"], places)
    for axis in axes[-1]:
        axis.set_xlabel("subject", color=INK, fontsize=9)
    handles = [Patch(color=WITHIN, label="within-site"), Patch(color=CROSS, label="cross-site")]
    figure.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    return figure


def _test_text(tests: pd.DataFrame | None, method: str, roi: str) -> str:
    """Return the corrected P value of a panel's test, if there is one, for its title."""
    if tests is None:
        return ""
    values = tests.loc[(tests["method"] == method) & (tests["roi"] == roi), "p_bonferroni"].dropna()
    return f", {p_text(values.iloc[0])}" if len(values) else ""


def bland_altman_figure(
    points: pd.DataFrame,
    limits: pd.DataFrame,
    *,
    comparison: Literal["sites", "methods"] = "sites",
    method: str | None = None,
) -> Figure:
    """Draw differences between two sites (or methods) against their mean, with bias and limits of
    agreement.

    Parameters
    ----------
    points : DataFrame
        Columns ``comparison``, ``method``, ``roi``, ``first``, ``second``, ``mean`` and
        ``difference`` (ppb), see `stats.agreement.bland_altman_points`.
    limits : DataFrame
        Columns ``comparison``, ``method``, ``roi``, ``first``, ``second``, ``bias``, ``lower`` and
        ``upper`` (ppb).
    comparison : {'sites', 'methods'}
        Whether sites or methods are compared.
    method : str, optional
        Method to show, by default the first of the comparison.

    Returns
    -------
    matplotlib.figure.Figure
        One row per pair, one column per region. Of more than six pairs only the first six are
        drawn, as the title then says.

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
    points = of_method(points, method)
    limits = limits[
        (limits["comparison"] == comparison) & (limits["method"] == points["method"].iloc[0])
    ]
    all_pairs = points[["first", "second"]].drop_duplicates()
    rois = labels_of(points, "roi")
    pairs = all_pairs.head(MAX_PAIRS).to_numpy().tolist()
    figure, axes = panels(len(pairs), len(rois), 2.5, 2.1, sharex="col", sharey=True)
    for number, (row, (first, second)) in enumerate(zip(axes, pairs, strict=True)):
        for axis, roi in zip(row, rois, strict=True):
            of_pair = {"first": first, "second": second, "roi": roi}
            differences = _rows_with(points, of_pair)
            lines = _rows_with(limits, of_pair)
            for line in lines.to_dict("records"):
                axis.axhspan(
                    line["lower"], line["upper"], color=to_rgba(PALETTE[0], 0.09), linewidth=0
                )
                axis.axhline(line["bias"], color=PALETTE[0], linewidth=1.4)
                for limit in (line["lower"], line["upper"]):
                    axis.axhline(limit, color=PALETTE[0], linewidth=0.9, linestyle="--")
            axis.axhline(0, color=GREY, linewidth=0.7)
            style = {"color": INK, "markersize": 3.2, "alpha": 0.8}
            axis.plot(differences["mean"], differences["difference"], "o", **style)
            finish_axis(
                axis,
                title=short_name(roi) if number == 0 else None,
                x="mean (ppb)" if number == len(pairs) - 1 else None,
                y=f"{short_name(first)} − {short_name(second)} (ppb)" if axis is row[0] else None,
            )
    title = short_name(points["method"].iloc[0]) if comparison == "sites" else "methods"
    if len(all_pairs) > len(pairs):
        title += f": the first {len(pairs)} of {len(all_pairs)} pairs"
    figure.suptitle(title, fontsize=10, fontweight="bold", color=INK)
    return figure


def icc_figure(
    table: pd.DataFrame, *, form: str = "ICC(2,1)", sites: Iterable[object] | None = None
) -> Figure:
    """Draw intraclass correlations with their confidence intervals as a forest plot.

    Parameters
    ----------
    table : DataFrame
        Columns ``method``, ``roi``, ``raters``, ``site``, ``form``, ``icc``, ``ci_low`` and
        ``ci_high``, see `stats.agreement.intraclass_correlation`.
    form : str
        Form to show.
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
    columns = ("method", "roi", "raters", "site", "form", "icc", "ci_low", "ci_high")
    all_forms = with_columns(table, columns, "the table of ICC")
    table = all_forms[all_forms["form"] == form]
    if table.empty:
        forms = ", ".join(map(str, pd.unique(all_forms["form"])))
        raise ValueError(f"the table of ICC has no form {form!r}: choose one of {forms}")
    scans = table["raters"] == "scans"
    styles = site_styles(table.loc[scans, "site"] if sites is None else sites)
    methods = labels_of(table, "method")
    rois = labels_of(table, "roi")
    kinds = list(table[["raters", "site"]].drop_duplicates().itertuples(index=False, name=None))
    height = max(2.4, 0.115 * len(rois) * max(len(kinds), 3) + 1.2)
    figure, axes = panels(1, len(methods), 4.6, height, sharex=True, sharey=True)
    for axis, method in zip(axes[0], methods, strict=True):
        for low, high, name, alpha in ICC_BANDS:
            axis.axvspan(low, high, color=to_rgba("#d8efe4", alpha), linewidth=0, zorder=0)
            font = {"fontsize": 6.5, "color": GREY, "ha": "center", "va": "bottom"}
            axis.text((low + high) / 2, 1.0, name, **font, transform=axis.get_xaxis_transform())
        for number, (raters, site) in enumerate(kinds):
            rows = table[
                (table["method"] == method) & (table["raters"] == raters) & (table["site"] == site)
            ]
            rows = rows.drop_duplicates("roi").set_index("roi").reindex(rois)
            places = np.arange(len(rois)) + (number - (len(kinds) - 1) / 2) * 0.75 / len(kinds)
            bars = np.array(
                [rows["icc"] - rows["ci_low"], rows["ci_high"] - rows["icc"]], dtype=float
            )
            if raters == "scans":
                label = f"scans at {short_name(site)}"
                style = styles[str(site)]
            else:
                label = short_name(RATERS.get(raters, raters))
                style = {
                    "color": INK if raters == "sites" else GREY,
                    "marker": "D" if raters == "sites" else "x",
                }
            axis.errorbar(
                rows["icc"],
                places,
                xerr=np.maximum(bars, 0),
                linestyle="none",
                markersize=4.5,
                elinewidth=1.3,
                capsize=2,
                label=label,
                **style,
            )
        axis.set_yticks(np.arange(len(rois)), [short_name(roi) for roi in rois])
        finish_axis(axis, x=f"{form} and 95 % CI")
        axis.grid(False, axis="y")
        for border in np.arange(1, len(rois)) - 0.5:
            axis.axhline(border, color=RULE, linewidth=0.8)
        axis.set_title(
            short_name(method), fontsize=9.5, fontweight="bold", color=INK, loc="left", pad=14
        )
    lowest = table["ci_low"].min()
    axes[0, 0].set_xlim(max(min(0.0, lowest), -1.0) if np.isfinite(lowest) else 0.0, 1)
    axes[0, 0].set_ylim(len(rois) - 0.5, -0.5)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(len(kinds), 5),
        frameon=False,
        fontsize=8.5,
    )
    return figure


def of_method(table: pd.DataFrame, method: str | None) -> pd.DataFrame:
    """Return the rows of one method, by default of the first."""
    chosen = table[table["method"] == (table["method"].iloc[0] if method is None else method)]
    if chosen.empty:
        raise ValueError(
            f"there are no rows of method {method!r}: choose one of "
            f"{', '.join(labels_of(table, 'method'))}"
        )
    return chosen


def _rows_with(table, labels):
    """Return the rows that have all these labels, by column."""
    for column, label in labels.items():
        table = table[table[column] == label]
    return table
