"""One phantom: its tubes measured on each of its scans."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nipype.interfaces.utility import Merge
from nipype.pipeline.engine import Node, Workflow

from ..dataset.files import PathLike
from ..dataset.names import TUBES
from ..dataset.subjects import Subject
from ..interfaces.figures import PlotTubes
from .memory import VolumeMemory
from .subject_nodes import (
    chi_files,
    make_measure_node,
    make_quality_node,
    make_tables_node,
    mask_files,
)
from .subject_r2star import add_r2star_tables

if TYPE_CHECKING:
    from .settings import Settings

# A phantom has no tissue to refer to. The regression over its tubes has an intercept, so that the
# choice of the reference does not matter.
WHOLE_PHANTOM = "phantom"


def init_phantom_wf(
    subject: Subject, *, output_dir: PathLike, settings: Settings, gigabytes: VolumeMemory
) -> Workflow:
    """Build the workflow of one phantom: quality, the values of the regions drawn on each scan, and
    pictures of its tubes.

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
    tables = make_tables_node(subject, output_dir, settings, gigabytes)
    workflow = Workflow(name=subject.node_name)
    workflow.add_nodes([make_quality_node(subject, output_dir, settings, gigabytes)])
    workflow.connect(rows, "out", tables, "rows")
    for number, scan in enumerate(subject.scans):
        plot = _plot_tubes_node(scan, f"plot_tubes{number}", output_dir, settings, gigabytes)
        workflow.add_nodes([plot])
    for number, method in enumerate(settings.inversions, start=1):
        measure = make_measure_node(subject, method, settings, gigabytes, name=f"measure_{method}")
        measure.inputs.chi_files = chi_files(subject.scans, method)
        measure.inputs.mask_files = mask_files(subject.scans)
        measure.inputs.label_files = label_files
        measure.inputs.names = names
        measure.inputs.reference = WHOLE_PHANTOM
        workflow.connect(measure, "rows", rows, f"in{number}")
        if number == 1:
            measure_r2star, _ = add_r2star_tables(
                workflow, subject, output_dir, settings, gigabytes
            )
            measure_r2star.inputs.label_files = label_files
            measure_r2star.inputs.names = names
            workflow.connect(measure, "excluded_files", measure_r2star, "excluded_files")
    return workflow


def _plot_tubes_node(scan, name, output_dir, settings, gigabytes):
    """Return the node that draws a scan's maps in the plane through two tubes."""
    plot = PlotTubes(
        **TUBES,
        entities=dict(scan.entities),
        output_dir=str(output_dir),
        chi_files=[str(scan.chi[method]) for method in settings.inversions],
        mask_file=str(scan.mask),
        methods=list(settings.inversions),
    )
    if scan.labels is not None:
        plot.inputs.label_file = str(scan.labels.path)
        plot.inputs.names = dict(scan.labels.names)
        plot.inputs.expected = dict(scan.labels.expected)
    return Node(plot, name=name, mem_gb=gigabytes(4 + 2 * len(settings.inversions)))
