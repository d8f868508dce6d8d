"""The participant level: maps of each scan, regional values and a report of each subject."""

import sys
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..dataset.anatomy import check_recon_all
from ..dataset.atlas import atlas_names
from ..dataset.audit import audit_problems, audit_table, inspect_scans, print_audit
from ..dataset.checklist import write_checklist
from ..dataset.collection import collect_scans
from ..dataset.content import require_content
from ..dataset.entities import scan_label
from ..dataset.index import list_scans
from ..dataset.labels import ATRIUM
from ..dataset.methods import write_citation
from ..dataset.not_processed import write_not_processed
from ..dataset.outputs import write_dataset_description
from ..dataset.problems import DatasetError, Problem
from ..dataset.protocol import HarmonizedScan, harmonize, study_protocol
from ..dataset.references import check_reference
from ..dataset.scans import Scan
from ..dataset.sources import derivative_datasets
from ..dataset.subjects import Subject, check_regions, collect_subjects
from ..dataset.values import counted
from ..execution.locks import hold_subjects
from ..interfaces.methods import INVERSIONS
from ..workflows.settings import PRESETS, Settings
from .arguments import EXIT_FAILED_SCANS, EXIT_NOTHING_TO_DO, EXIT_OK
from .checks import check_command
from .faults import (
    Faults,
    add_unregistered_scans,
    print_left_out,
    warn_of_doubts,
    warn_of_earlier_spaces,
    warn_of_references,
    warn_of_region_grids,
)
from .machine import cores, open_runner, read_filter
from .parser import TROUBLESHOOTING
from .plan import describe_plan
from .readme import update_readme

if TYPE_CHECKING:  # Nipype takes seconds to import
    from ..execution.failures import Failure
    from ..execution.plugins import Runner
    from ..execution.stages import Stage

SCANS_WORTH_A_PROCESS = 8


def run_participants(options: Namespace) -> int:
    """Check and process the scans, register and measure each subject's maps, and print what was
    left out and what failed.

    Parameters
    ----------
    options : argparse.Namespace
        Options of the command.

    Returns
    -------
    int
        The exit code.

    Raises
    ------
    DatasetError
        If the dataset has no scan that the options select, or the options cannot be used.
    """
    check_command(options)
    settings = settings_of(options)
    scans, left_out = collect_scans(
        options.bids_dir,
        participant_label=options.participant_label,
        session_label=options.session_label,
        bids_filter=read_filter(options),
        derivatives=options.derivatives,
        exclude=options.exclude,
    )
    check_reference(
        settings.reference,
        atlas=settings.atlas,
        datasets=derivative_datasets(options.bids_dir, options.derivatives),
    )
    usable, n_refused, problems = _preflight(scans, left_out, settings, options)
    if settings.harmonize:
        n_checked = len(usable)
        usable, refusals = _harmonized(usable, scans, options)
        n_refused += n_checked - len(usable)
        problems = [*problems, *refusals]
    if options.dry_run:
        n_unused = sum(problem.severity in ("unused", "excluded") for problem in left_out)
        print("\n".join(describe_plan(usable, n_refused, n_unused, settings, options)))
    if options.dry_run or not usable:
        return _conclude(len(usable), n_refused)

    from ..execution.run import configure_nipype

    faults = Faults([*left_out, *problems])
    with open_runner(options) as runner:
        try:
            write_dataset_description(options.output_dir, options.bids_dir)
        except ValueError as error:
            raise DatasetError(str(error)) from error
        with hold_subjects(options.output_dir, _subject_labels(usable)):
            run = _Run(
                runner,
                settings,
                options,
                configure_nipype(options.work_dir.absolute(), verbosity=options.verbose),
            )
            try:
                processed = _process_scans(usable, run, faults)
                subjects = _process_subjects(processed, run, faults)
                _write_not_processed(faults, scans, processed, options)
                write_citation(options.output_dir)
                excluded = [each.scan for each in left_out if each.severity == "excluded"]
                write_checklist(options.output_dir, excluded)
                _write_reports(subjects, run, faults)
            finally:  # also of a run that is interrupted, some of whose maps have other options
                update_readme(options.output_dir)
    warn_of_doubts(processed, settings, options.output_dir)
    n_failed = len(usable) - len(processed)
    print(f"{counted(len(processed), 'scan')} processed, {n_failed} failed, {n_refused} left out")
    if faults.n_later:
        print(
            f"{counted(faults.n_later, 'error')} in registration, "
            "regions or reports (listed above); the maps themselves are complete"
        )
    print(f"results: {options.output_dir}")
    return _conclude(len(processed), n_refused + n_failed + faults.n_later)


class _Run:
    """What the stages of a run have in common.

    Parameters
    ----------
    runner : multiqsm.execution.plugins.Runner
        The plugin that runs the jobs.
    settings : Settings
        Choices of the run.
    options : argparse.Namespace
        Options of the command.
    run_dir : pathlib.Path
        Folder of the run's log and crash files.
    """

    def __init__(
        self, runner: "Runner", settings: Settings, options: Namespace, run_dir: Path
    ) -> None:
        self.runner = runner
        self.settings = settings
        self.options = options
        self.run_dir = run_dir
        self.output_dir = options.output_dir.absolute()
        self.stage_options = {
            "output_dir": self.output_dir,
            "work_dir": options.work_dir.absolute(),
            "settings": settings,
            "clean": options.clean_workdir,
        }

    def process(self, stage: "Stage", items: Sequence) -> list["Failure"]:
        """Process scans or subjects; return the failures."""
        from ..execution.stages import run_stage

        options = self.options
        # Without enough scans to keep all cores busy, the branches of each run in parallel.
        by_step = options.jobs == "step" or (
            options.jobs == "auto"
            and not self.runner.is_cluster
            and len(items) < self.runner.arguments["n_procs"]
        )
        try:
            return run_stage(
                stage,
                items,
                runner=self.runner,
                by_step=by_step,
                retries=options.retries,
                run_dir=self.run_dir,
                notify=lambda line: print(line, file=sys.stderr),
            )
        except ValueError as error:
            raise DatasetError(str(error)) from error


def _process_scans(scans: Sequence[Scan], run: _Run, faults: Faults) -> list[Scan]:
    """Make the maps of all scans; return the scans that did not fail."""
    from .stages import ScansStage

    if run.runner.is_cluster:
        threads = run.options.n_procs or 1
    else:  # many scans keep the cores busy by themselves; few leave some for the Fourier transforms
        threads = max(1, run.runner.arguments["n_procs"] // len(scans))
    bids_dir = run.options.bids_dir.absolute()
    stage = ScansStage(**run.stage_options, bids_dir=bids_dir, threads=threads)
    failures = run.process(stage, scans)
    scan_of_node = {scan.node_name: scan for scan in scans}
    for failure in failures:
        scan = scan_of_node.get(failure.scan)
        if scan is None:  # not every crash file names its scan
            faults.add(Problem(failure.scan, "", str(failure), ""))
            continue
        files = f"{scan.label} ({scan.files[0].name}, …)"
        faults.add(Problem(files, "", str(failure), "", subject=scan.entities["subject"]))
        faults.not_processed.append(Problem.of(scan, "", failure.cause, ""))
    failed = {failure.scan for failure in failures}
    return [scan for scan in scans if scan.node_name not in failed]


def _process_subjects(scans: Sequence[Scan], run: _Run, faults: Faults) -> list[Subject]:
    """Register and measure each subject's maps; return the subjects that have any."""
    from ..workflows.person import REGISTER, SAVE_REGISTRATION
    from .stages import SubjectsStage

    excluded_scans = _excluded_scans(scans, run.options.bids_dir)
    subjects = _collect_subjects(scans, excluded_scans, run, faults)
    if not subjects:
        return []
    label_of_node = {subject.node_name: subject.label for subject in subjects}
    unregistered = set()
    for failure in run.process(SubjectsStage(**run.stage_options), subjects):
        label = label_of_node.get(failure.scan, "")
        name = f"sub-{label}" if label else failure.scan
        faults.add_later(Problem(name, "", str(failure), "", subject=label))
        if failure.step in (REGISTER, SAVE_REGISTRATION):
            unregistered.add(failure.scan)
    for subject in subjects:
        # If the registration failed altogether, its table is an earlier run's, or there is none.
        if not subject.is_phantom and subject.node_name not in unregistered:
            add_unregistered_scans(subject, run.output_dir, faults)
    warn_of_references(subjects, run.settings, run.output_dir)
    warn_of_region_grids(subjects, run.output_dir, faults)
    warn_of_earlier_spaces(subjects, excluded_scans, run.settings, run.output_dir, faults)
    return subjects


def _excluded_scans(scans: Iterable[Scan], bids_dir: Path) -> list[dict[str, str]]:
    """Return the entities of the subjects' scans in the dataset that are not among `scans`."""
    labels = {scan.label for scan in scans}
    excluded = []
    for entities in list_scans(bids_dir, _subject_labels(scans)):
        if scan_label(entities) not in labels:
            excluded.append(entities)
    return excluded


def _subject_labels(scans: Iterable[Scan]) -> set[str]:
    return {scan.entities["subject"] for scan in scans}


def _collect_subjects(
    scans: Sequence[Scan], excluded_scans: list[dict[str, str]], run: _Run, faults: Faults
) -> list[Subject]:
    """Collect the processed scans of each subject with their regions."""
    settings = run.settings
    subjects, left_out = collect_subjects(
        scans,
        run.output_dir,
        methods=settings.inversions,
        standard_errors=settings.standard_errors,
        datasets=derivative_datasets(run.options.bids_dir, run.options.derivatives),
        excluded_scans=excluded_scans,
        needs_atria=settings.reference == ATRIUM,
    )
    for problem in left_out:
        if problem.severity == "error":
            faults.add_later(problem)
        else:
            print(f"left out: {problem}", file=sys.stderr)
    return subjects


def _write_not_processed(
    faults: Faults, selected: Sequence[Scan], processed: Sequence[Scan], options: Namespace
) -> None:
    """Record the scans that were refused or failed, for the reporting checklist.

    What an earlier run recorded of scans that this run does not select is kept.
    """
    have_maps = {scan.label for scan in processed}  # in spite of an error in other data of theirs
    labels = [scan.label for scan in selected]
    problems: dict[str, list[Problem]] = {}
    for subject in _subject_labels(selected):
        problems[subject] = []
    for problem in faults.not_processed:
        if problem.scan not in have_maps:
            problems.setdefault(problem.subject, []).append(problem)
    is_filtered = bool(options.session_label or read_filter(options))
    for subject, problems_of_subject in problems.items():
        write_not_processed(
            options.output_dir,
            subject,
            problems_of_subject,
            scans=labels if is_filtered else None,
        )


def _write_reports(subjects: Sequence[Subject], run: _Run, faults: Faults) -> None:
    """Write the report of each subject.

    A subject that has nothing but faults gets one too, in place of the report of an earlier run.
    """
    from .stages import ReportsStage

    sites: set[str] = set()
    labels: set[str] = set()
    for subject in subjects:
        labels.add(subject.label)
        sites.update(scan.site for scan in subject.scans)
    without_maps = [Subject(label, ()) for label in sorted(set(faults.by_subject) - labels)]
    stage = ReportsStage(
        **run.stage_options,
        failures=tuple(faults.by_subject.items()),
        warnings=tuple(faults.warnings.items()),
        sites=tuple(sorted(sites)),
    )
    for failure in run.process(stage, [*subjects, *without_maps]):
        faults.add_later(Problem(f"report of {failure.scan}", "", str(failure), ""))


def settings_of(options: Namespace) -> Settings:
    """Return the choices of a run: the preset's, overridden by the options.

    Parameters
    ----------
    options : argparse.Namespace
        Options of the command.

    Returns
    -------
    multiqsm.workflows.settings.Settings

    Raises
    ------
    DatasetError
        If the options contradict each other, there is no such atlas, or ``--recon-all`` is given
        and FreeSurfer is not installed.
    """
    choices: dict[str, Any] = {}
    for field in fields(Settings):
        value = getattr(options, field.name)
        if value is not None:
            choices[field.name] = tuple(value) if isinstance(value, list) else value
    atlas = Path(choices.get("atlas", ""))
    require_content(atlas)
    if atlas.is_file():
        choices["atlas"] = str(atlas.absolute())  # nodes work in folders of their own
    settings = replace(PRESETS[options.preset], **choices)
    _refuse_unused_lambda(settings, choices)
    if settings.atlas is not None:
        atlas_names(settings.atlas)  # an error, before any work, if there is no such atlas
    if settings.recon_all:
        check_recon_all()
    return settings


def _refuse_unused_lambda(settings: Settings, choices: Mapping[str, Any]) -> None:
    """Refuse a λ that no chosen inversion uses.

    It was probably meant for another inversion, whose λ has another unit.
    """
    inversions = f"--inversion {' '.join(settings.inversions)}"
    options = {INVERSIONS[name].lambda_option for name in settings.inversions}
    if "medi_lambda" in choices and "medi_lambda" not in options:
        raise DatasetError(
            f"--medi-lambda applies to MEDI, which is not selected ({inversions})",
            "give --lambda in mm",
        )
    if "lambda_value" in choices and "lambda_value" not in options:
        raise DatasetError(
            f"--lambda does not apply to the selected inversions ({inversions})",
            "give --medi-lambda in ppm·mm",
        )


def _preflight(scans, left_out, settings, options):
    """Check all scans and print their problems.

    Returns the scans that can be processed, the number of those that cannot, and the problems.
    """
    # A process takes seconds to start, which is not worth it for a few scans.
    n_procs = min(cores(options), len(scans) // SCANS_WORTH_A_PROCESS or 1)
    inspections = inspect_scans(scans, n_procs=n_procs)
    usable = [inspection.scan for inspection in inspections if inspection.verdict != "error"]
    n_refused = len(scans) - len(usable)
    n_refused += sum(problem.severity == "error" for problem in left_out)
    # The audit of a dry run prints all but notes.
    print_left_out(
        problem for problem in left_out if not options.dry_run or problem.severity == "note"
    )
    problems = audit_problems(inspections, left_out if options.dry_run else ())
    datasets = derivative_datasets(options.bids_dir, options.derivatives)
    regions = check_regions(usable, options.output_dir.absolute(), datasets)
    if options.dry_run:
        problems += regions
        print_audit(
            audit_table(inspections, problems, phase_sign=settings.phase_sign), problems, sys.stdout
        )
    else:
        # Regions that cannot be used become a fault of the subject once its maps are made. Printing
        # them now leaves time to correct them.
        for problem in (*problems, *regions):
            print(f"{problem.severity}: {problem}", file=sys.stderr)
    return usable, n_refused, problems


def _harmonized(usable, scans, options):
    """Bring head scans to the protocol that all heads of the dataset have in common.

    Returns the scans, and an error for each that has no echo in common with it. The protocol does
    not depend on the participants and sessions that are selected.
    """
    if options.participant_label or options.session_label:
        scans, _ = collect_scans(
            options.bids_dir,
            bids_filter=read_filter(options),
            derivatives=[],
            exclude=options.exclude,
        )
    common, ignored = study_protocol(scans)
    for label, cause in ignored:
        print(
            f"warning: {label}: ignored by --harmonize: {cause}; correct or remove the scan",
            file=sys.stderr,
        )
    if common is None:
        print("warning: --harmonize: there is no head scan to harmonise", file=sys.stderr)
        return usable, []
    print(f"--harmonize: {common}")
    harmonized, problems = harmonize(usable, common)
    for problem in problems:
        print(f"{problem.severity}: {problem}", file=sys.stderr)
    for scan in harmonized:
        if isinstance(scan, HarmonizedScan) and scan.changes:
            print(f"{scan.label}: {'; '.join(scan.changes)}")
    return harmonized, problems


def _conclude(n_good, n_bad):
    """Return the exit code; if something is bad, say where messages are explained."""
    if n_bad == 0:
        return EXIT_OK
    print(TROUBLESHOOTING, file=sys.stderr)
    return EXIT_FAILED_SCANS if n_good else EXIT_NOTHING_TO_DO
