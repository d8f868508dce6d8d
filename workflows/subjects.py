"""All subjects of a run, one workflow each."""

from functools import partial
from math import prod

import nibabel as nib
from nipype.pipeline.engine import Workflow

from .memory import volume_gigabytes
from .person import init_person_wf
from .phantom import init_phantom_wf


def init_subjects_wf(subjects, *, output_dir, work_dir, settings):
    """Build the workflow of all subjects whose scans have been processed, one workflow per subject
    in it.

    It is a graph of its own, made of what lies in the derivative dataset: a scan that failed is not
    in it, and stops none of the others.

    Parameters
    ----------
    subjects : sequence of multiqsm.dataset.subjects.Subject
        Subjects and their processed scans.
    output_dir, work_dir : path-like
        Roots of the derivative dataset and of intermediate files.
    settings : Settings
        Choices of the run.

    Returns
    -------
    nipype.pipeline.engine.Workflow
    """
    workflow = Workflow(name="subjects", base_dir=str(work_dir))
    for subject in subjects:
        init = init_phantom_wf if subject.is_phantom else init_person_wf
        largest = max(prod(nib.load(scan.mask).shape) for scan in subject.scans)
        gigabytes = partial(volume_gigabytes, largest)
        workflow.add_nodes(
            [init(subject, output_dir=output_dir, settings=settings, gigabytes=gigabytes)]
        )
    return workflow
