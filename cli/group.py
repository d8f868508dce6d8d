"""The group level: the regional values of all scans to the statistics and the report of a study, or
of a model.
"""

import sys
from argparse import Namespace
from pathlib import Path

from ..cohort.model_files import SHIPPED, read_model
from ..cohort.patients import collect_patients
from ..cohort.roi_tables import add_protocols, read_roi_tables
from ..dataset.content import exists
from ..dataset.outputs import is_multiqsm_dataset, write_dataset_description
from ..dataset.problems import DatasetError
from ..dataset.tables import read_tsv
from ..stats.protocols import scans_of
from .arguments import EXIT_FAILED_SCANS, EXIT_NOTHING_TO_DO, EXIT_OK
from .machine import check_work_dir, run_graph


def run_group(options: Namespace) -> int:
    """Compare the values of all scans in the output folder, or compute a model; write tables and
    report.

    Parameters
    ----------
    options : argparse.Namespace
        Of the command.

    Returns
    -------
    int
        The exit code: 1 if something of a model could not be computed, or a file of its patients
        not be used.

    Raises
    ------
    DatasetError
        If there is nothing to compare.
    """
    check_work_dir(options)
    if not options.bids_dir.is_dir():
        raise DatasetError(
            f"{options.bids_dir}: no such folder", "give the root folder of the BIDS dataset"
        )
    if options.model is not None:
        return _run_model(options)
    if given := [name for name in ("phenotype", "freesurfer_dir") if getattr(options, name)]:
        raise DatasetError(f"--{given[0].replace('_', '-')} goes with --model")
    if not is_multiqsm_dataset(options.output_dir):
        raise DatasetError(
            f"{options.output_dir}: no results of multiqsm", "run the participant level first"
        )
    rois = read_roi_tables(options.output_dir)
    scans = scans_of(add_protocols(rois)[0])
    print(
        f"{len(scans)} scans of {scans['subject'].nunique()} subjects at {scans['site'].nunique()} "
        "sites"
    )
    if options.dry_run:
        return EXIT_OK

    from ..workflows.group import init_study_wf

    if _failed(init_study_wf, options, calibrate=options.calibrate):
        return EXIT_NOTHING_TO_DO
    for warning in read_tsv(options.output_dir / "group" / "warnings.tsv")["warning"]:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"report: {options.output_dir / 'group.html'}")
    print(f"tables: {options.output_dir / 'group'}")
    return EXIT_OK


def _run_model(options):
    if options.calibrate:
        raise DatasetError(
            "--calibrate goes without --model: a phantom's scans do not correct a model's columns"
        )
    model = read_model(options.model)
    given = _further_sources(options)
    wanted = {"method": model.method, "region": model.region, "reference": model.reference}
    patients = collect_patients(options.bids_dir, options.output_dir, **wanted, **given)
    print(f"{len(patients.table)} patients; columns: {', '.join(patients.table.columns)}")
    for note in patients.notes:
        print(note)
    if options.dry_run:
        return _tell(patients.problems + model.problems)
    try:
        write_dataset_description(options.output_dir, options.bids_dir)
    except ValueError as error:
        raise DatasetError(str(error)) from error

    from ..workflows.model import init_model_wf  # Nipype is slow to import: not before it is needed

    source = options.model if options.model in SHIPPED else Path(options.model).absolute()
    if _failed(init_model_wf, options, model=source, **given):
        return EXIT_NOTHING_TO_DO
    tables = options.output_dir / "group" / f"model-{model.name}"
    code = _tell(read_tsv(tables / "problems.tsv").itertuples(index=False))
    listed = read_tsv(tables / "excluded.tsv")
    print(
        f"{listed['participant'].nunique()} patients left out of something or lacking a value: "
        f"{tables}/excluded.tsv"
    )
    print(f"report: {options.output_dir / f'group_model-{model.name}.html'}")
    print(f"tables: {tables}")
    return code


def _further_sources(options):
    for path in options.phenotype or ():
        if not (exists(path) and path.is_file()):
            raise DatasetError(f"--phenotype {path}: no such file")
    folder = options.freesurfer_dir
    if folder is not None and not (exists(folder) and folder.is_dir()):
        raise DatasetError(f"--freesurfer-dir {folder}: no such folder")
    phenotype = [path.absolute() for path in options.phenotype or ()]
    return {"phenotype": phenotype, "freesurfer_dir": None if folder is None else folder.absolute()}


def _tell(problems):
    """Print what could not be computed or used; the exit code says whether there was anything."""
    problems = [f"{what}: {cause}" for what, cause in problems]
    for problem in problems:
        print(f"problem: {problem}", file=sys.stderr)
    return EXIT_FAILED_SCANS if problems else EXIT_OK


def _failed(init_wf, options, **choices):
    """Build and run a graph; print what failed, and tell whether anything did."""
    from ..execution.code import software
    from ..execution.run import configure_nipype

    configure_nipype(options.work_dir.absolute())
    places = {name: getattr(options, name).absolute() for name in ("bids_dir", "output_dir")}
    places["work_dir"] = options.work_dir.absolute() / f"version-{software(init_wf.__module__)}"
    failures = run_graph(init_wf(**places, **choices), options, "parts")
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return bool(failures)
