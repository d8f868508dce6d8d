"""One phantom, measured on each of its scans."""

from nipype.interfaces.utility import Merge
from nipype.pipeline.engine import Node, Workflow

from .subject_nodes import make_measure_node, make_quality_node, make_tables_node

# Only the whole can be a phantom's reference; the regression over its tubes has an intercept.
WHOLE_PHANTOM = "phantom"


def init_phantom_wf(subject, *, output_dir, settings, gigabytes):
    """Build the workflow of a phantom: the regions drawn on each scan, measured there, and its
    quality.

    Parameters, returned value: as of `multiqsm.workflows.person.init_person_wf`.
    """
    rows = Node(Merge(len(settings.inversions), no_flatten=True), name="rows", mem_gb=gigabytes(0))
    tables = make_tables_node(subject, output_dir, gigabytes)
    workflow = Workflow(name=subject.node_name)
    workflow.add_nodes([make_quality_node(subject, output_dir, settings, gigabytes)])
    workflow.connect(rows, "out", tables, "rows")
    for place, method in enumerate(settings.inversions, start=1):
        measure = make_measure_node(subject, method, settings, gigabytes, name=f"measure_{method}")
        measure.inputs.chi_files = [str(scan.chi[method]) for scan in subject.scans]
        measure.inputs.mask_files = [str(scan.mask) for scan in subject.scans]
        measure.inputs.label_files = [
            str(scan.labels.path) if scan.labels else "" for scan in subject.scans
        ]
        measure.inputs.names = [
            dict(scan.labels.names) if scan.labels else {} for scan in subject.scans
        ]
        measure.inputs.reference = WHOLE_PHANTOM
        workflow.connect(measure, "rows", rows, f"in{place}")
    return workflow
