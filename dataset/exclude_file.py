"""Read the file of ``--exclude``: scans, sessions and participants that a study leaves out."""

import csv
import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from .content import require_content
from .entities import LONG_NAMES, SCAN_ENTITIES, scan_label
from .exclusion_values import EXCLUDE, has_judgement, judge_row
from .filters import matches
from .problems import DatasetError, Problem
from .values import one_line

OPTION = "--exclude"
EXTENSION = re.compile(r"\.(nii|nii\.gz|json|tsv)$")
PAIR = re.compile(r"([a-zA-Z]+)-([a-zA-Z0-9+]+)")
LABEL = re.compile(r"[a-zA-Z0-9+]+")
SEPARATORS = ("\t", ";", ",")
NAME_COLUMNS = ("scan", "filename", "file", "label", "scan_id", "name")
# Headings of columns of labels, and the entities.
LABEL_COLUMNS = {
    **{"participant_id": "subject", "participant": "subject", "session_id": "session"},
    **{name: name for name in SCAN_ENTITIES},
    **LONG_NAMES,
}
GRADIENT_ECHO = ("MEGRE", "T2starw")
WHOLE = ({"subject"}, {"session"}, {"subject", "session"})  # entities of participants, sessions
MAX_NAMED = 5
AS_ENTRY = (
    "write one participant (sub-01), session (sub-01_ses-A) or scan (sub-01_ses-A_run-1) in each "
    "line, with the reason after a tab"
)


class Entry:
    """A line of the file.

    Parameters
    ----------
    line : int
        Its number.
    text : str
        What is excluded, as it is written.
    entities : dict of str
        Its entities, by their long names.
    is_file : bool
        Whether it is the name of an image.
    reason : str
        Why; may be empty.
    """

    def __init__(
        self, line: int, text: str, entities: dict[str, str], is_file: bool, reason: str
    ) -> None:
        self.line = line
        self.text = text
        self.entities = entities
        self.is_file = is_file
        self.reason = reason

    def matches(self, entities: Mapping[str, str]) -> bool:
        """Return whether a scan has all entities of the entry."""
        return all(
            matches(name, entities.get(name), label) for name, label in self.entities.items()
        )


def read_exclude_file(
    path: Path, known: Sequence[Mapping[str, str]]
) -> tuple[list[tuple[Entry, bool]], list[Problem]]:
    """Read the file of ``--exclude``.

    Parameters
    ----------
    path : pathlib.Path
        Text with an entry in each line, and optionally a reason after it; or a table with the
        column ``scan`` or ``filename``, or with columns of labels (``participant_id``, ``session``,
        ``run``, …), and optionally ``exclude`` and ``reason``.
    known : sequence of mapping
        Entities of all scans, sessions and participants of the study.

    Returns
    -------
    entries : list of (Entry, bool)
        Each known entry, and whether it is one scan and not all scans with its entities.
    problems : list of multiqsm.dataset.problems.Problem
        A warning for each entry that is not known, as in a part of a study.

    Raises
    ------
    DatasetError
        If the file cannot be read, an entry is no label, or none is among the known ones.
    """
    entries = _entries(path)
    if not entries:
        raise DatasetError(f"{OPTION} {path}: lists nothing", AS_ENTRY)
    labels = {scan_label(entities) for entities in known}
    unknown = []
    exact = []
    for entry in entries:
        if any(map(entry.matches, known)):
            is_whole = set(entry.entities) in WHOLE and not entry.is_file
            exact.append((entry, not is_whole and scan_label(entry.entities) in labels))
        else:
            unknown.append(entry)
    if not exact:
        raise DatasetError(*_no_known_entry(path, unknown, labels))
    return exact, [_unknown_entry(path, entry) for entry in unknown]


def _unknown_entry(path, entry):
    cause = f"line {entry.line} excludes {entry.text}, which is not in the dataset"
    remedy = "correct the name if another scan is meant"
    return Problem(f"{OPTION} {path.name}", "", cause, remedy, "warning")


def _no_known_entry(path, unknown, labels):
    """Return cause and remedy."""
    named = [f"{entry.text} (line {entry.line})" for entry in unknown[:MAX_NAMED]]
    if len(unknown) > MAX_NAMED:
        named.append(f"{len(unknown) - MAX_NAMED} more")
    similar = []
    if set(unknown[0].entities) != {"subject"}:  # all numbers of participants are similar
        similar = difflib.get_close_matches(scan_label(unknown[0].entities), labels, 1, 0.6)
    hint = f"; did you mean {similar[0]}?" if similar else ""
    return (
        f"{OPTION} {path}: no entry is in the dataset: {', '.join(named)}",
        f"correct the entries{hint}",
    )


def _entries(path):
    lines = _read_lines(path)
    heading = lines[0][1] if lines else ""
    separator = next((text for text in SEPARATORS if text in heading), "\t")
    names = [name.strip() for name in heading.split(separator)]
    headings = {name.lower() for name in names}
    if headings & {*NAME_COLUMNS, *LABEL_COLUMNS}:
        rows = []
        for number, line in lines[1:]:
            cells = next(csv.reader([line], delimiter=separator))
            rows.append((number, dict(zip(names, map(str.strip, cells), strict=False))))
        return _entries_of_table(path, rows)
    return [_entry_of_line(path, number, line) for number, line in lines]


def _read_lines(path):
    """Return the numbers and texts of all lines that are not empty or comments."""
    require_content(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{OPTION} {path}: not UTF-8 text", "save it as UTF-8") from error
    except OSError as error:
        raise DatasetError(f"{OPTION} {path}: {error.strerror or error}") from error
    lines = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            lines.append((number, line.rstrip("\r\n")))
    return lines


def _entries_of_table(path, rows):
    entries = []
    for number, row in rows:
        judgement = judge_row(row)
        if judgement.excludes is None:
            raise DatasetError(
                f"{OPTION} {path}, line {number}: {judgement.reason}", "write true or false"
            )
        if has_judgement(row) and not judgement.excludes:
            continue
        reason = judgement.reason if judgement.excludes else _reason_of(row)
        cells = {name.lower(): value for name, value in row.items()}
        name = next((cells[column] for column in NAME_COLUMNS if _is_name(cells.get(column))), "")
        entities = {}
        if not name:
            for heading, entity in LABEL_COLUMNS.items():
                label = cells.get(heading, "")
                if label and label.lower() != "n/a":
                    entities[entity] = label.removeprefix(f"{SCAN_ENTITIES[entity]}-")
            name = scan_label(entities)
        entries.append(_entry(path, number, name, reason))
    return entries


def _is_name(text):
    """Return whether a cell is a name with entities; tables of results number scans."""
    return PAIR.search(text or "") is not None


def _reason_of(row):
    """Return the reason in a row of a table without a column that excludes."""
    judgement = judge_row({**row, EXCLUDE[0]: "true"})
    return judgement.reason.partition(": ")[2]


def _entry_of_line(path, number, line):
    """Read a line that is not of a table: a label, and the reason after white space or a comma."""
    text, _, reason = re.sub(r"[\s,;:#]+", " ", line.strip(), count=1).partition(" ")
    return _entry(path, number, text, reason.strip().lstrip("# "))


def _entry(path, number, text, reason):
    """Read what is excluded: a label, a folder or a file name."""
    name = EXTENSION.sub("", text.replace("\\", "/").rstrip("/"))
    entities = {}
    suffix = ""
    for folder in name.split("/"):
        for part in folder.split("_"):
            pair = PAIR.fullmatch(part)
            if pair and pair[1] in LONG_NAMES:
                entities[LONG_NAMES[pair[1]]] = pair[2]
            elif not pair:
                suffix = part
    if not entities and LABEL.fullmatch(name):
        return Entry(number, one_line(text), {"subject": name}, False, one_line(reason))
    is_file = suffix in GRADIENT_ECHO
    if not entities or (suffix not in ("", "anat") and not is_file):
        raise DatasetError(
            f"{OPTION} {path}, line {number}: {one_line(text)[:80]!r} is no gradient-echo scan",
            AS_ENTRY,
        )
    return Entry(number, one_line(text), entities, is_file, one_line(reason))
