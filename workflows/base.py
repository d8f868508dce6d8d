"""The whole run: every scan of every subject."""

from itertools import groupby
from pathlib import Path

from nipype.pipeline.engine import Workflow

from .. import __version__
from .scan import init_scan_wf


def init_participants_wf(scans, *, bids_dir, output_dir, work_dir, settings, threads):
    """Build the workflow of all scans, one workflow per subject in it.

    Parameters
    ----------
    scans : sequence of multiqsm.dataset.scans.Scan
        Checked scans.
    bids_dir, output_dir, work_dir : path-like
        Roots of the raw dataset, of the derivative dataset and of intermediate files.
    settings : Settings
        Choices of the run.
    threads : int
        Threads of one node's Fourier transforms.

    Returns
    -------
    nipype.pipeline.engine.Workflow
    """
    # Nipype reuses what it finds by its inputs, not by the code that made it: another version starts afresh.
    workflow = Workflow(name="multiqsm", base_dir=str(Path(work_dir) / f"version-{__version__}"))
    by_subject = sorted(scans, key=lambda scan: scan.entities["subject"])
    for subject, members in groupby(by_subject, key=lambda scan: scan.entities["subject"]):
        subject_wf = Workflow(name=f"sub_{subject.replace('+', 'plus')}")
        subject_wf.add_nodes(
            [
                init_scan_wf(scan, bids_dir=bids_dir, output_dir=output_dir, settings=settings, threads=threads)
                for scan in members
            ]
        )
        workflow.add_nodes([subject_wf])
    return workflow
