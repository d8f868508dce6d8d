"""The parts of a report: sections that hold blocks, such as paragraphs, tables and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import pandas as pd
from matplotlib.figure import Figure

PICTURE_BUDGET = 160_000  # bytes of the page that one picture may occupy
LEVELS = ("error", "warning", "info")


@dataclass(frozen=True)
class Paragraph:
    """Running text.

    Attributes
    ----------
    text : str
        Line breaks are kept.
    note : bool
        Whether it explains a table or picture next to it; notes are set in smaller type.
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
        Format of numbers as in `multiqsm.reports.html.format_value`.
    scale : float
        Factor by which numbers are multiplied, such as 1000 from ppm to ppb.
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
        The rows; the index is not shown.
    caption : str
    columns : sequence of Column, optional
        Columns to show, in order; those that `data` lacks are omitted. By default all columns of
        `data`, unformatted.
    link : str, optional
        Relative path from the report to the table as a file.
    footer : DataFrame, optional
        Rows below a rule, such as means, with the columns of `data`.
    """

    data: pd.DataFrame
    caption: str = ""
    columns: Sequence[Column] | None = None
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
        Description for readers who cannot see the picture; the caption if empty.
    format : {'svg', 'webp', 'png', 'jpeg'}
        File format that a figure is saved in: SVG suits plots, the others images of voxels.
    budget : int
        Bytes of the page that it may occupy. Images of voxels are compressed until they fit; SVG is
        not.
    wide : bool
        Whether it takes the full width of the page; pictures that do not are put side by side.
    """

    content: bytes | Figure
    caption: str = ""
    alt: str = ""
    format: Literal["svg", "webp", "png", "jpeg"] = "svg"
    budget: int = PICTURE_BUDGET
    wide: bool = True


@dataclass(frozen=True)
class KeyValues:
    """Names and values in two columns.

    Attributes
    ----------
    items : dict of str
        Values by name, formatted by `multiqsm.reports.html.format_value`.
    caption : str
    """

    items: Mapping[str, object]
    caption: str = ""


@dataclass(frozen=True)
class Warnings:
    """Messages that the reader must notice.

    Attributes
    ----------
    messages : sequence of str
    title : str
    level : {'error', 'warning', 'info'}
    """

    messages: Sequence[str]
    title: str = "Warnings"
    level: Literal["error", "warning", "info"] = "warning"


@dataclass(frozen=True)
class Details:
    """Blocks that the reader can collapse. They are always printed.

    Attributes
    ----------
    title : str
    blocks : sequence of Block
    open : bool
        Whether they are expanded at first.
    """

    title: str
    blocks: Sequence[Block]
    open: bool = False


@dataclass(frozen=True)
class Section:
    """A section of the report, with an entry in the navigation.

    Attributes
    ----------
    title : str
    blocks : sequence of Block
    anchor : str, optional
        Fragment of the page's address; derived from the title if not given.
    """

    title: str
    blocks: Sequence[Block]
    anchor: str | None = None


@dataclass(frozen=True)
class Badge:
    """A figure at the head of the report, such as the number of subjects.

    Attributes
    ----------
    value, label : str
    level : str
        One of `LEVELS`, or empty.
    """

    value: str
    label: str
    level: str = field(default="")


Block: TypeAlias = Paragraph | Heading | Table | Picture | KeyValues | Warnings | Details
