"""Faults and warnings of a run: printed at once, and collected for the subjects' reports."""

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from ..dataset.entities import scan_label
from ..dataset.files import PathLike, read_json
from ..dataset.labels import have_same_grid
from ..dataset.names import AVERAGE, REGISTRATION_TABLE, subject_space_map, susceptibility_map
from ..dataset.outputs import derivative_path
from ..dataset.plausibility import find_doubts
from ..dataset.problems import Problem
from ..dataset.scans import Scan
from ..dataset.sidecars import sidecar_path
from ..dataset.subjects import DrawnScan, ProcessedScan, Subject
from ..dataset.tables import read_tsv
from ..workflows.settings import Settings

MAX_PRINTED = 5  # scans that are left out for one reason


class Faults:
    """Faults and warnings, by subject.

    Parameters
    ----------
    problems : iterable of multiqsm.dataset.problems.Problem
        Problems that were printed before.

    Attributes
    ----------
    by_subject : dict of str to list of (str, str)
        What failed or was left out, and why, by the subject's label.
    warnings : dict of str to list of str
        Warnings, by the subject's label.
    n_later : int
        Faults of scans that have their maps nevertheless.
    not_processed : list of multiqsm.dataset.problems.Problem
        Scans that have no maps, because they were refused or failed.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.by_subject: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self.warnings: dict[str, list[str]] = defaultdict(list)
        self.n_later = 0
        self.not_processed: list[Problem] = []
        for problem in problems:
            if problem.severity == "error":
                self._collect_fault(problem)
                if problem.subject:
                    self.not_processed.append(problem)
            elif problem.severity in ("warning", "excluded"):
                self._collect_warning(problem)
                if problem.severity == "excluded":
                    self.not_processed.append(problem)

    def warn(self, warning: Problem) -> None:
        """Print and collect a warning."""
        print(f"warning: {warning}", file=sys.stderr)
        self._collect_warning(warning)

    def add(self, fault: Problem) -> None:
        """Print and collect a fault."""
        print(f"failed: {fault}", file=sys.stderr)
        self._collect_fault(fault)

    def add_later(self, fault: Problem) -> None:
        """Print and collect a fault that comes after the maps were made."""
        self.add(fault)
        self.n_later += 1

    def _collect_warning(self, problem):
        if problem.subject:
            is_excluded = problem.severity == "excluded"
            text = f"{problem.scan}: excluded: {problem.text}" if is_excluded else str(problem)
            self.warnings[problem.subject].append(text)

    def _collect_fault(self, problem):
        if problem.subject:
            self.by_subject[problem.subject].append((problem.scan, problem.text))


def print_left_out(problems: Iterable[Problem]) -> None:
    """Print what is left out and why; if many are left out for one reason, only the first ones.

    Parameters
    ----------
    problems : iterable of multiqsm.dataset.problems.Problem
        Problems of files and scans that were not collected.
    """
    problems_of_text = defaultdict(list)
    for problem in problems:
        is_error = problem.severity == "error"
        problems_of_text[str(problem) if is_error else problem.text].append(problem)
    for text, alike in problems_of_text.items():
        if len(alike) <= MAX_PRINTED:
            for problem in alike:
                kind = "warning" if problem.severity == "warning" else "left out"
                print(f"{kind}: {problem}", file=sys.stderr)
        else:
            first = ", ".join(problem.scan for problem in alike[:MAX_PRINTED])
            rest = f"{first} and {len(alike) - MAX_PRINTED} more"
            print(f"left out: {rest}: {text} (a dry run lists all)", file=sys.stderr)


def add_unregistered_scans(subject: Subject, output_dir: PathLike, faults: Faults) -> None:
    """Add the scans that could not be registered to the faults, and the regions that are lost with
    them.

    Parameters
    ----------
    subject : multiqsm.dataset.subjects.Subject
        A person whose scans have been registered in this run.
    output_dir : path-like
        Root of the derivative dataset.
    faults : Faults
        Takes the faults.
    """
    scans: list[ProcessedScan | DrawnScan] = [*subject.scans, *subject.elsewhere]
    path = derivative_path(output_dir, {"subject": subject.label}, **REGISTRATION_TABLE)
    drawn = []
    registered = []
    for scan, cause in zip(scans, read_tsv(path)["cause"], strict=True):
        if scan.labels is not None:
            drawn.append(scan.label)
        if not isinstance(cause, str):
            registered.append(scan.label)
            continue
        cause = f"not registered to the subject's other scans: {cause}"
        faults.add_later(Problem(scan.label, "", cause, "", subject=subject.label))
    if subject.labels is None and drawn and not set(drawn) & set(registered):
        regions = f"regions of {', '.join(drawn)}"
        cause = "they cannot be resampled to the other scans, which are left without regions"
        remedy = "draw them on another scan"
        faults.add_later(Problem(regions, "", cause, remedy, subject=subject.label))


def warn_of_references(
    subjects: Iterable[Subject], settings: Settings, output_dir: PathLike
) -> None:
    """Warn of subjects whose values are relative to another region than that of the settings."""
    for subject in subjects:
        sidecar = _subject_space_sidecar(subject, settings.inversions[0], output_dir)
        if sidecar.get("ReferenceRegion", settings.reference) != settings.reference:
            source = sidecar["ReferenceSource"]
            print(
                f"warning: sub-{subject.label}: values are relative to the {source}",
                file=sys.stderr,
            )


def _subject_space_sidecar(subject: Subject, method: str, output_dir: PathLike) -> dict:
    """Return the sidecar of the first map in the subject space; empty if no scan is registered."""
    for scan in subject.scans:
        path = derivative_path(output_dir, scan.entities, **subject_space_map(method))
        if path.exists():
            return read_json(sidecar_path(path))
    return {}


def warn_of_region_grids(subjects: Iterable[Subject], output_dir: PathLike, faults: Faults) -> None:
    """Warn of regions that may have been drawn in an earlier subject space.

    The subject space depends on the scans that are registered to it.
    """
    for subject in subjects:
        average = derivative_path(output_dir, {"subject": subject.label}, **AVERAGE)
        if subject.labels is None or not average.exists():
            continue
        regions = subject.labels.path
        if have_same_grid(regions, average):
            continue
        cause = (
            f"{regions.name} is on another grid than {average.name}, as if it had been drawn in "
            "the space of other scans"
        )
        remedy = "check the picture of the regions, and draw them again if they are misplaced"
        faults.warn(Problem(f"sub-{subject.label}", "", cause, remedy, "warning", subject.label))


def warn_of_earlier_spaces(
    subjects: Iterable[Subject],
    excluded_scans: Sequence[Mapping[str, str]],
    settings: Settings,
    output_dir: PathLike,
    faults: Faults,
) -> None:
    """Warn of maps in the subject space that an earlier run made of scans that this run excludes.

    Parameters
    ----------
    subjects : iterable of multiqsm.dataset.subjects.Subject
        Subjects of this run. The space of each depends on the scans that it has.
    excluded_scans : sequence of dict of str
        Entities of scans that are not processed in this run.
    settings : Settings
        Choices of the run.
    output_dir : path-like
        Root of the derivative dataset.
    faults : Faults
        Takes the warnings.
    """
    derivative = subject_space_map(settings.inversions[0])
    for subject in subjects:
        if subject.is_phantom:
            continue
        outdated = []
        for entities in excluded_scans:
            path = derivative_path(output_dir, entities, **derivative)
            if entities["subject"] == subject.label and path.exists():
                outdated.append(scan_label(entities))
        if outdated:
            cause = (
                f"the maps of {', '.join(outdated)} in the subject space are from an earlier run: "
                "the subject space is now that of the other scans"
            )
            remedy = "run without a filter to register all scans together"
            faults.warn(
                Problem(f"sub-{subject.label}", "", cause, remedy, "warning", subject.label)
            )


def warn_of_doubts(scans: Iterable[Scan], settings: Settings, output_dir: PathLike) -> None:
    """Warn of implausible figures of the scans' maps."""
    for scan in scans:
        sidecars = {}
        for method in settings.inversions:
            path = derivative_path(output_dir, scan.entities, **susceptibility_map(method))
            sidecars[method] = read_json(sidecar_path(path))
        for doubt in find_doubts(sidecars):
            print(f"warning: {scan.label}: {doubt.text}", file=sys.stderr)
