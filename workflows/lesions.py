"""Lesions of a person, from marks in the FLAIR image to a mask, a table and a picture."""

from math import prod

import nibabel as nib
from nipype.pipeline.engine import Node, Workflow

from ..bids_templates import load_template
from ..dataset.names import LESIONS
from ..dataset.outputs import bids_uri
from ..interfaces.lesions import SaveLesions, SegmentLesions
from ..interfaces.subject_figures import PlotLesions

MARKS = ("ready", "seeds", "added", "removed")


def init_lesions_wf(subject, *, output_dir, name="lesions"):
    """Build the workflow of a person's lesions, which needs nothing of the gradient-echo scans.

    Parameters
    ----------
    subject : multiqsm.dataset.subjects.Subject
        A person with marked lesions.
    output_dir : path-like
        Root of the derivative dataset.

    Returns
    -------
    nipype.pipeline.engine.Workflow
    """
    sources = subject.anatomy.lesions
    flair = str(sources.flair)
    # In double precision where a library works in it, and a processor's share of libraries.
    gigabytes = round(0.5 + 40e-9 * prod(nib.load(flair).shape[:3]), 3)
    marks = {
        f"{kind}_file": str(getattr(sources, kind))
        for kind in MARKS
        if getattr(sources, kind) is not None
    }
    segment = Node(SegmentLesions(flair_file=flair, **marks), name="segment", mem_gb=gigabytes)
    segment.config = {"execution": {"hash_method": "content"}}  # marks are edited in place
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
    outputs = ("mask_file", "seeds", "record")
    workflow.connect([(segment, save, [(output, output) for output in outputs])])
    workflow.connect([(segment, plot, [("mask_file", "mask_file")])])
    return workflow


def _uri(image, label):
    root = next(folder.parent for folder in image.parents if folder.name == f"sub-{label}")
    return bids_uri(image, root)
