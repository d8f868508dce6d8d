"""Tables in Markdown for pages of docs/ that scripts write."""

import json
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

PPB = 1000
DASH = "–"
WIDTH = 99  # of a line of text, with the asterisk that follows


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table in Markdown.

    Parameters
    ----------
    headings : sequence of str
        Headings of the columns.
    rows : sequence of sequence of str
        Cells of each row.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If a row has another number of cells than there are headings.
    """
    lines = []
    for line in (headings, ["---"] * len(headings), *rows):
        if len(line) != len(headings):
            raise ValueError(f"{len(line)} cells for {len(headings)} headings: {line}")
        lines.append(f"| {' | '.join(line)} |")
    return "\n".join(lines)


def number(value: float | None, spec: str) -> str:
    """Write a number as papers print it, without the zero before the point.

    Parameters
    ----------
    value : float or None
        The number.
    spec : str
        Its format, such as ``.1f`` or ``+.3f``.

    Returns
    -------
    str
        A dash for a missing number.

    Examples
    --------
    >>> number(-0.26, "+.2f"), number(1.5, ".1f"), number(-0.001, "+.2f"), number(None, ".1f")
    ('−.26', '1.5', '0.00', '–')
    """
    if pd.isna(value):
        return DASH
    text = f"{value:{spec}}"
    if set(text) <= set("+-0."):  # zero has no sign
        text = text.lstrip("+-")
    return without_zeros(text.replace("-", "−"))


def without_zeros(text: str) -> str:
    """Remove the zeros before the decimal points of a text, as in papers.

    Parameters
    ----------
    text : str
        Numbers, and anything between them.

    Returns
    -------
    str

    Examples
    --------
    >>> without_zeros("0.029 (−0.0057 to 10.053)")
    '.029 (−.0057 to 10.053)'
    """
    return re.sub(r"(?<![\d.])0(?=\.0*[1-9])", "", text)  # a zero itself keeps its own


def p_text(p: float | None) -> str:
    """Write a P value with three decimals.

    Parameters
    ----------
    p : float or None
        P; missing if there was no test.

    Returns
    -------
    str

    Examples
    --------
    >>> p_text(0.00002), p_text(0.0302), p_text(1.0)
    ('< .001', '.030', '1.000')
    """
    if pd.notna(p) and p < 0.001:
        return "< .001"
    return number(p, ".3f")


def mean_sd(values: pd.Series, spec: str) -> str:
    """Write mean, standard deviation and range.

    Parameters
    ----------
    values : Series
        Numbers, NaN where missing.
    spec : str
        Their format.

    Returns
    -------
    str

    Examples
    --------
    >>> mean_sd(pd.Series([1.0, 2.0, 3.0]), ".1f")
    '2.0 ± 1.0 (1.0 to 3.0)'
    """
    mean, sd = number(values.mean(), spec), number(values.std(), spec)
    return f"{mean} ± {sd} ({number(values.min(), spec)} to {number(values.max(), spec)})"


def in_words(name: str) -> str:
    """Write the name of a region with spaces.

    Parameters
    ----------
    name : str
        Such as ``red_nucleus``.

    Returns
    -------
    str
    """
    return name.replace("_", " ")


def paragraph(text: str) -> str:
    """Break a paragraph into lines.

    Parameters
    ----------
    text : str
        Sentences.

    Returns
    -------
    str
    """
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def raw_dataset(derivatives: Path) -> Path:
    """Find the raw dataset that derivatives are of.

    Parameters
    ----------
    derivatives : Path
        Root of the derivative dataset.

    Returns
    -------
    Path
        As its description says.
    """
    description = json.loads((derivatives / "dataset_description.json").read_text())
    link = description["DatasetLinks"]["raw"]
    return derivatives / link.removeprefix("file://")
