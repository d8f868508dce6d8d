"""Read the regional values of all scans, and add age and sex of the participants."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from ..dataset.content import exists, require_content
from ..dataset.entities import SCAN_ENTITIES, scan_label
from ..dataset.exclusions import Exclusions, entities_of_file
from ..dataset.files import PathLike
from ..dataset.names import R2STAR_TABLE, ROI_TABLE, find_tables
from ..dataset.participants import MEASURED_COLUMNS, contradiction, merge_repeats
from ..dataset.problems import DatasetError
from ..dataset.repeats import COLUMNS, LABELS, match_protocols, number_scans, read_protocol_columns
from ..dataset.tables import REQUIRED, read_text_table, read_tsv
from ..dataset.values import counted, error_text

RUN_AGAIN = "remove the file and run the participant level again"
UNKNOWN_PROTOCOLS = (
    "{scans} with tables of an earlier version, without echo times and voxel size: they count as "
    "repeats even if they differ in these; run the participant level again"
)
R2STAR_COLUMNS = ("subject", "session", "run", "site", "scan", "roi", "mean", "unit")
OLDEST = 130  # years


def included_tables(
    output_dir: PathLike, table: Mapping[str, str], exclusions: Exclusions | None
) -> list[Path]:
    """Find the tables of a kind whose scans are not excluded.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.
    table : mapping of str
        Name of the tables, see `multiqsm.dataset.names.find_tables`.
    exclusions : multiqsm.dataset.exclusions.Exclusions or None
        What the study excludes; None for nothing.

    Returns
    -------
    list of pathlib.Path
        Sorted.
    """
    paths = find_tables(output_dir, table)
    if exclusions is None:
        return paths
    return [path for path in paths if not exclusions.verdict(entities_of_file(path.name)[0])]


def read_roi_tables(output_dir: PathLike, exclusions: Exclusions | None = None) -> pd.DataFrame:
    """Read the ROI tables of all scans of a derivative dataset.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.
    exclusions : multiqsm.dataset.exclusions.Exclusions, optional
        What the study excludes; nothing by default.

    Returns
    -------
    pandas.DataFrame
        The long table, sorted by file name.

    Raises
    ------
    DatasetError
        If there is no table, one cannot be read, or all scans are excluded.
    """
    paths = included_tables(output_dir, ROI_TABLE, exclusions)
    if not paths and (n_excluded := len(find_tables(output_dir, ROI_TABLE))):
        raise DatasetError(
            f"{output_dir}: every scan with regional values is excluded "
            f"({counted(n_excluded, 'scan')})",
            "a dry run lists the reasons",
        )
    if not paths:
        raise DatasetError(
            f"{output_dir}: no table of regional values (*_desc-rois_chi.tsv)",
            "run the participant level first, with regions drawn as *_dseg.nii.gz or from an atlas",
        )
    return pd.concat(map(read_roi_table, paths), ignore_index=True)


def read_roi_table(path: PathLike) -> pd.DataFrame:
    """Read the ROI table of one scan.

    Parameters
    ----------
    path : path-like
        ``*_desc-rois_chi.tsv``.

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    DatasetError
        If it is not such a table, or its content is not available.
    """
    table = _read_table(path, (*REQUIRED, "scan", "mean"))
    # Tables of earlier versions have no columns of these labels, which are only in the file's name.
    labels = _labels_in_name(Path(path).name)
    for column in LABELS:
        if column not in table and SCAN_ENTITIES[column] in labels:
            table[column] = labels[SCAN_ENTITIES[column]]
    return table


def read_r2star_tables(
    output_dir: PathLike, rois: pd.DataFrame, exclusions: Exclusions | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Read the tables of R2* of all scans of a derivative dataset.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.
    rois : pandas.DataFrame
        Long table of regional susceptibility, with protocols and columns of the participants.
    exclusions : multiqsm.dataset.exclusions.Exclusions, optional
        What the study excludes; nothing by default.

    Returns
    -------
    r2star : pandas.DataFrame
        The long table, sorted by file name; empty if there are no tables. Number and protocol of
        each scan, age and sex are those of `rois`.
    notes : list of str
        Tables that are not used, also because they cannot be read.
    """
    tables = []
    notes = []
    for path in included_tables(output_dir, R2STAR_TABLE, exclusions):
        try:
            tables.append(_read_table(path, R2STAR_COLUMNS))
        except DatasetError as error:
            notes.append(f"R2* of {scan_label(entities_of_file(path.name)[0])} not used: {error}")
    if not tables:
        return pd.DataFrame(columns=list(R2STAR_COLUMNS)), notes
    r2star = pd.concat(tables, ignore_index=True)
    labels = ("subject", "session", "run", *COLUMNS, "site")
    keys = [column for column in labels if column in r2star and column in rois]
    added = [column for column in ("protocol", *MEASURED_COLUMNS) if column in rois]
    scans = rois[[*keys, "scan", *added]].drop_duplicates()
    columns = [*r2star, *added]
    of_known_scans = r2star.drop(columns="scan").merge(scans, on=keys, how="inner", validate="m:1")
    n_unknown = len(r2star[keys].drop_duplicates()) - len(of_known_scans[keys].drop_duplicates())
    if n_unknown:
        notes.append(
            f"{counted(n_unknown, 'table')} of R2* not used, without a table of regional "
            "susceptibility of the same scan; run the participant level again"
        )
    return of_known_scans[columns], notes


def _read_table(path, columns):
    """Read a table of a scan; raise a DatasetError if that fails, or if a column is missing."""
    require_content(path)
    try:
        table = read_tsv(path)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: {error_text(error)}", RUN_AGAIN) from error
    missing_columns = [column for column in columns if column not in table]
    if missing_columns:
        raise DatasetError(f"{path}: no column {', '.join(missing_columns)}", RUN_AGAIN)
    return table


def _labels_in_name(name):
    """Return the labels in a BIDS name by the short names of their entities."""
    labels = {}
    for pair in name.split("_"):
        entity, hyphen, label = pair.partition("-")
        if hyphen:
            labels[entity] = label
    return labels


def add_protocols(rois: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Add the protocol of each scan, and number the scans of each protocol separately where a
    subject has several.

    Parameters
    ----------
    rois : pandas.DataFrame
        Long table of regional values.

    Returns
    -------
    rois : pandas.DataFrame
        With the column ``protocol``, a description that is the same for all scans of a protocol.
        ``scan`` is numbered anew if a subject has scans of several protocols at a site, or two
        scans with the same number, as after runs with filters.
    notes : list of str
        Which protocols are not known.

    Raises
    ------
    DatasetError
        If a column of protocols cannot be read.
    """
    columns = ("subject", "session", "run", *COLUMNS, "site", "scan")
    keys = [name for name in columns if name in rois]
    scans = rois[keys].drop_duplicates()
    rows = scans.to_dict("records")
    protocols = match_protocols(list(map(read_protocol_columns, rows)))
    scans = scans.assign(protocol=list(map(str, protocols)))
    entities = list(map(row_entities, rows))
    numbers = number_scans(list(zip(entities, scans["site"], protocols, strict=True)))
    at_site = scans.groupby(["subject", "site"])
    repeats = scans.groupby(["subject", "site", "protocol"])
    is_numbered_twice = at_site["scan"].transform("nunique") < at_site["scan"].transform("size")
    is_mixed = (at_site["protocol"].transform("nunique") > 1) | is_numbered_twice
    is_repeated = repeats["scan"].transform("size") > 1
    scans["new_scan"] = scans["scan"].where(~is_mixed, numbers)
    rois = rois.merge(scans, on=keys, how="left", validate="m:1")
    is_complete = np.array([protocol.is_complete for protocol in protocols], bool)
    n_unknown = int(np.count_nonzero(~is_complete & is_repeated.to_numpy()))
    notes = [UNKNOWN_PROTOCOLS.format(scans=counted(n_unknown, "scan"))] if n_unknown else []
    return rois.assign(scan=rois["new_scan"]).drop(columns="new_scan"), notes


def row_entities(row: Mapping[str, object]) -> dict[str, str]:
    """Return the entities of the scan in a row of an ROI table.

    Parameters
    ----------
    row : mapping of str
        Cells by column; missing ones are NaN.

    Returns
    -------
    dict of str
        Entities by their long names.
    """
    entities = {}
    for name in SCAN_ENTITIES:
        label = row.get(name)
        if isinstance(label, str):
            entities[name] = label
    return entities


def add_participants(rois: pd.DataFrame, bids_dir: PathLike) -> tuple[pd.DataFrame, list[str]]:
    """Add age and sex from ``participants.tsv`` to a table of regional values.

    Parameters
    ----------
    rois : pandas.DataFrame
        Long table with the column ``subject``.
    bids_dir : path-like
        Root of the raw dataset.

    Returns
    -------
    rois : pandas.DataFrame
        With the columns ``age`` (years) and ``sex``, if participants.tsv has them.
    notes : list of str
        What is missing or invalid.

    Raises
    ------
    DatasetError
        If the table of participants cannot be read. If rows of a participant contradict each other,
        only the values in question are not used.
    """
    path = Path(bids_dir) / "participants.tsv"
    if not exists(path):
        return rois, [f"{path}: missing, so age and sex are not known"]
    participants, remarks = read_text_table(path, ["participant_id"])
    participants = participants.dropna(subset="participant_id")
    labels = participants["participant_id"].str.removeprefix("sub-")
    columns = []
    notes = [f"{path.name}: line {line} {remark}" for line, remark in remarks]
    for column in MEASURED_COLUMNS:
        if column in participants:
            columns.append(column)
        else:
            notes.append(f"{path.name}: no column {column}")
    values, contradictions = merge_repeats(participants[columns].set_index(labels))
    notes += [contradiction(label, column) for label, column in contradictions]
    rois = rois.copy()
    for column in columns:
        rois[column] = rois["subject"].map(values[column])
    if "age" in rois:
        years = pd.to_numeric(rois["age"], errors="coerce")
        years = years.where(years.between(0, OLDEST))
        for text in sorted(set(rois["age"][years.isna()].dropna())):
            notes.append(f"{path.name}: age {text!r} is not a number of years and was not used")
        rois["age"] = years
    return rois, notes
