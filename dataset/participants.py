"""What a dataset's tables say of participants and sessions: site, scanner, phantom."""

import zlib
from collections import defaultdict
from pathlib import Path

import pandas as pd

from .content import exists
from .problems import DatasetError, UnusableScanError
from .scans import Scan
from .tables import read_rows
from .values import one_line

READ_COLUMNS = ("site", "scanner", "species")  # of participants.tsv and sessions.tsv
LONGEST_NAME = 100  # characters of a site's name


class ParticipantTables:
    """The tables of a dataset's participants and sessions, each read once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._rows: dict[Path, dict[str, list[dict]]] = {}

    def participant(self, scan: Scan) -> dict:
        """Row of the scan's participant; empty if there is none."""
        return self._row(
            self._root / "participants.tsv", "participant_id", "sub", scan.entities["subject"]
        )

    def session(self, scan: Scan) -> tuple[dict, str]:
        """Row of the scan's session, and the name of the table."""
        subject = f"sub-{scan.entities['subject']}"
        path = self._root / subject / f"{subject}_sessions.tsv"
        try:
            return self._row(path, "session_id", "ses", scan.entities["session"]), path.name
        except (
            DatasetError
        ) as error:  # of one participant: the others' scans have tables of their own
            raise UnusableScanError(error.cause, error.remedy, error.file) from error

    def _row(self, path, key, entity, label):
        """Row of a table, with or without the entity's prefix in its key; several must not
        contradict each other.
        """
        if path not in self._rows:
            rows = defaultdict(list)
            for row in read_rows(path, [key]) if exists(path) else ():
                rows[(row[key] or "").removeprefix(f"{entity}-")].append(row)
            self._rows[path] = rows
        rows = self._rows[path].get(label, [{}])
        told = {
            column: {row[column] for row in rows if _is_told(row.get(column))}
            for column in READ_COLUMNS
        }
        if wrong := [column for column, values in told.items() if len(values) > 1]:
            raise UnusableScanError(
                f"{path.name}: rows of {entity}-{label} contradict each other ({', '.join(wrong)})",
                "remove all but one",
            )
        return {**rows[0], **{column: values.pop() for column, values in told.items() if values}}

    def notes(self, scan: Scan) -> tuple[str, ...]:
        """What the scan's owner should know of its participant's row."""
        row = self.participant(scan)
        name = f"sub-{scan.entities['subject']}"
        if not row:
            return (
                (f"{name} is not in participants.tsv",)
                if (self._root / "participants.tsv").exists()
                else ()
            )
        notes = []
        if None in row.values():
            notes.append(
                f"the row of {name} in participants.tsv is shorter than the header: the rest is "
                "taken as missing"
            )
        if any(not value.isprintable() for value in row.values() if isinstance(value, str)):
            notes.append(
                f"the row of {name} in participants.tsv holds characters that cannot be printed"
            )
        return tuple(notes)


def merge_repeats(table: pd.DataFrame) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Make one row of each participant's: values that agree count once, those that contradict each
    other are missing.

    Parameters
    ----------
    table : pandas.DataFrame
        Text, indexed by participant.

    Returns
    -------
    table : pandas.DataFrame
        One row for each participant, in the order of the first.
    contradictions : list of (str, str)
        Participants and columns whose rows contradict each other.
    """
    rows = table.groupby(level=0, sort=False)
    n_values = rows.nunique()
    contradictions = [
        (label, column)
        for label, counts in n_values.iterrows()
        for column in counts.index[counts > 1]
    ]
    return rows.first().where(n_values <= 1, None), contradictions


def find_site(scan: Scan, tables: ParticipantTables) -> tuple[str, str]:
    """Return the scan's site and what told it."""
    session = scan.entities.get("session")
    rows = [(tables.participant(scan), "participants.tsv")]
    if session is not None:
        rows.insert(0, tables.session(scan))
    for row, table in rows:
        for column in ("site", "scanner"):
            if _is_told(row.get(column)):
                return _site_name(row[column]), f"column {column} of {table}"
    return _site_of_sidecar(scan, session)


def _is_told(value):
    return value not in (None, "", "n/a")


def _site_of_sidecar(scan, session):
    """The institution with its scanner, since an institution may have two; else the session."""
    metadata = scan.metadata
    fields = [
        "InstitutionName",
        "StationName" if metadata.get("StationName") else "DeviceSerialNumber",
    ]
    named = [key for key in fields if metadata.get(key)]
    if named:
        return _site_name(
            " ".join(str(metadata[key]) for key in named)
        ), f"{' and '.join(named)} of the sidecar"
    if session is not None:
        return session, "the session label"
    return Scan.site, Scan.site_source


def _site_name(text):
    """A name of one line; of an endless one the start, with what tells it from others that start
    alike.
    """
    name = one_line(text)
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[:LONGEST_NAME]}… ({zlib.crc32(name.encode()):08x})"


def is_phantom(scan: Scan, tables: ParticipantTables) -> bool:
    """Whether the scan's participant is a phantom, by the column ``species`` of
    participants.tsv.
    """
    return (tables.participant(scan).get("species") or "").strip().lower() == "phantom"
