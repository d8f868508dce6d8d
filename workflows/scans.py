"""All scans of a run, one workflow each."""

from nipype.pipeline.engine import Workflow

from .scan import init_scan_wf


def init_scans_wf(scans, *, bids_dir, output_dir, work_dir, settings, threads):
    """Build the workflow of all scans, one workflow each in it.

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
    workflow = Workflow(name="scans", base_dir=str(work_dir))
    common = {
        "bids_dir": bids_dir,
        "output_dir": output_dir,
        "settings": settings,
        "threads": threads,
    }
    for scan in sorted(scans, key=lambda scan: scan.label):
        workflow.add_nodes([init_scan_wf(scan, **common)])
    return workflow
