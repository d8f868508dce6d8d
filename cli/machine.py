"""What the options about the machine say."""

import os
from pathlib import Path

import yaml

from ..dataset.content import require_content
from ..dataset.problems import DatasetError
from .arguments import available_cores

JOBS = ("auto", "scan", "step")
CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def read_options(path, option):
    """Read a mapping, in JSON or YAML, that an option names.

    Raises
    ------
    DatasetError
        If the file is none.
    """
    require_content(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DatasetError(f"{option} {path}: {error}") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{option} {path}: holds no mapping of names to values")
    return content


def read_filter(options):
    """Read the file of ``--bids-filter-file``; None if none is given.

    Raises
    ------
    DatasetError
        If the file is none.
    """
    path = options.bids_filter_file
    return None if path is None else read_options(path, "--bids-filter-file")


def check_work_dir(options):
    """Refuse to put intermediate files among the user's data.

    Raises
    ------
    DatasetError
        If the work folder lies in the dataset.
    """
    if options.work_dir.absolute().is_relative_to(options.bids_dir.absolute()):
        raise DatasetError(
            f"{options.work_dir}: intermediate files would lie in the dataset",
            "say with -w where else",
        )


def open_runner(options):
    """Make what runs the graphs, as the options and the plugin file say.

    Parameters
    ----------
    options : argparse.Namespace
        Of the command.

    Returns
    -------
    multiqsm.execution.plugins.Runner

    Raises
    ------
    DatasetError
        If the plugin file is none, or Nipype has no such plugin.
    """
    from ..execution.plugins import Runner

    name = options.plugin
    given = {}
    if options.use_plugin is not None:
        content = read_options(options.use_plugin, "--use-plugin")
        if unknown := sorted(set(content) - {"plugin", "plugin_args"}):
            raise DatasetError(
                f"--use-plugin {options.use_plugin}: unknown {', '.join(unknown)}",
                "it has plugin, plugin_args",
            )
        name = content.get("plugin", name)
        given = content.get("plugin_args") or {}
        if not isinstance(name, str) or not isinstance(given, dict):
            raise DatasetError(
                f"--use-plugin {options.use_plugin}: plugin is a name and plugin_args are a mapping"
            )
    try:
        runner = Runner(name, given)
    except ValueError as error:
        raise DatasetError(str(error)) from error
    limits = {} if options.mem_gb is None else {"memory_gb": options.mem_gb}
    if not runner.is_cluster:  # what this machine has is no limit to jobs on others
        limits = {"n_procs": cores(options), "memory_gb": 0.9 * machine_gigabytes(), **limits}
    runner.arguments = {**limits, **given}
    return runner


def cores(options):
    """Cores of this machine that the command may use."""
    return options.n_procs or available_cores()


def machine_gigabytes():
    """Memory that this process may use, GB: the machine's, or less in a container or a batch
    job.
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in CGROUP_LIMITS:
        try:
            limits.append(int(path.read_text()))
        except (OSError, ValueError):  # no such control group, or one without a limit
            continue
    return min(limits) / 1e9


def run_graph(workflow, options, kind):
    """Run one graph to its end, with a folder of the run's own in the work folder.

    Parameters
    ----------
    workflow : nipype.pipeline.engine.Workflow
        The graph, made after `multiqsm.execution.run.configure_nipype`.
    options : argparse.Namespace
        Of the command.
    kind : str
        What its parts are called.

    Returns
    -------
    list of multiqsm.execution.failures.Failure

    Raises
    ------
    DatasetError
        If the plugin cannot run it.
    """
    from ..execution.run import run_with_progress

    with open_runner(options) as runner:
        try:
            return run_with_progress(workflow, runner, kind)
        except ValueError as error:
            raise DatasetError(str(error)) from error
