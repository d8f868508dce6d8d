"""Self-contained HTML pages: a report is a list of sections, a section a list of blocks.

A page loads nothing from outside and runs no script: pictures are embedded, and its content
security policy forbids all else. Every text is escaped.
"""

import re
import unicodedata
from functools import cache
from importlib.resources import files
from numbers import Integral, Real
from urllib.parse import quote, urlsplit

import jinja2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..pictures.drawing import readable
from .blocks import LEVELS, Column, Details, Heading, KeyValues, Paragraph, Picture, Table, Warnings
from .images import figure_uri, image_uri

MISSING = "n/a"


MINUS_ZERO = re.compile(r"^-(?=0(\.0*)?$)")


def render_report(title, sections, *, subtitle="", badges=(), footer=""):
    """Write a report as one HTML page.

    Parameters
    ----------
    title : str
    sections : sequence of Section
        Those without blocks are left out.
    subtitle : str
    badges : sequence of Badge
    footer : str
        What made the report.

    Returns
    -------
    str
        The page. It needs no other file, and holds no date: the same input gives the same page.

    Raises
    ------
    ValueError
        If a block cannot be shown: a link that is not relative, a picture that is none, an unknown
        level.
    TypeError
        If a block is of no known kind.
    """
    # the body's own anchor
    taken = {"top"}
    shown = []
    for section in sections:
        if section.blocks:
            anchor = _anchor(section.anchor or section.title, taken)
            shown.append(
                {
                    "title": section.title,
                    "anchor": anchor,
                    "blocks": [_context(b) for b in section.blocks],
                }
            )
    page = _environment().get_template("report.html")
    return page.render(title=title, subtitle=subtitle, badges=badges, sections=shown, footer=footer)


def format_value(value, format=""):
    """Write a value as text for a reader.

    Parameters
    ----------
    value : object
        Missing values (None, NaN, NaT) become n/a; sequences are joined by commas.
    format : str
        A format specification for numbers, such as ``.2f`` or ``+.1f``; ``p`` for P values; empty
        chooses four significant digits.

    Returns
    -------
    str
        Minus signs are typographic.

    Examples
    --------
    >>> format_value(-0.0421, ".2f"), format_value(0.0004, "p"), format_value(float("nan"))
    ('−0.04', '< .001', 'n/a')
    """
    if isinstance(value, list | tuple | np.ndarray):
        return ", ".join(format_value(item, format) for item in value)
    if (
        value is None
        or value is pd.NaT
        or value is pd.NA
        or (isinstance(value, Real) and np.isnan(value))
    ):
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


def format_cell(value, column):
    """Write a value as its column wants it.

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


def _context(block):
    """What the template needs of a block: texts only."""
    match block:
        case Paragraph():
            return {"kind": "note" if block.note else "paragraph", "text": block.text}
        case Heading():
            return {"kind": "heading", "text": block.text}
        case Table():
            return {"kind": "table", **_table_context(block)}
        case Picture():
            drawn = isinstance(block.content, Figure)
            uri = (
                figure_uri(block.content, block.format, budget=block.budget)
                if drawn
                else image_uri(block.content, budget=block.budget)
            )
            alt = block.alt or block.caption
            return {
                "kind": "picture",
                "uri": uri,
                "caption": block.caption,
                "alt": alt,
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
            inner = [_context(b) for b in block.blocks]
            return {"kind": "details", "title": block.title, "blocks": inner, "open": block.open}
    raise TypeError(f"{type(block).__name__} is no block of a report")


def _table_context(table):
    data = table.data
    columns = (
        [Column(str(name)) for name in data.columns] if table.columns is None else table.columns
    )
    columns = [column for column in columns if column.name in data.columns]
    numeric = {column.name: _is_numeric(data[column.name]) for column in columns}
    headings = [
        {
            "text": readable(column.name) if column.heading is None else column.heading,
            "numeric": numeric[column.name],
        }
        for column in columns
    ]
    parts = {
        name: [
            [
                {"text": format_cell(row.get(column.name), column), "numeric": numeric[column.name]}
                for column in columns
            ]
            for row in frame.to_dict("records")
        ]
        for name, frame in (
            ("rows", data),
            ("footer", data.iloc[:0] if table.footer is None else table.footer),
        )
    }
    link = None if table.link is None else _relative_link(table.link)
    return {
        "headings": headings,
        "caption": table.caption,
        "link": link,
        "file": table.link,
        **parts,
    }


def _is_numeric(values):
    if pd.api.types.is_bool_dtype(values):
        return False
    known = values.dropna()
    return len(known) > 0 and all(
        isinstance(v, Real) and not isinstance(v, bool | np.bool) for v in known
    )


def _relative_link(path):
    parts = urlsplit(path)
    if parts.scheme or parts.netloc or path.startswith(("/", "\\")) or "\\" in path:
        raise ValueError(f"{path!r} is no relative path: a report links to files beside it only")
    return quote(path)


def _anchor(text, taken):
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    stem = re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "section"
    anchor = stem
    number = 1
    while anchor in taken:
        number += 1
        anchor = f"{stem}-{number}"
    taken.add(anchor)
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
    """Narrow pictures in a row stand side by side, everything else alone."""
    groups = []
    for block in blocks:
        narrow = block["kind"] == "picture" and not block["wide"]
        if narrow and groups and groups[-1][-1]["kind"] == "picture" and not groups[-1][-1]["wide"]:
            groups[-1].append(block)
        else:
            groups.append([block])
    return groups
