"""Run a graph to its end."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Mapping
from configparser import ConfigParser
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nipype import config

from ..dataset.files import PathLike
from .failures import Failure, read_crash
from .graphs import parts_of, working_nodes
from .progress import Progress

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node, Workflow

    from .plugins import Runner

LOG_FORMAT = "%(asctime)s %(name)s %(levelname)s: %(message)s"
Callback = Callable[["Node", str], None]  # is called with a node and its status


def configure_nipype(work_dir: PathLike, *, verbosity: int = 0) -> Path:
    """Configure Nipype for a run; to be called before any node is created.

    Worker processes are spawned (forked ones inherit locks, which can block them), so they read
    their configuration from a file. They log only critical errors: failures are in the crash files.

    Parameters
    ----------
    work_dir : path-like
        Folder of intermediate files. It gets a folder for the configuration, log and crash files of
        this run, since several runs may share it.
    verbosity : int
        1 prints Nipype's log at the terminal as well, 2 with debugging messages; 0 does not.

    Returns
    -------
    pathlib.Path
        The run's folder.
    """
    run_dir = Path(work_dir) / "runs" / f"{datetime.now():%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
    (run_dir / "crash").mkdir(parents=True)
    settings = ConfigParser()
    settings["execution"] = {
        "crashdump_dir": str(run_dir / "crash"),
        "crashfile_format": "txt",
        "stop_on_first_crash": "false",
        "remove_unnecessary_outputs": "false",
        "create_report": "false",  # a page for each step
        "poll_sleep_duration": "0.1",
        "job_finished_timeout": "15",  # s until a result is visible on a network file system
        "check_version": "false",
    }
    levels = ("workflow_level", "utils_level", "interface_level")
    settings["logging"] = dict.fromkeys(levels, "CRITICAL")
    with (run_dir / "nipype.cfg").open("w") as stream:
        settings.write(stream)
    os.environ["NIPYPE_CONFIG_DIR"] = str(run_dir)
    config.update_config({"execution": dict(settings["execution"])})
    _log_to_file(run_dir / "multiqsm.log")
    if verbosity:
        _log_to_terminal(logging.INFO if verbosity == 1 else logging.DEBUG)
    return run_dir


def run_workflow(
    workflow: Workflow, runner: Runner, *, callback: Callback, crash_dir: Path | None = None
) -> list[Failure]:
    """Run a workflow to its end; a node that fails stops only the nodes that depend on it.

    Parameters
    ----------
    workflow : nipype.pipeline.engine.Workflow
        The graph, created after `configure_nipype`.
    runner : multiqsm.execution.plugins.Runner
        The plugin that runs it.
    callback : callable
        Is called with each node and its status: ``start``, ``end`` or ``exception``.
    crash_dir : pathlib.Path, optional
        Folder of the crash files of this graph alone; that of the run by default.

    Returns
    -------
    list of Failure
        Empty if no node failed.
    """
    crash_dir = crash_dir or Path(config.get("execution", "crashdump_dir"))
    workflow.config["execution"] = {
        **workflow.config.get("execution", {}),
        "crashdump_dir": str(crash_dir),
    }
    crash_dir.mkdir(parents=True, exist_ok=True)
    earlier = set(crash_dir.iterdir())
    try:
        runner.run(workflow, callback)
    except Exception:
        # If nodes failed, Nipype raises after the graph has run, and the causes are in the crash
        # files. Without a new crash file the error is of another kind.
        if earlier.issuperset(crash_dir.iterdir()):
            raise
    part_of = parts_of(workflow)
    crash_files = set(crash_dir.iterdir()) - earlier
    return [read_crash(path, part_of) for path in sorted(crash_files)]


def run_with_progress(
    workflow: Workflow,
    runner: Runner,
    kind: str,
    *,
    labels: Mapping[str, str] | None = None,
    crash_dir: Path | None = None,
    watch: Callback | None = None,
) -> list[Failure]:
    """Check that a graph has the resources that it needs, run it to its end and show its progress.

    Parameters
    ----------
    workflow, runner, crash_dir
        As of `run_workflow`.
    kind : str
        Plural noun for the parts of the graph, such as ``scans``.
    labels : dict of str to str, optional
        BIDS labels by which the display of progress calls the parts.
    watch : callable, optional
        Is called with each node and its status as well.

    Returns
    -------
    list of Failure
        Empty if no node failed.

    Raises
    ------
    ValueError
        If a step needs more memory or cores than the plugin may use.
    """
    check_resources(workflow, runner.arguments)
    progress = Progress.of(workflow, kind, labels)

    def notify(node, status):
        progress(node, status)
        if watch is not None:
            watch(node, status)

    return run_workflow(workflow, runner, callback=notify, crash_dir=crash_dir)


def check_resources(workflow: Workflow, plugin_args: Mapping[str, Any]) -> None:
    """Check that no step needs more memory or cores than there are, before any step is run.

    Nipype would refuse such a step in the middle of the run, or not at all.

    Parameters
    ----------
    workflow : nipype.pipeline.engine.Workflow
        The graph.
    plugin_args : dict
        The plugin's arguments; ``memory_gb`` and ``n_procs`` are limits.

    Raises
    ------
    ValueError
        If a step needs more memory or cores than the plugin may use.
    """
    for argument, attribute, unit in (
        ("memory_gb", "mem_gb", "GB of memory"),
        ("n_procs", "n_procs", "cores"),
    ):
        if argument not in plugin_args:
            continue
        needs = {name: getattr(node, attribute) for name, node in working_nodes(workflow).items()}
        name = max(needs, key=needs.__getitem__)
        limit = plugin_args[argument]
        if needs[name] > limit:
            raise ValueError(
                f"{name} needs {needs[name]:g} {unit}, but the limit is {limit:g} ({argument})"
            )


def _log_to_file(path):
    """Direct Nipype's log to a file; the terminal shows progress and failures."""
    logger = logging.getLogger("nipype")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        if isinstance(handler, logging.FileHandler):
            handler.close()
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    logger.addHandler(handler)
    logger.propagate = False


def _log_to_terminal(level):
    """Print Nipype's log at the terminal as well."""
    logger = logging.getLogger("nipype")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    logger.addHandler(handler)
    for name in ("nipype", "nipype.workflow", "nipype.utils", "nipype.interface"):
        logging.getLogger(name).setLevel(level)
