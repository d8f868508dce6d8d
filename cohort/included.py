"""The scans whose results count in a study, and those that the study excludes."""

import pandas as pd

from ..dataset.content import is_listed
from ..dataset.exclusions import Exclusion, Exclusions, entities_of_file, read_exclusions
from ..dataset.files import PathLike
from ..dataset.names import ROI_TABLE, find_tables
from ..dataset.outputs import derivative_path
from ..dataset.problems import DatasetError, Problem
from ..dataset.repeats import LABELS
from ..dataset.values import counted
from .roi_tables import read_roi_table

MAX_NAMED = 5  # scans in a note


def study_exclusions(
    bids_dir: PathLike, output_dir: PathLike, exclude: PathLike | None = None
) -> Exclusions:
    """Read which scans a study excludes, of those with raw data or with results.

    A scan whose table of regional values cannot be read is left out as well.

    Parameters
    ----------
    bids_dir, output_dir : path-like
        Roots of the raw and of the derivative dataset.
    exclude : path-like, optional
        The file of ``--exclude``.

    Returns
    -------
    multiqsm.dataset.exclusions.Exclusions

    Raises
    ------
    DatasetError
        See `multiqsm.dataset.exclusions.read_exclusions`.
    """
    scans = []
    faults = []
    for path in find_tables(output_dir, ROI_TABLE):
        entities, _ = entities_of_file(path.name)
        scans.append(entities)
        try:
            read_roi_table(path)
        except DatasetError as error:
            cause = f"{error.file}: {error.cause}" if error.file else error.cause
            text = (cause, error.remedy)
            faults.append(Exclusion(entities, *text, is_exact=True, severity="error"))
    return read_exclusions(bids_dir, exclude, scans, faults)


def excluded_scans(
    output_dir: PathLike, exclusions: Exclusions
) -> tuple[pd.DataFrame, list[Problem]]:
    """List the scans that the study excludes, with the reasons.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.
    exclusions : multiqsm.dataset.exclusions.Exclusions
        What the study excludes.

    Returns
    -------
    table : pandas.DataFrame
        A row for each scan: ``subject``, ``session``, ``run``, further labels that any of these
        scans has, ``site`` (missing for scans without results), ``reason``.
    problems : list of multiqsm.dataset.problems.Problem
        The same, as problems. Scans that ``.bidsignore`` lists are included if they have results.
    """
    rows = []
    problems = []
    for entities, problem in exclusions.all_verdicts():
        path = derivative_path(output_dir, entities, **ROI_TABLE)
        if problem.severity == "unused" and not is_listed(path):
            continue
        rows.append({**entities, "site": _site_of(path), "reason": problem.text})
        problems.append(problem)
    columns = ["subject", "session", "run"]
    further = [name for name in LABELS if any(name in row for row in rows)]
    return pd.DataFrame(rows, columns=[*columns, *further, "site", "reason"]), problems


def _site_of(path):
    """Return the site in a scan's table; None if it has none that can be read."""
    try:
        sites = read_roi_table(path)["site"] if is_listed(path) else ()
    except DatasetError:
        return None
    return sites.iloc[0] if len(sites) else None


def exclusion_notes(exclusions: Exclusions, problems: list[Problem]) -> list[str]:
    """Return remarks on what is excluded, and on rows that exclude nothing.

    Parameters
    ----------
    exclusions : multiqsm.dataset.exclusions.Exclusions
        What the study excludes.
    problems : list of multiqsm.dataset.problems.Problem
        As from `excluded_scans`.

    Returns
    -------
    list of str
    """
    notes = [str(problem) for problem in exclusions.problems]
    faulty = [problem.scan for problem in problems if problem.severity == "error"]
    declared = [problem.scan for problem in problems if problem.severity != "error"]
    kinds = {
        "excluded by the study": declared,
        "left out, since a table cannot be used": faulty,
    }
    for kind, labels in kinds.items():
        if labels:
            named = ", ".join(labels[:MAX_NAMED]) + (", …" if len(labels) > MAX_NAMED else "")
            notes.append(f"{counted(len(labels), 'scan')} {kind}: {named}")
    return notes
