"""The whole run: every scan of every subject, and then what a subject's scans are together."""

from functools import partial
from math import prod
from pathlib import Path

import nibabel as nib
from nipype.pipeline.engine import Node, Workflow

from ..execution.receipts import software
from ..interfaces.reports import SubjectReport
from .group import init_group_wf
from .scan import init_scan_wf, volume_gigabytes
from .subject import init_person_wf, init_phantom_wf


def init_scans_wf(scans, *, bids_dir, output_dir, work_dir, settings, threads):
    """Build the workflow of all scans, one workflow each in it.

    Parameters
    ----------
    scans : sequence of multiqsm.dataset.scans.Scan
        Checked scans.
    bids_dir, output_dir, work_dir : path-like
        Roots of the raw dataset, of the derivative dataset and of intermediate files.
    settings : Settings
        Choices of the run.
    threads : int
        Threads of one node's Fourier transforms.

    Returns
    -------
    nipype.pipeline.engine.Workflow
    """
    workflow = init_run_wf(work_dir, "scans")
    common = {"bids_dir": bids_dir, "output_dir": output_dir, "settings": settings, "threads": threads}
    for scan in sorted(scans, key=lambda scan: scan.label):
        workflow.add_nodes([init_scan_wf(scan, **common)])
    return workflow


def init_subjects_wf(subjects, *, output_dir, work_dir, settings):
    """Build the workflow of all subjects whose scans have been processed, one workflow per subject in it.

    It is a graph of its own, made of what lies in the derivative dataset: a scan that failed is not in it, and stops
    none of the others.

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
    workflow = init_run_wf(work_dir, "subjects")
    for subject in subjects:
        init = init_phantom_wf if subject.is_phantom else init_person_wf
        largest = max(prod(nib.load(scan.mask).shape) for scan in subject.scans)
        gigabytes = partial(volume_gigabytes, largest)
        workflow.add_nodes([init(subject, output_dir=output_dir, settings=settings, gigabytes=gigabytes)])
    return workflow


def init_reports_wf(subjects, *, failures, warnings, sites, output_dir, work_dir, settings):
    """Build the workflow that writes the report of each subject, from what lies in the derivative dataset.

    Parameters
    ----------
    subjects : sequence of multiqsm.dataset.subjects.Subject
        Subjects and their processed scans.
    failures : dict of str to list of (str, str)
        By subject, what failed or was left out, and why.
    warnings : dict of str to list of str
        By subject, what was found in the raw scans that the reader should look at.
    sites : sequence of str
        All sites of the run: each has its colour in every report.
    output_dir, work_dir, settings
        As of `init_subjects_wf`.

    Returns
    -------
    nipype.pipeline.engine.Workflow
    """
    workflow = init_run_wf(work_dir, "reports")
    for subject in subjects:
        report = SubjectReport(
            subject=subject.label,
            entities=[dict(scan.entities) for scan in subject.scans],
            methods=list(settings.inversions),
            failures=failures.get(subject.label, []),
            warnings=warnings.get(subject.label, []),
            sites=list(sites),
            output_dir=str(output_dir),
        )
        subject_wf = Workflow(name=subject.node_name)
        subject_wf.add_nodes([Node(report, name="report", mem_gb=2)])
        workflow.add_nodes([subject_wf])
    return workflow


def init_study_wf(*, bids_dir, output_dir, work_dir, calibrate):
    """Build the workflow of the group level.

    Parameters
    ----------
    bids_dir, output_dir, work_dir : path-like
        Roots of the raw dataset, of the derivative dataset and of intermediate files.
    calibrate : bool
        Correct people's values by the phantom scans of their site.

    Returns
    -------
    nipype.pipeline.engine.Workflow
    """
    workflow = init_run_wf(work_dir, "study")
    workflow.add_nodes([init_group_wf(bids_dir=bids_dir, output_dir=output_dir, calibrate=calibrate)])
    return workflow


def init_run_wf(work_dir, kind):
    """Start the workflow that holds those of a run's parts.

    Parameters
    ----------
    work_dir : path-like
        Root of intermediate files.
    kind : str
        What the parts are called: a scan and a subject may have the same name.

    Returns
    -------
    nipype.pipeline.engine.Workflow
    """
    # Nipype reuses what it finds by its inputs, not by the code that made it: other code starts afresh.
    return Workflow(name=kind, base_dir=str(Path(work_dir) / f"version-{software()}"))
