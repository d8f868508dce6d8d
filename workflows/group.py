"""The group level, from the tables of all scans to the report of the study."""

from nipype.pipeline.engine import Node, Workflow

from ..dataset.files import PathLike
from ..interfaces.group import CollectRoiTables, ComputationTimes, GroupReport, StudyStatistics


def init_group_wf(*, bids_dir: PathLike, output_dir: PathLike, calibrate: bool) -> Workflow:
    """Build the workflow of the group level.

    Parameters
    ----------
    bids_dir, output_dir : path-like
        Roots of the raw and of the derivative dataset.
    calibrate : bool
        Correct people's values by the phantom scans of their site.

    Returns
    -------
    nipype.pipeline.engine.Workflow
        Its node ``report`` has the path of the report as output.
    """
    collect = Node(
        CollectRoiTables(bids_dir=str(bids_dir), output_dir=str(output_dir)),
        name="collect",
        mem_gb=1,
    )
    statistics = Node(StudyStatistics(calibrate=calibrate), name="statistics", mem_gb=1)
    times = Node(ComputationTimes(output_dir=str(output_dir)), name="times", mem_gb=1)
    report = Node(
        GroupReport(output_dir=str(output_dir), calibrate=calibrate), name="report", mem_gb=1
    )
    workflow = Workflow(name="group")
    workflow.connect(
        [
            (collect, statistics, [("out_file", "in_file"), ("notes", "notes")]),
            (statistics, times, [("tables", "tables"), ("notes", "notes")]),
            (times, report, [("tables", "tables"), ("notes", "notes")]),
        ]
    )
    return workflow


def init_study_wf(
    *, bids_dir: PathLike, output_dir: PathLike, work_dir: PathLike, calibrate: bool
) -> Workflow:
    """Build the workflow of the group level within that of a study, which has a work directory.

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
    workflow = Workflow(name="study", base_dir=str(work_dir))
    workflow.add_nodes(
        [init_group_wf(bids_dir=bids_dir, output_dir=output_dir, calibrate=calibrate)]
    )
    return workflow
