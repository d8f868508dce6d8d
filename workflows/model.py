"""The regressions of a model, from what is known of the patients to the report."""

from nipype.pipeline.engine import Node, Workflow

from ..interfaces.group import ModelReport, ModelStatistics


def init_model_wf(*, bids_dir, output_dir, work_dir, model, phenotype=(), freesurfer_dir=None):
    """Build the workflow of a model's regressions.

    Parameters
    ----------
    bids_dir, output_dir, work_dir : path-like
        Roots of the raw dataset, of the derivative dataset and of intermediate files.
    model : str
        The model's file, or its name, see `cohort.model_files.read_model`.
    phenotype : sequence of path-like
        Further tables of participants.
    freesurfer_dir : path-like, optional
        FreeSurfer's results, if not in the raw dataset.

    Returns
    -------
    nipype.pipeline.engine.Workflow
        Its node ``report`` gives the report's path.
    """
    places = {"bids_dir": str(bids_dir), "output_dir": str(output_dir)}
    if freesurfer_dir is not None:
        places["freesurfer_dir"] = str(freesurfer_dir)
    compute = ModelStatistics(
        model=str(model), phenotype=[str(path) for path in phenotype], **places
    )
    statistics = Node(compute, name="statistics", mem_gb=1)
    report = Node(
        ModelReport(output_dir=str(output_dir), model=str(model)), name="report", mem_gb=1
    )
    model_wf = Workflow(name="model")
    workflow = Workflow(name="study", base_dir=str(work_dir))
    model_wf.connect([(statistics, report, [("tables", "tables"), ("notes", "notes")])])
    workflow.add_nodes([model_wf])
    return workflow
