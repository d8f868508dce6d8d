"""Run a graph: progress while it works, and what failed in words when it is done."""

import errno
import logging
import os
import re
import sys
import time
import uuid
from collections import Counter
from configparser import ConfigParser
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from nipype import config
from nipype.interfaces.utility import IdentityInterface

from .plugins import LOST


@dataclass(frozen=True)
class Failure:
    """A step that failed.

    Attributes
    ----------
    scan : str
        Name of the scan's or subject's workflow.
    step : str
        Name of the step within it.
    kind : str
        Name of the exception's class; empty if the crash file has none.
    message : str
        The error, in its own words.
    crash_file : pathlib.Path
        Where the whole story is.
    """

    scan: str
    step: str
    kind: str
    message: str
    crash_file: Path

    @property
    def is_lost(self):
        """Whether the process or job that ran it was killed: then nothing is wrong with the scan, for all we know."""
        return self.kind == LOST

    @property
    def is_disk_full(self):
        """Whether the disk was full."""
        return self.kind == "OSError" and self.message.startswith(f"[Errno {errno.ENOSPC}]")

    @property
    def cause(self):
        """Kind and message."""
        return f"{self.kind}: {self.message}" if self.kind else self.message

    def __str__(self):
        return f"step {self.step}: {self.cause}\n        the whole story: {self.crash_file}"


@dataclass
class Progress:
    """Counts finished steps and says how far the run is, on one line of a terminal or now and then in a log.

    Attributes
    ----------
    part_of : dict of str to str
        The part of the run that each node belongs to, as from `parts_of`.
    left : dict of int
        Steps left of each part.
    kind : str
        What the parts are called.
    """

    part_of: dict[str, str]
    left: dict[str, int]
    kind: str = "scans"
    stream: object = field(default_factory=lambda: sys.stderr)
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self):
        self.total, self.failed = sum(self.left.values()), set()

    @classmethod
    def of(cls, workflow, kind):
        """Prepare for the nodes of a workflow that do work."""
        part_of = parts_of(workflow)
        return cls(part_of, Counter(part_of[name] for name in working_nodes(workflow)), kind)

    def __call__(self, node, status):
        """Take Nipype's word that a node has started, ended or failed."""
        part = self.part_of[node.fullname]
        if status == "end":
            self.left[part] -= 1
            self._tell(f"{part} done" if self.left[part] == 0 else f"{part} {node.name}", last=self.left[part] == 0)
        elif status == "exception" and part not in self.failed:
            self.failed.add(part)
            self._tell(f"{part} failed", last=True)

    def _tell(self, news, *, last):
        if self.stream.isatty():
            print(f"\r{self._line()} {news:<48}", end="\n" if last else "", file=self.stream, flush=True)
        elif last:
            print(f"{self._line()} {news}", file=self.stream, flush=True)

    def _line(self):
        complete, done = sum(n == 0 for n in self.left.values()), self.total - sum(self.left.values())
        elapsed = time.monotonic() - self.started
        parts = [f"{complete}/{len(self.left)} {self.kind}"]
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        if self.total > len(self.left):
            parts.append(f"{done}/{self.total} steps")
        parts.append(f"{_clock(elapsed)} gone")
        if done:
            parts.append(f"about {_clock(elapsed / done * (self.total - done))} left")
        return f"[{', '.join(parts)}]"


def configure_nipype(work_dir):
    """Set Nipype up for a run; to be called before any node is made.

    Worker processes are started afresh (a forked one inherits locks that hang it), so they read their
    configuration from a file. They are silent: what fails is in the crash files.

    Parameters
    ----------
    work_dir : path-like
        Takes a folder for this run's configuration, log and crash files: other runs may share the work folder.

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
    settings["logging"] = {f"{kind}_level": "CRITICAL" for kind in ("workflow", "utils", "interface")}
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
    runner : multiqsm.workflows.plugins.Runner
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
    workflow.config["execution"] = {**workflow.config.get("execution", {}), "crashdump_dir": str(crash_dir)}
    crash_dir.mkdir(parents=True, exist_ok=True)
    earlier = set(crash_dir.iterdir())
    try:
        runner.run(workflow, callback)
    except Exception:
        # Nipype raises once the graph has run, and the crash files hold the causes; without one it is our own.
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


def read_crash(path, part_of):
    """Read scan, step and error out of one of Nipype's crash files.

    Parameters
    ----------
    path : pathlib.Path
        A crash file in text form.
    part_of : dict of str to str
        The part of the run that each node belongs to.

    Returns
    -------
    Failure
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    node = re.search(r"^Node: (\S+)", text, re.MULTILINE)
    name = node[1] if node else "?"
    part = part_of.get(name, name)
    errors = re.findall(r"^\s*([\w.]+(?:Error|Exception|Interrupt)): (.*)$", text, re.MULTILINE)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    own = [(kind, message) for kind, message in errors if "NodeExecution" not in kind]  # that one is Nipype's
    kind, message = own[0] if own else ("", lines[-1])
    own_name = name.partition(f".{part}")[2].removeprefix(".")  # empty where the part is a node by itself
    step = own_name or part
    return Failure(scan=part, step=step, kind=kind.split(".")[-1], message=message, crash_file=path)


def parts_of(workflow):
    """The part of a run that each node belongs to: what the run's workflow holds, such as a scan's workflow.

    Parameters
    ----------
    workflow : nipype.pipeline.engine.Workflow
        The run's.

    Returns
    -------
    dict of str to str
        Names of parts by the full names of nodes.

    Examples
    --------
    >>> from nipype.pipeline.engine import Node, Workflow
    >>> scan = Workflow("sub_01")
    >>> scan.add_nodes([Node(IdentityInterface(["file"]), name="inputnode")])
    >>> run = Workflow("scans")
    >>> run.add_nodes([scan])
    >>> parts_of(run)
    {'scans.sub_01.inputnode': 'sub_01'}
    """
    return {f"{workflow.name}.{name}": name.split(".")[0] for name in workflow.list_node_names()}


def working_nodes(workflow):
    """The nodes that are run, by their full names: identity nodes are cut out of the graph before.

    Parameters
    ----------
    workflow : nipype.pipeline.engine.Workflow

    Returns
    -------
    dict of str to nipype.pipeline.engine.Node
    """
    nodes = {f"{workflow.name}.{name}": workflow.get_node(name) for name in workflow.list_node_names()}
    return {name: node for name, node in nodes.items() if not isinstance(node.interface, IdentityInterface)}


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
            raise ValueError(f"{name} needs {most:g} of {limit}, and no more than {plugin_args[limit]:g} may be used")


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


def _clock(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
