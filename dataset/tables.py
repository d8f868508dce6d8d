"""Read and write tables of tab-separated values, by users and by this package."""

import codecs
import csv
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from .content import require_content
from .files import PathLike, write_text
from .problems import DatasetError
from .repeats import COLUMNS

REQUIRED = ("subject", "session", "run", "site", "method", "roi", "unit", "reference")
TEXT_COLUMNS = (*REQUIRED, *COLUMNS, "protocol")

# Columns of a model's tables whose labels may look like numbers, and must stay text.
MODEL_LABELS: tuple[str, ...] = (
    "participant",
    "node",
    "subset",
    "outcome",
    "predictor",
    "adjusted_for",
    "column",
    "what",
    "source",
    "leverage_of",
    "cook_of",
    "studentised_of",
    "most_inflated",
)
LESION_LABELS = ("lesion",)
# Columns of tables of earlier versions, and their names today.
EARLIER_COLUMNS = {"unresolved_share": "unresolved_fraction"}
LINE_END = re.compile(r"\r\n|\n|\r")
REPLACED = "\N{REPLACEMENT CHARACTER}"
AS_TEXT = "save the table as UTF-8 text with tabs between columns"


class Row(dict):
    """The cells of a row by their columns; missing cells at its end are None.

    Attributes
    ----------
    line : int
        Its line in the table; line 1 has the headings.
    excess : tuple of str
        Cells beyond the headings that are not empty.
    """

    def __init__(self, names: Sequence[str], cells: Sequence[str], line: int) -> None:
        super().__init__(dict.fromkeys(names) | dict(zip(names, cells, strict=False)))
        self.line = line
        self.excess = tuple(filter(None, cells[len(names) :]))


def read_rows(path: PathLike, columns: Sequence[str] = (), hint: str = AS_TEXT) -> list[Row]:
    """Read the rows of a table written by a user.

    As BIDS has it, only tabs and line ends have a meaning; quotes are characters like any other.
    Characters that are not UTF-8 are replaced by U+FFFD, since they may be in a column or a row
    that nobody reads.

    Parameters
    ----------
    path : path-like
        The table: UTF-8, with tabs between columns.
    columns : sequence of str
        Required columns.
    hint : str
        Advice in the error if a column is missing.

    Returns
    -------
    list of Row
        Lines without any cell are left out.

    Raises
    ------
    DatasetError
        If the table does not exist, is not text, or lacks a required column or has it twice.
    """
    _, rows = _read(Path(path), columns, hint)
    return rows


def _read(path, columns, hint=AS_TEXT):
    """Return the headings and the rows of a table, see `read_rows`."""
    names, lines = _read_lines(path)
    if absent := [column for column in columns if column not in names]:
        raise DatasetError(f"{path}: no column {', '.join(absent)}", hint)
    if repeated := sorted(_repeated(names) & set(columns)):
        raise DatasetError(
            f"{path}: column {', '.join(map(repr, repeated))} occurs twice", "rename or remove one"
        )
    rows = [Row(names, cells, line) for line, cells in enumerate(lines, start=2) if any(cells)]
    return names, rows


def _read_lines(path):
    """Return the headings of a table, and the cells of its other lines."""
    require_content(path)
    if not path.is_file():
        raise DatasetError(f"{path}: not a file", "remove it, or replace it by the table")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: {error}", AS_TEXT) from error
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DatasetError(f"{path}: the text is in UTF-16", AS_TEXT)
    text = content.decode("utf-8-sig", errors="replace")
    names, *lines = [line.split("\t") for line in LINE_END.split(text)]
    return names, lines


def _repeated(names):
    return {name for name in names if names.count(name) > 1}


def read_text_table(
    path: PathLike, columns: Sequence[str] = ()
) -> tuple[pd.DataFrame, list[tuple[int, str]]]:
    """Read a table written by a user, with all cells as text.

    Parameters
    ----------
    path, columns
        See `read_rows`.

    Returns
    -------
    table : pandas.DataFrame
        Empty cells and ``n/a`` are missing. Columns without a heading, and those that have the
        heading of another one, are left out.
    remarks : list of (int, str)
        Line and what is wrong with it: such columns, cells beyond the headings, characters that
        are not UTF-8.

    Raises
    ------
    DatasetError
        See `read_rows`; also if all rows have more cells than there are headings, so that any of
        them may belong to another column.
    """
    names, rows = _read(Path(path), columns)
    unclear = _repeated(names)
    remarks = [(1, f"has the heading {name!r} twice: not used") for name in sorted(unclear)]
    for row in rows:
        if row.excess:
            remarks.append((row.line, "has more cells than there are headings"))
        if any(REPLACED in (cell or "") for cell in row.values()):
            remarks.append((row.line, "has characters that are not UTF-8"))
    if rows and all(row.excess for row in rows):
        raise DatasetError(f"{path}: all rows have more cells than there are headings", AS_TEXT)
    used = [name for name in names if name and name not in unclear]
    table = pd.DataFrame(list(map(dict, rows)), columns=used, dtype=object)
    return table.where(~table.isin(["n/a", ""]), None), remarks


def read_tsv(path: PathLike) -> pd.DataFrame:
    """Read a table written by this package: labels are text, ``n/a`` is missing, and columns of
    earlier versions have their names of today.

    Parameters
    ----------
    path : path-like
        The table.

    Returns
    -------
    pandas.DataFrame
    """
    labels = dict.fromkeys((*TEXT_COLUMNS, *MODEL_LABELS, *LESION_LABELS), str)
    table = pd.read_csv(
        path,
        sep="\t",
        na_values="n/a",
        keep_default_na=False,
        dtype=labels,
        quoting=csv.QUOTE_NONE,
    )
    return table.rename(columns=EARLIER_COLUMNS)


def write_tsv(path: Path, table: pd.DataFrame) -> Path:
    """Write a BIDS table atomically: tabs between columns, and ``n/a`` for missing values.

    Quotes have no meaning in BIDS tables. Tabs and line ends within a text, which a cell cannot
    have, become spaces.

    Parameters
    ----------
    path : pathlib.Path
        The file; its folder is created if missing.
    table : pandas.DataFrame
        Its index is not written.

    Returns
    -------
    pathlib.Path
        The file.
    """
    table = table.copy()
    for column in table.select_dtypes(include=["object", "string"]):
        table[column] = table[column].map(_in_one_cell)
    text = table.to_csv(
        sep="\t", index=False, na_rep="n/a", lineterminator="\n", quoting=csv.QUOTE_NONE
    )
    return write_text(path, text)


def _in_one_cell(value):
    return re.sub(r"[\t\r\n]+", " ", value) if isinstance(value, str) else value


def stacked_tables(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of two tables, of which pandas would warn if one were empty."""
    not_empty = [table for table in (first, second) if len(table)]
    return pd.concat(not_empty, ignore_index=True) if not_empty else first
