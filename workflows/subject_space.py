"""The space of a person's scans: what shows it, saved and drawn."""

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Node, Workflow

from ..dataset.names import AVERAGE, REFERENCE, ROIS, SUBJECT_MASK
from ..dataset.outputs import bids_uri, derivative_path
from ..interfaces.derivatives import SaveDerivative
from ..interfaces.figures import PlotSlices
from .subject_regions import has_regions


def init_space_derivatives_wf(subject, *, output_dir, settings, gigabytes):
    """Save what shows the subject space: the average magnitude, the brain mask and the regions."""
    space = spatial_reference(subject, output_dir)
    sources = space | {
        "SkullStripped": False,
        "Sources": [bids_uri(scan.magnitude, output_dir, "") for scan in subject.scans],
    }
    average_metadata = sources | {
        "Description": "Mean of the scans' magnitudes, each over its median in the brain"
    }
    mask_metadata = sources | {"Type": "Brain", "Description": "Brain in half of the scans or more"}
    common = {"output_dir": str(output_dir), "entities": {"subject": subject.label}}
    average = common | AVERAGE
    mask = common | SUBJECT_MASK | {"is_mask": True}
    inputnode = Node(
        IdentityInterface(["average_file", "mask_file", "reference_file", "label_file", "lookup"]),
        name="inputnode",
    )
    outputnode = Node(IdentityInterface(["average_file"]), name="outputnode")
    save_average = Node(
        SaveDerivative(**average, metadata=average_metadata),
        name="save_average",
        mem_gb=gigabytes(4),
    )
    save_mask = Node(
        SaveDerivative(**mask, metadata=mask_metadata), name="save_mask", mem_gb=gigabytes(4)
    )
    plot = Node(
        PlotSlices(**average, title="Mean magnitude of all scans, and brain mask", outline=True),
        name="plot_average",
        mem_gb=gigabytes(8),
    )
    plot_reference = Node(
        PlotSlices(**common | REFERENCE, outline=True, title="Mean magnitude and reference region"),
        name="plot_reference",
        mem_gb=gigabytes(8),
    )
    workflow = Workflow(name="space_derivatives")
    # fmt: off
    workflow.connect([
        (inputnode, save_average, [("average_file", "in_file")]),
        (inputnode, save_mask, [("mask_file", "in_file")]),
        (inputnode, plot, [("average_file", "in_file"), ("mask_file", "mask_file")]),
        (inputnode, plot_reference, [
            ("average_file", "in_file"), ("reference_file", "mask_file"),
            ("mask_file", "window_mask_file"),
        ]),
        (save_average, outputnode, [("out_file", "average_file")]),
    ])
    if has_regions(subject, settings):
        save_regions = Node(
            SaveDerivative(
                **common | ROIS, metadata=space | {"Description": "Regions of interest"},
            ),
            name="save_regions",
            mem_gb=gigabytes(4),
        )
        plot_regions = Node(
            PlotSlices(**common | ROIS, outline=True, title="Mean magnitude and regions"),
            name="plot_regions",
            mem_gb=gigabytes(8),
        )
        workflow.connect([
            (inputnode, save_regions, [("label_file", "in_file"), ("lookup", "lookup")]),
            (inputnode, plot_regions, [
                ("average_file", "in_file"), ("label_file", "mask_file"),
                ("mask_file", "window_mask_file"),
            ]),
        ])
    # fmt: on
    return workflow


def spatial_reference(subject, output_dir):
    """The sidecar field that BIDS asks of whatever lies in a space of one's own."""
    path = derivative_path(output_dir, {"subject": subject.label}, **AVERAGE)
    return {"SpatialReference": bids_uri(path, output_dir, "")}
