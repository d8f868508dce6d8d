"""The group level: statistics and report of a study, or of a study model."""

import sys
from argparse import Namespace
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bids_templates import SHIPPED_MODELS
from ..cohort.included import excluded_scans, study_exclusions
from ..cohort.model_files import read_model
from ..cohort.patients import collect_patients
from ..cohort.roi_tables import add_protocols, read_roi_tables
from ..cohort.study import collect_values
from ..dataset.content import exists
from ..dataset.exclusions import Exclusions
from ..dataset.group_tables import model_folder
from ..dataset.names import ROI_TABLE, find_tables
from ..dataset.outputs import is_multiqsm_dataset, write_dataset_description
from ..dataset.problems import DatasetError, Problem
from ..dataset.tables import read_tsv
from ..dataset.values import counted
from ..stats.protocols import scans_of
from ..stats.specification import used_columns
from .arguments import EXIT_FAILED_SCANS, EXIT_NOTHING_TO_DO, EXIT_OK
from .checks import check_command
from .group_plan import plan_model, plan_study
from .machine import run_graph
from .readme import update_readme

if TYPE_CHECKING:  # Nipype takes seconds to import
    from nipype.pipeline.engine import Workflow


def run_group(options: Namespace) -> int:
    """Compare the regional values of all scans, or compute a study model; write tables and report.

    Parameters
    ----------
    options : argparse.Namespace
        Options of the command.

    Returns
    -------
    int
        The exit code: 1 if part of a model could not be computed, or a file of its patients could
        not be read.

    Raises
    ------
    DatasetError
        If there are no regional values, or the options cannot be used.
    """
    check_command(options)
    if options.model is not None:
        return _run_model(options)
    if options.phenotype:
        raise DatasetError("--phenotype needs --model")
    if options.freesurfer_dir:
        raise DatasetError("--freesurfer-dir needs --model")
    if not is_multiqsm_dataset(options.output_dir):
        raise DatasetError(
            f"{options.output_dir}: no multiqsm results here", "run the participant level first"
        )
    exclusions, excluded = _exclusions(options)
    rois = read_roi_tables(options.output_dir, exclusions)
    scans = scans_of(add_protocols(rois)[0])
    choices = _choices(options, len(scans))
    code = _code_of(excluded)
    if options.dry_run:
        values = collect_values(options.bids_dir, options.output_dir, options.exclude)
        warnings, plan = plan_study(values, excluded, choices, options)
        for warning in warnings:
            print(f"warning: {warning}", file=sys.stderr)
        print("\n".join(plan))
        return code
    print(
        f"{counted(len(scans), 'scan')} of {counted(scans['subject'].nunique(), 'subject')} at "
        f"{counted(scans['site'].nunique(), 'site')}, {len(excluded)} excluded"
    )

    from ..workflows.group import init_study_wf

    has_failed = _failed(init_study_wf, options, **choices, exclude=_absolute(options.exclude))
    update_readme(options.output_dir)
    if has_failed:
        return EXIT_NOTHING_TO_DO
    for warning in read_tsv(options.output_dir / "group" / "warnings.tsv")["warning"]:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"report: {options.output_dir / 'group.html'}")
    print(f"tables: {options.output_dir / 'group'}")
    return code


def _exclusions(options: Namespace) -> tuple[Exclusions, list[Problem]]:
    """Return what the study excludes, and the scans; a dry run prints each with the reason."""
    exclusions = study_exclusions(options.bids_dir, options.output_dir, options.exclude)
    _, excluded = excluded_scans(options.output_dir, exclusions)
    if options.dry_run:
        for problem in excluded:
            print(f"{problem.severity}: {problem}")
    return exclusions, excluded


def _code_of(excluded: Iterable[Problem]) -> int:
    """Return the exit code: whether a scan is left out that the study does not exclude."""
    is_faulty = any(problem.severity == "error" for problem in excluded)
    return EXIT_FAILED_SCANS if is_faulty else EXIT_OK


def _absolute(path: Path | None) -> Path | None:
    """Return the absolute path of a file, since nodes work in folders of their own."""
    return None if path is None else path.absolute()


def _choices(options: Namespace, n_scans: int) -> dict[str, Any]:
    """Return whether to calibrate, and how the scans' settings differ from a preset's."""
    from ..workflows.presets import CALIBRATED

    calibrate = "if possible" if options.preset in CALIBRATED else "no"
    if options.calibrate is not None:
        calibrate = "yes" if options.calibrate else "no"
    return {
        "calibrate": calibrate,
        "equivalence_margin": options.equivalence_margin,
        **compare_with_preset(options, n_scans),
    }


def compare_with_preset(options: Namespace, n_scans: int) -> dict[str, Any]:
    """Compare the settings of the processed scans with a preset's.

    Parameters
    ----------
    options : argparse.Namespace
        Options of the command, of which ``output_dir`` and ``preset`` are used. The preset is the
        one on the command line or, if that is the default, the one that all scans agree with.
    n_scans : int
        Number of scans in the output folder.

    Returns
    -------
    dict
        ``preset``, ``differences`` and ``n_unrecorded`` as of `multiqsm.workflows.presets`; the
        preset is None if there is none to compare with.
    """
    from ..execution.completion import recorded_settings
    from ..workflows.presets import NOT_COMPARED, differences_from, preset_of

    settings = list(recorded_settings(options.output_dir, "scans").values())
    preset = options.preset
    if preset == "default":
        preset = preset_of(settings) if len(settings) >= n_scans else None
    differences = []
    if preset is not None:
        differences = differences_from(preset, settings, ignored=NOT_COMPARED)
    return {
        "preset": preset,
        "differences": differences,
        "n_unrecorded": max(n_scans - len(settings), 0),
    }


def _run_model(options):
    if options.calibrate:
        raise DatasetError(
            "--calibrate cannot be combined with --model: phantom scans do not correct the columns "
            "of a model"
        )
    model = read_model(options.model)
    sources = _further_sources(options)
    exclusions, excluded = _exclusions(options)
    patients = collect_patients(
        options.bids_dir,
        options.output_dir,
        method=model.method,
        region=model.region,
        reference=model.reference,
        exclusions=exclusions,
        **sources,
    )
    n_patients = counted(len(patients.table), "patient")
    print(f"{n_patients}; columns: {', '.join(patients.table.columns)}")
    for note in patients.notes:
        print(note)
    n_scans = len(find_tables(options.output_dir, ROI_TABLE))
    # Tables alone have no settings that could be compared with a preset's.
    comparison = compare_with_preset(options, n_scans) if n_scans else {}
    if options.dry_run:
        problems, plan = plan_model(model, patients, comparison, options.output_dir)
        code = _print_problems(problems)
        print("\n".join(plan))
        return max(code, _code_of(excluded))
    try:
        write_dataset_description(options.output_dir, options.bids_dir)
    except ValueError as error:
        raise DatasetError(str(error)) from error

    from ..workflows.model import init_model_wf  # Nipype is slow to import: not before it is needed

    model_file = (
        options.model if options.model in SHIPPED_MODELS else Path(options.model).absolute()
    )
    sources["exclude"] = _absolute(options.exclude)
    has_failed = _failed(init_model_wf, options, model=model_file, **sources, **comparison)
    update_readme(options.output_dir)
    if has_failed:
        return EXIT_NOTHING_TO_DO
    tables = model_folder(options.output_dir, model.name)
    code = _print_problems(read_tsv(tables / "problems.tsv").itertuples(index=False))
    _print_excluded(tables, used_columns(model), len(patients.table))
    print(f"report: {options.output_dir / f'group_model-{model.name}.html'}")
    print(f"tables: {tables}")
    return max(code, _code_of(excluded))


def _print_excluded(tables: Path, columns: list[str], n_patients: int) -> None:
    """Print how many patients the model leaves out, how many of the others lack each column, and
    how many are listed as excluded.
    """
    path = tables / "excluded.tsv"
    excluded = read_tsv(path)
    n_analysed = len(read_tsv(tables / "patients.tsv"))
    if n_analysed < n_patients:
        of_all = f"{n_patients - n_analysed} of {counted(n_patients, 'patient')}"
        print(f"{of_all} left out by rules of the model")
    for column in columns:
        n_lacking = excluded.loc[excluded["what"] == column, "participant"].nunique()
        if n_lacking:
            print(f"without {column}: {n_lacking} of {counted(n_analysed, 'patient')}")
    n_excluded = excluded["participant"].nunique()
    listed = counted(n_excluded, "patient")
    print(f"{listed} excluded from a regression or without one of its values: {path}")


def _further_sources(options: Namespace) -> dict[str, Any]:
    """Return the further tables of participants and FreeSurfer's folder, as absolute paths."""
    for path in options.phenotype or ():
        if not (exists(path) and path.is_file()):
            raise DatasetError(f"--phenotype {path}: no such file")
    folder = options.freesurfer_dir
    if folder is not None and not (exists(folder) and folder.is_dir()):
        raise DatasetError(f"--freesurfer-dir {folder}: no such folder")
    phenotype = list(map(Path.absolute, options.phenotype or ()))
    return {"phenotype": phenotype, "freesurfer_dir": None if folder is None else folder.absolute()}


def _print_problems(problems: Iterable[tuple[str, str]]) -> int:
    """Print what could not be computed or read, and why; return the exit code."""
    code = EXIT_OK
    for part, cause in problems:
        print(f"problem: {part}: {cause}", file=sys.stderr)
        code = EXIT_FAILED_SCANS
    return code


def _failed(init_wf: Callable[..., "Workflow"], options: Namespace, **choices: Any) -> bool:
    """Build and run a graph; print what failed, and return whether anything did."""
    from ..execution.code import software
    from ..execution.run import configure_nipype

    configure_nipype(options.work_dir.absolute(), verbosity=options.verbose)
    workflow = init_wf(
        bids_dir=options.bids_dir.absolute(),
        output_dir=options.output_dir.absolute(),
        work_dir=options.work_dir.absolute() / f"version-{software(init_wf.__module__)}",
        **choices,
    )
    failures = run_graph(workflow, options, "parts")
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return bool(failures)
