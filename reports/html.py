"""Self-contained HTML pages: a report is a list of sections, a section a list of blocks.

A page loads nothing from outside and runs no script: pictures are embedded, and its content security policy forbids
all else. Every text is escaped.
"""

import base64
import re
import unicodedata
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from io import BytesIO
from numbers import Integral, Real
from urllib.parse import quote, urlsplit

import jinja2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from ..pictures.drawing import readable

PICTURE_BUDGET = 160_000  # bytes of a picture in the page
QUALITIES = (82, 68, 50)
SMALLEST_SIDE = 24  # pixels; a picture this small is kept, whatever the budget
SMALL = 30_000  # bytes below which a picture is not worth packing again
SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"<svg", "image/svg+xml"),
    (b"<?xml", "image/svg+xml"),
)
MISSING = "n/a"
MINUS_ZERO = re.compile(r"^-(?=0(\.0*)?$)")
LEVELS = ("error", "warning", "info")


@dataclass(frozen=True)
class Paragraph:
    """Running text.

    Attributes
    ----------
    text : str
        Line breaks are kept.
    note : bool
        Whether it explains what stands beside it, and is set smaller.
    """

    text: str
    note: bool = False


@dataclass(frozen=True)
class Heading:
    """A heading within a section.

    Attributes
    ----------
    text : str
    """

    text: str


@dataclass(frozen=True)
class Column:
    """How a column of a table is shown.

    Attributes
    ----------
    name : str
        Name in the DataFrame.
    heading : str, optional
        Heading with unit; the name with spaces if not given.
    format : str
        Format of numbers as in `format_value`.
    scale : float
        What numbers are multiplied with, such as 1000 from ppm to ppb.
    """

    name: str
    heading: str | None = None
    format: str = ""
    scale: float = 1.0


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes
    ----------
    data : DataFrame
        Its rows; the index is not shown.
    caption : str
    columns : sequence of Column, optional
        Columns to show, in order; those that `data` lacks are left out. All as they are if not given.
    link : str, optional
        Relative path from the report to the table as a file.
    footer : DataFrame, optional
        Rows below a rule, such as means, with columns of `data`.
    """

    data: pd.DataFrame
    caption: str = ""
    columns: tuple[Column, ...] | None = None
    link: str | None = None
    footer: pd.DataFrame | None = None


@dataclass(frozen=True)
class Picture:
    """A picture.

    Attributes
    ----------
    content : bytes or matplotlib.figure.Figure
        PNG, JPEG, WebP or SVG file, or a figure.
    caption : str
    alt : str
        What it shows, for those who do not see it; the caption if empty.
    format : {'svg', 'webp', 'png', 'jpeg'}
        How a figure is drawn: SVG suits plots, the others images of voxels.
    budget : int
        Most bytes in the page. Images of voxels are compressed until they fit; SVG is not.
    wide : bool
        Whether it takes the full width where pictures stand side by side.
    """

    content: bytes | Figure
    caption: str = ""
    alt: str = ""
    format: str = "svg"
    budget: int = PICTURE_BUDGET
    wide: bool = True


@dataclass(frozen=True)
class KeyValues:
    """Names and values in two columns.

    Attributes
    ----------
    items : dict of str
        Values are shown by `format_value`.
    caption : str
    """

    items: dict
    caption: str = ""


@dataclass(frozen=True)
class Warnings:
    """Messages that the reader must not miss.

    Attributes
    ----------
    messages : sequence of str
    title : str
    level : {'error', 'warning', 'info'}
    """

    messages: tuple[str, ...]
    title: str = "Warnings"
    level: str = "warning"


@dataclass(frozen=True)
class Details:
    """Blocks that the reader can fold away. Printed in any case.

    Attributes
    ----------
    title : str
    blocks : sequence
    open : bool
        Whether they are shown at first.
    """

    title: str
    blocks: tuple
    open: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the report with its entry in the navigation.

    Attributes
    ----------
    title : str
    blocks : sequence
    anchor : str, optional
        Name in the page's address; made from the title if not given.
    """

    title: str
    blocks: tuple
    anchor: str | None = None


@dataclass(frozen=True)
class Badge:
    """A number of the study in the report's head.

    Attributes
    ----------
    value, label : str
    level : str
        One of `LEVELS`, or empty.
    """

    value: str
    label: str
    level: str = field(default="")


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
        If a block cannot be shown: a link that is not relative, a picture that is none, an unknown level.
    TypeError
        If a block is of no known kind.
    """
    taken, shown = {"top"}, []  # the body's own anchor
    for section in sections:
        if section.blocks:
            anchor = _anchor(section.anchor or section.title, taken)
            shown.append({"title": section.title, "anchor": anchor, "blocks": [_context(b) for b in section.blocks]})
    page = _environment().get_template("report.html")
    return page.render(title=title, subtitle=subtitle, badges=badges, sections=shown, footer=footer)


def figure_uri(figure, format="svg", *, budget=PICTURE_BUDGET):
    """Draw a figure into a data URI.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    format : {'svg', 'webp', 'png', 'jpeg'}
        SVG for plots; the others hold pixels and are compressed until they fit.
    budget : int
        Most bytes of the URI, but for SVG.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If the format is unknown.
    """
    buffer = BytesIO()
    if format == "svg":
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        return _data_uri(_numbered(buffer.getvalue().decode()).encode(), "image/svg+xml")
    if format not in ("webp", "png", "jpeg"):
        raise ValueError(f"figures can be drawn as svg, webp, png or jpeg, not {format!r}")
    figure.savefig(buffer, format="png", dpi=100)
    return _pixels_uri(buffer.getvalue(), "image/png", budget, format=format)


def image_uri(content, *, budget=PICTURE_BUDGET):
    """Embed a picture file as a data URI, compressed if that makes it smaller.

    Parameters
    ----------
    content : bytes
        PNG, JPEG, WebP or SVG file.
    budget : int
        Most bytes of the URI; a picture of pixels loses quality, then size, until it fits
        or has 24 pixels a side left.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If the content is none of these.
    """
    kind = next((kind for signature, kind in SIGNATURES if content.lstrip().startswith(signature)), None)
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        kind = "image/webp"
    if kind is None:
        raise ValueError("a picture is neither PNG, JPEG, WebP nor SVG")
    return _data_uri(content, kind) if kind == "image/svg+xml" else _pixels_uri(content, kind, budget)


def format_value(value, format=""):
    """Write a value as text for a reader.

    Parameters
    ----------
    value : object
        Missing values (None, NaN, NaT) become n/a; sequences are joined by commas.
    format : str
        A format specification for numbers, such as ``.2f`` or ``+.1f``; ``p`` for P values; empty chooses four
        significant digits.

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
    if value is None or value is pd.NaT or value is pd.NA or (isinstance(value, Real) and np.isnan(value)):
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
            return {"kind": "picture", "uri": uri, "caption": block.caption, "alt": alt, "wide": block.wide}
        case KeyValues():
            items = {readable(name): format_value(value) for name, value in block.items.items()}
            return {"kind": "values", "items": items, "caption": block.caption}
        case Warnings():
            if block.level not in LEVELS:
                raise ValueError(f"level {block.level!r} is unknown: choose one of {', '.join(LEVELS)}")
            return {"kind": "messages", "title": block.title, "level": block.level, "messages": block.messages}
        case Details():
            inner = [_context(b) for b in block.blocks]
            return {"kind": "details", "title": block.title, "blocks": inner, "open": block.open}
    raise TypeError(f"{type(block).__name__} is no block of a report")


def _table_context(table):
    data = table.data
    columns = [Column(str(name)) for name in data.columns] if table.columns is None else table.columns
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
            [{"text": format_cell(row.get(column.name), column), "numeric": numeric[column.name]} for column in columns]
            for row in frame.to_dict("records")
        ]
        for name, frame in (("rows", data), ("footer", data.iloc[:0] if table.footer is None else table.footer))
    }
    link = None if table.link is None else _relative_link(table.link)
    return {"headings": headings, "caption": table.caption, "link": link, "file": table.link, **parts}


def _is_numeric(values):
    if pd.api.types.is_bool_dtype(values):
        return False
    known = values.dropna()
    return len(known) > 0 and all(isinstance(v, Real) and not isinstance(v, bool | np.bool) for v in known)


def _relative_link(path):
    parts = urlsplit(path)
    if parts.scheme or parts.netloc or path.startswith(("/", "\\")) or "\\" in path:
        raise ValueError(f"{path!r} is no relative path: a report links to files beside it only")
    return quote(path)


def _anchor(text, taken):
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    stem = re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "section"
    anchor, number = stem, 1
    while anchor in taken:
        number += 1
        anchor = f"{stem}-{number}"
    taken.add(anchor)
    return anchor


def _numbered(svg):
    """Matplotlib names parts of an SVG at random; numbers make the same figure the same text."""
    names = {}

    def number(match):
        return names.setdefault(match[0], f"{match[0][0]}{len(names)}")

    return re.sub(r"\b[a-zA-Z][0-9a-f]{10}\b", number, svg)


def _pixels_uri(content, kind, budget, *, format="webp"):
    room = budget * 3 // 4 - 40  # base64 takes four bytes for three, beside the head of the URI
    if len(content) <= min(SMALL, room):
        return _data_uri(content, kind)
    smallest, picture = (content, kind), Image.open(BytesIO(content)).convert("RGB")
    while True:
        for quality in QUALITIES:
            buffer = BytesIO()
            picture.save(buffer, format=format, quality=quality)
            if buffer.tell() < len(smallest[0]):
                smallest = buffer.getvalue(), f"image/{format}"
            if len(smallest[0]) <= room or min(picture.size) < SMALLEST_SIDE:
                return _data_uri(*smallest)
        picture = picture.resize([side * 3 // 4 for side in picture.size], Image.Resampling.LANCZOS)


def _data_uri(content, kind):
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


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
