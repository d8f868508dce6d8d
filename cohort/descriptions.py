"""Describe the columns of the table of patients, for its sidecar."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ..bids_templates import load_template
from ..dataset.files import PathLike, read_json
from ..stats.specification import ALL, StudyModel
from ..stats.transformations import Transformation

YES_OR_NO = {"0": "no", "1": "yes"}
RESULTS = {
    "Log": "Natural logarithm of {column}",
    "Sqrt": "Square root of {column}",
    "Reciprocal": "Reciprocal of {column}",
    "Power": "{column} to the power of {value}",
    "Center": "{column} minus {value}",
    "Scale": "{column} in standard deviations from its mean",
    "Ladder": "{column} after the power of Tukey's ladder that makes it most normal",
}


def describe_columns(
    columns: Iterable[str],
    sources: pd.DataFrame,
    transformations: Iterable[Transformation],
    bids_dir: PathLike,
) -> dict[str, dict[str, Any]]:
    """Describe the columns of a table of patients.

    Measures are described by the package, and columns of the dataset's tables by the sidecars of
    these; a column that its sidecar does not describe is described by its source alone.

    Parameters
    ----------
    columns : iterable of str
        Columns of the table ``patients`` of `stats.model.run_model`.
    sources : DataFrame
        Origin of the columns: ``sources`` of `patients.Patients`.
    transformations : iterable of Transformation
        Steps that computed the other columns.
    bids_dir : path-like
        Root of the raw dataset, which relative paths of sources refer to.

    Returns
    -------
    dict of str to dict
        ``Description``, and ``Units`` and ``Levels`` where they are known, of every column.
    """
    measures = {**load_template("quality_table"), **load_template("patient_columns")}
    descriptions: dict[str, dict[str, Any]] = {
        "participant": load_template("model_tables")["participant"]
    }
    for row in sources[sources["used"].astype(bool)].itertuples():
        entry = _of_source(row.column, row.source, measures, Path(bids_dir))
        if isinstance(row.unit, str):
            entry = {**entry, "Units": row.unit}
        descriptions[row.column] = entry
    names = list(columns)
    for step in transformations:
        if step.name == "Factor":
            descriptions |= _of_levels(step, names)
        else:
            unit = descriptions.get(step.column, {}).get("Units")
            descriptions[step.output] = {"Description": _of_step(step, unit)}
    return {name: descriptions[name] for name in names}


def model_table_columns(
    name: str, table: pd.DataFrame, model: StudyModel
) -> dict[str, dict[str, Any]]:
    """Describe the columns of one of a model's other tables.

    Parameters
    ----------
    name : str
        Name of the table; that of covariates has descriptions of its own.
    table : DataFrame
        The table.
    model : StudyModel
        The model, whose nodes and subsets are the levels of these columns.

    Returns
    -------
    dict of str to dict
        ``Description`` and, where they are known, ``Units`` and ``Levels`` of every column.

    Raises
    ------
    KeyError
        If a column has no description.
    """
    entries = load_template("model_tables")
    own: dict[str, Any] = load_template("model_covariates") if name == "covariates" else {}
    levels = {"node": {}, "subset": {ALL: "all patients"}}
    for node in model.nodes:
        levels["node"][node.name] = node.title
    for subset in model.subsets:
        levels["subset"][subset.name] = subset.condition.text
    columns = {}
    for column in table:
        columns[column] = own.get(column) or entries[column]
        if column in levels:
            columns[column] = {**columns[column], "Levels": levels[column]}
    return columns


def whole_levels(
    patients: pd.DataFrame, descriptions: Mapping[str, Mapping[str, Any]]
) -> pd.DataFrame:
    """Write levels that are numbers as their sidecar does: 1, and not 1.0.

    Parameters
    ----------
    patients : DataFrame
        The table of patients.
    descriptions : dict of str to dict
        Result of `describe_columns`.

    Returns
    -------
    DataFrame
        Columns with levels whose values are whole numbers are integers, missing ones included.
    """
    whole = patients.copy()
    for name, entry in descriptions.items():
        if "Levels" in entry and pd.api.types.is_float_dtype(patients[name]):
            values = patients[name].dropna()
            if (values == values.round()).all():
                whole[name] = patients[name].astype("Int64")
    return whole


def add_units(sources: pd.DataFrame, descriptions: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Fill missing units of the columns that are used from their descriptions.

    Parameters
    ----------
    sources : DataFrame
        Origin of the columns.
    descriptions : dict of str to dict
        Result of `describe_columns`.

    Returns
    -------
    DataFrame
    """
    units = {name: entry.get("Units") for name, entry in descriptions.items()}
    described_units = sources["column"].map(units).where(sources["used"].astype(bool))
    return sources.assign(unit=sources["unit"].astype(object).fillna(described_units))


def _of_source(column, source, measures, bids_dir):
    """Describe a column by the sidecar of its table, or as a measure of the package."""
    path = bids_dir / source
    if path.suffix != ".tsv":
        return measures.get(column, {"Description": f"From {source}"})
    entry = read_json(path.with_suffix(".json")).get(column)
    if isinstance(entry, dict) and "Description" in entry:
        return entry
    undescribed = {"Description": f"From {path.name}, where it is not described"}
    return {**undescribed, **entry} if isinstance(entry, dict) else undescribed


def _of_levels(step, names):
    """Describe the columns of 0 and 1 of a factor."""
    prefix = f"{step.output}."
    entries = {}
    for name in names:
        if name.startswith(prefix):
            description = f"Whether {step.column} is {name.removeprefix(prefix)}"
            entries[name] = {"Description": description, "Levels": YES_OR_NO}
    return entries


def _of_step(step, unit):
    value = step.options.get("Value", "its mean")
    number = f"{value:g}" if isinstance(value, float) else value
    column = f"{step.column} ({unit})" if unit else step.column
    return RESULTS[step.name].format(column=column, value=number)
