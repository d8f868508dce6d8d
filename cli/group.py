"""The group level: the regional values of all scans to the statistics and the report of a study."""

import sys

from ..dataset.derivatives import is_multiqsm_dataset
from ..dataset.group import read_roi_tables
from ..dataset.scans import DatasetError
from .arguments import EXIT_NOTHING_TO_DO, EXIT_OK
from .machine import check_work_dir, run_graph


def run_group(options):
    """Compare the values of all scans in the output folder, and write tables and report.

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
        If there is nothing to compare.
    """
    check_work_dir(options)
    if not options.bids_dir.is_dir():
        raise DatasetError(f"{options.bids_dir}: no such folder; give the root folder of the BIDS dataset")
    if not is_multiqsm_dataset(options.output_dir):
        raise DatasetError(f"{options.output_dir}: no results of multiqsm; run the participant level first")
    rois = read_roi_tables(options.output_dir)
    scans = rois[["subject", "session", "run", "site", "scan"]].drop_duplicates()
    print(f"{len(scans)} scans of {scans['subject'].nunique()} subjects at {scans['site'].nunique()} sites")
    if options.dry_run:
        return EXIT_OK

    from ..workflows.base import init_study_wf  # Nipype is slow to import: not before it is needed
    from ..workflows.run import configure_nipype

    configure_nipype(options.work_dir.absolute())
    workflow = init_study_wf(
        bids_dir=options.bids_dir.absolute(),
        output_dir=options.output_dir.absolute(),
        work_dir=options.work_dir.absolute(),
        calibrate=options.calibrate,
    )
    failures = run_graph(workflow, options, "parts")
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    if failures:
        return EXIT_NOTHING_TO_DO
    print(f"report: {options.output_dir / 'group.html'}")
    print(f"tables: {options.output_dir / 'group'}")
    return EXIT_OK
