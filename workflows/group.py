"""The group level, from the tables of all scans to the report of the study."""

from collections.abc import Sequence
from typing import Any

from nipype.pipeline.engine import Node, Workflow

from ..dataset.files import PathLike
from ..interfaces.group import CollectRoiTables, ComputationTimes, GroupReport, StudyStatistics
from .connections import by_name
from .presets import CALIBRATED, Difference, report_inputs


def init_group_wf(
    *,
    bids_dir: PathLike,
    output_dir: PathLike,
    calibrate: str = "no",
    equivalence_margin: float | None = None,
    preset: str | None = None,
    differences: Sequence[Difference] = (),
    n_unrecorded: int = 0,
    exclude: PathLike | None = None,
) -> Workflow:
    """Build the workflow of the group level.

    Parameters
    ----------
    bids_dir, output_dir : path-like
        Roots of the raw and of the derivative dataset.
    calibrate : {'no', 'yes', 'if possible'}
        Whether people's values are corrected by the phantom scans of their site. If that is not
        possible for any inversion, 'yes' is an error and 'if possible' a warning; an inversion for
        which it is not possible stays as measured, with a warning.
    equivalence_margin : float, optional
        Margin within which imprecision across sites is equivalent to that within a site, ppb. By
        default, the published imprecision of each region.
    preset : str, optional
        Preset of a published study that the report compares the settings with.
    differences : sequence of Difference
        Choices that are not the preset's.
    n_unrecorded : int
        Number of scans whose settings are not recorded, so that they cannot be compared.
    exclude : path-like, optional
        The file of ``--exclude``, see `multiqsm.dataset.exclude_file.read_exclude_file`.

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
    if exclude is not None:
        collect.inputs.exclude = str(exclude)
    statistics = Node(StudyStatistics(calibrate=calibrate), name="statistics", mem_gb=1)
    if equivalence_margin is not None:
        statistics.inputs.equivalence_margin = equivalence_margin
    times = Node(ComputationTimes(output_dir=str(output_dir)), name="times", mem_gb=1)
    write = GroupReport(
        output_dir=str(output_dir),
        preset_calibrates=preset in CALIBRATED,
        **report_inputs(preset, differences, n_unrecorded),
    )
    report = Node(write, name="report", mem_gb=1)
    workflow = Workflow(name="group")
    workflow.connect(
        [
            (
                collect,
                statistics,
                [("out_file", "in_file"), *by_name(["r2star_file", "excluded_file", "notes"])],
            ),
            (collect, report, by_name(["excluded_file"])),
            (statistics, times, by_name(["tables", "notes"])),
            (statistics, report, by_name(["calibration_refusals"])),
            (times, report, by_name(["tables", "notes"])),
        ]
    )
    return workflow


def init_study_wf(
    *, bids_dir: PathLike, output_dir: PathLike, work_dir: PathLike, **choices: Any
) -> Workflow:
    """Build the workflow of the group level within that of a study, which has a work directory.

    Parameters
    ----------
    bids_dir, output_dir, work_dir : path-like
        Roots of the raw dataset, of the derivative dataset and of intermediate files.
    **choices
        Further choices, as of `init_group_wf`.

    Returns
    -------
    nipype.pipeline.engine.Workflow
    """
    workflow = Workflow(name="study", base_dir=str(work_dir))
    workflow.add_nodes([init_group_wf(bids_dir=bids_dir, output_dir=output_dir, **choices)])
    return workflow
