"""The audit of a dataset: each scan's protocol, how it would be processed, and its problems."""

import multiprocessing
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from typing import Any, TextIO

import pandas as pd

from ..core.phase.encodings import ENCODINGS
from ..core.phase.vendors import vendor
from .facts import MISSING, REAL_AND_IMAGINARY, scan_facts
from .participants import check_sites
from .preflight.inspection import Inspection, inspect_scan
from .problems import DatasetError, Problem
from .scans import Scan
from .split_echoes import find_split_echoes
from .values import counted, one_line

#: Columns of the table in which scans are compared, with their names for messages.
COMPARED = {
    "suffix": "suffix",
    "n_echoes": "number of echoes",
    "echo_times": "echo times (ms)",
    "repetition_time": "repetition time (s)",
    "flip_angle": "flip angle (°)",
    "field_strength": "field strength (T)",
    "manufacturer": "manufacturer",
    "model": "model",
    "software": "software",
    "phase_encoding": "phase encoding",
    "matrix": "matrix",
    "voxel_size": "voxel size (mm)",
}
COLUMNS = (
    "scan",
    "subject",
    "session",
    "run",
    "site",
    "site_source",
    "is_phantom",
    "suffix",
    "n_echoes",
    "echo_times",
    "echo_time_range",
    "repetition_time",
    "flip_angle",
    "field_strength",
    "centre_frequency",
    "centre_frequency_source",
    "manufacturer",
    "model",
    "software",
    "phase_units",
    "phase_range",
    "phase_encoding",
    "phase_sign",
    "phase_sign_source",
    "sign_asymmetry",
    "b0_dir",
    "b0_angle",
    "b0_source",
    "matrix",
    "voxel_size",
    "saturated",
    "echo_offset",
    "echo_ramp",
    "is_bipolar",
    "mask",
    "decisions",
    "site_deviations",
    "study_deviations",
    "n_errors",
    "n_warnings",
    "problems",
    "verdict",
)

# Title, column and maximal width of the printed table; with two spaces between columns a line has
# at most 120 characters.
PRINTED_COLUMNS = (
    ("scan", "scan", 24),
    ("site", "site", 10),
    ("n", "n_echoes", 2),
    ("TE (ms)", "echo_time_range", 9),
    ("T", "field_strength", 4),
    ("matrix", "matrix", 11),
    ("voxel (mm)", "voxel_size", 13),
    ("B0°", "b0_angle", 4),
    ("phase", "phase_encoding", 7),
    ("±", "phase_sign", 2),
    ("mask", "mask", 4),
    ("verdict", "verdict", 8),
)
#: Verdicts on scans other than ok, the most important first, with their words in the last line.
VERDICTS = {
    "error": "with errors",
    "excluded": "excluded",
    "warning": "with warnings",
    "unused": "not used",
}
ENCODING_KINDS = {encoding.name: encoding.kind for encoding in ENCODINGS}
ENCODING_KINDS[REAL_AND_IMAGINARY] = "re, im"


def inspect_scans(
    scans: Sequence[Scan], *, n_procs: int = 1, check_sign: bool = False
) -> list[Inspection]:
    """Inspect scans, optionally in parallel.

    Parameters
    ----------
    scans : sequence of multiqsm.dataset.scans.Scan
        The scans.
    n_procs : int
        Number of processes.
    check_sign : bool
        As of `multiqsm.dataset.preflight.inspection.inspect_scan`.

    Returns
    -------
    list of multiqsm.dataset.preflight.inspection.Inspection
        In the order of the scans.

    Raises
    ------
    DatasetError
        If one of several worker processes was killed.
    """
    inspect = partial(inspect_scan, check_sign=check_sign)
    if n_procs == 1 or len(scans) < 2:
        return list(map(inspect, scans))
    # Each worker is a fresh interpreter: forking a process that has threads may deadlock.
    context = multiprocessing.get_context("spawn")
    n_procs = min(n_procs, len(scans))
    chunk = max(1, min(16, len(scans) // (4 * n_procs)))
    try:
        with ProcessPoolExecutor(n_procs, mp_context=context) as pool:
            return list(pool.map(inspect, scans, chunksize=chunk))
    except BrokenProcessPool as error:
        raise DatasetError(
            "a process that checked images was killed, possibly because memory ran out",
            "choose a smaller --n-procs",
        ) from error


def audit_problems(
    inspections: Sequence[Inspection], left_out: Iterable[Problem] = ()
) -> list[Problem]:
    """Collect the problems of scans, each by itself and in comparison with the others.

    Parameters
    ----------
    inspections : sequence of multiqsm.dataset.preflight.inspection.Inspection
        Of all scans.
    left_out : sequence of multiqsm.dataset.problems.Problem
        Problems of files and scans that were not collected; notes are ignored.

    Returns
    -------
    list of multiqsm.dataset.problems.Problem
        First those of `left_out`; then the problems of each scan.
    """
    problems = []
    for problem in left_out:
        if problem.severity == "error":
            problem = replace(problem, remedy=problem.remedy or "correct the dataset")
        if problem.severity != "note":
            problems.append(problem)
    problems += check_sites(inspection.scan for inspection in inspections)
    rows = list(map(scan_facts, inspections))
    deviations = _deviations(rows, by_site=True)
    copies = _find_copies(inspections)
    shared = _find_shared_images(inspections)
    split = find_split_echoes(inspections)
    for inspection, row, deviating in zip(inspections, rows, deviations, strict=True):
        problems += inspection.problems
        warn = partial(Problem.of, inspection.scan, "", severity="warning")
        label = row["scan"]
        if deviating:
            problems.append(
                warn(
                    f"differs from most scans of site {row['site']}: {'; '.join(deviating)}",
                    "correct the sidecars if they are wrong; otherwise exclude the scan or use "
                    "--harmonize",
                )
            )
        if label in copies:
            problems.append(
                warn(
                    f"all its images are identical to those of {copies[label]}",
                    "find out to which of the two scans they belong",
                )
            )
        elif label in shared:
            problems.append(
                warn(
                    f"some of its images are identical to those of {shared[label]}",
                    "find out to which of the two scans they belong",
                )
            )
        if label in split:
            problems.append(warn(*split[label]))
    return problems


def _find_copies(inspections):
    """Map the label of each scan that duplicates an earlier one to the label of that scan."""
    first = {}
    copies = {}
    for inspection in inspections:
        if len(inspection.checksums) > 1:
            label = inspection.scan.label
            original = first.setdefault(inspection.checksums, label)
            if original != label:
                copies[label] = original
    return copies


def _find_shared_images(inspections):
    """Map the label of each scan that shares only some images with another one to that scan."""
    owners = {}
    shared = {}
    for inspection in inspections:
        for checksum in inspection.checksums:
            owner = owners.setdefault(checksum, inspection)
            if set(owner.checksums) != set(inspection.checksums):
                shared[owner.scan.label] = inspection.scan.label
                shared[inspection.scan.label] = owner.scan.label
    return shared


def audit_table(
    inspections: Sequence[Inspection], problems: Iterable[Problem], *, phase_sign: int = 0
) -> pd.DataFrame:
    """Make the table of a dataset's scans.

    Parameters
    ----------
    inspections : sequence of multiqsm.dataset.preflight.inspection.Inspection
        Of all scans.
    problems : sequence of multiqsm.dataset.problems.Problem
        As from `audit_problems`.
    phase_sign : {0, 1, -1}
        Phase sign chosen by the user; 0 for the manufacturer's convention.

    Returns
    -------
    pandas.DataFrame
        One row per scan, and one for each label in `problems` that belongs to no scan. Columns
        `COLUMNS`: labels; ``n_echoes``; ``echo_times`` and ``echo_time_range`` (ms), ``matrix`` and
        ``voxel_size`` (mm) as texts; ``repetition_time`` (s); ``flip_angle`` and ``b0_angle``, the
        angle between B0 and the third voxel axis (degrees); ``b0_source``, the header's form that
        gives the direction; ``field_strength`` (T); ``centre_frequency`` (MHz); ``sign_asymmetry``,
        far below 0 if the phase has the wrong sign; ``saturated``, the largest fraction of a
        magnitude image's voxels at its maximum; ``echo_offset`` and ``echo_ramp`` (rad), by which
        even echoes differ from odd ones; ``is_bipolar``, whether this difference indicates a
        bipolar readout; ``mask``, user or auto; ``decisions``, how files were read that could be
        read otherwise; ``site_deviations`` and ``study_deviations``, where the scan differs from
        the value of more than half of the site's or study's scans (phantoms are compared with
        phantoms); ``problems``; ``verdict``, one of `VERDICTS`.
    """
    rows = [scan_facts(inspection, phase_sign) for inspection in inspections]
    for column, by_site in (("site_deviations", True), ("study_deviations", False)):
        for row, deviating in zip(rows, _deviations(rows, by_site=by_site), strict=True):
            row[column] = "; ".join(deviating) or None
    problems_of = defaultdict(list)
    for problem in problems:
        problems_of[problem.scan].append(problem)
    labels = {row["scan"] for row in rows}
    for label, (problem, *_) in problems_of.items():
        if label not in labels and label.startswith("sub-"):
            rows.append({"scan": label, "subject": problem.subject or None})
    for row in rows:
        own = problems_of[row["scan"]]
        counts = Counter(problem.severity for problem in own)
        row["n_errors"] = counts["error"]
        row["n_warnings"] = counts["warning"]
        row["problems"] = " | ".join(map(_problem_line, own)) or None
        row["verdict"] = next(filter(counts.__contains__, VERDICTS), "ok")
    table = pd.DataFrame(rows, columns=list(COLUMNS)).sort_values(
        "scan", kind="stable", ignore_index=True
    )
    return table.astype({"n_echoes": "Int64", "phase_sign": "Int64"})


def _deviations(rows, *, by_site):
    """Describe, for each row, the fields in which it differs from the majority of its group."""

    def group(row: Mapping[str, Any]) -> tuple[bool, str | None]:
        return (row["is_phantom"], row["site"] if by_site else None)

    values = defaultdict(Counter)
    for row in rows:
        for column in COMPARED:
            values[group(row), column][_comparable(row, column)] += 1
    deviations = []
    for row in rows:
        deviating = []
        for column, name in COMPARED.items():
            counts = values[group(row), column]
            commonest, count = counts.most_common(1)[0]
            is_majority = 2 * count > counts.total()
            if is_majority and _comparable(row, column) != commonest:
                deviating.append(f"{name} {_or_na(row[column])}, most have {_or_na(commonest)}")
        deviations.append(deviating)
    return deviations


def _comparable(row, column):
    """Return a value of a row for comparison; a manufacturer's name may be written in many ways."""
    value = row[column]
    return vendor(value) if column == "manufacturer" and value is not None else value


def _or_na(value):
    return MISSING if value is None else value


def _problem_line(problem):
    return one_line(f"{problem.severity}: {problem}")


def print_audit(table: pd.DataFrame, problems: Sequence[Problem], stream: TextIO) -> None:
    """Print a short table of at most 120 columns, the problems with their remedies, and the totals.

    Parameters
    ----------
    table : pandas.DataFrame
        As from `audit_table`.
    problems : sequence of multiqsm.dataset.problems.Problem
        As from `audit_problems`.
    stream : text stream
        Where to print. Characters that it cannot encode are replaced.
    """
    lines = _table_lines(table)
    if problems:
        lines += ["", *map(_problem_line, problems)]
    counts = Counter(table["verdict"])
    totals = f"{counted(len(table), 'scan')}: {counts['ok']} ok, {counts['warning']} with warnings"
    for verdict in ("error", "excluded", "unused"):
        if counts[verdict] or verdict == "error":
            totals += f", {counts[verdict]} {VERDICTS[verdict]}"
    with_errors = {problem.scan for problem in problems if problem.severity == "error"}
    if n_files := len(with_errors - set(table["scan"])):
        totals += f"; {counted(n_files, 'file')} of no scan"
    encoding = getattr(stream, "encoding", None) or "utf-8"
    for line in [*lines, "", totals]:
        print(line.encode(encoding, "replace").decode(encoding), file=stream)


def _table_lines(table):
    """Align the printed columns of the table; the first line has the titles."""
    columns = []
    for title, column, max_width in PRINTED_COLUMNS:
        cell_text = partial(_cell, column=column, max_width=max_width)
        cells = [title, *map(cell_text, table[column])]
        width = max(map(len, cells))
        columns.append([cell.ljust(width) for cell in cells])
    return ["  ".join(cells).rstrip() for cells in zip(*columns, strict=True)]


def _cell(value, column, max_width):
    """Format a value for the printed table, truncated to the width of the column."""
    if value is None or value is pd.NA or value != value:
        return "-"
    if column == "phase_encoding":
        text = ENCODING_KINDS.get(value, str(value))
    elif column in ("b0_angle", "field_strength"):
        text = f"{value:.3g}"
    elif column == "phase_sign":
        text = f"{value:+d}"
    else:
        text = one_line(str(value))
    return text if len(text) <= max_width else f"{text[: max_width - 1]}…"
