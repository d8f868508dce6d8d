"""What a dataset holds, scan by scan: protocols, what was decided about each scan, and what is
wrong.
"""

import multiprocessing
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from typing import TextIO

import pandas as pd

from ..core.phase.encoding import ENCODINGS
from .facts import MISSING, REAL_AND_IMAGINARY, scan_facts
from .preflight.inspection import Inspection, inspect_scan
from .problems import DatasetError, Problem
from .scans import Scan
from .split_echoes import find_split_echoes
from .values import one_line

#: Columns of the table that scans are compared by, with their names in a text.
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
    "site_deviations",
    "study_deviations",
    "n_errors",
    "n_warnings",
    "problems",
    "verdict",
)

# Title, column, and the most characters, so that a line has 120 with two spaces between.
PRINTED = (
    ("scan", "scan", 24),
    ("site", "site", 10),
    ("n", "n_echoes", 2),
    ("TE (ms)", "echo_times", 9),
    ("T", "field_strength", 4),
    ("matrix", "matrix", 11),
    ("voxel (mm)", "voxel_size", 13),
    ("B0°", "b0_angle", 4),
    ("phase", "phase_encoding", 7),
    ("±", "phase_sign", 2),
    ("mask", "mask", 4),
    ("verdict", "verdict", 7),
)
ENCODING_KINDS = {encoding.name: encoding.kind for encoding in ENCODINGS}
ENCODING_KINDS[REAL_AND_IMAGINARY] = "re, im"


def inspect_scans(
    scans: Sequence[Scan], *, n_procs: int = 1, check_sign: bool = False
) -> list[Inspection]:
    """Inspect scans, several at once if asked to.

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
        If one of several processes was killed.
    """
    inspect = partial(inspect_scan, check_sign=check_sign)
    if n_procs == 1 or len(scans) < 2:
        return list(map(inspect, scans))
    # A fresh interpreter each: a fork of a process with threads may hang.
    context = multiprocessing.get_context("spawn")
    n_procs = min(n_procs, len(scans))
    chunk = max(1, min(16, len(scans) // (4 * n_procs)))
    try:
        with ProcessPoolExecutor(n_procs, mp_context=context) as pool:
            return list(pool.map(inspect, scans, chunksize=chunk))
    except BrokenProcessPool as error:
        raise DatasetError(
            "a process that checked images was killed, perhaps for want of memory",
            "give a smaller --n-procs",
        ) from error


def audit_problems(
    inspections: Sequence[Inspection], left_out: Iterable[Problem] = ()
) -> list[Problem]:
    """Gather what is wrong with scans, each alone and one beside the others.

    Parameters
    ----------
    inspections : sequence of multiqsm.dataset.preflight.inspection.Inspection
        Of all scans.
    left_out : sequence of multiqsm.dataset.problems.Problem
        What was not taken as a scan; notes are not told.

    Returns
    -------
    list of multiqsm.dataset.problems.Problem
        First what was left out, as errors; then scan by scan.
    """
    problems = []
    for problem in left_out:
        if problem.severity == "error":
            problems.append(replace(problem, remedy=problem.remedy or "correct the dataset"))
    rows = [scan_facts(inspection) for inspection in inspections]
    deviations = _deviations(rows, by_site=True)
    copies = _copies(inspections)
    shared = _shared(inspections)
    split = find_split_echoes(inspections)
    for inspection, row, deviating in zip(inspections, rows, deviations, strict=True):
        problems += inspection.problems
        if deviating:
            cause = f"differs from most scans of site {row['site']}: {'; '.join(deviating)}"
            remedy = (
                "correct the sidecars if they are wrong; else leave the scan out or use --harmonize"
            )
            problems.append(Problem.of(inspection.scan, "", cause, remedy, "warning"))
        if row["scan"] in copies:
            cause = f"all its images have the values of {copies[row['scan']]}'s"
            problems.append(
                Problem.of(
                    inspection.scan, "", cause, "see which of the two scans they are", "warning"
                )
            )
        elif row["scan"] in shared:
            cause = f"some of its images have the values of {shared[row['scan']]}'s"
            problems.append(
                Problem.of(
                    inspection.scan,
                    "",
                    cause,
                    "see which of the two scans they belong to",
                    "warning",
                )
            )
        if row["scan"] in split:
            problems.append(Problem.of(inspection.scan, "", *split[row["scan"]], "warning"))
    return problems


def _copies(inspections):
    """Map the label of each scan whose images are another's to the first scan that has them."""
    first = {}
    copies = {}
    for inspection in inspections:
        if len(inspection.checksums) > 1:
            label = inspection.scan.label
            original = first.setdefault(inspection.checksums, label)
            if original != label:
                copies[label] = original
    return copies


def _shared(inspections):
    """Map the label of each scan that has some image of another one's to that scan."""
    owners = {}
    shared = {}
    for inspection in inspections:
        for checksum in inspection.checksums:
            owner = owners.setdefault(checksum, inspection)
            if set(owner.checksums) != set(inspection.checksums):
                first = owner.scan.label
                second = inspection.scan.label
                shared |= {first: second, second: first}
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
        Sign that the user gives; 0 for the manufacturer's.

    Returns
    -------
    pandas.DataFrame
        One row per scan, and one for each label that problems name and no scan has. Columns
        `COLUMNS`: labels; ``n_echoes``; ``echo_times`` (ms), ``matrix`` and ``voxel_size`` (mm) as
        texts; ``repetition_time`` (s); ``flip_angle`` and ``b0_angle``, B0 against the third axis,
        (degrees); ``b0_source``, the form of the header that tells it; ``field_strength`` (T);
        ``centre_frequency`` (MHz); ``sign_asymmetry``, far below 0 if the phase has the wrong sign;
        ``saturated``, greatest share of a magnitude's voxels at its maximum; ``echo_offset`` and
        ``echo_ramp`` (rad), by which even echoes depart from odd ones; ``is_bipolar``, whether that
        is much; ``mask``, user or auto; ``site_deviations`` and ``study_deviations``, where the
        scan differs from what more than half of the site's or study's scans (phantoms apart) have;
        ``problems``; ``verdict``, ok, warning or error.
    """
    rows = [scan_facts(inspection, phase_sign) for inspection in inspections]
    for column, by_site in (("site_deviations", True), ("study_deviations", False)):
        for row, deviating in zip(rows, _deviations(rows, by_site=by_site), strict=True):
            row[column] = "; ".join(deviating) or None
    of_scan = defaultdict(list)
    for problem in problems:
        of_scan[problem.scan].append(problem)
    known = {row["scan"] for row in rows}
    rows += [
        {"scan": label} for label in of_scan if label not in known and label.startswith("sub-")
    ]
    for row in rows:
        found = of_scan[row["scan"]]
        counts = Counter(problem.severity for problem in found)
        row["n_errors"] = counts["error"]
        row["n_warnings"] = counts["warning"]
        row["problems"] = " | ".join(one_line(f"{p.severity}: {p}") for p in found) or None
        row["verdict"] = next(
            (severity for severity in ("error", "warning") if counts[severity]), "ok"
        )
    table = pd.DataFrame(rows, columns=list(COLUMNS)).sort_values(
        "scan", kind="stable", ignore_index=True
    )
    return table.astype({"n_echoes": "Int64", "phase_sign": "Int64"})


def _deviations(rows, *, by_site):
    """For each row, the fields in which it differs from what more than half of its kind have, in
    words.
    """

    def kind(row):
        return (row["is_phantom"], row["site"] if by_site else None)

    values = defaultdict(Counter)
    for row in rows:
        for column in COMPARED:
            values[kind(row), column][row[column]] += 1
    found = []
    for row in rows:
        deviating = []
        for column, name in COMPARED.items():
            counts = values[kind(row), column]
            (commonest, count), *_ = counts.most_common(1)
            if 2 * count > counts.total() and row[column] != commonest:
                own, others = (
                    MISSING if value is None else value for value in (row[column], commonest)
                )
                deviating.append(f"{name} {own}, most have {others}")
        found.append(deviating)
    return found


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
    cells = [[title for title, _, _ in PRINTED]]
    cells += [
        [_cell(row[column], column, most) for _, column, most in PRINTED]
        for _, row in table.iterrows()
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]
    if problems:
        lines += ["", *(one_line(f"{problem.severity}: {problem}") for problem in problems)]
    counts = Counter(table["verdict"])
    totals = (
        f"{len(table)} scans: {counts['ok']} ok, {counts['warning']} with warnings, "
        f"{counts['error']} with errors"
    )
    named = {problem.scan for problem in problems if problem.severity == "error"}
    if n_other := len(named - set(table["scan"])):
        totals += f"; {n_other} files of no scan"
    for line in [*lines, "", totals]:
        encoding = getattr(stream, "encoding", None) or "utf-8"
        print(line.encode(encoding, "replace").decode(encoding), file=stream)


def _cell(value, column, most):
    """A value as the printed table has it, cut where it is too long."""
    if value is None or value is pd.NA or value != value:
        return "-"
    if column == "echo_times":
        times = str(value).split(", ")
        text = times[0] if len(times) == 1 else f"{times[0]}…{times[-1]}"
    elif column == "phase_encoding":
        text = ENCODING_KINDS.get(value, str(value))
    elif column in ("b0_angle", "field_strength"):
        text = f"{value:.3g}"
    elif column == "phase_sign":
        text = f"{value:+d}"
    else:
        text = one_line(str(value))
    return text if len(text) <= most else f"{text[: most - 1]}…"
