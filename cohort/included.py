"""The scans whose results count in a study, and those that the study excludes."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ..dataset.content import exists
from ..dataset.exclusions import Exclusions, entities_of_file, read_exclusions
from ..dataset.files import PathLike
from ..dataset.names import ROI_TABLE, find_tables
from ..dataset.outputs import derivative_path
from ..dataset.problems import Problem
from ..dataset.repeats import LABELS
from ..dataset.tables import read_tsv
from ..dataset.values import counted

MAX_NAMED = 5  # scans in a note


def study_exclusions(
    bids_dir: PathLike, output_dir: PathLike, exclude: PathLike | None = None
) -> Exclusions:
    """Read which scans a study excludes, of those with raw data or with results.

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
    scans = [entities_of_file(path.name)[0] for path in find_tables(output_dir, ROI_TABLE)]
    return read_exclusions(bids_dir, exclude, scans)


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
        site = None
        if exists(path):
            sites = read_tsv(path).get("site")
            site = None if sites is None or sites.empty else sites.iloc[0]
        elif problem.severity == "unused":
            continue
        rows.append({**entities, "site": site, "reason": problem.text})
        problems.append(problem)
    columns = ["subject", "session", "run"]
    further = [name for name in LABELS if any(name in row for row in rows)]
    return pd.DataFrame(rows, columns=[*columns, *further, "site", "reason"]), problems


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
        "left out, since a table of the dataset cannot be used": faulty,
    }
    for kind, labels in kinds.items():
        if labels:
            named = ", ".join(labels[:MAX_NAMED]) + (", …" if len(labels) > MAX_NAMED else "")
            notes.append(f"{counted(len(labels), 'scan')} {kind}: {named}")
    return notes
