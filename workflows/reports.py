"""The report of each subject."""

from nipype.pipeline.engine import Node, Workflow

from ..interfaces.reports import SubjectReport


def init_reports_wf(subjects, *, failures, warnings, sites, output_dir, work_dir, settings):
    """Build the workflow that writes the report of each subject, from what lies in the derivative
    dataset.

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
        As of `multiqsm.workflows.subjects.init_subjects_wf`.

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
