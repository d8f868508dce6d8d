"""The tables of all scans together, with what is known of the participants."""

from pathlib import Path

import pandas as pd

from .content import is_there, require_content
from .scans import DatasetError

TEXT_COLUMNS = ("subject", "session", "run", "site", "method", "roi", "unit", "reference")
# Labels of a model's tables, which may look like numbers.
MODEL_LABELS = ("participant", "node", "subset", "outcome", "predictor", "adjusted_for", "column", "what", "source")
MODEL_LABELS += ("leverage_of", "cook_of", "studentised_of", "most_inflated")
ANEW = "remove the file and run the participant level again"
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
    paths = sorted(Path(output_dir).glob("sub-*/**/anat/*_desc-rois_chi.tsv"))
    if not paths:
        raise DatasetError(
            f"{output_dir}: no table of regional values (*_desc-rois_chi.tsv); run the participant level first, with "
            "regions drawn as *_dseg.nii.gz or from an atlas"
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
        raise DatasetError(f"{path}: {error}; {ANEW}") from error
    missing = [column for column in (*TEXT_COLUMNS, "scan", "mean") if column not in table]
    if missing:
        raise DatasetError(f"{path}: no column {', '.join(missing)}; {ANEW}")
    return table


def read_tsv(path):
    """Read a table that this package wrote: labels are text, ``n/a`` is missing.

    Parameters
    ----------
    path : path-like
        The table.

    Returns
    -------
    pandas.DataFrame
    """
    labels = dict.fromkeys((*TEXT_COLUMNS, *MODEL_LABELS), str)
    return pd.read_csv(path, sep="\t", na_values="n/a", keep_default_na=False, dtype=labels)


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
        If the table of participants cannot be read.
    """
    path = Path(bids_dir) / "participants.tsv"
    if not is_there(path):
        return rois, [f"{path}: missing, so nothing can be said of age"]
    try:
        participants = pd.read_csv(
            path, sep="\t", na_values="n/a", keep_default_na=False, dtype=str, index_col=False, on_bad_lines="error"
        )
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: {error}; save the table as UTF-8 text with tabs between columns") from error
    if "participant_id" not in participants:
        raise DatasetError(f"{path}: no column participant_id")
    participants = participants.dropna(subset="participant_id")
    known = participants.set_index(participants["participant_id"].str.removeprefix("sub-"))
    if known.index.duplicated().any():
        raise DatasetError(f"{path}: {known.index[known.index.duplicated()][0]} is there twice")
    rois, notes = rois.copy(), []
    for column in PARTICIPANT_COLUMNS:
        if column not in known:
            notes.append(f"{path.name}: no column {column}")
            continue
        rois[column] = rois["subject"].map(known[column])
    if "age" in rois:
        years = pd.to_numeric(rois["age"], errors="coerce")
        years = years.where(years.between(0, OLDEST))
        for text in sorted(set(rois["age"][years.isna()].dropna())):
            notes.append(f"{path.name}: age {text!r} is no number of years and was not used")
        rois["age"] = years
    return rois, notes
