"""The participant level: scans to maps, the maps of a subject to regional values and a report."""

import sys
from argparse import Namespace
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..dataset.anatomy import check_recon_all
from ..dataset.audit import audit_problems, audit_table, inspect_scans, print_audit
from ..dataset.collection import collect_scans
from ..dataset.content import require_content
from ..dataset.entities import scan_label
from ..dataset.files import read_json
from ..dataset.index import list_scans
from ..dataset.labels import ATRIUM, have_same_grid
from ..dataset.methods import write_citation
from ..dataset.names import AVERAGE, REGISTRATION_TABLE, subject_space_map, susceptibility_map
from ..dataset.outputs import derivative_path, write_dataset_description
from ..dataset.plausibility import find_doubts
from ..dataset.problems import DatasetError, Problem
from ..dataset.protocol import HarmonizedScan, harmonize, study_protocol
from ..dataset.sidecars import sidecar_path
from ..dataset.sources import derivative_datasets
from ..dataset.subjects import Subject, check_regions, collect_subjects
from ..dataset.tables import read_tsv
from ..execution.locks import hold_subjects
from ..interfaces.methods import INVERSIONS
from ..workflows.settings import PRESETS, Settings
from .arguments import EXIT_FAILED_SCANS, EXIT_NOTHING_TO_DO, EXIT_OK
from .machine import check_work_dir, cores, open_runner, read_filter

if TYPE_CHECKING:  # Nipype takes seconds to import
    from ..execution.failures import Failure
    from ..execution.stages import Stage

SCANS_WORTH_A_PROCESS = 8


def run_participants(options: Namespace) -> int:
    """Collect, check and process the scans, bring each subject's together, and say what was left
    out and what failed.

    Parameters
    ----------
    options : argparse.Namespace
        Of the command.

    Returns
    -------
    int
        The exit code.

    Raises
    ------
    DatasetError
        If nothing can be processed as asked.
    """
    check_work_dir(options)
    settings = settings_of(options)
    scans, left_out = collect_scans(
        options.bids_dir,
        participant_label=options.participant_label,
        session_label=options.session_label,
        bids_filter=read_filter(options),
        derivatives=options.derivatives,
    )
    usable, n_refused, problems = _preflight(scans, left_out, settings, options)
    if settings.harmonize:
        n_checked = len(usable)
        usable = _harmonized(usable, scans, options)
        n_refused += n_checked - len(usable)
    if options.dry_run:
        print(f"{len(usable)} scans would be processed into {options.output_dir} with {settings}")
    if options.dry_run or not usable:
        return _exit_code(len(usable), n_refused)

    from ..execution.run import configure_nipype

    faults = _Faults(left_out, problems)
    with open_runner(options) as runner:
        try:
            write_dataset_description(options.output_dir, options.bids_dir)
        except ValueError as error:
            raise DatasetError(str(error)) from error
        with hold_subjects(options.output_dir, {scan.entities["subject"] for scan in usable}):
            run = _Run(runner, settings, options, configure_nipype(options.work_dir.absolute()))
            processed = _process_scans(usable, run, faults)
            subjects = _process_subjects(processed, run, faults)
            write_citation(options.output_dir)
            _write_reports(subjects, run, faults)
    _warn_of_doubts(processed, settings, options.output_dir)
    n_failed = len(usable) - len(processed)
    print(f"{len(processed)} scans processed, {n_failed} failed, {n_refused} left out")
    if faults.n_later:
        print(
            f"{faults.n_later} faults after the maps were made: see above, and the subjects' "
            "reports"
        )
    print(f"results: {options.output_dir}")
    return _exit_code(len(processed), n_refused + n_failed + faults.n_later)


class _Run:
    """What all stages of a run have in common."""

    def __init__(self, runner, settings, options, run_dir):
        self.runner = runner
        self.settings = settings
        self.options = options
        self.run_dir = run_dir
        self.output_dir = options.output_dir.absolute()
        self.places = {
            "output_dir": self.output_dir,
            "work_dir": options.work_dir.absolute(),
            "settings": settings,
            "clean": options.clean_workdir,
        }

    def process(self, stage: "Stage", items: Sequence) -> list["Failure"]:
        """Process scans or subjects; returns the failures."""
        from ..execution.stages import run_stage

        options = self.options
        # One scan's branches can keep several cores busy where there are not enough scans to.
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


class _Faults:
    """What went wrong and what to look at, by subject: printed as it is met, and told in the
    subject's report.
    """

    def __init__(self, left_out, problems):
        self.of_subject = defaultdict(list)
        self.warnings = defaultdict(list)
        self.n_later = 0
        for problem in (*left_out, *problems):
            if problem.severity == "error":
                self._note(problem)
            elif problem.severity == "warning":
                self._note_warning(problem)

    def warn(self, problem: Problem) -> None:
        """Take a warning and print it."""
        print(f"warning: {problem}", file=sys.stderr)
        self._note_warning(problem)

    def add(self, problem: Problem) -> None:
        """Take a fault and print it."""
        print(f"failed: {problem}", file=sys.stderr)
        self._note(problem)

    def add_later(self, problem: Problem) -> None:
        """The same of a fault that leaves the scan its maps."""
        self.add(problem)
        self.n_later += 1

    def _note_warning(self, problem):
        if problem.subject:
            self.warnings[problem.subject].append(str(problem))

    def _note(self, problem):
        if problem.subject:
            self.of_subject[problem.subject].append((problem.scan, problem.text))


def _process_scans(scans, run, faults):
    """Make the maps of all scans; returns the scans that have theirs."""
    from .stages import ScansStage

    if run.runner.is_cluster:
        threads = run.options.n_procs or 1
    else:  # many scans keep the cores busy by themselves; few leave some for the Fourier transforms
        threads = max(1, run.runner.arguments["n_procs"] // len(scans))
    stage = ScansStage(**run.places, bids_dir=run.options.bids_dir.absolute(), threads=threads)
    failures = run.process(stage, scans)
    names = {scan.node_name: scan for scan in scans}
    for failure in failures:
        scan = names.get(failure.scan)  # a crash file may not tell
        what = f"{scan.label} ({scan.files[0].name}, …)" if scan else failure.scan
        subject = scan.entities["subject"] if scan else ""
        faults.add(Problem(what, "", str(failure), "", subject=subject))
    failed = {failure.scan for failure in failures}
    return [scan for scan in scans if scan.node_name not in failed]


def _process_subjects(scans, run, faults):
    """Bring each subject's scans together; returns the subjects that have any."""
    from ..workflows.person import REGISTER, SAVE_REGISTRATION
    from .stages import SubjectsStage

    output_dir = run.output_dir
    settings = run.settings
    options = run.options
    datasets = derivative_datasets(options.bids_dir, options.derivatives)
    done = {scan.label for scan in scans}
    known = list_scans(options.bids_dir, {scan.entities["subject"] for scan in scans})
    others = [entities for entities in known if scan_label(entities) not in done]
    subjects, left_out = collect_subjects(
        scans,
        output_dir,
        methods=settings.inversions,
        standard_errors=settings.standard_errors,
        datasets=datasets,
        excluded_scans=others,
        needs_atria=settings.reference == ATRIUM,
    )
    for problem in left_out:
        if problem.severity == "error":
            faults.add_later(problem)
        else:
            print(f"left out: {problem}", file=sys.stderr)
    if not subjects:
        return []
    labels = {subject.node_name: subject.label for subject in subjects}
    failures = run.process(SubjectsStage(**run.places), subjects)
    for failure in failures:
        label = labels.get(failure.scan, "")
        faults.add_later(
            Problem(f"sub-{label}" if label else failure.scan, "", str(failure), "", subject=label)
        )
    # The table of a subject whose registration failed altogether is an earlier run's, or none.
    unregistered = {
        failure.scan for failure in failures if failure.step in (REGISTER, SAVE_REGISTRATION)
    }
    for subject in subjects:
        if subject.is_phantom or subject.node_name in unregistered:
            continue
        entities = {"subject": subject.label}
        table = derivative_path(output_dir, entities, **REGISTRATION_TABLE)
        listed = (*subject.scans, *subject.elsewhere)
        told = zip(listed, read_tsv(table)["cause"], strict=True)
        causes = {scan.label: cause for scan, cause in told if isinstance(cause, str)}
        for label, cause in causes.items():
            cause = f"not registered to the subject's other scans: {cause}"
            faults.add_later(Problem(label, "", cause, "", subject=subject.label))
        drawn = [scan.label for scan in listed if scan.labels is not None]
        if subject.labels is None and drawn and set(drawn) <= set(causes):
            cause = (
                "they cannot be carried to the other scans, and are lost to them: draw them on "
                "another scan"
            )
            faults.add_later(
                Problem(f"regions of {', '.join(drawn)}", "", cause, "", subject=subject.label)
            )
    _warn_of_references(subjects, settings, options)
    _warn_of_spaces(subjects, run.output_dir, faults)
    _warn_of_other_spaces(subjects, others, settings, run.output_dir, faults)
    return subjects


def _write_reports(subjects, run, faults):
    """Write each subject's report, also of one that has nothing but faults: it may have another
    from an earlier run.
    """
    from .stages import ReportsStage

    processed = {subject.label for subject in subjects}
    without = [Subject(label, ()) for label in sorted(faults.of_subject) if label not in processed]
    stage = ReportsStage(
        **run.places,
        failures=tuple(faults.of_subject.items()),
        warnings=tuple(faults.warnings.items()),
        sites=tuple(sorted({scan.site for subject in subjects for scan in subject.scans})),
    )
    for failure in run.process(stage, [*subjects, *without]):
        faults.add_later(Problem(f"report of {failure.scan}", "", str(failure), ""))


def settings_of(options: Namespace) -> Settings:
    """The choices of a run: the preset's, but for what the options say.

    Parameters
    ----------
    options : argparse.Namespace
        Of the command.

    Returns
    -------
    multiqsm.workflows.settings.Settings

    Raises
    ------
    DatasetError
        If the options contradict each other, or FreeSurfer is asked for and not there.
    """
    given = {f.name: getattr(options, f.name) for f in fields(PRESETS["default"])}
    given = {
        name: tuple(v) if isinstance(v, list) else v for name, v in given.items() if v is not None
    }
    atlas = Path(given.get("atlas", ""))
    require_content(atlas)
    if atlas.is_file():
        given["atlas"] = str(atlas.absolute())  # nodes work in folders of their own
    settings = replace(PRESETS[options.preset], **given)
    _refuse_idle_lambda(settings, given)
    if settings.recon_all:
        check_recon_all()
    return settings


def _refuse_idle_lambda(settings, given):
    """A λ for maps that nobody makes is a misunderstanding: the other inversions' λ has another
    unit.
    """
    made = ", ".join(settings.inversions)
    options = {INVERSIONS[name].lambda_option for name in settings.inversions}
    if "medi_lambda" in given and "medi_lambda" not in options:
        raise DatasetError(
            f"--medi-lambda is MEDI's, which is not among the inversions: {made}",
            "give --lambda in mm",
        )
    if "lambda_value" in given and "lambda_value" not in options:
        raise DatasetError(
            f"--lambda is not for the inversions asked for: {made}", "give --medi-lambda in ppm·mm"
        )


def _preflight(scans, left_out, settings, options):
    """Check all scans and say what is wrong; returns those that can be processed, how many cannot,
    and the problems.
    """
    # A process takes seconds to start: with few scans it is not worth it.
    n_procs = min(cores(options), len(scans) // SCANS_WORTH_A_PROCESS or 1)
    inspections = inspect_scans(scans, n_procs=n_procs)
    usable = [inspection.scan for inspection in inspections if inspection.verdict != "error"]
    for problem in left_out:
        if not (options.dry_run and problem.severity == "error"):  # these are among the problems
            print(f"left out: {problem}", file=sys.stderr)
    problems = audit_problems(inspections, left_out if options.dry_run else ())
    datasets = derivative_datasets(options.bids_dir, options.derivatives)
    regions = check_regions(usable, options.output_dir.absolute(), datasets)
    if options.dry_run:
        problems += regions
        print_audit(
            audit_table(inspections, problems, phase_sign=settings.phase_sign), problems, sys.stdout
        )
    else:
        # Regions that cannot be used are a fault of the subject, once its maps are made: here they
        # are told in time.
        for problem in (*problems, *regions):
            print(f"{problem.severity}: {problem}", file=sys.stderr)
    n_refused = len(scans) - len(usable) + sum(problem.severity == "error" for problem in left_out)
    return usable, n_refused, problems


def _harmonized(usable, scans, options):
    """Bring the heads to what all heads of the dataset have in common, whichever of them are asked
    for.
    """
    if options.participant_label or options.session_label:
        scans, _ = collect_scans(options.bids_dir, bids_filter=read_filter(options), derivatives=[])
    common, not_counted = study_protocol(scans)
    for label, why in not_counted:
        print(
            f"warning: {label}: does not count for --harmonize: {why}; correct or remove the scan",
            file=sys.stderr,
        )
    if common is None:
        print("warning: --harmonize: there is no head scan to harmonise", file=sys.stderr)
        return usable
    print(f"--harmonize: {common}")
    harmonized, problems = harmonize(usable, common)
    for problem in problems:
        print(f"{problem.severity}: {problem}", file=sys.stderr)
    for scan in harmonized:
        if isinstance(scan, HarmonizedScan) and scan.changes:
            print(f"{scan.label}: {'; '.join(scan.changes)}")
    return harmonized


def _warn_of_references(subjects, settings, options):
    """Point out subjects whose values are relative to another region than was asked for."""
    named = subject_space_map(settings.inversions[0])
    for subject in subjects:
        paths = [
            derivative_path(options.output_dir, scan.entities, **named) for scan in subject.scans
        ]
        # of a registered scan
        told = next((read_json(sidecar_path(path)) for path in paths if path.exists()), {})
        if told.get("ReferenceRegion", settings.reference) != settings.reference:
            source = told["ReferenceSource"]
            print(
                f"warning: sub-{subject.label}: values are relative to the {source}",
                file=sys.stderr,
            )


def _warn_of_spaces(subjects, output_dir, faults):
    """Point out regions that may have been drawn in a space of other scans: which scans there are
    decides on it.
    """
    for subject in subjects:
        average = derivative_path(output_dir, {"subject": subject.label}, **AVERAGE)
        if (
            subject.labels is None
            or not average.exists()
            or have_same_grid(subject.labels.path, average)
        ):
            continue
        cause = (
            f"{subject.labels.path.name} is on another grid than {average.name}, as if it had been "
            "drawn in the space "
            "of other scans"
        )
        remedy = "look at the picture of the regions, and draw them anew if they are off"
        faults.warn(Problem(f"sub-{subject.label}", "", cause, remedy, "warning", subject.label))


def _warn_of_other_spaces(subjects, others, settings, output_dir, faults):
    """Point out maps of scans that are not among these: a person's space, which they lie in, is now
    that of these.
    """
    named = subject_space_map(settings.inversions[0])
    for subject in subjects:
        own = [entities for entities in others if entities["subject"] == subject.label]
        left = [
            scan_label(entities)
            for entities in own
            if derivative_path(output_dir, entities, **named).exists()
        ]
        if left and not subject.is_phantom:
            cause = (
                f"the maps of {', '.join(left)} in the person's space are of an earlier run: that "
                "space is now another "
                "one, of the other scans"
            )
            remedy = "run without a filter to bring all of them together"
            faults.warn(
                Problem(f"sub-{subject.label}", "", cause, remedy, "warning", subject.label)
            )


def _warn_of_doubts(scans, settings, output_dir):
    """Point out figures of scans that are not plausible."""
    for scan in scans:
        paths = {
            method: derivative_path(output_dir, scan.entities, **susceptibility_map(method))
            for method in settings.inversions
        }
        sidecars = {method: read_json(sidecar_path(path)) for method, path in paths.items()}
        for doubt in find_doubts(sidecars):
            print(f"warning: {scan.label}: {doubt.text}", file=sys.stderr)


def _exit_code(n_good, n_bad):
    if n_bad == 0:
        return EXIT_OK
    return EXIT_FAILED_SCANS if n_good else EXIT_NOTHING_TO_DO
