"""Lesions of a person: from marks in the FLAIR image to a mask, a table and a picture."""

from math import prod
from pathlib import Path

from nipype.pipeline.engine import Node, Workflow

from ..bids_templates import load_template
from ..dataset.files import PathLike
from ..dataset.names import LESIONS
from ..dataset.outputs import bids_uri
from ..dataset.subjects import Subject
from ..dataset.volumes import load_volume
from ..interfaces.lesions import SaveLesions, SegmentLesions
from ..interfaces.subject_figures import PlotLesions
from .connections import by_name
from .subject_nodes import make_node

MARKS = ("ready", "seeds", "added", "removed")


def init_lesions_wf(subject: Subject, *, output_dir: PathLike, name: str = "lesions") -> Workflow:
    """Build the workflow of a person's lesions, which does not depend on the gradient-echo scans.

    Parameters
    ----------
    subject : multiqsm.dataset.subjects.Subject
        A person with marked lesions.
    output_dir : path-like
        Root of the derivative dataset.
    name : str
        Name of the workflow.

    Returns
    -------
    nipype.pipeline.engine.Workflow

    Raises
    ------
    ValueError
        If the person has no marked lesions.
    """
    sources = subject.anatomy.lesions
    if sources is None:
        raise ValueError(f"sub-{subject.label} has no marked lesions")
    flair = str(sources.flair)
    # 40 bytes a voxel, since libraries work in double precision, and the libraries themselves.
    gigabytes = round(0.5 + 40e-9 * prod(load_volume(flair).shape[:3]), 3)
    segment = SegmentLesions(flair_file=flair)
    for kind in MARKS:
        marks_file = getattr(sources, kind)
        if marks_file is not None:
            setattr(segment.inputs, f"{kind}_file", str(marks_file))
    # Marks are edited in place, so that their content counts and not their date.
    segment = make_node(segment, "segment", gigabytes)
    save = SaveLesions(
        flair_file=flair,
        flair_uri=_uri(sources.flair, subject.label),
        columns=load_template("lesion_table"),
        subject=subject.label,
        output_dir=str(output_dir),
    )
    save = Node(save, name="save", mem_gb=gigabytes)
    plot = PlotLesions(
        **LESIONS, entities={"subject": subject.label}, output_dir=str(output_dir), flair_file=flair
    )
    plot = Node(plot, name="plot_lesions", mem_gb=gigabytes)
    workflow = Workflow(name=name)
    workflow.connect(
        [
            (segment, save, by_name(["mask_file", "seeds", "record"])),
            (segment, plot, [("mask_file", "mask_file")]),
        ]
    )
    return workflow


def _uri(image: Path, label: str) -> str:
    """Return the BIDS URI of a subject's image in the dataset that holds it."""
    for folder in image.parents:
        if folder.name == f"sub-{label}":
            return bids_uri(image, folder.parent)
    raise ValueError(f"{image}: not in a folder sub-{label}")
