"""Scans, sessions and participants that a study excludes, in its tables or with ``--exclude``."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .content import exists
from .entities import LONG_NAMES, SCAN_ENTITIES, scan_label
from .exclude_file import OPTION, read_exclude_file
from .exclusion_values import has_judgement, is_rating, judge_row
from .files import PathLike
from .filters import matches
from .index import RawImage, find_images, ignored_text, is_folder
from .participants import ParticipantTables
from .problems import DatasetError, Problem, UnusableScanError
from .tables import Row, read_rows
from .values import one_line

GRADIENT_ECHO = ("MEGRE", "T2starw")
YES_OR_NO = "write true or false, and the reason into a column exclude_reason"
MAX_VALUES = 5  # in a message


@dataclass(frozen=True)
class Exclusion:
    """What excludes scans, and which.

    Attributes
    ----------
    entities : dict of str
        Entities that the scans have, by their long names.
    reason : str
        Why, and where that was read.
    remedy : str
        What to do if it is a fault; otherwise empty.
    is_exact : bool
        Whether the scan has no other entities; otherwise all scans with these are excluded.
    severity : {'excluded', 'error', 'unused'}
        ``excluded`` if the study says so; ``error`` if a table of the participant or session cannot
        be read; ``unused`` if ``.bidsignore`` lists the scan.
    """

    entities: Mapping[str, str]
    reason: str
    remedy: str = ""
    is_exact: bool = False
    severity: str = "excluded"

    def applies_to(self, entities: Mapping[str, str]) -> bool:
        """Return whether it excludes a scan with these entities."""
        if self.is_exact and set(self.entities) != set(entities) & set(SCAN_ENTITIES):
            return False
        return all(
            matches(name, entities.get(name), label) for name, label in self.entities.items()
        )


class Exclusions:
    """The verdict on each scan of a study, before any of its images is read.

    Parameters
    ----------
    exclusions : iterable of Exclusion
        The first that applies to a scan gives the reason.
    problems : iterable of multiqsm.dataset.problems.Problem
        Warnings of rows that exclude nothing, although that may have been intended.
    participants : multiqsm.dataset.participants.ParticipantTables, optional
        Rows that contradict each other stop a participant.

    scans : iterable of mapping
        Entities of all known scans of the study.

    Attributes
    ----------
    problems : tuple of multiqsm.dataset.problems.Problem
        The warnings.
    """

    def __init__(
        self,
        exclusions: Iterable[Exclusion] = (),
        problems: Iterable[Problem] = (),
        participants: ParticipantTables | None = None,
        scans: Iterable[Mapping[str, str]] = (),
    ) -> None:
        self.problems = tuple(problems)
        self._scans = tuple(scans)
        self._participants = participants
        self._of_subject: dict[str | None, list[Exclusion]] = defaultdict(list)
        for exclusion in exclusions:
            self._of_subject[exclusion.entities.get("subject")].append(exclusion)

    def all_verdicts(self) -> list[tuple[Mapping[str, str], Problem]]:
        """Return the entities of each known scan that is not included, and why."""
        verdicts = []
        for entities in self._scans:
            if problem := self.verdict(entities):
                verdicts.append((entities, problem))
        return verdicts

    def verdict(self, entities: Mapping[str, str], *, is_scan: bool = True) -> Problem | None:
        """Return why a scan is excluded or cannot be judged; None if it is included.

        Parameters
        ----------
        entities : mapping of str
            Entities of a scan, a subject or a session, by their long names.
        is_scan : bool
            Whether it is a scan. The exclusion of a scan whose only label is that of its subject
            does not exclude the subject.

        Returns
        -------
        multiqsm.dataset.problems.Problem or None
            Its severity is that of the exclusion.
        """
        label = scan_label(entities)
        subject = entities["subject"]
        for exclusion in [*self._of_subject.get(subject, ()), *self._of_subject.get(None, ())]:
            if exclusion.applies_to(entities) and (is_scan or not exclusion.is_exact):
                text = (exclusion.reason, exclusion.remedy)
                return Problem(label, "", *text, exclusion.severity, subject)
        if self._participants is not None:
            try:
                self._participants.check(subject, entities.get("session"))
            except UnusableScanError as error:
                return Problem.from_error(label, error, subject)
        return None


def read_exclusions(
    bids_dir: PathLike,
    exclude: PathLike | None = None,
    further_scans: Iterable[Mapping[str, str]] = (),
    faults: Iterable[Exclusion] = (),
) -> Exclusions:
    """Read which scans a study excludes.

    Columns ``exclude`` of scans.tsv, sessions.tsv and participants.tsv are read, and ``quality`` of
    scans.tsv; the file of ``--exclude``; and ``.bidsignore``.

    Parameters
    ----------
    bids_dir : path-like
        Root of the raw dataset.
    exclude : path-like, optional
        The file of ``--exclude``.
    further_scans : iterable of mapping
        Entities of scans that the raw dataset may not have any more, such as those with results.
    faults : iterable of Exclusion
        Scans that cannot be used for another reason.

    Returns
    -------
    Exclusions

    Raises
    ------
    DatasetError
        If the file of ``--exclude`` cannot be read or lists nothing that exists; if
        participants.tsv cannot be read. A fault in a table of a subject stops that subject alone.
    """
    root = Path(bids_dir).absolute()
    subjects = []
    for folder in sorted(filter(is_folder, root.glob("sub-*"))):
        subjects.append(folder.name.removeprefix("sub-"))
    images, *_ = find_images(root, subjects)
    scans = [image for image in images if image.entities["suffix"] in GRADIENT_ECHO]
    known = {scan_label(entities): entities for entities in further_scans}
    known |= {image.scan_label: _scan_entities(image.entities) for image in scans}
    participants = ParticipantTables(root)
    tables = _Tables(root, subjects, list(known.values()))
    exclusions = [*tables.exclusions, *_ignored(scans), *faults]
    problems = list(tables.problems)
    if exclude is not None:
        people = [{"subject": label} for label in {*subjects, *participants.labels()}]
        entries, unknown = read_exclude_file(Path(exclude), [*known.values(), *people])
        problems += unknown
        for entry, is_exact in entries:
            place = f"{OPTION} {Path(exclude).name}, line {entry.line}"
            reason = f"{entry.reason} ({place})" if entry.reason else place
            exclusions.append(Exclusion(entry.entities, reason, is_exact=is_exact))
    return Exclusions(exclusions, problems, participants, known.values())


def _scan_entities(entities):
    return {name: label for name, label in entities.items() if name in SCAN_ENTITIES}


def _ignored(images: Sequence[RawImage]):
    """Return an exclusion for each scan that ``.bidsignore`` lists completely."""
    used = {image.scan_label for image in images if not image.ignored_by}
    exclusions: dict[str, Exclusion] = {}
    for image in images:
        if image.ignored_by and image.scan_label not in used:
            entities = _scan_entities(image.entities)
            reason = ignored_text(image.ignored_by)
            ignored = Exclusion(entities, reason, is_exact=True, severity="unused")
            exclusions.setdefault(image.scan_label, ignored)
    return exclusions.values()


class _Tables:
    """The exclusions in the tables of participants, sessions and scans.

    Parameters
    ----------
    root : pathlib.Path
        Root of the raw dataset.
    subjects : iterable of str
        Labels of the participants who have a folder.
    scans : sequence of mapping
        Entities of all scans of the study.
    """

    def __init__(self, root: Path, subjects: Iterable[str], scans: Sequence[Mapping[str, str]]):
        self.exclusions: list[Exclusion] = []
        self.problems: list[Problem] = []
        self._root = root
        self._scans: dict[str, list[Mapping[str, str]]] = defaultdict(list)
        for scan in scans:
            self._scans[scan["subject"]].append(scan)
        self._rows: list[tuple[Path, Row, dict[str, str], bool]] = []
        path = root / "participants.tsv"
        if exists(path):
            self._add_rows(path, "participant_id", {})
        for subject in subjects:
            folder = root / f"sub-{subject}"
            entities = {"subject": subject}
            self._read(folder / f"sub-{subject}_sessions.tsv", "session_id", entities)
            for path in _scans_tables(folder):
                session = path.parent.name
                of_session = {"session": session.removeprefix("ses-")}
                is_in_session = path.parent != folder
                self._read(path, "filename", entities | (of_session if is_in_session else {}))
        has_ratings = any(is_scan and is_rating(row) for _, row, _, is_scan in self._rows)
        unclear: dict[str, str] = {}
        for path, row, entities, is_exact in self._rows:
            self._judge(path, row, entities, is_exact, has_ratings, unclear)
        if unclear:
            self.problems.append(_unclear_qualities(unclear))

    def _read(self, path, key, entities):
        """Read a table of a subject; a fault in it stops the scans that it describes."""
        try:
            if exists(path):
                self._add_rows(path, key, entities)
        except OSError as error:
            cause, remedy = f"{path}: {error.strerror or error}", "make it readable"
            self.exclusions.append(Exclusion(entities, cause, remedy, severity="error"))
        except DatasetError as error:
            cause = f"{error.file}: {error.cause}" if error.file else error.cause
            remedy = error.remedy or "correct the table"
            self.exclusions.append(Exclusion(entities, cause, remedy, severity="error"))

    def _add_rows(self, path, key, entities):
        """Add the rows of a table that has a column on exclusion."""
        rows = read_rows(path)
        if not rows or not has_judgement(rows[0], with_quality=key == "filename"):
            return
        if key not in rows[0]:
            raise DatasetError(f"{path}: no column {key}", "add it, or remove the column exclude")
        for row in rows:
            label = (row[key] or "").strip()
            if key == "filename":
                own, suffix = entities_of_file(label)
                if suffix in GRADIENT_ECHO:
                    self._rows.append((path, row, {**entities, **own}, True))
            elif label:
                name, prefix = ("subject", "sub-") if not entities else ("session", "ses-")
                own = {name: label.removeprefix(prefix)}
                self._rows.append((path, row, {**entities, **own}, False))

    def _judge(self, path, row, entities, is_exact, has_ratings, unclear):
        judgement = judge_row(row, has_ratings=has_ratings, with_quality=is_exact)
        place = f"{path.name}, line {row.line}"
        if judgement.unclear_quality:
            unclear.setdefault(judgement.unclear_quality, place)
        if judgement.excludes is False:
            return
        reason = f"{judgement.reason} ({place})"
        if judgement.excludes is None:
            exclusion = Exclusion(entities, reason, YES_OR_NO, is_exact, "error")
        else:
            exclusion = Exclusion(entities, reason, is_exact=is_exact)
        self.exclusions.append(exclusion)
        scans = self._scans.get(entities["subject"], ())
        if is_exact and not any(map(exclusion.applies_to, scans)):
            cause = f"line {row.line} excludes {scan_label(entities)}, which is not in the dataset"
            remedy = "correct the name if another scan is meant"
            subject = entities["subject"]
            self.problems.append(Problem(path.name, "", cause, remedy, "warning", subject))


def excluded_images(folder: Path) -> dict[str, str]:
    """Return which images the tables of a subject's scans exclude, of any suffix.

    Parameters
    ----------
    folder : pathlib.Path
        The subject's folder in the raw dataset.

    Returns
    -------
    dict of str
        The reason, by the image's name. Numbers in a column ``quality`` exclude nothing here, and
        neither does a table that cannot be read, which stops the scans of its folder.
    """
    reasons = {}
    for path in _scans_tables(folder):
        try:
            rows = read_rows(path, ["filename"])
        except (DatasetError, OSError):
            continue
        for row in rows:
            judgement = judge_row(row, has_ratings=True)
            if judgement.excludes:
                name = (row["filename"] or "").rsplit("/", 1)[-1].strip()
                reasons[name] = f"{judgement.reason} ({path.name}, line {row.line})"
    return reasons


def _scans_tables(folder):
    """Return the tables of a subject's scans, of all sessions."""
    return sorted([*folder.glob("*_scans.tsv"), *folder.glob("ses-*/*_scans.tsv")])


def entities_of_file(name: str) -> tuple[dict[str, str], str]:
    """Return the entities of a scan, by their long names, and the suffix in the name of a file.

    Examples
    --------
    >>> entities_of_file("anat/sub-01_run-2_part-mag_T2starw.nii.gz")
    ({'subject': '01', 'run': '2'}, 'T2starw')
    """
    *pairs, suffix = name.replace("\\", "/").rsplit("/", 1)[-1].split(".", 1)[0].split("_")
    entities = {}
    for pair in pairs:
        key, _, label = pair.partition("-")
        if key in LONG_NAMES:
            entities[LONG_NAMES[key]] = label
    return entities, suffix


def _unclear_qualities(unclear):
    """Return the warning of qualities that exclude nothing; `unclear` has where each occurs."""
    named = [f"{one_line(value)!r} ({place})" for value, place in list(unclear.items())]
    more = ", …" if len(named) > MAX_VALUES else ""
    cause = f"column quality: {', '.join(named[:MAX_VALUES])}{more} excludes no scan"
    remedy = "write good or bad, or add a column exclude with true and false"
    return Problem("scans.tsv", "", cause, remedy, "warning")
