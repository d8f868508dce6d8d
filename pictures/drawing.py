"""What the figures share: colours, words, axes.

A site has one colour and one marker in all figures, both from `site_styles`.
"""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

PPB = 1000  # ppb in one ppm

# Okabe and Ito's colours, distinct for every kind of colour vision.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5D3A9B")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
INK, GREY, RULE = "#1f2933", "#7b8794", "#e4e7eb"
LONGEST = 28  # characters of a label; longer ones would leave no room for the data
LABELS = ("subject", "site", "method", "roi", "first", "second")


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


def site_styles(sites):
    """Give every site its colour and marker, in the order of the labels.

    Parameters
    ----------
    sites : iterable of str
        All sites of the study, with or without repeats, so that a site that is missing in one
        figure does not change the others' colours there.

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


def with_columns(table, columns, name):
    """Make a table ready to be drawn: labels are text, as they are not in a table read from a file.

    Parameters
    ----------
    table : DataFrame
    columns : sequence of str
        What the figure needs.
    name : str
        What the table is called in a message.

    Returns
    -------
    DataFrame

    Raises
    ------
    ValueError
        If a column is missing or there are no rows.
    """
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ValueError(
            f"{name} has no column {', '.join(missing)}: it has "
            f"{', '.join(map(str, table.columns))}"
        )
    if table.empty:
        raise ValueError(f"{name} has no rows: there is nothing to draw")
    return table.assign(
        **{n: table[n].map(str, na_action="ignore") for n in LABELS if n in table.columns}
    )


def short_name(name):
    """Write a label as words that leave room for the data, none of which start a formula.

    Examples
    --------
    >>> short_name("anterior_nucleus_of_the_thalamus")
    'anterior nucleus of the tha…'
    """
    text = readable(name)
    if len(text) > LONGEST:
        text = text[: LONGEST - 1] + "…"
    return text.replace("$", r"\$")  # unescaped dollars would start a formula


def panels(rows, columns, width, height, **shared):
    """Begin a figure of rows and columns of axes.

    Parameters
    ----------
    rows, columns : int
    width, height : float
        Of one panel, inches.
    **shared
        Which axes share a scale, as of `matplotlib.figure.Figure.subplots`.

    Returns
    -------
    figure : matplotlib.figure.Figure
    axes : ndarray of matplotlib.axes.Axes, shape (rows, columns)
    """
    figure = Figure(
        figsize=(width * columns, height * rows + 0.4), layout="constrained", facecolor="white"
    )
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def panel_grid(count, columns, width, height):
    """Begin a figure of so many axes in rows of at most so many columns.

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


def finish_axis(axis, *, title=None, x=None, y=None):
    """Give an axis its title, labels and quiet lines; only one with a label below has vertical
    ones.
    """
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


def name_ticks(axis, names, places):
    """Write names below their places; many or long ones at an angle, and of very many every second
    or third.
    """
    names = [short_name(name) for name in names]
    step = -(-len(names) // 40)
    crowded = len(names) > 12 or max(map(len, names)) > 8
    axis.set_xticks(places[::step], names[::step])
    if crowded:
        axis.tick_params(axis="x", labelrotation=30 if len(names) <= 12 else 90)
        for label in axis.get_xticklabels():
            label.set_horizontalalignment("right" if len(names) <= 12 else "center")
            label.set_rotation_mode("anchor" if len(names) <= 12 else "default")


def legend_of_sites(figure, styles, present):
    """Explain above a figure the colours and markers of those sites that it shows."""
    present = set(map(str, present))
    handles = [
        Line2D([], [], linestyle="none", label=f"site {short_name(site)}", **style)
        for site, style in styles.items()
        if site in present
    ]
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=min(len(handles), 8),
        frameon=False,
        fontsize=9,
    )


def labels_of(table, column):
    """Labels of a column, sorted."""
    return [str(label) for label in pd.unique(table[column].dropna())]
