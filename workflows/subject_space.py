"""Derivatives of the subject space: mean magnitude, brain mask, regions, and their pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Node, Workflow

from ..dataset.files import PathLike
from ..dataset.names import AVERAGE, REFERENCE, ROIS, SUBJECT_MASK
from ..dataset.outputs import bids_uri, derivative_path
from ..dataset.subjects import Subject
from ..interfaces.derivatives import SaveDerivative
from ..interfaces.figures import PlotSlices
from .memory import VolumeMemory
from .subject_regions import has_regions

if TYPE_CHECKING:
    from .settings import Settings


def init_space_derivatives_wf(
    subject: Subject, *, output_dir: PathLike, settings: Settings, gigabytes: VolumeMemory
) -> Workflow:
    """Build the workflow that saves and draws the average magnitude, the brain mask and the regions
    in the subject space.

    Parameters
    ----------
    subject : multiqsm.dataset.subjects.Subject
        The person and the processed scans.
    output_dir : path-like
        Root of the derivative dataset.
    settings : Settings
        Choices of the run.
    gigabytes : callable
        Memory in GB of a number of float32 volumes.

    Inputs
    ------
    average_file, mask_file
        Mean magnitude and brain mask in the subject space.
    reference_file
        Mask of the reference region, for its picture.
    label_file, lookup
        Label image of the regions and their names; only if there are any regions.

    Outputs
    -------
    average_file
        The saved mean magnitude.

    Returns
    -------
    nipype.pipeline.engine.Workflow
    """
    space = spatial_reference(subject, output_dir)
    sources = space | {
        "SkullStripped": False,
        "Sources": [bids_uri(scan.magnitude, output_dir, "") for scan in subject.scans],
    }
    average_metadata = sources | {
        "Description": "Mean of the scans' magnitudes, each over its median in the brain"
    }
    mask_metadata = sources | {"Type": "Brain", "Description": "Brain in half of the scans or more"}
    common: dict[str, Any] = {"output_dir": str(output_dir), "entities": {"subject": subject.label}}
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


def spatial_reference(subject: Subject, output_dir: PathLike) -> dict[str, str]:
    """Return the sidecar field that BIDS requires of images in a subject's own space."""
    path = derivative_path(output_dir, {"subject": subject.label}, **AVERAGE)
    return {"SpatialReference": bids_uri(path, output_dir, "")}
