"""The reports of all subjects, one workflow each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from nipype.pipeline.engine import Node, Workflow

from ..dataset.files import PathLike
from ..interfaces.reports import SubjectReport

if TYPE_CHECKING:
    from ..dataset.subjects import Subject
    from .settings import Settings


def init_reports_wf(
    subjects: Iterable[Subject],
    *,
    failures: Mapping[str, Sequence[tuple[str, str]]],
    warnings: Mapping[str, Sequence[str]],
    sites: Iterable[str],
    output_dir: PathLike,
    work_dir: PathLike,
    settings: Settings,
) -> Workflow:
    """Build the workflow that writes the report of each subject, from the files in the derivative
    dataset.

    Parameters
    ----------
    subjects : iterable of multiqsm.dataset.subjects.Subject
        Subjects and their processed scans.
    failures : dict of str to list of (str, str)
        By subject, the scans or steps that failed or were left out, and why.
    warnings : dict of str to list of str
        By subject, warnings about the raw scans.
    sites : iterable of str
        All sites of the run. Each has the same colour in every report.
    output_dir, work_dir : path-like
        Roots of the derivative dataset and of intermediate files.
    settings : Settings
        Choices of the run.

    Returns
    -------
    nipype.pipeline.engine.Workflow
    """
    workflow = Workflow(name="reports", base_dir=str(work_dir))
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
