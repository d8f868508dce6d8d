"""What a report is made of: sections of blocks."""

from dataclasses import dataclass, field

import pandas as pd
from matplotlib.figure import Figure

PICTURE_BUDGET = 160_000  # bytes of a picture in the page
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
        Format of numbers as in `multiqsm.reports.html.format_value`.
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
        Columns to show, in order; those that `data` lacks are left out. All as they are if not
        given.
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
        Values are shown by `multiqsm.reports.html.format_value`.
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
