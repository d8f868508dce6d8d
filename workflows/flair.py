"""A person's susceptibility map fused with the FLAIR image."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from nipype.pipeline.engine import Node, Workflow

from ..dataset.files import PathLike
from ..dataset.names import FLAIR_REGIONS
from ..dataset.subjects import Subject
from ..dataset.volumes import load_volume
from ..interfaces.flair import PlotFlair, RegisterFlair
from .connections import by_name
from .memory import VolumeMemory
from .subject_nodes import make_node

if TYPE_CHECKING:
    from .settings import Settings


def connect_flair(
    workflow: Workflow,
    inputnode: Node,
    subject: Subject,
    method: str,
    output_dir: PathLike,
    settings: Settings,
    gigabytes: VolumeMemory,
) -> Node:
    """Add the nodes that register the FLAIR image and draw an inversion's map and regions on it.

    Without a FLAIR image, only the picture of an earlier run is removed.

    Parameters
    ----------
    workflow : nipype.pipeline.engine.Workflow
        The workflow of an inversion's maps, to which the nodes are added.
    inputnode : nipype.pipeline.engine.Node
        Its inputs: an image and the brain mask in the subject space, and the transforms from it to
        each scan.
    subject : multiqsm.dataset.subjects.Subject
        The person and the processed scans.
    method : str
        The inversion.
    output_dir : path-like
        Root of the derivative dataset.
    settings : Settings
        Choices of the run.
    gigabytes : callable
        Memory in GB of a number of float32 volumes.

    Returns
    -------
    nipype.pipeline.engine.Node
        The node that draws. Maps, regions, excluded voxels and reference are to be connected to it.
    """
    plot = PlotFlair(
        output_dir=str(output_dir),
        entities={"subject": subject.label},
        **FLAIR_REGIONS,
        title=f"FLAIR and susceptibility, {method}, relative to the reference",
    )
    flair = subject.anatomy.flair
    if flair is None:
        return Node(plot, name="plot_flair", mem_gb=gigabytes(0))
    # 40 bytes a voxel, since the registration works in double precision.
    flair_gigabytes = round(40e-9 * prod(load_volume(flair).shape[:3]), 3)
    register = RegisterFlair(flair_file=str(flair))
    register = make_node(register, "register_flair", gigabytes(20) + flair_gigabytes)
    plot.inputs.flair_file = str(flair)
    plot = Node(plot, name="plot_flair", mem_gb=gigabytes(8) + flair_gigabytes)
    # fmt: off
    workflow.connect([
        (inputnode, register, [("grid_file", "average_file"), ("mask_file", "mask_file")]),
        (register, plot, by_name(["transform_file"])),
    ])
    if settings.roi_space == "scan":
        workflow.connect([(inputnode, plot, by_name(["transform_files"]))])
    # fmt: on
    return plot
