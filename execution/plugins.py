"""Nipype's plugins, made to outlive what happens on clusters: a worker or job that is lost is one
step that failed,
never the end of the run and never an endless wait."""

import getpass
import multiprocessing
import os
import re
import shlex
import subprocess
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from nipype.pipeline import plugins
from nipype.pipeline.plugins.base import (
    DistributedPluginBase,
    GraphPluginBase,
    SGELikeBatchManagerBase,
)
from nipype.pipeline.plugins.multiproc import process_initializer, run_node
from nipype.pipeline.plugins.tools import report_crash

# What Nipype does not promise to keep, and what is built upon here: a test fails when one of these
# changes.
BUILT_UPON = {
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

LOST = "LostJobError"  # what a step's failure is called whose process or job was killed
NO_HOST = "unknown"  # where Nipype says that a job ran that left no result
UNREACHABLE_FOR = 600  # s for which a scheduler may not answer before its jobs are given up
ASK_WITHIN = 30  # s
# others, SGE and PBS among them, have qdel
CANCELLING = {
    "SLURM": "scancel",
    "LSF": "bkill",
    "OAR": "oardel",
}

# For the C library of workers and jobs: memory that was freed is kept. Handed back and fetched anew
# for every volume, as it is by default, it takes a third of an inversion's time.
KEEP_FREED_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "2000000000", "MALLOC_MMAP_THRESHOLD_": "2000000000"}


class Runner:
    """Runs graphs by one plugin, whose processes stay for the next graph.

    Parameters
    ----------
    plugin : str
        Nipype's name of the plugin.
    plugin_args : dict
        The plugin's arguments.

    Raises
    ------
    ValueError
        If there is no such plugin, or it does not tell what became of its jobs.
    """

    def __init__(self, plugin, plugin_args):
        self.arguments = plugin_args
        self._pool = None
        os.environ.update(
            {name: size for name, size in KEEP_FREED_MEMORY.items() if name not in os.environ}
        )
        self._class = _plugin_class(plugin)

    @property
    def is_cluster(self):
        """Whether each step is a job of a scheduler."""
        return issubclass(self._class, SGELikeBatchManagerBase)

    @property
    def shares_fate(self):
        """Whether the death of one process takes the others with it."""
        return issubclass(self._class, plugins.MultiProcPlugin)

    def run(self, workflow, callback):
        """Run a workflow.

        Parameters
        ----------
        workflow : nipype.pipeline.engine.Workflow
            The graph.
        callback : callable
            Is told of each node and that it has started, ended or failed.

        Raises
        ------
        Exception
            If a node failed, after all that do not depend on it have run.
        """
        plugin = self._class({**self.arguments, "status_callback": callback})
        if self.shares_fate:
            self._pool = plugin.pool = self._pool or plugin.new_pool()
        try:
            workflow.run(plugin=plugin)
        except (KeyboardInterrupt, SystemExit):
            if self.is_cluster:
                plugin.cancel()
            for worker in multiprocessing.active_children():  # else Python waits for them to finish
                worker.terminate()
            raise
        finally:
            if self.shares_fate:
                self._pool = plugin.pool

    def close(self, *, wait=True):
        """End the plugin's processes; after an interrupt, do not `wait` for those still at work."""
        if self._pool is not None:
            self._pool.shutdown(wait=wait, cancel_futures=True)
            self._pool = None

    def __enter__(self):
        return self

    def __exit__(self, error, *_):
        self.close(wait=error is None)


class SturdyMultiProcPlugin(plugins.MultiProcPlugin):
    """Processes of this machine; one that is killed fails the nodes that ran, and is replaced."""

    def __init__(self, plugin_args=None):
        super().__init__(plugin_args)
        self.pool.shutdown()  # started nothing yet

    def new_pool(self):
        """Worker processes: started afresh, since a forked one inherits locks that hang it."""
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
                f"{LOST}: a process was killed while this ran, perhaps since memory ran out (see "
                "--mem-gb)\n"
            )
            return {"result": None, "traceback": [cause]}

    def _postrun_check(self):
        """The processes stay for the next graph."""


class _SturdyCluster:
    """What the plugins of schedulers lack; mixed into them, with `cancelling`, the command that
    takes jobs back.
    """

    def __init__(self, plugin_args=None):
        # names the jobs; not set in every container
        os.environ.setdefault("LOGNAME", getpass.getuser())
        super().__init__(plugin_args=plugin_args)
        self._refused = {}
        self._silent_since = None

    def cancel(self):
        """Take back the jobs that wait or run."""
        if self._pending:
            _ask(self.cancelling, *map(str, self._pending))

    def _submit_batchtask(self, scriptfile, node):
        taskid, told = None, "it gave no number to it"
        try:
            taskid = super()._submit_batchtask(scriptfile, node)
        except RuntimeError as error:
            told = _last_line(str(error))
        except Exception:
            # Nipype reads the number out of an answer that may be none, and would end the whole run
            # here.
            pass
        if not taskid:
            taskid = -1 - len(self._refused)
            cause = (
                f"the scheduler refused the job: {told}; to see why, submit it by hand, with your "
                "arguments"
            )
            self._refused[taskid] = f"{LOST}: {cause}: {scriptfile}\n"
        return taskid

    def _is_pending(self, taskid):
        try:
            pending = super()._is_pending(taskid)
        except Exception:
            # A scheduler that restarts knows its jobs again.
            self._silent_since = self._silent_since or time.monotonic()
            if time.monotonic() - self._silent_since > UNREACHABLE_FOR:
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
        return f"job {taskid} ended without a word"

    def _clear_task(self, taskid):
        self._pending.pop(taskid, None)

    def _report_crash(self, node, result=None):
        # Nipype gives a text where its own report needs lines, and ends the run over it.
        if result is not None and isinstance(result["traceback"], str):
            result = {**result, "traceback": result["traceback"].splitlines(keepends=True)}
        return super()._report_crash(node, result)


class _SturdySlurm(_SturdyCluster):
    """SLURM, which can say what became of a job."""

    def _submit_batchtask(self, scriptfile, node):
        # A job that SLURM starts again by itself would never be seen to end.
        wanted = [
            "--no-requeue",
            f"--cpus-per-task={node.n_procs}",
            f"--mem={round(1024 * node.mem_gb)}M",
        ]
        given = node.plugin_args.get("sbatch_args", "")
        node.plugin_args = {**node.plugin_args, "sbatch_args": " ".join([*wanted, given]).strip()}
        return super()._submit_batchtask(scriptfile, node)

    def _fate(self, taskid):
        told = _ask("scontrol", "show", "job", "-o", str(taskid))
        state = re.search(r"JobState=(\S+)", told)
        where = re.search(r"\bNodeList=([^\s(]+)", told)
        place = f" on {where[1]}" if where else ""
        return f"SLURM ended job {taskid}{place} as {state[1]}" if state else super()._fate(taskid)


def _plugin_class(name):
    known = {
        other.removesuffix("Plugin"): getattr(plugins, other)
        for other in dir(plugins)
        if other.endswith("Plugin")
    }
    if name not in known:
        raise ValueError(f"Nipype has no plugin {name}; it has {', '.join(sorted(known))}")
    base = known[name]
    if issubclass(base, GraphPluginBase):
        raise ValueError(
            f"the plugin {name} does not tell what became of its jobs; take "
            f"{name.removesuffix('Graph')}"
        )
    if issubclass(base, plugins.MultiProcPlugin):
        return SturdyMultiProcPlugin
    if issubclass(base, SGELikeBatchManagerBase):
        mixin = _SturdySlurm if name == "SLURM" else _SturdyCluster
        return type(
            f"Sturdy{base.__name__}", (mixin, base), {"cancelling": CANCELLING.get(name, "qdel")}
        )
    return base


def check_cluster_paths(*paths):
    """Refuse folders whose names Nipype would hand to a shell and to Python unquoted.

    Parameters
    ----------
    *paths : path-like
        Folders that stand in batch scripts.

    Raises
    ------
    ValueError
        If one has spaces, quotes or the like in its name.
    """
    for path in map(str, paths):
        if shlex.quote(path) != path:
            raise ValueError(
                f"{path}: batch jobs need a path without spaces, quotes and other characters of "
                "the shell"
            )


def _start_worker(folder):
    process_initializer(folder)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    """A worker whose run has been killed would go on beside the next one."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _ask(*command):
    """Output of a scheduler's command; empty if it does not answer."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=ASK_WITHIN, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
