"""A simulated study, one node a scan."""

import numpy as np
from nipype.pipeline.engine import Node, Workflow

from ..dataset.entities import scan_label
from ..interfaces.simulation import SimulateScan

OVERHEAD_GB = 0.9  # the libraries, the head's templates and the field of distant sources


BYTES_PER_VOXEL = 60  # of the grid on which spins precess, at the peak


REACH = 13.5  # mm around the image that this grid holds, as far as there is an object


OBJECT_SIZE = (200.0, 240.0, 260.0)  # mm


def init_simulation_wf(plans, *, output_dir, work_dir, threads):
    """Build the workflow that makes scans, one node each.

    Parameters
    ----------
    plans : sequence of multiqsm.simulation.plan.ScanPlan
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
    workflow.add_nodes([_scan_node(plan, output_dir, threads) for plan in plans])
    return workflow


def _scan_node(plan, output_dir, threads):
    return Node(
        SimulateScan(plan=plan, output_dir=str(output_dir), num_threads=threads),
        name=scan_label(plan.entities).replace("-", "_"),
        n_procs=threads,
        mem_gb=_gigabytes(plan),
    )


def _gigabytes(plan):
    """Memory at the peak of a scan."""
    protocol = plan.protocol
    extent = np.minimum(np.multiply(protocol.shape, protocol.voxel_size) + 2 * REACH, OBJECT_SIZE)
    voxels = np.prod(extent / protocol.voxel_size * protocol.oversampling)
    voxels = max(voxels, *(np.prod(sequence.shape) for sequence in plan.structural), 0)
    return round(OVERHEAD_GB + 1e-9 * BYTES_PER_VOXEL * float(voxels), 3)
