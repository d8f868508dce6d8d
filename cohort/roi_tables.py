"""Regional values of all scans, with what is known of the participants."""

from pathlib import Path

import pandas as pd

from ..dataset.content import exists, require_content
from ..dataset.entities import SCAN_ENTITIES
from ..dataset.names import ROI_TABLE, find_tables
from ..dataset.participants import merge_repeats
from ..dataset.problems import DatasetError
from ..dataset.repeats import COLUMNS, LABELS, match_protocols, number_scans, read_protocol_columns
from ..dataset.tables import REQUIRED, read_text_table, read_tsv

ANEW = "remove the file and run the participant level again"
UNTOLD = (
    "{n} scans have tables of an earlier version, which tell neither echo times nor voxel size: "
    "they count as repeats "
    "even if they differ in these; run the participant level again"
)
PARTICIPANT_COLUMNS = ("age", "sex")
OLDEST = 130  # years


def read_roi_tables(output_dir):
    """Read the ROI tables of all scans of a derivative dataset.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.

    Returns
    -------
    pandas.DataFrame
        The long table, sorted by file name.

    Raises
    ------
    DatasetError
        If there is no table, or one cannot be read.
    """
    paths = find_tables(output_dir, ROI_TABLE)
    if not paths:
        raise DatasetError(
            f"{output_dir}: no table of regional values (*_desc-rois_chi.tsv)",
            "run the participant level first, with regions drawn as *_dseg.nii.gz or from an atlas",
        )
    return pd.concat([read_roi_table(path) for path in paths], ignore_index=True)


def read_roi_table(path):
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
        If it is no such table, or its content is not here.
    """
    require_content(path)
    try:
        table = read_tsv(path)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: {error}", ANEW) from error
    missing = [column for column in (*REQUIRED, "scan", "mean") if column not in table]
    if missing:
        raise DatasetError(f"{path}: no column {', '.join(missing)}", ANEW)
    # Tables of earlier versions have no columns of labels: these are in the file's name alone.
    named = dict(pair.split("-", 1) for pair in Path(path).name.split("_") if "-" in pair)
    told = {name: named[SCAN_ENTITIES[name]] for name in LABELS if SCAN_ENTITIES[name] in named}
    return table.assign(**{name: label for name, label in told.items() if name not in table})


def add_protocols(rois):
    """Tell the scans of several protocols apart, and number those of one that are numbered with
    others.

    Parameters
    ----------
    rois : pandas.DataFrame
        Long table of regional values.

    Returns
    -------
    rois : pandas.DataFrame
        With the column ``protocol``, in words, the same for all scans of one. Where a subject has
        scans of several protocols at a site, or two scans of one number, as runs with filters leave
        them, ``scan`` counts anew.
    notes : list of str
        What is not known of the protocols.

    Raises
    ------
    DatasetError
        If a column of protocols cannot be read.
    """
    keys = [
        name for name in ("subject", "session", "run", *COLUMNS, "site", "scan") if name in rois
    ]
    scans = rois[keys].drop_duplicates()
    rows = scans.to_dict("records")
    protocols = match_protocols([read_protocol_columns(row) for row in rows])
    scans = scans.assign(protocol=[str(protocol) for protocol in protocols])
    entities = [
        {name: row[name] for name in SCAN_ENTITIES if isinstance(row.get(name), str)}
        for row in rows
    ]
    numbers = number_scans(list(zip(entities, scans["site"], protocols, strict=True)))
    there = scans.groupby(["subject", "site"])
    repeats = scans.groupby(["subject", "site", "protocol"])
    is_numbered_twice = there["scan"].transform("nunique") < there["scan"].transform("size")
    is_mixed = (there["protocol"].transform("nunique") > 1) | is_numbered_twice
    is_repeated = repeats["scan"].transform("size") > 1
    scans["anew"] = scans["scan"].where(~is_mixed, numbers)
    rois = rois.merge(scans, on=keys, how="left", validate="m:1")
    untold = sum(
        not protocol.is_complete and other
        for protocol, other in zip(protocols, is_repeated, strict=True)
    )
    notes = [UNTOLD.format(n=untold)] if untold else []
    return rois.assign(scan=rois["anew"]).drop(columns="anew"), notes


def add_participants(rois, bids_dir):
    """Add age and sex of ``participants.tsv`` to the table, where it has them.

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
        What was not found or not understood.

    Raises
    ------
    DatasetError
        If the table of participants cannot be read. Rows of a participant that contradict each
        other only cost the values in question.
    """
    path = Path(bids_dir) / "participants.tsv"
    if not exists(path):
        return rois, [f"{path}: missing, so nothing can be said of age"]
    participants = read_text_table(path, ["participant_id"])
    participants = participants.dropna(subset="participant_id")
    labels = participants["participant_id"].str.removeprefix("sub-")
    known = [column for column in PARTICIPANT_COLUMNS if column in participants]
    notes = [
        f"{path.name}: no column {column}"
        for column in PARTICIPANT_COLUMNS
        if column not in participants
    ]
    values, contradictions = merge_repeats(participants[known].set_index(labels))
    for label, column in contradictions:
        cause = f"rows of sub-{label} contradict each other: its {column} was not used"
        notes.append(f"{path.name}: {cause}; remove all but one")
    rois = rois.assign(**{column: rois["subject"].map(values[column]) for column in known})
    if "age" in rois:
        years = pd.to_numeric(rois["age"], errors="coerce")
        years = years.where(years.between(0, OLDEST))
        for text in sorted(set(rois["age"][years.isna()].dropna())):
            notes.append(f"{path.name}: age {text!r} is no number of years and was not used")
        rois["age"] = years
    return rois, notes
