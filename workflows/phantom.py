"""One phantom: its tubes measured on each of its scans."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nipype.interfaces.utility import Merge
from nipype.pipeline.engine import Node, Workflow

from ..dataset.files import PathLike
from ..dataset.subjects import Subject
from .memory import VolumeMemory
from .subject_nodes import (
    chi_files,
    make_measure_node,
    make_quality_node,
    make_tables_node,
    mask_files,
)

if TYPE_CHECKING:
    from .settings import Settings

# A phantom has no tissue to refer to. The regression over its tubes has an intercept, so that the
# choice of the reference does not matter.
WHOLE_PHANTOM = "phantom"


def init_phantom_wf(
    subject: Subject, *, output_dir: PathLike, settings: Settings, gigabytes: VolumeMemory
) -> Workflow:
    """Build the workflow of one phantom: quality, and the values of the regions drawn on each scan.

    Nothing is registered: each scan is measured on its own grid.

    Parameters
    ----------
    subject : multiqsm.dataset.subjects.Subject
        The phantom and its processed scans.
    output_dir : path-like
        Root of the derivative dataset.
    settings : Settings
        Choices of the run.
    gigabytes : callable
        Memory in GB of a number of float32 volumes.

    Returns
    -------
    nipype.pipeline.engine.Workflow
        Named after the subject.
    """
    label_files = []
    names = []
    for scan in subject.scans:
        label_files.append(str(scan.labels.path) if scan.labels else "")
        names.append(dict(scan.labels.names) if scan.labels else {})
    rows = Node(Merge(len(settings.inversions), no_flatten=True), name="rows", mem_gb=gigabytes(0))
    tables = make_tables_node(subject, output_dir, gigabytes)
    workflow = Workflow(name=subject.node_name)
    workflow.add_nodes([make_quality_node(subject, output_dir, settings, gigabytes)])
    workflow.connect(rows, "out", tables, "rows")
    for number, method in enumerate(settings.inversions, start=1):
        measure = make_measure_node(subject, method, settings, gigabytes, name=f"measure_{method}")
        measure.inputs.chi_files = chi_files(subject.scans, method)
        measure.inputs.mask_files = mask_files(subject.scans)
        measure.inputs.label_files = label_files
        measure.inputs.names = names
        measure.inputs.reference = WHOLE_PHANTOM
        workflow.connect(measure, "rows", rows, f"in{number}")
    return workflow
