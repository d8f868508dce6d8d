"""A simulated study, one node a scan."""

from pathlib import Path

import numpy as np
from nipype.pipeline.engine import Node, Workflow

from ..dataset.entities import scan_label
from ..dataset.simulated.layout import is_complete, remove_partials
from ..execution.plugins import Runner
from ..execution.run import configure_nipype, run_with_progress
from ..interfaces.simulation import SimulateScan

OVERHEAD_GB = 0.9  # the libraries, the head's templates and the field of distant sources
BYTES_PER_VOXEL = 60  # of the grid on which spins precess, at the peak
REACH = 13.5  # mm around the image that this grid holds, as far as there is an object
OBJECT_SIZE = (200.0, 240.0, 260.0)  # mm


def simulate_scans(output_dir, plans, *, work_dir, n_procs=1):
    """Simulate scans into a BIDS dataset that `dataset.simulated.write_dataset_files` has described already.

    Parameters
    ----------
    output_dir, work_dir : path-like
        Root of the dataset; for log and crash files.
    plans : sequence of multiqsm.simulation.study.ScanPlan
        The scans. Those that are complete are not made again.
    n_procs : int
        Processes. The files do not depend on it.

    Returns
    -------
    list of multiqsm.execution.failures.Failure
        Empty if all went well.
    """
    output_dir, work_dir = Path(output_dir).absolute(), Path(work_dir).absolute()
    plans = [plan for plan in plans if not is_complete(output_dir, plan)]
    if not plans:
        return []
    # Now, since scans that are made at the same time share folders.
    for plan in plans:
        remove_partials(output_dir, plan)
    configure_nipype(work_dir)
    # Many scans keep the cores busy by themselves; few leave some for threads.
    threads = max(1, n_procs // len(plans))
    workflow = init_simulation_wf(plans, output_dir=output_dir, work_dir=work_dir, threads=threads)
    with Runner("MultiProc", {"n_procs": n_procs}) as runner:
        return run_with_progress(workflow, runner, "scans")


def init_simulation_wf(plans, *, output_dir, work_dir, threads):
    """Build the workflow that makes scans, one node each.

    Parameters
    ----------
    plans : sequence of multiqsm.simulation.study.ScanPlan
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
