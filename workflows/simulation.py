"""The scans of a simulated study, one node each."""

from collections.abc import Iterable

import numpy as np
from nipype.pipeline.engine import Node, Workflow

from ..dataset.entities import scan_label
from ..dataset.files import PathLike
from ..interfaces.simulation import SimulateScan
from ..simulation.plan import ScanPlan

# Spins precess on a fine grid. It covers the image and a margin, but no more than the object.
OVERHEAD_GB = 0.9  # the libraries, the head's templates and the field of distant sources
BYTES_PER_VOXEL = 60  # of the fine grid, at the peak
MARGIN = 13.5  # of the fine grid around the image, mm
OBJECT_SIZE = (200.0, 240.0, 260.0)  # mm


def init_simulation_wf(
    plans: Iterable[ScanPlan], *, output_dir: PathLike, work_dir: PathLike, threads: int
) -> Workflow:
    """Build the workflow that simulates scans, one node each.

    Parameters
    ----------
    plans : iterable of multiqsm.simulation.plan.ScanPlan
        The scans.
    output_dir, work_dir : path-like
        Roots of the dataset and of intermediate files.
    threads : int
        Threads of one node.

    Returns
    -------
    nipype.pipeline.engine.Workflow
    """
    workflow = Workflow(name="multiqsm_simulate", base_dir=str(work_dir))
    for plan in plans:
        workflow.add_nodes([_scan_node(plan, output_dir, threads)])
    return workflow


def node_name(plan: ScanPlan) -> str:
    """Return the name of the node that simulates a scan."""
    return scan_label(plan.entities).replace("-", "_")


def _scan_node(plan, output_dir, threads):
    return Node(
        SimulateScan(plan=plan, output_dir=str(output_dir), num_threads=threads),
        name=node_name(plan),
        n_procs=threads,
        mem_gb=_gigabytes(plan),
    )


def _gigabytes(plan):
    """Return the memory in GB at the peak of a scan's simulation."""
    protocol = plan.protocol
    extent = np.minimum(np.multiply(protocol.shape, protocol.voxel_size) + 2 * MARGIN, OBJECT_SIZE)
    n_voxels = np.prod(extent / protocol.voxel_size * protocol.oversampling)
    for sequence in plan.structural:
        n_voxels = max(n_voxels, np.prod(sequence.shape))
    return round(OVERHEAD_GB + 1e-9 * BYTES_PER_VOXEL * float(n_voxels), 3)
