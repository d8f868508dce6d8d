"""Colours, labels and axes that all figures share.

A site has one colour and one marker in all figures, both from `site_styles`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

SiteStyles = Mapping[str, Mapping[str, Any]]  # colour and marker of each site

PPB = 1000  # ppb in one ppm

# Okabe and Ito's palette, which is distinguishable with any type of colour vision.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5D3A9B")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
INK = "#1f2933"
GREY = "#7b8794"
RULE = "#e4e7eb"
LONGEST = 28  # characters of a label; longer labels would leave too little room for the data
LABELS = ("subject", "site", "method", "roi", "first", "second")


# Labels that are not words.
IN_WORDS = {"sex.M": "sex (male)", "sex.F": "sex (female)", "csf": "CSF"}


def readable(name: object) -> str:
    """Return labels as words: underscores become spaces, levels of sex and CSF are spelt out.

    Parameters
    ----------
    name : object
        Name of a region or column, or several with commas between them.

    Returns
    -------
    str

    Examples
    --------
    >>> readable("globus_pallidus")
    'globus pallidus'
    >>> readable("sex.M, disease_duration")
    'sex (male), disease duration'
    """
    words = []
    for label in str(name).split(", "):
        words.append(IN_WORDS.get(label, " ".join(label.replace("_", " ").split())))
    return ", ".join(words)


def site_styles(sites: Iterable[object]) -> dict[str, dict[str, str]]:
    """Assign a colour and a marker to every site, in the order of their labels.

    Parameters
    ----------
    sites : iterable of str
        All sites of the study, with or without repeats. A site that is absent from one
        figure then does not change the colours of the others.

    Returns
    -------
    dict of str to dict
        ``color`` and ``marker`` of each site. The pairs repeat after 56 sites.

    Examples
    --------
    >>> site_styles(["B", "A", "B"])["B"]
    {'color': '#D55E00', 'marker': 's'}
    """
    styles = {}
    for number, site in enumerate(sorted(set(map(str, sites)))):
        # Seven colours and eight markers have no common divisor: 56 different pairs.
        styles[site] = {
            "color": PALETTE[number % len(PALETTE)],
            "marker": MARKERS[number % len(MARKERS)],
        }
    return styles


def with_columns(table: pd.DataFrame, columns: Iterable[str], name: str) -> pd.DataFrame:
    """Check that a table has the columns of a figure, and convert its labels to text.

    In a table that was read from a file, labels such as ``01`` are numbers.

    Parameters
    ----------
    table : DataFrame
    columns : iterable of str
        Columns that the figure needs.
    name : str
        Name of the table in messages.

    Returns
    -------
    DataFrame
        The table with `LABELS` as text.

    Raises
    ------
    ValueError
        If a column is missing or there are no rows.
    """
    absent = [column for column in columns if column not in table.columns]
    if absent:
        raise ValueError(
            f"{name} has no column {', '.join(absent)}: it has {', '.join(map(str, table.columns))}"
        )
    if table.empty:
        raise ValueError(f"{name} has no rows: there is nothing to draw")
    labels = table.columns.intersection(LABELS)
    return table.assign(**table[labels].map(str, na_action="ignore"))


def short_name(name: object) -> str:
    """Return a label as words, cut to `LONGEST` characters, with dollar signs escaped.

    Examples
    --------
    >>> short_name("anterior_nucleus_of_the_thalamus")
    'anterior nucleus of the tha…'
    """
    text = readable(name)
    if len(text) > LONGEST:
        text = text[: LONGEST - 1] + "…"
    return text.replace("$", r"\$")  # unescaped dollars would start a formula


def p_text(p: float) -> str:
    """Format a P value as in journals, without a leading zero.

    Examples
    --------
    >>> p_text(0.0302), p_text(1), p_text(4e-5)
    ('P = .030', 'P = 1.000', 'P < .001')
    """
    return "P < .001" if p < 0.001 else f"P = {p:.3f}".replace("0.", ".")


def panels(
    rows: int, columns: int, width: float, height: float, **shared: Any
) -> tuple[Figure, np.ndarray]:
    """Create a figure with rows and columns of axes.

    Parameters
    ----------
    rows, columns : int
    width, height : float
        Size of one panel, inches.
    **shared
        Which axes share a scale: ``sharex`` and ``sharey`` of `matplotlib.figure.Figure.subplots`.

    Returns
    -------
    figure : matplotlib.figure.Figure
    axes : ndarray of matplotlib.axes.Axes, shape (rows, columns)
    """
    figure = Figure(
        figsize=(width * columns, height * rows + 0.4), layout="constrained", facecolor="white"
    )
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def panel_grid(count: int, columns: int, width: float, height: float) -> tuple[Figure, np.ndarray]:
    """Create a figure with `count` axes in rows of at most `columns`.

    Parameters
    ----------
    count, columns : int
    width, height : float
        Size of one panel, inches.

    Returns
    -------
    figure : matplotlib.figure.Figure
    axes : ndarray of matplotlib.axes.Axes, shape (count,)
    """
    columns = min(columns, count)
    figure, axes = panels(-(-count // columns), columns, width, height)
    for spare in axes.flat[count:]:
        spare.remove()
    return figure, axes.flat[:count]


def finish_axis(
    axis: Axes, *, title: str | None = None, x: str | None = None, y: str | None = None
) -> None:
    """Set the title, labels and grid of an axis; without `x` the grid has no vertical lines."""
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


def name_ticks(axis: Axes, names: Iterable[object], positions: np.ndarray) -> None:
    """Label the ticks of the x axis, at most 40 of them; many or long labels are rotated."""
    texts = list(map(short_name, names))
    step = -(-len(texts) // 40)
    crowded = len(texts) > 12 or max(map(len, texts)) > 8
    axis.set_xticks(positions[::step], texts[::step])
    if crowded:
        axis.tick_params(axis="x", labelrotation=30 if len(texts) <= 12 else 90)
        for label in axis.get_xticklabels():
            label.set_horizontalalignment("right" if len(texts) <= 12 else "center")
            label.set_rotation_mode("anchor" if len(texts) <= 12 else "default")


def legend_of_sites(figure: Figure, styles: SiteStyles, sites: Iterable[object]) -> None:
    """Add a legend of the sites above a figure, limited to the sites that it shows."""
    shown_sites = set(map(str, sites))
    handles = []
    for site, style in styles.items():
        if site in shown_sites:
            label = f"site {short_name(site)}"
            handles.append(Line2D([], [], linestyle="none", label=label, **style))
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=min(len(handles), 8),
        frameon=False,
        fontsize=9,
    )


def labels_of(table: pd.DataFrame, column: str) -> list[str]:
    """Return the different labels of a column, in the order of their first rows."""
    return list(map(str, pd.unique(table[column].dropna())))
