"""The subjects of a run, one workflow each."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from math import prod
from typing import TYPE_CHECKING

import nibabel as nib
from nipype.pipeline.engine import Workflow

from ..dataset.files import PathLike
from ..dataset.subjects import Subject
from .memory import volume_gigabytes
from .person import init_person_wf
from .phantom import init_phantom_wf

if TYPE_CHECKING:
    from .settings import Settings


def init_subjects_wf(
    subjects: Iterable[Subject], *, output_dir: PathLike, work_dir: PathLike, settings: Settings
) -> Workflow:
    """Build the workflow of all subjects with processed scans, which consists of a workflow for
    each.

    It is a separate graph, built from the files in the derivative dataset, so that a scan that
    failed does not stop the others.

    Parameters
    ----------
    subjects : iterable of multiqsm.dataset.subjects.Subject
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
        init_subject_wf = init_phantom_wf if subject.is_phantom else init_person_wf
        n_voxels = max(prod(nib.load(scan.mask).shape) for scan in subject.scans)
        subject_wf = init_subject_wf(
            subject,
            output_dir=output_dir,
            settings=settings,
            gigabytes=partial(volume_gigabytes, n_voxels),
        )
        workflow.add_nodes([subject_wf])
    return workflow
