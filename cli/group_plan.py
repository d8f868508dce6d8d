"""The plan of the group level, which a dry run prints in place of tables and report.

It computes all tables as a run does, which takes seconds, so that it knows which can be made.
"""

from argparse import Namespace
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..cohort.patients import Patients
from ..cohort.study import StudyValues, study_results, times_tables
from ..dataset.group_tables import FILE_NAMES, group_table_path, model_folder
from ..dataset.problems import DatasetError, Problem
from ..dataset.values import counted, join_words
from ..reports.group_texts import KNOWN_TABLES
from ..stats.model import run_model
from ..stats.protocols import scans_of
from ..stats.specification import StudyModel
from ..workflows.presets import Difference
from .plan import plan_lines
from .readme import option_text

# Why a table may be missing without a warning of its own.
NOT_APPLICABLE = {
    "tubes": "no phantom scans",
    "calibration": "no phantom scans",
    "age": "no ages",
    "roi_r2star": "no R2* of people",
    "tubes_r2star": "no R2* of phantoms",
    "between_methods": "one inversion",
    "nuclei": "no deep grey nuclei with repeats",
    "times": "no times",
}
MAX_NAMED = 5  # scans of one reason


def plan_study(
    values: StudyValues, excluded: Sequence[Problem], choices: Mapping[str, Any], options: Namespace
) -> tuple[list[str], list[str]]:
    """Describe what the group level would do.

    Parameters
    ----------
    values : StudyValues
        Values of all scans that count.
    excluded : sequence of multiqsm.dataset.problems.Problem
        Scans that the study excludes, or that cannot be used.
    choices : mapping of str
        Choices of `multiqsm.workflows.group.init_group_wf`.
    options : argparse.Namespace
        Options of the command.

    Returns
    -------
    warnings : list of str
        Those of the run.
    lines : list of str
        The plan.

    Raises
    ------
    DatasetError
        If ``--calibrate`` is given, and no inversion can be calibrated.
    """
    try:
        results = study_results(
            values.rois,
            values.r2star,
            calibrate=choices["calibrate"],
            equivalence_margin=choices["equivalence_margin"],
        )
    except ValueError as error:
        raise DatasetError(str(error)) from error
    tables = results.tables
    people = tables["rois"]
    times, times_notes = times_tables(
        options.output_dir, tables["tubes"] if people.empty else people
    )
    tables |= times
    left_out = tables.pop("excluded", pd.DataFrame())
    made = [name for name, table in tables.items() if name != "tubes" or len(table)]
    scans = scans_of(values.rois)
    rows = {
        "output": f"{options.output_dir / 'group'} ({_state_of(options.output_dir)})",
        "scans": f"{counted(len(scans), 'scan')} of {_number_of(scans, 'subject')} at "
        f"{_number_of(scans, 'site')}, {len(excluded)} excluded",
        "sites": _sites(scans),
        "left out": _left_out(left_out),
        "regions": _named(people if len(people) else tables["tubes"], "roi"),
        "inversions": _named(values.rois, "method"),
        "values": _calibration(tables, choices["calibrate"], results.calibration_refusals),
        "preset": _preset(choices),
        "tables": ", ".join(_file_names(made)),
        "not made": _not_made(made),
    }
    return [*values.notes, *results.notes, *times_notes], plan_lines(rows, "written")


def plan_model(
    model: StudyModel, patients: Patients, choices: Mapping[str, Any], output_dir: Path
) -> tuple[list[tuple[str, str]], list[str]]:
    """Describe what the group level would do with a study model.

    Parameters
    ----------
    model : multiqsm.stats.specification.StudyModel
        The model.
    patients : multiqsm.cohort.patients.Patients
        All patients that are not excluded.
    choices : mapping of str
        How the scans' settings differ from a preset's; empty without scans.
    output_dir : pathlib.Path
        Root of the derivative dataset.

    Returns
    -------
    problems : list of (str, str)
        What could not be computed or read, and why.
    lines : list of str
        The plan.
    """
    tables = run_model(patients.table, model)
    folder = model_folder(output_dir, model.name)
    regressions = tables["coefficients"]
    computed = regressions[regressions["note"].isna()]
    text = f"{len(computed)} of {counted(len(regressions), 'regression')} can be computed"
    if len(computed):
        text += f", with {computed['n'].min()} to {counted(computed['n'].max(), 'patient')}"
    n_left_out = len(patients.table) - len(tables["patients"])
    state = "tables of an earlier run, which are replaced" if folder.exists() else "a new folder"
    rows = {
        "model": model.name,
        "output": f"{folder} ({state})",
        "patients": f"{counted(len(patients.table), 'patient')}, {n_left_out} of them left out by "
        "rules of the model",
        "outcome": f"susceptibility of {model.region}, {model.method} maps, relative to "
        f"{model.reference or 'the commonest reference'}",
        "preset": _preset(choices),
        "subsets": ", ".join(map(str, regressions["subset"].unique())),
        "regressions": text,
    }
    problems = [*patients.problems, *tables["problems"].itertuples(index=False, name=None)]
    return problems, plan_lines(rows, "written")


def _state_of(output_dir):
    if not group_table_path(output_dir, "rois").exists():
        return "no tables of an earlier run"
    return "tables of an earlier run, which are replaced"


def _number_of(scans: pd.DataFrame, column: str) -> str:
    return counted(scans[column].nunique(), column)


def _sites(scans):
    texts = []
    for site, of_site in scans.groupby("site"):
        texts.append(f"{site} ({counted(len(of_site), 'scan')})")
    return ", ".join(texts)


def _left_out(scans: pd.DataFrame) -> str:
    """Say which scans are in no statistics, although they are not excluded, and why."""
    if scans.empty:
        return "none of these"
    texts = []
    for reason, alike in scans.groupby("reason", sort=False):
        names = [f"sub-{subject}" for subject in alike["subject"].unique()]
        named = ", ".join(names[:MAX_NAMED]) + (", …" if len(names) > MAX_NAMED else "")
        texts.append(f"{counted(len(alike), 'scan')} ({named}): {reason}")
    return "; ".join(texts)


def _named(table: pd.DataFrame, column: str) -> str:
    names = sorted(table[column].unique())
    return f"{len(names)} ({', '.join(names)})"


def _calibration(
    tables: Mapping[str, pd.DataFrame], calibrate: str, refusals: Mapping[str, str]
) -> str:
    """Say whether values are calibrated, and by which phantoms."""
    people = tables["rois"]
    tubes = tables["tubes"]
    if people.empty:
        return "of phantoms only"
    sites = sorted(tubes["site"].unique())
    if "calibrated" in people and people["calibrated"].any():
        phantoms = join_words([f"sub-{label}" for label in sorted(tubes["subject"].unique())])
        text = f"calibrated by {phantoms} at {join_words(sites)}"
        return f"{text}, except {join_words(list(refusals))}" if refusals else text
    if calibrate != "no" and refusals:
        return f"as measured, since {'; '.join(refusals.values())}"
    if len(sites):
        return (
            f"as measured (--calibrate corrects them by the phantom scans at {join_words(sites)})"
        )
    return "as measured; no phantom scans"


def _preset(choices: Mapping[str, Any]) -> str:
    """Say with which preset the report compares the settings."""
    preset = choices.get("preset")
    if preset is None:
        return "none with which the settings agree"
    texts = [option_text(Difference(*difference)) for difference in choices["differences"]]
    text = f"compared with {preset}: {', '.join(texts) or 'the same settings'}"
    n_unrecorded = choices["n_unrecorded"]
    if n_unrecorded:
        text += f"; settings of {counted(n_unrecorded, 'scan')} not known"
    return text


def _file_names(names: Collection[str]) -> list[str]:
    """Return the names of files of tables, in the order of the report."""
    return [FILE_NAMES.get(name, name) for name in KNOWN_TABLES if name in names]


def _not_made(made: Collection[str]) -> str:
    """Name the tables that cannot be made."""
    texts = []
    for name in KNOWN_TABLES:
        if name in made or name == "excluded" or name.startswith("published"):
            continue
        reason = NOT_APPLICABLE.get(name, "")
        file_name = FILE_NAMES.get(name, name)
        texts.append(f"{file_name} ({reason})" if reason else file_name)
    return f"{', '.join(texts)} (warnings give further reasons)" if texts else "none"
