"""The machine that a command runs on: its files of options, plugin, cores and memory."""

import os
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from ..dataset.content import require_content
from ..dataset.files import reading_failure
from ..dataset.problems import DatasetError
from ..dataset.structured import parse_structured
from .arguments import available_cores

if TYPE_CHECKING:  # Nipype takes seconds to import
    from nipype.pipeline.engine import Workflow

    from ..execution.failures import Failure
    from ..execution.plugins import Runner

DEFAULT_PLUGIN = "MultiProc"
DEFAULT_RETRIES = 2
JOBS = ("auto", "scan", "step")
CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def read_options(path: Path, option: str) -> dict:
    """Read the JSON or YAML file that an option names.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    option : str
        The option, for messages.

    Returns
    -------
    dict

    Raises
    ------
    DatasetError
        If the file cannot be read, or is not a mapping.
    """
    require_content(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = parse_structured(text, is_yaml=path.suffix.lower() != ".json")
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise DatasetError(f"{option} {path}: {reading_failure(error)}") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{option} {path}: not a mapping of names to values")
    return content


def read_filter(options: Namespace) -> dict | None:
    """Read the file of ``--bids-filter-file``; None without that option.

    Raises
    ------
    DatasetError
        As `read_options`.
    """
    path = options.bids_filter_file
    return None if path is None else read_options(path, "--bids-filter-file")


def open_runner(options: Namespace) -> "Runner":
    """Open the Nipype plugin that the options and the plugin file name.

    Parameters
    ----------
    options : argparse.Namespace
        Options of the command.

    Returns
    -------
    multiqsm.execution.plugins.Runner

    Raises
    ------
    DatasetError
        If the plugin file cannot be used, or Nipype has no such plugin.
    """
    from ..execution.plugins import Runner

    name = options.plugin
    arguments: dict = {}
    if options.use_plugin is not None:
        content = read_options(options.use_plugin, "--use-plugin")
        if unknown := sorted(set(content) - {"plugin", "plugin_args"}):
            raise DatasetError(
                f"--use-plugin {options.use_plugin}: unknown {', '.join(unknown)}",
                "allowed: plugin, plugin_args",
            )
        name = content.get("plugin", name)
        arguments = content.get("plugin_args") or {}
        if not isinstance(name, str) or not isinstance(arguments, dict):
            raise DatasetError(
                f"--use-plugin {options.use_plugin}: plugin must be a name, "
                "and plugin_args a mapping"
            )
    try:
        runner = Runner(name, arguments)
    except ValueError as error:
        raise DatasetError(str(error)) from error
    limits = {} if options.mem_gb is None else {"memory_gb": options.mem_gb}
    if not runner.is_cluster:  # limits of this machine do not apply to jobs on a cluster
        limits = {"n_procs": cores(options), "memory_gb": 0.9 * machine_gigabytes(), **limits}
    runner.arguments = {**limits, **arguments}
    return runner


def cores(options: Namespace) -> int:
    """Return the number of cores of this machine that the command may use."""
    return options.n_procs or available_cores()


def machine_gigabytes() -> float:
    """Return the memory that this process may use, GB.

    It is the machine's, or less in a container or a batch job.
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in CGROUP_LIMITS:
        try:
            limits.append(int(path.read_text()))
        except (OSError, ValueError):  # no such control group, or one without a limit
            continue
    return min(limits) / 1e9


def run_graph(workflow: "Workflow", options: Namespace, kind: str) -> list["Failure"]:
    """Run one graph, in a directory of its own within the work directory.

    Parameters
    ----------
    workflow : nipype.pipeline.engine.Workflow
        The graph, made after `multiqsm.execution.run.configure_nipype`.
    options : argparse.Namespace
        Options of the command.
    kind : str
        Name of its parts, for the display of progress.

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
