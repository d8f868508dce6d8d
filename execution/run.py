"""Run a graph to its end."""

import logging
import os
import uuid
from configparser import ConfigParser
from datetime import datetime
from pathlib import Path

from nipype import config

from .failures import read_crash
from .graphs import parts_of, working_nodes
from .progress import Progress


def configure_nipype(work_dir):
    """Set Nipype up for a run; to be called before any node is made.

    Worker processes are started afresh (a forked one inherits locks that hang it), so they read
    their configuration from a file. They are silent: what fails is in the crash files.

    Parameters
    ----------
    work_dir : path-like
        Takes a folder for this run's configuration, log and crash files: other runs may share the
        work folder.

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
        "create_report": "false",  # a page per step that nobody reads
        "poll_sleep_duration": "0.1",
        "job_finished_timeout": "15",  # s until a result is seen on a network's file system
        "check_version": "false",
    }
    settings["logging"] = {
        f"{kind}_level": "CRITICAL" for kind in ("workflow", "utils", "interface")
    }
    with (run_dir / "nipype.cfg").open("w") as stream:
        settings.write(stream)
    os.environ["NIPYPE_CONFIG_DIR"] = str(run_dir)
    config.update_config({"execution": dict(settings["execution"])})
    _log_to_file(run_dir / "multiqsm.log")
    return run_dir


def run_workflow(workflow, runner, *, callback, crash_dir=None):
    """Run a workflow to its end; what fails stops only what depends on it.

    Parameters
    ----------
    workflow : nipype.pipeline.engine.Workflow
        The graph, made after `configure_nipype`.
    runner : multiqsm.execution.plugins.Runner
        What runs it.
    callback : callable
        Is told of each node and that it has started, ended or failed.
    crash_dir : pathlib.Path, optional
        Takes the crash files, of this graph alone; the run's own folder by default.

    Returns
    -------
    list of Failure
        Empty if all went well.
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
        # Nipype raises once the graph has run, and the crash files hold the causes; without one it
        # is our own.
        if earlier.issuperset(crash_dir.iterdir()):
            raise
    part_of = parts_of(workflow)
    return [read_crash(path, part_of) for path in sorted(set(crash_dir.iterdir()) - earlier)]


def run_with_progress(workflow, runner, kind, *, crash_dir=None, watch=None):
    """Check that a graph gets what it needs, run it to its end and show how far it is.

    Parameters
    ----------
    workflow, runner, crash_dir
        As of `run_workflow`.
    kind : str
        What the graph's parts are called.
    watch : callable, optional
        Is told of each node as well.

    Returns
    -------
    list of Failure
        Empty if all went well.

    Raises
    ------
    ValueError
        If a step needs more memory or cores than the plugin may use.
    """
    check_resources(workflow, runner.arguments)
    progress = Progress.of(workflow, kind)

    def tell(node, status):
        progress(node, status)
        if watch is not None:
            watch(node, status)

    return run_workflow(workflow, runner, callback=tell, crash_dir=crash_dir)


def check_resources(workflow, plugin_args):
    """Refuse what Nipype would refuse half-way, or not at all.

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
    for limit, attribute in (("memory_gb", "mem_gb"), ("n_procs", "n_procs")):
        if limit not in plugin_args:
            continue
        needs = {name: getattr(node, attribute) for name, node in working_nodes(workflow).items()}
        name, most = max(needs.items(), key=lambda item: item[1])
        if most > plugin_args[limit]:
            raise ValueError(
                f"{name} needs {most:g} of {limit}, and no more than {plugin_args[limit]:g} may be "
                "used"
            )


def _log_to_file(path):
    """Nipype's log goes to a file; the terminal shows progress and failures."""
    logger = logging.getLogger("nipype")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        if isinstance(handler, logging.FileHandler):
            handler.close()
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s: %(message)s"))
    logger.addHandler(handler)
    logger.propagate = False
