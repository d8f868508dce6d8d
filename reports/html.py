"""Self-contained HTML pages: a report is a list of sections, a section a list of blocks.

A page loads no other file and runs no script: pictures are embedded, and the content security
policy forbids anything else. All text is escaped.
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from numbers import Integral, Real
from urllib.parse import quote, urlsplit

import jinja2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..pictures.drawing import readable
from .blocks import (
    LEVELS,
    Badge,
    Column,
    Details,
    Heading,
    KeyValues,
    Paragraph,
    Picture,
    Section,
    Table,
    Warnings,
)
from .images import figure_uri, image_uri

MISSING = "n/a"
MINUS_ZERO = re.compile(r"^-(?=0(\.0*)?$)")


def render_report(
    title: str,
    sections: Iterable[Section],
    *,
    subtitle: str = "",
    badges: Iterable[Badge] = (),
    footer: str = "",
) -> str:
    """Write a report as one HTML page.

    Parameters
    ----------
    title : str
    sections : sequence of Section
        Sections without blocks are omitted.
    subtitle : str
    badges : sequence of Badge
    footer : str
        Software that wrote the report.

    Returns
    -------
    str
        The page. It needs no other file and contains no date: the same input gives the same page.

    Raises
    ------
    ValueError
        If a block cannot be shown: its link is not relative, its picture is not in a supported
        format, or its level is unknown.
    TypeError
        If an object is not a block.
    """
    anchors = {"top"}  # the anchor of the body
    contexts = []
    for section in sections:
        if section.blocks:
            anchor = _new_anchor(section.anchor or section.title, anchors)
            blocks = list(map(_context, section.blocks))
            contexts.append({"title": section.title, "anchor": anchor, "blocks": blocks})
    page = _environment().get_template("report.html")
    return page.render(
        title=title, subtitle=subtitle, badges=badges, sections=contexts, footer=footer
    )


def format_value(value: object, format: str = "") -> str:
    """Format a value as text for a reader.

    Parameters
    ----------
    value : object
        Missing values (None, NaN, NaT) become n/a; items of sequences are joined by commas.
    format : str
        A format specification for numbers, such as ``.2f`` or ``+.1f``; ``p`` for P values. If
        empty, numbers have four significant digits.

    Returns
    -------
    str
        Minus signs are typographic (U+2212).

    Examples
    --------
    >>> format_value(-0.0421, ".2f"), format_value(0.0004, "p"), format_value(float("nan"))
    ('−0.04', '< .001', 'n/a')
    """
    if isinstance(value, list | tuple | np.ndarray):
        return ", ".join(format_value(item, format) for item in value)
    if _is_missing(value):
        return MISSING
    if isinstance(value, bool | np.bool):
        return "yes" if value else "no"
    if not isinstance(value, Real):
        return str(value)
    if format == "p":
        return "< .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")
    if not format:
        format = "d" if isinstance(value, Integral) else ".4g"
    elif isinstance(value, Integral) and format == "d":
        value = int(value)
    elif format == "d":
        value = round(value)
    text = f"{value:{format}}"
    return MINUS_ZERO.sub("", text).replace("-", "−")


def format_cell(value: object, column: Column) -> str:
    """Format a value as its column specifies.

    Parameters
    ----------
    value : object
    column : Column

    Returns
    -------
    str

    Examples
    --------
    >>> format_cell(0.0421, Column("mean", format=".1f", scale=1000))
    '42.1'
    """
    if column.scale != 1 and isinstance(value, Real):
        value = value * column.scale
    return format_value(value, column.format)


def _is_missing(value):
    if value is None or value is pd.NaT or value is pd.NA:
        return True
    return isinstance(value, Real) and np.isnan(value)


def _context(block):
    """Return the texts by which the template shows a block."""
    match block:
        case Paragraph():
            return {"kind": "note" if block.note else "paragraph", "text": block.text}
        case Heading():
            return {"kind": "heading", "text": block.text}
        case Table():
            return {"kind": "table", **_table_context(block)}
        case Picture():
            if isinstance(block.content, Figure):
                uri = figure_uri(block.content, block.format, budget=block.budget)
            else:
                uri = image_uri(block.content, budget=block.budget)
            return {
                "kind": "picture",
                "uri": uri,
                "caption": block.caption,
                "alt": block.alt or block.caption,
                "wide": block.wide,
            }
        case KeyValues():
            items = {readable(name): format_value(value) for name, value in block.items.items()}
            return {"kind": "values", "items": items, "caption": block.caption}
        case Warnings():
            if block.level not in LEVELS:
                raise ValueError(
                    f"level {block.level!r} is unknown: choose one of {', '.join(LEVELS)}"
                )
            return {
                "kind": "messages",
                "title": block.title,
                "level": block.level,
                "messages": block.messages,
            }
        case Details():
            blocks = list(map(_context, block.blocks))
            return {"kind": "details", "title": block.title, "blocks": blocks, "open": block.open}
    raise TypeError(f"{type(block).__name__} is not a block of a report")


def _table_context(table):
    columns = table.columns
    if columns is None:
        columns = map(Column, map(str, table.data.columns))
    columns = [column for column in columns if column.name in table.data.columns]
    is_numeric = {column.name: _is_numeric(table.data[column.name]) for column in columns}
    headings = []
    for column in columns:
        text = readable(column.name) if column.heading is None else column.heading
        headings.append({"text": text, "numeric": is_numeric[column.name]})
    footer = table.data.iloc[:0] if table.footer is None else table.footer
    return {
        "headings": headings,
        "caption": table.caption,
        "link": None if table.link is None else _relative_link(table.link),
        "file": table.link,
        "rows": _rows(table.data, columns, is_numeric),
        "footer": _rows(footer, columns, is_numeric),
    }


def _rows(frame, columns, is_numeric):
    rows = []
    for record in frame.to_dict("records"):
        cells = []
        for column in columns:
            text = format_cell(record.get(column.name), column)
            cells.append({"text": text, "numeric": is_numeric[column.name]})
        rows.append(cells)
    return rows


def _is_numeric(values):
    values = values.dropna()
    return len(values) > 0 and all(map(_is_number, values))


def _is_number(value):
    return isinstance(value, Real) and not isinstance(value, bool | np.bool)


def _relative_link(path):
    parts = urlsplit(path)
    if parts.scheme or parts.netloc or path.startswith(("/", "\\")) or "\\" in path:
        raise ValueError(
            f"{path!r} is not a relative path: a report may only link to files next to it"
        )
    return quote(path)


def _new_anchor(text, anchors):
    """Return an anchor that the page does not have yet, and add it to `anchors`."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    stem = re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "section"
    anchor = stem
    number = 1
    while anchor in anchors:
        number += 1
        anchor = f"{stem}-{number}"
    anchors.add(anchor)
    return anchor


@cache
def _environment():
    def source(name):
        return files(__package__).joinpath("templates", name).read_text(encoding="utf-8")

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["galleries"] = _galleries
    return environment


def _galleries(blocks):
    """Group consecutive narrow pictures, to be shown side by side; other blocks stay alone."""
    groups = []
    extends_gallery = False
    for block in blocks:
        is_narrow = block["kind"] == "picture" and not block["wide"]
        if is_narrow and extends_gallery:
            groups[-1].append(block)
        else:
            groups.append([block])
        extends_gallery = is_narrow
    return groups
