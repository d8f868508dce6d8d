"""The scans of a run, one workflow each."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import TYPE_CHECKING

from nipype.pipeline.engine import Workflow

from ..dataset.files import PathLike
from ..dataset.scans import Scan
from .scan import init_scan_wf

if TYPE_CHECKING:
    from .settings import Settings


def init_scans_wf(
    scans: Iterable[Scan],
    *,
    bids_dir: PathLike,
    output_dir: PathLike,
    work_dir: PathLike,
    settings: Settings,
    threads: int,
) -> Workflow:
    """Build the workflow of all scans, which consists of a workflow for each.

    Parameters
    ----------
    scans : iterable of multiqsm.dataset.scans.Scan
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
    for scan in sorted(scans, key=attrgetter("label")):
        scan_wf = init_scan_wf(
            scan, bids_dir=bids_dir, output_dir=output_dir, settings=settings, threads=threads
        )
        workflow.add_nodes([scan_wf])
    return workflow
