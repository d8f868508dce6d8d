"""Write the tables of a study into the derivative dataset, each with a sidecar."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from ..bids_templates import load_template
from .files import PathLike, write_json
from .levels import add_levels
from .sidecars import sidecar_path
from .tables import write_tsv

GROUP = "group"
MODEL_PREFIX = "model-"  # of the folder of a model's tables
# Names of tables' files, where they differ from those of the tables.
FILE_NAMES = {"rois": "roi_chi", "tubes": "tubes_chi"}


def group_table_path(output_dir: PathLike, name: str) -> Path:
    """Return the path of a table of a study.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.
    name : str
        Name of the table, see `multiqsm.stats.study.study_tables`.

    Returns
    -------
    pathlib.Path

    Examples
    --------
    >>> group_table_path("out", "rois").as_posix()
    'out/group/roi_chi.tsv'
    """
    return Path(output_dir, GROUP, f"{FILE_NAMES.get(name, name)}.tsv")


def model_folder(output_dir: PathLike, model: str) -> Path:
    """Return the folder of a regression model's tables.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.
    model : str
        Name of the model.

    Returns
    -------
    pathlib.Path

    Examples
    --------
    >>> model_folder("out", "thalamus").as_posix()
    'out/group/model-thalamus'
    """
    return Path(output_dir, GROUP, f"{MODEL_PREFIX}{model}")


def write_group_table(output_dir: PathLike, name: str, table: pd.DataFrame) -> Path:
    """Write a table of a study with the sidecar that describes its columns.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.
    name : str
        Name of the table.
    table : DataFrame
        The table.

    Returns
    -------
    pathlib.Path
        The file of the table.
    """
    path = write_tsv(group_table_path(output_dir, name), table)
    columns = add_levels(describe_group_table(name, table.columns), table)
    write_json(sidecar_path(path), columns)
    return path


def remove_group_table(output_dir: PathLike, name: str) -> None:
    """Remove a table of an earlier run and its sidecar, if they exist.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.
    name : str
        Name of the table.
    """
    path = group_table_path(output_dir, name)
    path.unlink(missing_ok=True)
    sidecar_path(path).unlink(missing_ok=True)


def describe_group_table(name: str, columns: Iterable[str]) -> dict[str, Any]:
    """Return the sidecar of a table of a study.

    Parameters
    ----------
    name : str
        Name of the table.
    columns : iterable of str
        Its columns.

    Returns
    -------
    dict
        ``Description`` of the table, and the description, unit and levels of each column that the
        template ``group_tables`` has; `levels.add_levels` adds levels that several tables share.
        What the template says of the table's own column has precedence over what it says of columns
        of that name in general.
    """
    template = load_template("group_tables")
    description = template["tables"].get(name, {})
    known_columns = template["columns"] | description.get("Columns", {})
    sidecar = {}
    if "Description" in description:
        sidecar["Description"] = description["Description"]
    for column in columns:
        if column in known_columns:
            sidecar[column] = known_columns[column]
    return sidecar
