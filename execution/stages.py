"""Stages of a run: each item, such as a scan, is processed once, as one job or step by step, and
again if its process or job is lost.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import filterfalse
from pathlib import Path
from shutil import disk_usage, rmtree
from typing import Any, ClassVar

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    traits,
)
from nipype.pipeline.engine import Node, Workflow

from ..dataset.files import PathLike, read_json, remove_partial_files, write_json
from .code import software
from .completion import fingerprint, is_finished, write_completion_record
from .failures import Failure
from .graphs import parts_of, working_nodes
from .locks import hold_work
from .plugins import Runner, check_cluster_paths
from .run import run_with_progress, run_workflow

ITEMS_PER_GRAPH = 1000  # so that the memory of a graph does not grow with the study
REMEDY = (
    "free some space, choose another folder with -w, or use --clean-workdir, which removes the "
    "intermediate files of finished work"
)


@dataclass(frozen=True)
class Stage:
    """One stage of a run, which processes items: scans or subjects.

    Attributes
    ----------
    kind : str
        Plural noun for the items, such as ``scans``.
    graph_module : str
        Full name of the module that builds the graph, on whose code the results depend.
    output_dir, work_dir : pathlib.Path
        Roots of the derivative dataset and of intermediate files.
    settings : dataclass or None
        Settings of the run, if it has any.
    clean : bool
        Whether to remove an item's intermediate files once it is finished.
    threads : int
        Threads of a step's Fourier transforms.
    """

    kind: ClassVar[str]
    graph_module: ClassVar[str]

    output_dir: Path
    work_dir: Path
    settings: Any
    clean: bool = False
    threads: int = 1

    def build(self, items: Sequence[Any]) -> Workflow:
        """Build the workflow that processes some items."""
        raise NotImplementedError

    @property
    def graph_dir(self) -> Path:
        """Folder of the graphs' intermediate files.

        Nipype reuses results whose inputs are the same, whatever code they were computed by. Other
        code therefore has another folder.
        """
        return self.work_dir / f"version-{software(self.graph_module)}"

    @staticmethod
    def label(item: Any) -> str:
        """Return the item's label for the user."""
        return f"sub-{item.label}"

    @staticmethod
    def subject(item: Any) -> str:
        """Return the label of the item's subject, without ``sub-``."""
        return item.label

    def fingerprint(self, item: Any) -> str:
        """Return a digest of all that the item's results depend on."""
        code = software(self.graph_module)
        return fingerprint(code, item, self.settings, *self.dependencies(item))

    def dependencies(self, item: Any) -> tuple:
        """Return what the results depend on besides the item, the settings and the code."""
        return ()

    def is_finished(self, item: Any) -> bool:
        """Check whether the item's results exist and are up to date."""
        return is_finished(self.output_dir, self.kind, self.label(item), self.fingerprint(item))

    def finish(self, item: Any, item_fingerprint: str, files: Iterable[PathLike]) -> None:
        """Record that an item is finished; remove its intermediate files if the run is `clean`."""
        settings = None if self.settings is None else asdict(self.settings)
        write_completion_record(
            self.output_dir,
            self.kind,
            self.label(item),
            item_fingerprint,
            files,
            software=software(self.graph_module),
            settings=settings,
        )
        if self.clean:
            rmtree(self.item_dir(item), ignore_errors=True)

    def work_gigabytes(self, item: Any) -> float:
        """Estimate the greatest disk space of the item's intermediate files, GB."""
        raise NotImplementedError

    def item_dir(self, item: Any) -> Path:
        """Return the folder of the item's intermediate files."""
        workflow = self.build([item])
        return Path(workflow.base_dir, workflow.name, item.node_name)

    def resources(self, item: Any) -> tuple[float, int]:
        """Return the memory in GB and the cores that the item's workflow needs if its steps run one
        after the other.
        """
        nodes = working_nodes(self.build([item])).values()
        return max(node.mem_gb for node in nodes), self.threads


def run_stage(
    stage: Stage,
    items: Sequence[Any],
    *,
    runner: Runner,
    by_step: bool,
    retries: int,
    run_dir: Path,
    notify: Callable[[str], object],
) -> list[Failure]:
    """Process all items that are not finished.

    Parameters
    ----------
    stage : Stage
        How to process them.
    items : sequence
        Scans or subjects.
    runner : Runner
        The plugin that runs the jobs.
    by_step : bool
        Whether every step is a job of its own, instead of every item.
    retries : int
        How often an item is started again if its process or job was lost.
    run_dir : pathlib.Path
        Folder of the run, as of `multiqsm.execution.run.configure_nipype`.
    notify : callable
        Is called with lines for the user.

    Returns
    -------
    list of Failure
        Empty if no item failed.

    Raises
    ------
    ValueError
        If an item needs more memory, cores or disk space than there are.
    """
    unfinished = list(filterfalse(stage.is_finished, items))
    n_finished = len(items) - len(unfinished)
    if n_finished:
        notify(f"{stage.kind} already finished and skipped: {n_finished} of {len(items)}")
    if unfinished:
        _check_disk(stage, unfinished, notify)
    for subject in set(map(stage.subject, unfinished)):
        remove_partial_files(stage.output_dir, f"sub-{subject}")
    run = _run_steps if by_step else _run_jobs
    failures = []
    starts = range(0, len(unfinished), ITEMS_PER_GRAPH)
    groups = [unfinished[start : start + ITEMS_PER_GRAPH] for start in starts]
    for attempt in range(retries + 1):
        failures_of_attempt = []
        for place, group in enumerate(groups):
            if len(unfinished) > ITEMS_PER_GRAPH:
                notify(
                    f"processing {stage.label(group[0])} to {stage.label(group[-1])} of "
                    f"{len(unfinished)} {stage.kind}"
                )
            group_dir = run_dir / f"{stage.kind}-{attempt}-{place}"
            failures_of_attempt += run(stage, group, runner, group_dir)
        lost = {failure.scan: failure.cause for failure in failures_of_attempt if failure.is_lost}
        for failure in failures_of_attempt:
            if failure.scan not in lost or attempt == retries:
                failures.append(failure)
        if not lost or attempt == retries:
            break
        lost_items = [item for item in unfinished if item.node_name in lost]
        for item in lost_items:
            notify(
                f"lost: {stage.label(item)}: {lost[item.node_name]}; it is started again "
                f"({attempt + 1} of {retries})"
            )
        # If all running items are lost when one process is killed, only an item that is lost while
        # it runs alone is known to be the cause.
        groups = [[item] for item in lost_items] if runner.shares_fate else [lost_items]
    _report_full_disk(stage, failures, notify)
    return failures


def _report_full_disk(stage, failures, notify):
    if any(failure.is_disk_full for failure in failures):
        work = _free_space(stage.work_dir, digits=2)
        output = _free_space(stage.output_dir, digits=2)
        notify(f"the disk is full: {work}, {output}; {REMEDY}")


def _free_space(folder, digits):
    return f"{folder} has {disk_usage(folder).free / 1e9:.{digits}f} GB free"


def _check_disk(stage, items, notify):
    """Refuse to start if the disk is too small for one item, and warn if it is too small for all,
    rather than fail hours later.
    """
    needs = list(map(stage.work_gigabytes, items))
    free = disk_usage(stage.work_dir).free / 1e9
    free_space = _free_space(stage.work_dir, digits=1)
    if max(needs) > free:
        raise ValueError(
            f"{free_space}, but one of the {stage.kind} needs up to {max(needs):.1f} GB; {REMEDY}"
        )
    if sum(needs) > free and not stage.clean:
        notify(
            f"warning: {free_space}, but {len(items)} {stage.kind} need up to {sum(needs):.0f} GB "
            f"together; {REMEDY}"
        )


def _run_steps(stage, items, runner, run_dir):
    """Run a graph of all items, with every step as a job of its own."""
    workflow = stage.build(items)
    fingerprints = {item.node_name: stage.fingerprint(item) for item in items}
    watch = _Watch(stage.output_dir, workflow)
    with hold_work(stage.work_dir, [_work_name(stage, item) for item in items]):
        failures = run_with_progress(
            workflow,
            runner,
            stage.kind,
            labels=_labels(stage, items),
            crash_dir=run_dir / "crash",
            watch=watch,
        )
    failed = {failure.scan for failure in failures}
    for item in items:
        if item.node_name not in failed:
            files = watch.files.get(item.node_name, ())
            stage.finish(item, fingerprints[item.node_name], files)
    return failures


def _run_jobs(stage, items, runner, run_dir):
    """Run every item as one job."""
    if runner.is_cluster:
        check_cluster_paths(run_dir)
    workflow = Workflow(name="jobs", base_dir=str(run_dir))
    for item in items:
        gigabytes, threads = stage.resources(item)
        job = RunGraph(stage=stage, item=item, crash_dir=str(run_dir / "crash" / item.node_name))
        job.inputs.outcome_file = str(_outcome_path(run_dir, item))
        workflow.add_nodes([Node(job, name=item.node_name, mem_gb=gigabytes, n_procs=threads)])
    labels = _labels(stage, items)
    failed_jobs = run_with_progress(
        workflow, runner, stage.kind, labels=labels, crash_dir=run_dir / "lost"
    )
    failure_of_job = {failure.scan: failure for failure in failed_jobs}
    failures = []
    for item in items:
        outcome = _outcome_path(run_dir, item)
        if outcome.exists():
            for fields in read_json(outcome)["Failures"]:
                crash_file = Path(fields["crash_file"])
                failures.append(Failure(**{**fields, "crash_file": crash_file}))
        elif item.node_name in failure_of_job:
            failures.append(failure_of_job[item.node_name])
    return failures


class _RunGraphInputSpec(BaseInterfaceInputSpec):
    stage = traits.Instance(Stage, mandatory=True, nohash=True, desc="how to process the item")
    item = traits.Any(mandatory=True, nohash=True, desc="scan or subject")
    crash_dir = traits.Directory(mandatory=True, desc="folder for the crash files")
    outcome_file = File(
        mandatory=True, desc="file for the failures; it exists once the job has ended by itself"
    )


class RunGraph(SimpleInterface):
    """Run the whole graph of one scan or subject in this process."""

    input_spec = _RunGraphInputSpec
    output_spec = TraitedSpec
    _always_run = True

    def _run_interface(self, runtime):
        inputs = self.inputs
        failures, seconds = _run_item(inputs.stage, inputs.item, Path(inputs.crash_dir))
        outcome = {"Failures": list(map(asdict, failures)), "Seconds": seconds}
        write_json(Path(inputs.outcome_file), outcome)
        if failures:
            raise RuntimeError(str(failures[0]))
        return runtime


def _run_item(stage, item, crash_dir):
    """Run the graph of one item; returns its failures, and the duration of each step in s."""
    with hold_work(stage.work_dir, [_work_name(stage, item)]):
        if stage.is_finished(item):  # by a job that was presumed lost
            return [], {}
        item_fingerprint = stage.fingerprint(item)
        workflow = stage.build([item])
        watch = _Watch(stage.output_dir, workflow)
        failures = run_workflow(workflow, Runner("Linear", {}), crash_dir=crash_dir, callback=watch)
        if not failures:
            stage.finish(item, item_fingerprint, watch.files.get(item.node_name, ()))
    return failures, watch.seconds


def _labels(stage, items):
    """Return the BIDS labels of items by the names of their nodes."""
    return {item.node_name: stage.label(item) for item in items}


def _work_name(stage, item):
    return f"{stage.kind} {stage.label(item)}"


class _Watch:
    """Callback of Nipype that collects the derivatives that steps write, by item, and the duration
    of each step in s.
    """

    def __init__(self, output_dir, workflow):
        self.root = Path(output_dir).absolute()
        self.part_of = parts_of(workflow)
        self.files = {}
        self.seconds = {}

    def __call__(self, node, status):
        if status != "end" or not node.result:
            return
        self.seconds[node.fullname] = node.result.runtime.duration
        if node.interface.always_run:  # as all nodes that write derivatives
            files = self.files.setdefault(self.part_of[node.fullname], set())
            for path in _paths(node.result.outputs.get().values()):
                if path.is_relative_to(self.root) and path.is_file():
                    files.add(path)


def _paths(values):
    """Yield the texts in nested lists as paths."""
    for value in values:
        if isinstance(value, str):
            yield Path(value)
        elif isinstance(value, list | tuple):
            yield from _paths(value)


def _outcome_path(run_dir, item):
    return run_dir / "outcomes" / f"{item.node_name}.json"
