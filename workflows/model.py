"""The regressions of a study model, from the tables of the patients to the report."""

from collections.abc import Iterable, Sequence

from nipype.pipeline.engine import Node, Workflow

from ..dataset.files import PathLike
from ..interfaces.model import ModelReport, ModelStatistics
from .presets import Difference, report_inputs


def init_model_wf(
    *,
    bids_dir: PathLike,
    output_dir: PathLike,
    work_dir: PathLike,
    model: PathLike,
    phenotype: Iterable[PathLike] = (),
    freesurfer_dir: PathLike | None = None,
    exclude: PathLike | None = None,
    preset: str | None = None,
    differences: Sequence[Difference] = (),
    n_unrecorded: int = 0,
) -> Workflow:
    """Build the workflow of a model's regressions.

    Parameters
    ----------
    bids_dir, output_dir, work_dir : path-like
        Roots of the raw dataset, of the derivative dataset and of intermediate files.
    model : path-like
        The model's file, or the name of one that comes with multiqsm, see
        `multiqsm.cohort.model_files.read_model`.
    phenotype : iterable of path-like
        Further tables of participants.
    freesurfer_dir : path-like, optional
        FreeSurfer's subjects directory. By default that among the derivatives of the raw dataset.
    exclude : path-like, optional
        The file of ``--exclude``, see `multiqsm.dataset.exclude_file.read_exclude_file`.
    preset, differences, n_unrecorded
        How the scans' settings differ from a preset's, as of
        `multiqsm.workflows.group.init_group_wf`.

    Returns
    -------
    nipype.pipeline.engine.Workflow
        Its node ``report`` has the path of the report as output.
    """
    compute = ModelStatistics(
        bids_dir=str(bids_dir),
        output_dir=str(output_dir),
        model=str(model),
        phenotype=list(map(str, phenotype)),
    )
    if freesurfer_dir is not None:
        compute.inputs.freesurfer_dir = str(freesurfer_dir)
    if exclude is not None:
        compute.inputs.exclude = str(exclude)
    statistics = Node(compute, name="statistics", mem_gb=1)
    write = ModelReport(
        output_dir=str(output_dir),
        model=str(model),
        **report_inputs(preset, differences, n_unrecorded),
    )
    report = Node(write, name="report", mem_gb=1)
    model_wf = Workflow(name="model")
    workflow = Workflow(name="study", base_dir=str(work_dir))
    outputs = [(name, name) for name in ("tables", "notes", "descriptions")]
    model_wf.connect([(statistics, report, outputs)])
    workflow.add_nodes([model_wf])
    return workflow
