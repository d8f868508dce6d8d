"""Read participants.tsv and sessions.tsv for the site of a scan and whether it is a phantom."""

import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from .content import exists
from .problems import DatasetError, Problem, UnusableScanError
from .scans import Scan
from .tables import REPLACED, Row, read_rows
from .values import is_placeholder, join_words, one_line

MEASURED_COLUMNS = ("age", "sex")  # of participants.tsv, read at the group level
SITE_FIELDS = ("InstitutionName", "StationName", "DeviceSerialNumber")
MAX_NAMED = 5  # sites in a message
READ_COLUMNS = ("site", "scanner", "species")  # of participants.tsv and sessions.tsv
SESSION_LABEL = "the session label"  # the source of a site
LONGEST_NAME = 100  # characters of a site's name


class ParticipantTables:
    """The tables of a dataset's participants and sessions, each read once.

    Parameters
    ----------
    root : pathlib.Path
        Root of the dataset.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._rows: dict[Path, dict[str, list[Row]]] = {}

    def participant(self, scan: Scan) -> dict:
        """Return the row of the scan's participant; empty if there is none."""
        return self._row(
            self._root / "participants.tsv", "participant_id", "sub", scan.entities["subject"]
        )

    def session(self, scan: Scan) -> tuple[dict, str]:
        """Return the row of the scan's session, and the name of the table."""
        subject = f"sub-{scan.entities['subject']}"
        path = self._root / subject / f"{subject}_sessions.tsv"
        try:
            return self._row(path, "session_id", "ses", scan.entities["session"]), path.name
        except DatasetError as error:
            # Each participant has an own table, so that scans of others remain usable.
            raise UnusableScanError(error.cause, error.remedy, error.file) from error

    def labels(self) -> set[str]:
        """Return the labels of all participants in participants.tsv."""
        path = self._root / "participants.tsv"
        self._rows_of(path, "participant_id", "sub", "")
        return set(self._rows[path])

    def check(self, subject: str, session: str | None = None) -> None:
        """Check the rows of a participant, and of a session if there is one.

        Parameters
        ----------
        subject, session : str
            Labels without ``sub-`` and ``ses-``.

        Raises
        ------
        UnusableScanError
            If rows contradict each other, or the table of sessions cannot be read.
        DatasetError
            If participants.tsv cannot be read.
        """
        entities = {"subject": subject} | ({"session": session} if session else {})
        scan = Scan(entities, "")
        self.participant(scan)
        if session:
            self.session(scan)

    def _row(self, path, key, entity, label):
        """Return the row with a label, merged from several rows unless they contradict each other.

        Labels in the column `key` may have the prefix of the entity or not.
        """
        merged, contradictory = merge_rows(self._rows_of(path, key, entity, label))
        if contradictory := [column for column in contradictory if column in READ_COLUMNS]:
            raise UnusableScanError(
                f"{path.name}: rows of {entity}-{label} contradict each other in column "
                f"{', '.join(contradictory)}",
                "remove all but one",
            )
        return merged

    def _rows_of(self, path, key, entity, label):
        """Return all rows with a label; the table is read once."""
        if path not in self._rows:
            rows = defaultdict(list)
            for row in read_rows(path, [key]) if exists(path) else ():
                rows[(row[key] or "").removeprefix(f"{entity}-")].append(row)
            self._rows[path] = rows
        return self._rows[path].get(label, [])

    def notes(self, scan: Scan) -> tuple[str, ...]:
        """Return remarks for the user about the row of the scan's participant."""
        path = self._root / "participants.tsv"
        label = scan.entities["subject"]
        rows = self._rows_of(path, "participant_id", "sub", label)
        if not rows:
            return (f"sub-{label} is not in participants.tsv",) if path.exists() else ()
        _, contradictory = merge_rows(rows)
        notes = []
        for column in contradictory:
            if column in MEASURED_COLUMNS:
                notes.append(contradiction(label, column))
        for row in rows:
            where = f"line {row.line} of participants.tsv, the row of sub-{label},"
            notes += [f"{where} {fault}" for fault in _faults(row)]
        return tuple(notes)


def _faults(row):
    """Return what is wrong with a row of a table, in words."""
    faults = []
    if None in row.values():
        faults.append("is shorter than the header: the remaining values count as missing")
    if row.excess:
        faults.append("has more cells than there are headings: they are not used")
    texts = "".join(value for value in row.values() if value)
    if REPLACED in texts:
        faults.append("has characters that are not UTF-8")
    elif not texts.isprintable():
        faults.append("contains characters that cannot be printed")
    return faults


def contradiction(label: str, column: str) -> str:
    """Return the note that rows of a participant contradict each other in a column."""
    cause = f"rows of sub-{label} contradict each other: its {column} was not used"
    return f"participants.tsv: {cause}; remove all but one"


def merge_rows(rows: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[str]]:
    """Merge the rows of one participant or session.

    Parameters
    ----------
    rows : sequence of mapping
        Cells by column, the same columns in each row. None, NaN, empty cells and ``n/a`` are
        missing.

    Returns
    -------
    merged : dict
        The value of each column that at least one row has; None if there is none, or if the rows
        contradict each other.
    contradictory : list of str
        Columns in which they do.

    Examples
    --------
    >>> merge_rows([{"sex": "n/a", "site": "A"}, {"sex": "F", "site": "B"}])
    ({'sex': 'F', 'site': None}, ['site'])
    """
    merged: dict[str, Any] = {}
    contradictory = []
    for column in rows[0] if rows else ():
        values = {row[column] for row in rows if not _is_missing(row[column])}
        merged[column] = next(iter(values)) if len(values) == 1 else None
        if len(values) > 1:
            contradictory.append(column)
    return merged, contradictory


def merge_repeats(table: pd.DataFrame) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Merge the rows of each participant into one.

    Equal values are merged; values that contradict each other are set to missing.

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
    rows_of_label: dict[str, list[dict]] = {}
    for label, row in zip(table.index, table.to_dict("records"), strict=True):
        rows_of_label.setdefault(label, []).append(row)
    merged = {}
    contradictions = []
    for label, rows in rows_of_label.items():
        merged[label], contradictory = merge_rows(rows)
        contradictions += [(label, column) for column in contradictory]
    index = pd.Index(merged, name=table.index.name)
    values = pd.DataFrame(list(merged.values()), index, table.columns, dtype=object)
    return values, contradictions


def find_site(scan: Scan, tables: ParticipantTables) -> tuple[str, str]:
    """Return the scan's site, and where it was read.

    Parameters
    ----------
    scan : multiqsm.dataset.scans.Scan
        The scan.
    tables : ParticipantTables
        Tables of its dataset.

    Returns
    -------
    site : str
        From the columns ``site`` or ``scanner`` of the session or participant, or else from
        institution and scanner in the sidecar, or else the session label.
    source : str
        In words.
    """
    session = scan.entities.get("session")
    rows = [(tables.participant(scan), "participants.tsv")]
    if session is not None:
        rows.insert(0, tables.session(scan))
    for row, table in rows:
        for column in ("site", "scanner"):
            if not _is_missing(row.get(column)):
                return _site_name(row[column]), f"column {column} of {table}"
    return _site_of_sidecar(scan, session)


def _is_missing(value):
    return value in (None, "", "n/a") or value != value  # NaN


def _site_of_sidecar(scan, session):
    """Return the site from the sidecar, or else the session label.

    The site is the institution with its scanner, as an institution may have several.
    """
    metadata = scan.metadata
    known = [field for field in SITE_FIELDS if not is_placeholder(metadata.get(field))]
    if "StationName" in known:
        known = [field for field in known if field != "DeviceSerialNumber"]
    if known:
        site = " ".join(str(metadata[field]) for field in known)
        return _site_name(site), f"{' and '.join(known)} of the sidecar"
    if session is not None:
        return session, SESSION_LABEL
    return Scan.site, Scan.site_source


def check_sites(scans: Iterable[Scan]) -> list[Problem]:
    """Warn if sessions count as sites for lack of any other information.

    Parameters
    ----------
    scans : iterable of multiqsm.dataset.scans.Scan
        All scans of a run.

    Returns
    -------
    list of multiqsm.dataset.problems.Problem
        One warning, or none.
    """
    sites = sorted({scan.site for scan in scans if scan.site_source == SESSION_LABEL})
    if len(sites) < 2:
        return []
    return [Problem("sites", "", *sessions_as_sites(sites), "warning")]


def sessions_as_sites(sites: Sequence[str]) -> tuple[str, str]:
    """Return cause and remedy of the warning that sessions count as sites."""
    named = join_words([*sites[:MAX_NAMED], "others"] if len(sites) > MAX_NAMED else sites)
    cause = (
        f"sessions {named} count as sites, since their sidecars name neither institution nor "
        "scanner, and participants.tsv and sessions.tsv no site"
    )
    remedy = (
        "no action is needed if each is another scanner; if they are visits at one scanner, add a "
        "column site to participants.tsv"
    )
    return cause, remedy


def _site_name(text):
    """Return a name of one line; truncate long names, with a checksum to distinguish names that
    start with the same text.
    """
    name = one_line(text)
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[:LONGEST_NAME]}… ({zlib.crc32(name.encode()):08x})"


def is_phantom(scan: Scan, tables: ParticipantTables) -> bool:
    """Return whether the scan's participant is a phantom by ``species`` in participants.tsv."""
    return (tables.participant(scan).get("species") or "").strip().lower() == "phantom"
