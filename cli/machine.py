"""Run a graph as the options about the machine say."""

import json

from ..dataset.scans import DatasetError


def read_options(path, option):
    """Read a JSON object that an option names.

    Raises
    ------
    DatasetError
        If the file is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{option} {path}: {error}") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{option} {path}: holds no JSON object")
    return content


def check_work_dir(options):
    """Refuse to put intermediate files among the user's data.

    Raises
    ------
    DatasetError
        If the work folder lies in the dataset.
    """
    if options.work_dir.absolute().is_relative_to(options.bids_dir.absolute()):
        raise DatasetError(f"{options.work_dir}: intermediate files would lie in the dataset; say with -w where else")


def plugin_arguments(options):
    """What Nipype's plugin is told."""
    arguments = {"n_procs": options.n_procs}
    if options.mem_gb is not None:
        arguments["memory_gb"] = options.mem_gb
    if options.plugin_args is not None:
        arguments |= read_options(options.plugin_args, "--plugin-args")
    return arguments


def run_graph(workflow, options, kind):
    """Run a graph to its end.

    Parameters
    ----------
    workflow : nipype.pipeline.engine.Workflow
        The graph.
    options : argparse.Namespace
        Of the command.
    kind : str
        What its workflows are made for, as progress calls them.

    Returns
    -------
    list of multiqsm.workflows.run.Failure

    Raises
    ------
    DatasetError
        If the plugin cannot run it.
    """
    from ..workflows.run import run_workflow

    try:
        return run_workflow(workflow, plugin=options.plugin, plugin_args=plugin_arguments(options), kind=kind)
    except ValueError as error:
        raise DatasetError(str(error)) from error
