"""Nipype's plugins, made fault tolerant: a worker or job that is lost is one step that failed,
never the end of the run and never an endless wait.
"""

from __future__ import annotations

import getpass
import multiprocessing
import os
import re
import shlex
import subprocess
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from nipype.pipeline import plugins
from nipype.pipeline.plugins.base import (
    DistributedPluginBase,
    GraphPluginBase,
    SGELikeBatchManagerBase,
)
from nipype.pipeline.plugins.multiproc import process_initializer, run_node
from nipype.pipeline.plugins.tools import report_crash

from ..dataset.files import PathLike
from ..dataset.values import did_you_mean

if TYPE_CHECKING:
    from nipype.pipeline.engine import Workflow

    from .run import Callback

# Methods and functions of Nipype that are overridden or called here although they are not part of
# its interface. A test fails if one of them changes.
NIPYPE_INTERNALS = {
    plugins.MultiProcPlugin: (
        "__init__",
        "_submit_job",
        "_get_result",
        "_postrun_check",
        "_clear_task",
    ),
    SGELikeBatchManagerBase: (
        "__init__",
        "_submit_batchtask",
        "_is_pending",
        "_get_result",
        "_clear_task",
    ),
    DistributedPluginBase: ("run", "_report_crash"),
    plugins.SLURMPlugin: ("_is_pending", "_submit_batchtask"),
    plugins.PBSPlugin: ("_is_pending", "_submit_batchtask"),
    plugins.SGEPlugin: ("_is_pending", "_submit_batchtask"),
    plugins.LSFPlugin: ("_is_pending", "_submit_batchtask"),
    plugins.OARPlugin: ("_is_pending", "_submit_batchtask"),
    report_crash: (),
    process_initializer: (),
    run_node: (),
}

LOST = "LostJobError"  # kind of the failure of a step whose process or job was killed
NO_HOST = "unknown"  # Nipype's host name of a job without a result
LONGEST_SILENCE = 600  # s without an answer of the scheduler, after which its jobs are given up
COMMAND_TIMEOUT = 30  # s
CANCEL_COMMANDS = {"SLURM": "scancel", "LSF": "bkill", "OAR": "oardel"}
DEFAULT_CANCEL_COMMAND = "qdel"  # of SGE and PBS, among others

# Settings of the C library of workers and jobs, which make it keep memory that was freed. By
# default it returns the memory of every volume to the system and requests it again, which takes a
# third of the time of an inversion.
KEEP_FREED_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "2000000000", "MALLOC_MMAP_THRESHOLD_": "2000000000"}


class Runner:
    """Run graphs with one plugin, whose processes are kept for the next graph.

    Parameters
    ----------
    plugin : str
        Nipype's name of the plugin.
    plugin_args : dict
        The plugin's arguments.

    Raises
    ------
    ValueError
        If there is no such plugin, or it does not report the status of its jobs.
    """

    def __init__(self, plugin: str, plugin_args: Mapping[str, Any]) -> None:
        self.arguments = plugin_args
        self._pool: ProcessPoolExecutor | None = None
        for name, size in KEEP_FREED_MEMORY.items():
            os.environ.setdefault(name, size)
        self._class = _plugin_class(plugin)

    @property
    def is_cluster(self) -> bool:
        """Whether each step is a job of a scheduler."""
        return issubclass(self._class, SGELikeBatchManagerBase)

    @property
    def shares_fate(self) -> bool:
        """Whether all running steps are lost if one process is killed."""
        return issubclass(self._class, plugins.MultiProcPlugin)

    def run(self, workflow: Workflow, callback: Callback) -> None:
        """Run a workflow.

        Parameters
        ----------
        workflow : nipype.pipeline.engine.Workflow
            The graph.
        callback : callable
            Is called with each node and its status: ``start``, ``end`` or ``exception``.

        Raises
        ------
        Exception
            If a node failed, after all nodes that do not depend on it have run.
        """
        plugin = self._class({**self.arguments, "status_callback": callback})
        if self.shares_fate:
            self._pool = plugin.pool = self._pool or plugin.new_pool()
        try:
            workflow.run(plugin=plugin)
        except (KeyboardInterrupt, SystemExit):
            if self.is_cluster:
                plugin.cancel()
            # Python would wait for the workers to finish.
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise
        finally:
            if self.shares_fate:
                self._pool = plugin.pool

    def close(self, *, wait: bool = True) -> None:
        """End the plugin's processes; after an interrupt, do not `wait` for those still working."""
        if self._pool is not None:
            self._pool.shutdown(wait=wait, cancel_futures=True)
            self._pool = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(wait=error is None)


class FaultTolerantMultiProcPlugin(plugins.MultiProcPlugin):
    """Run nodes in processes of this machine.

    If a process is killed, the nodes that were running fail and the processes are replaced.
    """

    def __init__(self, plugin_args: Mapping[str, Any] | None = None) -> None:
        super().__init__(plugin_args)
        self.pool.shutdown()  # has not started any process yet

    def new_pool(self) -> ProcessPoolExecutor:
        """Create worker processes, which are spawned: forked ones inherit locks that can block
        them.
        """
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(
            self.processors, context, initializer=_start_worker, initargs=(os.getcwd(),)
        )

    def _submit_job(self, node, updatehash=False):
        self._taskid += 1
        try:
            future = self.pool.submit(run_node, node, updatehash, self._taskid)
        except BrokenProcessPool:
            self.pool = self.new_pool()
            future = self.pool.submit(run_node, node, updatehash, self._taskid)
        self._task_obj[self._taskid] = future
        return self._taskid

    def _get_result(self, taskid):
        future = self._task_obj[taskid]
        if not future.done():
            return None
        try:
            return future.result()
        except BrokenProcessPool:
            cause = (
                f"{LOST}: a process was killed while this step ran, perhaps because memory ran out "
                "(see --mem-gb)\n"
            )
            return {"result": None, "traceback": [cause]}

    def _postrun_check(self):
        """Keep the processes for the next graph."""


class _FaultTolerantCluster:
    """Mixin that makes the plugins of schedulers fault tolerant; `cancel_command` cancels jobs."""

    def __init__(self, plugin_args=None):
        # Nipype names jobs by it, and it is not set in every container.
        os.environ.setdefault("LOGNAME", getpass.getuser())
        super().__init__(plugin_args=plugin_args)
        self._refused = {}
        self._silent_since = None

    def cancel(self):
        """Cancel the jobs that wait or run."""
        if self._pending:
            _output_of(self.cancel_command, *map(str, self._pending))

    def _submit_batchtask(self, scriptfile, node):
        taskid = None
        reason = "it returned no job number"
        try:
            taskid = super()._submit_batchtask(scriptfile, node)
        except RuntimeError as error:
            reason = _last_line(str(error))
        except Exception:
            # Nipype fails to parse an answer without a job number, which would end the whole run.
            pass
        if not taskid:
            taskid = -1 - len(self._refused)
            cause = (
                f"the scheduler refused the job: {reason}; to see why, submit the script by hand "
                "with your plugin arguments"
            )
            self._refused[taskid] = f"{LOST}: {cause}: {scriptfile}\n"
        return taskid

    def _is_pending(self, taskid):
        try:
            pending = super()._is_pending(taskid)
        except Exception:
            # The scheduler may be restarting, after which it knows its jobs again.
            self._silent_since = self._silent_since or time.monotonic()
            if time.monotonic() - self._silent_since > LONGEST_SILENCE:
                raise
            return True
        self._silent_since = None
        return pending

    def _get_result(self, taskid):
        if taskid in self._refused:
            return {"result": None, "traceback": [self._refused[taskid]]}
        result = super()._get_result(taskid)
        if result and result["traceback"] and result["hostname"] == NO_HOST:
            result["traceback"] = [f"{LOST}: {self._fate(taskid)}\n"]
        return result

    def _fate(self, taskid):
        return f"job {taskid} ended without a result"

    def _clear_task(self, taskid):
        self._pending.pop(taskid, None)

    def _report_crash(self, node, result=None):
        # Nipype's report needs a list of lines, but gets a single string from some plugins, which
        # would end the run.
        if result is not None and isinstance(result["traceback"], str):
            result = {**result, "traceback": result["traceback"].splitlines(keepends=True)}
        return super()._report_crash(node, result)


class _FaultTolerantSlurm(_FaultTolerantCluster):
    """The mixin for SLURM, which can report how a job ended."""

    def _submit_batchtask(self, scriptfile, node):
        # The end of a job that SLURM restarts by itself would never be noticed.
        arguments = [
            "--no-requeue",
            f"--cpus-per-task={node.n_procs}",
            f"--mem={round(1024 * node.mem_gb)}M",
            node.plugin_args.get("sbatch_args", ""),
        ]
        node.plugin_args = {**node.plugin_args, "sbatch_args": " ".join(arguments).strip()}
        return super()._submit_batchtask(scriptfile, node)

    def _fate(self, taskid):
        description = _output_of("scontrol", "show", "job", "-o", str(taskid))
        state = re.search(r"JobState=(\S+)", description)
        if state is None:
            return super()._fate(taskid)
        nodes = re.search(r"\bNodeList=([^\s(]+)", description)
        place = f" on {nodes[1]}" if nodes else ""
        return f"SLURM ended job {taskid}{place} as {state[1]}"


def _plugin_class(name):
    classes = {}
    for attribute in dir(plugins):
        if attribute.endswith("Plugin"):
            classes[attribute.removesuffix("Plugin")] = getattr(plugins, attribute)
    if name not in classes:
        meant = did_you_mean(name, classes)
        names = ", ".join(sorted(classes))
        raise ValueError(f"Nipype has no plugin {name}{meant}; choose one of {names}")
    base = classes[name]
    if issubclass(base, GraphPluginBase):
        raise ValueError(
            f"the plugin {name} does not report the status of its jobs; use "
            f"{name.removesuffix('Graph')}"
        )
    if issubclass(base, plugins.MultiProcPlugin):
        return FaultTolerantMultiProcPlugin
    if issubclass(base, SGELikeBatchManagerBase):
        mixin = _FaultTolerantSlurm if name == "SLURM" else _FaultTolerantCluster
        command = CANCEL_COMMANDS.get(name, DEFAULT_CANCEL_COMMAND)
        return type(f"FaultTolerant{base.__name__}", (mixin, base), {"cancel_command": command})
    return base


def check_cluster_paths(*paths: PathLike) -> None:
    """Check folders that Nipype writes unquoted into batch scripts.

    Parameters
    ----------
    *paths : path-like
        Folders that appear in batch scripts.

    Raises
    ------
    ValueError
        If a path has spaces, quotes or other characters that a shell interprets.
    """
    for path in map(str, paths):
        if shlex.quote(path) != path:
            raise ValueError(
                f"{path}: the path has spaces, quotes or other characters that a shell interprets, "
                "which batch jobs do not support; choose another folder"
            )


def _start_worker(folder):
    process_initializer(folder)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    """Exit when the parent process ends, so that no worker of a killed run writes beside the next
    run.
    """
    multiprocessing.parent_process().join()
    os._exit(1)


def _output_of(*command):
    """Return the output of a scheduler's command; empty if it fails or does not answer."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _last_line(text):
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else "no reason given"
