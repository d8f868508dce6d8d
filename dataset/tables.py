"""Read and write tables of tab-separated values, by users and by this package."""

import csv
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
AS_TEXT = "save the table as UTF-8 text with tabs between columns"


def read_rows(path: PathLike, columns: Sequence[str] = (), hint: str = AS_TEXT) -> list[dict]:
    """Read the rows of a table written by a user.

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
    list of dict of str
        One dict per row. Missing cells at the end of a row are None; the list of excess cells has
        the key None.

    Raises
    ------
    DatasetError
        If the table does not exist, is not a valid table, or lacks a column.
    """
    path = Path(path)
    require_content(path)
    if not path.is_file():
        raise DatasetError(f"{path}: not a file", "remove it, or replace it by the table")
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, delimiter="\t", strict=True)
            names = reader.fieldnames or ()
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: {error}", AS_TEXT) from error
    if absent := [column for column in columns if column not in names]:
        raise DatasetError(f"{path}: no column {', '.join(absent)}", hint)
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        raise DatasetError(
            f"{path}: column {', '.join(map(repr, duplicates))} occurs twice",
            "rename or remove one",
        )
    return rows


def read_text_table(path: PathLike, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Read a table written by a user, with all cells as text.

    Parameters
    ----------
    path, columns
        See `read_rows`.

    Returns
    -------
    pandas.DataFrame
        Empty cells and ``n/a`` are missing.

    Raises
    ------
    DatasetError
        See `read_rows`; also if a row has more cells than there are headings.
    """
    rows = read_rows(path, columns)
    if any(None in row for row in rows):
        raise DatasetError(f"{path}: a row has more cells than there are headings", AS_TEXT)
    table = pd.DataFrame(rows, columns=None if rows else list(columns), dtype=object)
    return table.where(~table.isin(["n/a", ""]), None)


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
    table = pd.read_csv(path, sep="\t", na_values="n/a", keep_default_na=False, dtype=labels)
    return table.rename(columns=EARLIER_COLUMNS)


def write_tsv(path: Path, table: pd.DataFrame) -> Path:
    """Write a BIDS table atomically: tabs between columns, and ``n/a`` for missing values.

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
    return write_text(path, table.to_csv(sep="\t", index=False, na_rep="n/a", lineterminator="\n"))
