"""Figures of a study's regressions: forest plots, partial residuals, diagnostics of residuals."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import stats

from ..stats.transformations import power
from .drawing import GREY, INK, PALETTE, finish_axis, panel_grid, panels, short_name, with_columns

BEFORE = "#7b8794"
AFTER = PALETTE[0]
INFLUENTIAL = PALETTE[1]  # patients with a strong influence on a fit


def forest_figure(coefficients: pd.DataFrame) -> Figure:
    """Draw standardised coefficients with their 95 % confidence intervals, before and after
    adjustment.

    Parameters
    ----------
    coefficients : DataFrame
        Columns ``outcome``, ``predictor``, ``adjusted``, ``standardised``, ``standardised_low`` and
        ``standardised_high``, of one node and subset, see `stats.model.run_model`.

    Returns
    -------
    matplotlib.figure.Figure
        One row per outcome and predictor, from top to bottom.

    Raises
    ------
    ValueError
        If a column is missing or no regression has a result.
    """
    columns = (
        "outcome",
        "predictor",
        "adjusted",
        "standardised",
        "standardised_low",
        "standardised_high",
    )
    table = with_columns(coefficients, columns, "the table of coefficients").dropna(
        subset=["standardised"]
    )
    if table.empty:
        raise ValueError("no regression has a result: there is nothing to draw")
    pairs = table[["outcome", "predictor"]].drop_duplicates().to_numpy().tolist()
    figure, ((axis,),) = panels(1, 1, 7.4, 0.9 + 0.42 * len(pairs))
    for place, pair in enumerate(pairs):
        rows = table[(table["outcome"] == pair[0]) & (table["predictor"] == pair[1])]
        for row in rows.itertuples():
            height = -place + (-0.14 if row.adjusted else 0.14)
            color = AFTER if row.adjusted else BEFORE
            axis.plot(
                [row.standardised_low, row.standardised_high],
                [height] * 2,
                color=color,
                linewidth=1.8,
            )
            axis.plot(
                row.standardised,
                height,
                marker="s" if row.adjusted else "o",
                color=color,
                markersize=5.5,
            )
    axis.axvline(0, color=INK, linewidth=0.9)
    axis.set_yticks([-place for place in range(len(pairs))], [_pair(*pair) for pair in pairs])
    axis.set_ylim(0.6 - len(pairs), 0.6)
    finish_axis(axis, x="standardised coefficient, 95 % CI")
    handles = [
        Line2D([], [], color=BEFORE, marker="o", label="before adjustment"),
        Line2D([], [], color=AFTER, marker="s", label="after"),
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=2, frameon=False, fontsize=8.5)
    return figure


def partial_residual_figure(residuals: pd.DataFrame) -> Figure:
    """Draw partial residuals against the predictor, one panel per regression.

    The slope of the line is the predictor's coefficient. Patients with a Cook's distance above 4/n
    are coloured.

    Parameters
    ----------
    residuals : DataFrame
        Columns ``outcome``, ``predictor``, ``predictor_value``, ``partial_residual`` and ``cook``,
        of one node and subset, adjusted or not, see `stats.model.run_model`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If a column is missing or there is nothing to draw.
    """
    columns = ("outcome", "predictor", "predictor_value", "partial_residual", "cook")
    groups = _regressions(with_columns(residuals, columns, "the table of residuals"))
    figure, axes = panel_grid(len(groups), 3, 3.3, 2.7)
    for axis, ((outcome, predictor), rows) in zip(axes, groups, strict=True):
        x = rows["predictor_value"].to_numpy(float)
        y = rows["partial_residual"].to_numpy(float)
        _points(axis, x, y, rows["cook"] > 4 / len(rows))
        slope, intercept = np.polyfit(x, y, 1)
        ends = np.array([x.min(), x.max()])
        axis.plot(ends, intercept + slope * ends, color=INK, linewidth=1.5)
        finish_axis(axis, x=short_name(predictor), y=f"{short_name(outcome)}, partial")
    return figure


def residual_figure(residuals: pd.DataFrame) -> Figure:
    """Draw diagnostics of the residuals of each regression, three panels in a row.

    Left: residuals against fitted values, which should show neither a trend nor a funnel. Middle:
    ordered studentised residuals against normal quantiles, which should lie on the line. Right:
    studentised residuals against leverage; patients far to the right and far from zero have a
    strong influence on the fit.

    Parameters
    ----------
    residuals : DataFrame
        Columns ``outcome``, ``predictor``, ``fitted``, ``residual``, ``studentised``, ``leverage``
        and ``cook``, as in `partial_residual_figure`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If a column is missing or there is nothing to draw.
    """
    columns = ("outcome", "predictor", "fitted", "residual", "studentised", "leverage", "cook")
    groups = _regressions(with_columns(residuals, columns, "the table of residuals"))
    figure, axes = panels(len(groups), 3, 3.3, 2.4)
    for row, ((outcome, predictor), points) in zip(axes, groups, strict=True):
        points = points.sort_values("studentised")
        influential = points["cook"] > 4 / len(points)
        quantiles = stats.norm.ppf((np.arange(len(points)) + 0.5) / len(points))
        studentised = points["studentised"].to_numpy(float)
        _points(row[0], points["fitted"], points["residual"], influential)
        _points(row[1], quantiles, studentised, influential)
        _points(row[2], points["leverage"], studentised, influential)
        row[0].axhline(0, color=INK, linewidth=0.9)
        row[1].axline((0, 0), slope=1, color=INK, linewidth=0.9)
        row[2].axhline(0, color=INK, linewidth=0.9)
        finish_axis(row[0], title=_pair(outcome, predictor), x="fitted", y="residual")
        finish_axis(row[1], x="normal quantile", y="studentised")
        finish_axis(row[2], x="leverage", y="studentised")
    return figure


def ladder_figure(values: pd.Series, ladder: pd.DataFrame) -> Figure:
    """Draw quantile-normal plots of a variable after each power of the ladder.

    Normally distributed values lie on the line, which has the mean and standard deviation of the
    values. The power that makes the variable most normal is coloured.

    Parameters
    ----------
    values : Series, shape (n,)
        The untransformed variable; missing values are omitted.
    ladder : DataFrame
        The variable's rows of `stats.transformations.ladder_of_powers`: columns ``power``,
        ``formula``, ``chi2`` and ``chosen``.

    Returns
    -------
    matplotlib.figure.Figure
        One panel for each power that is defined.

    Raises
    ------
    ValueError
        If a column is missing or there is nothing to draw.
    """
    columns = ("power", "formula", "chi2", "chosen")
    rungs = with_columns(ladder, columns, "the ladder of powers").dropna(subset=["chi2"])
    values = values.dropna().astype(float)
    quantiles = stats.norm.ppf((np.arange(len(values)) + 0.5) / len(values))
    figure, axes = panel_grid(len(rungs), 3, 2.6, 2.2)
    for axis, rung in zip(axes, rungs.itertuples(), strict=True):
        transformed = np.sort(power(values, rung.power).to_numpy())
        color = AFTER if rung.chosen else GREY
        axis.plot(quantiles, transformed, "o", color=color, markersize=2.5, markeredgewidth=0)
        axis.axline((0, transformed.mean()), slope=transformed.std(ddof=1), color=INK, linewidth=1)
        title = f"{rung.formula}, χ² = {rung.chi2:.1f}"
        finish_axis(axis, title=title, x="normal quantile", y=f"{rung.formula}, ordered")
    return figure


def _regressions(residuals):
    return list(residuals.groupby(["outcome", "predictor"], sort=False))


def _pair(outcome, predictor):
    return f"{short_name(outcome)} on {short_name(predictor)}"


def _points(axis, x, y, influential):
    x = np.asarray(x, float)
    y = np.asarray(y, float)
    influential = np.asarray(influential, bool)
    for chosen, color in ((~influential, GREY), (influential, INFLUENTIAL)):
        axis.plot(
            x[chosen], y[chosen], "o", color=color, markersize=3, alpha=0.75, markeredgewidth=0
        )
